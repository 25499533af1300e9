"""Who is calling, and how often."""

from __future__ import annotations

import anyio
import pytest

from tests.worker.api.conftest import Serve, Service, fields_of, scan_of
from worker.api import parts
from worker.api.parts import in_time
from worker.api.problems import HttpError

ANY = "/v1/scans/" + "0" * 32


@pytest.mark.parametrize(
    "header",
    [None, "", "Bearer", "Bearer ", "Basic dmY6dmY=", "Bearer vf_0000000000000000_" + "a" * 43, "Bearer vf_\xe4", "bearer x y"],
)
def test_without_a_good_key_nothing_opens(service: Service, header: str | None) -> None:
    headers = [] if header is None else [(b"authorization", header.encode("latin-1"))]
    for method, path in (("POST", "/v1/scans"), ("GET", ANY), ("POST", "/v1/uploads"), ("GET", "/v1/feedback")):
        answer = service.client.request(method, path, headers=headers)
        assert (answer.status_code, fields_of(answer)["code"]) == (401, "unauthorized")
        assert answer.headers["www-authenticate"] == "Bearer"


def test_a_revoked_key_opens_nothing(service: Service) -> None:
    info, token = service.parts.keys.create("acme", ["read"])
    headers = {"Authorization": f"Bearer {token}"}
    assert service.client.get("/v1/scans", headers=headers).status_code == 200
    service.parts.keys.revoke(info.id)
    assert service.client.get("/v1/scans", headers=headers).status_code == 401


REQUESTS = {
    "scan": [("POST", "/v1/scans"), ("POST", ANY + "/cancel"), ("POST", ANY + "/retry"), ("POST", "/v1/uploads")],
    "read": [("GET", "/v1/scans"), ("GET", ANY)],
    "feedback": [("POST", ANY + "/feedback"), ("GET", "/v1/feedback")],
}


@pytest.mark.parametrize("scope", [*REQUESTS, "admin"])
def test_a_key_does_what_its_scopes_say(service: Service, scope: str) -> None:
    headers = service.as_("acme", scope)
    for needed, requests in REQUESTS.items():
        for method, path in requests:
            answer = service.client.request(method, path, headers=headers)
            if scope in (needed, "admin"):
                assert answer.status_code != 403, f"{scope}: {method} {path}"
            else:
                assert (answer.status_code, fields_of(answer)["code"]) == (403, "forbidden"), f"{scope}: {method} {path}"


def test_an_owner_has_so_many_requests_a_minute(serve: Serve) -> None:
    service = serve(requests_per_minute=3)
    answers = [service.client.get("/v1/scans", headers=service.as_("acme")) for _ in range(5)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429, 429]
    assert fields_of(answers[-1])["code"] == "queue_full"
    assert 1 <= int(answers[-1].headers["retry-after"]) <= 20
    assert service.client.post("/v1/scans", json=scan_of(), headers=service.as_("acme", "scan")).status_code == 429
    assert service.client.get("/v1/scans", headers=service.as_("umbrella")).status_code == 200
    assert service.client.get("/livez").status_code == 200


def test_a_body_that_comes_too_slowly_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "BODY_TIMEOUT_S", 0.05)

    async def never() -> bytes:
        await anyio.sleep_forever()
        return b""

    with pytest.raises(HttpError) as late:
        anyio.run(in_time, never())
    assert late.value.status_code == 408
