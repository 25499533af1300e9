"""What surrounds every request."""

from __future__ import annotations

import itertools
import re

import pytest

from tests.worker.api.conftest import MAX_BODY, Service, call, fields_of
from worker.api.middleware import LINGER_BYTES


@pytest.mark.parametrize("path", ["/livez", "/v1/scans", "/nope", "/openapi.json"])
def test_every_answer_has_an_id_and_the_headers(service: Service, path: str) -> None:
    answer = service.client.get(path)
    assert re.fullmatch(r"[0-9a-f]{32}", answer.headers["x-request-id"])
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")
    assert "server" not in answer.headers


@pytest.mark.parametrize(
    ("given", "kept"),
    [("trace-0123456789", True), ("short", False), ("x" * 65, False), ("a b c d e f g h", False), ("<script>alert(1)", False)],
)
def test_a_callers_id_is_kept_if_it_looks_like_one(service: Service, given: str, kept: bool) -> None:
    answer = service.client.get("/nope", headers={"X-Request-Id": given})
    assert (answer.headers["x-request-id"] == given) is kept
    assert fields_of(answer)["instance"] == answer.headers["x-request-id"]


@pytest.mark.parametrize("path", ["/v1/scans", "/v1/scans/" + "0" * 32 + "/feedback"])
def test_a_body_that_says_it_is_too_long_is_not_read(service: Service, path: str) -> None:
    headers = service.as_() | {"Content-Type": "application/json"}
    answer = service.client.post(path, content=b" " * (MAX_BODY + 1), headers=headers)
    assert (answer.status_code, fields_of(answer)["code"]) == (413, "too_large")
    assert answer.headers["connection"] == "close"


@pytest.mark.parametrize("path", ["/v1/scans", "/v1/scans/" + "0" * 32 + "/feedback"])
def test_a_body_without_a_length_is_taken_to_the_limit_and_the_rest_thrown_away_to_another(service: Service, path: str) -> None:
    named = {**service.as_(), "Content-Type": "application/json", "Transfer-Encoding": "chunked"}
    headers = [(name.lower().encode(), value.encode()) for name, value in named.items()]
    answer = call(service.app, "POST", path, headers, itertools.repeat(b" " * 1024))
    assert answer.status_code == 413
    assert answer.asked == (MAX_BODY + LINGER_BYTES) // 1024 + 1


@pytest.mark.parametrize("length", ["-1", "1e3", "9" * 30, "x", ""])
def test_a_length_that_is_none_is_refused(service: Service, length: str) -> None:
    headers = service.as_() | {"Content-Type": "application/json", "Content-Length": length}
    answer = service.client.post("/v1/scans", content=b"{}", headers=headers)
    assert answer.status_code == 413
