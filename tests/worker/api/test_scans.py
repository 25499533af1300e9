"""Submitting, looking up, listing, cancelling and trying again over HTTP; and what one owner learns of another's scans."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from tests.worker.api.conftest import CacheOnly, Serve, Service, fields_of, scan_of, scan_one
from worker.queue.backlog import read_backlog
from worker.report import Report

URL = "https://media.example/a.mp4?token=hush"


def test_a_scan_from_its_submission_to_its_report(service: Service) -> None:
    answer = service.client.post(
        "/v1/scans", json=scan_of(URL, external_id="post 7", priority="live"), headers=service.as_("acme")
    )
    assert answer.status_code == 202
    scan_id = answer.json()["id"]
    assert answer.json() == {"id": scan_id, "status": "queued"}
    assert answer.headers["location"] == f"/v1/scans/{scan_id}"
    assert sum(read_backlog(service.parts.desk.records).waiting.values()) == 1
    waiting = service.client.get(answer.headers["location"], headers=service.as_("acme"))
    assert Report.model_validate_json(waiting.content).status == "queued"
    scan_one(service, scan_id)
    report = Report.model_validate_json(service.client.get(answer.headers["location"], headers=service.as_("acme")).content)
    assert (report.status, report.verdict, report.owner, report.external_id) == ("completed", "real", "acme", "post 7")
    assert (report.source.kind, report.source.url) == ("url", URL)


def test_an_idempotency_key_names_one_scan(service: Service) -> None:
    def post(headers: dict[str, str], **body: Any) -> Any:
        return service.client.post("/v1/scans", json=scan_of(**body), headers=service.as_("acme") | headers)

    first = post({"Idempotency-Key": "post 7"})
    assert first.status_code == 202
    again = post({"Idempotency-Key": "post 7"})
    assert (again.status_code, again.json()) == (200, {"id": first.json()["id"], "status": "queued"})
    assert again.headers["location"] == first.headers["location"]
    assert post({}, idempotency_key="post 7").json()["id"] == first.json()["id"], "header and field are one key"
    assert post({"Idempotency-Key": "post 7"}, idempotency_key="post 7").status_code == 200
    other = post({"Idempotency-Key": "post 7"}, url="https://media.example/b.mp4")
    assert (other.status_code, fields_of(other)["code"]) == (409, "conflict")
    both = post({"Idempotency-Key": "post 7"}, idempotency_key="post 8")
    assert (both.status_code, fields_of(both)["code"]) == (422, "bad_request")
    assert post({"Idempotency-Key": "x" * 256}).status_code == 422
    scan_one(service, first.json()["id"])
    assert post({"Idempotency-Key": "post 7"}).json()["status"] == "completed"
    theirs = service.client.post("/v1/scans", json=scan_of(), headers=service.as_("umbrella") | {"Idempotency-Key": "post 7"})
    assert (theirs.status_code, theirs.json()["id"] != first.json()["id"]) == (202, True), "a key is its owner's"


def test_an_idempotency_key_of_any_letters_is_one_in_header_and_field(service: Service) -> None:
    key = {"Idempotency-Key": "clé 7".encode()}  # as curl and browsers send it
    first = service.client.post("/v1/scans", json=scan_of(idempotency_key="clé 7"), headers=service.as_("acme"))
    again = service.client.post("/v1/scans", json=scan_of(), headers=service.as_("acme") | key)
    both = service.client.post("/v1/scans", json=scan_of(idempotency_key="clé 7"), headers=service.as_("acme") | key)
    assert [(answer.status_code, answer.json()["id"]) for answer in (again, both)] == [(200, first.json()["id"])] * 2
    latin = {"Idempotency-Key": "clé 8".encode("latin-1")}
    assert service.client.post("/v1/scans", json=scan_of(), headers=service.as_("acme") | latin).status_code == 202


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 422, "bad_request"),
        (b"{", 422, "bad_request"),
        (b"[" * 4000, 422, "bad_request"),
        (b"\xff\xfe", 422, "bad_request"),
        (b'{"source": {}}', 422, "bad_request"),
        (b'{"source": {"url": "https://a.example/", "path": "/etc/passwd"}}', 422, "bad_request"),
        (b'{"source": {"url": "file:///etc/passwd"}}', 422, "bad_request"),
        (b'{"source": {"url": "https://a.example/"}, "options": {"max_frames": 1e999}}', 422, "bad_request"),
        (b'{"source": {"url": "https://a.example/"}, "admin": true}', 422, "bad_request"),
        (b'{"source": {"url": "https://user:pw@a.example/"}}', 422, "fetch_refused"),
        (b'{"source": {"url": "http://169.254.169.254/latest/meta-data"}}', 422, "fetch_refused"),
        (b'{"source": {"url": "https://a.example/"}, "callback_url": "http://[::1]:6379/"}', 422, "fetch_refused"),
        (b'{"source": {"path": "/etc/passwd"}}', 422, "fetch_refused"),
        (b'{"source": {"upload": "00000000000000000000000000000000"}}', 422, "bad_request"),
        (b'{"source": {"url": "https://a.example/' + b"a" * 9000 + b'"}}', 413, "too_large"),
    ],
)
def test_what_is_no_request_is_refused_and_counts_for_nothing(service: Service, body: bytes, status: int, code: str) -> None:
    headers = service.as_("acme") | {"Content-Type": "application/json"}
    answer = service.client.post("/v1/scans", content=body, headers=headers)
    problem = fields_of(answer)
    assert (answer.status_code, problem["code"]) == (status, code)
    assert "pw" not in answer.text
    assert sum(read_backlog(service.parts.desk.records).waiting.values()) == 0
    assert read_backlog(service.parts.desk.records).open_scans == {}


def test_paths_are_taken_where_there_are_media_roots(serve: Serve, tmp_path: Path) -> None:
    service = serve(takes_paths=True)
    answer = service.client.post("/v1/scans", json={"source": {"path": str(tmp_path)}}, headers=service.as_())
    assert answer.status_code == 202, "whether it lies below one is for the worker, which has them"


def test_only_json_is_a_request(service: Service) -> None:
    answer = service.client.post(
        "/v1/scans", content=b"{}", headers=service.as_() | {"Content-Type": "application/x-www-form-urlencoded"}
    )
    assert (answer.status_code, fields_of(answer)["code"]) == (415, "unsupported_media_type")


def test_another_owners_scan_does_not_exist(service: Service) -> None:
    scan_id = service.submit("acme", external_id="post 7")
    scan_one(service, scan_id)
    never = "0" * 32
    feedback = {"json": {"label": "fake"}}
    requests = [("GET", "", {}), ("POST", "/cancel", {}), ("POST", "/retry", {}), ("POST", "/feedback", feedback)]
    for method, action, more in requests:
        theirs = service.client.request(method, f"/v1/scans/{scan_id}{action}", headers=service.as_("umbrella"), **more)
        nobodys = service.client.request(method, f"/v1/scans/{never}{action}", headers=service.as_("umbrella"), **more)
        assert fields_of(theirs)["code"] == "no_such_scan"
        assert {**theirs.json(), "instance": "", "detail": ""} == {**nobodys.json(), "instance": "", "detail": ""}
        assert theirs.json()["detail"].replace(scan_id, never) == nobodys.json()["detail"], "nor do the words differ"
    listed = service.client.get("/v1/scans", headers=service.as_("umbrella"))
    assert listed.json() == {"scans": [], "next_cursor": None}
    found = service.client.get("/v1/scans", params={"external_id": "post 7"}, headers=service.as_("umbrella"))
    assert found.json()["scans"] == []
    assert service.client.get(f"/v1/scans/{scan_id}", headers=service.as_("acme")).json()["decided_by"] == "model"
    operator = service.as_("staff", "admin")
    assert service.client.get(f"/v1/scans/{scan_id}", headers=operator).json()["owner"] == "acme"
    assert [scan["id"] for scan in service.client.get("/v1/scans", headers=operator).json()["scans"]] == [scan_id]


@pytest.mark.parametrize("same_address", [True, False])
def test_a_result_for_the_same_bytes_tells_nothing_of_whose_it_was(service: Service, same_address: bool) -> None:
    """The second owner's scan takes the first one's result from the cache."""
    secret_url = "https://media.example/same.mp4?token=acme-secret"
    first = service.submit("acme", url=secret_url, external_id="acme-post", callback_url="https://acme.example/hook?key=acme-key")
    scan_one(service, first)
    label = {"label": "fake", "category": "acme-category", "note": "acme-note"}
    service.client.post(f"/v1/scans/{first}/feedback", json=label, headers=service.as_("acme"))
    url = secret_url if same_address else "https://other.example/same.mp4"
    second = service.submit("umbrella", url=url)
    scan_one(service, second, CacheOnly())
    answer = service.client.get(f"/v1/scans/{second}", headers=service.as_("umbrella"))
    report = answer.json()
    assert (report["status"], report["verdict"], report["decided_by"]) == ("completed", "real", "model")
    assert (report["id"], report["owner"], report["external_id"]) == (second, "umbrella", None)
    assert report["source"]["url"] == url
    seen = answer.text + service.client.get("/v1/scans", headers=service.as_("umbrella")).text
    seen += service.client.get("/v1/feedback", headers=service.as_("umbrella")).text
    for hint in (first, "acme", "hook") if not same_address else (first, "acme-post", "acme-category", "acme-note", "hook"):
        assert hint not in seen, f"{hint} is the other owner's"


def test_lists_are_paged_and_filtered(service: Service) -> None:
    ids = [service.submit("acme", url=f"https://media.example/{n}.mp4", external_id=f"post {n % 2}") for n in range(5)]
    service.submit("umbrella")
    scan_one(service, ids[0])
    service.client.post(f"/v1/scans/{ids[1]}/cancel", headers=service.as_())

    def pages(**params: Any) -> list[list[str]]:
        found = []
        while True:
            page = service.client.get("/v1/scans", params=params, headers=service.as_())
            assert page.status_code == 200, page.text
            found.append([scan["id"] for scan in page.json()["scans"]])
            if page.json()["next_cursor"] is None:
                return found
            params["cursor"] = page.json()["next_cursor"]

    newest = [scan for page in pages() for scan in page]
    assert sorted(newest) == sorted(ids)
    assert [len(page) for page in pages(limit=2)][:2] == [2, 2]
    assert [scan for page in pages(limit=2) for scan in page] == newest
    assert pages(status="completed") == [[ids[0]]]
    assert pages(status="cancelled", dead="false") == [[ids[1]]]
    assert pages(verdict="real") == [[ids[0]]]
    assert pages(dead="true") == [[]]
    assert {scan for page in pages(external_id="post 1") for scan in page} == {ids[1], ids[3]}
    summary = service.client.get("/v1/scans", params={"status": "completed"}, headers=service.as_()).json()["scans"][0]
    assert (summary["verdict"], summary["score"], summary["calibrated"]) == ("real", 0.1, False)
    assert (summary["start_s"], summary["end_s"]) == (None, None)
    assert "tracks" not in summary


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=201", "limit=1_0", "dead=yes", "status=lost", "cursor=0", "statsu=queued", "external_id="]
)
def test_a_filter_that_is_none_is_refused(service: Service, query: str) -> None:
    answer = service.client.get(f"/v1/scans?{query}", headers=service.as_())
    assert (answer.status_code, fields_of(answer)["code"]) == (422, "bad_request")


def test_cancel_and_retry(service: Service) -> None:
    scan_id = service.submit()
    early = service.client.post(f"/v1/scans/{scan_id}/retry", headers=service.as_())
    assert (early.status_code, fields_of(early)["code"]) == (409, "conflict")
    for _ in range(2):
        assert service.client.post(f"/v1/scans/{scan_id}/cancel", headers=service.as_()).json() == {
            "id": scan_id,
            "status": "cancelled",
        }
    again = service.client.post(f"/v1/scans/{scan_id}/retry", headers=service.as_())
    assert (again.status_code, again.json()["status"]) == (202, "queued")
    report = service.client.get(again.headers["location"], headers=service.as_()).json()
    assert (report["retry_of"], report["status"]) == (scan_id, "queued")


def test_a_retry_is_asked_for_twice_under_one_key(serve: Serve) -> None:
    service = serve(scans_per_day=5)
    key = {"Idempotency-Key": "é"}
    first, other = (service.submit(url=f"https://media.example/{n}.mp4") for n in range(2))
    for scan_id in (first, other):
        service.client.post(f"/v1/scans/{scan_id}/cancel", headers=service.as_())

    def retry(scan_id: str, headers: dict[str, str] = key, owner: str = "acme") -> Any:
        told = {name: value.encode() for name, value in (service.as_(owner) | headers).items()}
        return service.client.post(f"/v1/scans/{scan_id}/retry", headers=told)

    made, again = retry(first), retry(first)
    assert (made.status_code, again.status_code) == (202, 200)
    assert (again.json(), again.headers["location"]) == (made.json(), made.headers["location"])
    refused = retry(other)
    assert (refused.status_code, fields_of(refused)["code"]) == (409, "conflict"), "the key was used for another scan's retry"
    posted = service.client.post(
        "/v1/scans", json=scan_of("https://media.example/0.mp4", idempotency_key="é"), headers=service.as_()
    )
    assert posted.status_code == 409, "the same request is not the same retry"
    service.client.post(f"/v1/scans/{made.json()['id']}/cancel", headers=service.as_())
    assert retry(first).json() == {"id": made.json()["id"], "status": "cancelled"}
    assert retry(first, {}).status_code == retry(first, {"Idempotency-Key": "2"}).status_code == 202, (
        "others are scans of their own"
    )
    assert retry(first, {}).status_code == 429
    assert retry(first).status_code == 200, "whatever the day's quota"
    assert retry(first, {"Idempotency-Key": ""}).status_code == retry(first, {"Idempotency-Key": "x" * 256}).status_code == 422
    assert retry(first, owner="umbrella").status_code == 404


def test_a_day_has_so_many_scans_and_what_was_not_taken_does_not_count(serve: Serve) -> None:
    service = serve(scans_per_day=2)
    key = {"Idempotency-Key": "one"}
    for _ in range(3):
        service.client.post("/v1/scans", json=scan_of(), headers=service.as_() | key)
    assert service.client.post("/v1/scans", json=scan_of("https://x.example/"), headers=service.as_() | key).status_code == 409
    assert service.client.post("/v1/scans", json={"source": {"path": "/x"}}, headers=service.as_()).status_code == 422
    assert service.client.post("/v1/scans", json=scan_of(), headers=service.as_()).status_code == 202
    full = service.client.post("/v1/scans", json=scan_of(), headers=service.as_())
    assert (full.status_code, fields_of(full)["code"]) == (429, "queue_full")
    assert 0 < int(full.headers["retry-after"]) <= 86400
    assert service.client.post("/v1/scans", json=scan_of(), headers=service.as_("umbrella")).status_code == 202


def test_the_same_post_is_answered_when_the_day_is_used_up_and_the_upload_gone(serve: Serve, redis: Redis) -> None:
    service = serve(scans_per_day=1)
    upload = service.client.post("/v1/uploads", content=b"bytes", headers=service.as_()).json()["id"]
    kept = {"source": {"upload": upload}, "idempotency_key": "one"}

    def post(body: dict[str, Any], owner: str = "acme") -> Any:
        return service.client.post("/v1/scans", json=body, headers=service.as_(owner))

    first = post(kept)
    assert (first.status_code, post(kept).status_code) == (202, 200)
    redis.delete("vf:uploads:acme")
    again = post(kept)
    assert (again.status_code, again.json()["id"], again.headers["location"]) == (
        200,
        first.json()["id"],
        first.headers["location"],
    )
    assert post(scan_of(idempotency_key="one")).status_code == 409
    assert post(scan_of(idempotency_key="two")).status_code == 429
    assert post(kept, "umbrella").status_code == 422, "another owner's key is another key"
    redis.delete(f"vf:scan:{first.json()['id']}")
    assert post(kept).status_code == 422, "the scan that the key named is gone"


@pytest.mark.parametrize("terms", [{"max_backlog": 1}, {"open_scans": 1}])
def test_above_the_backlog_callers_are_asked_to_come_again(serve: Serve, terms: dict[str, int]) -> None:
    service = serve(scans_per_day=2, **terms)
    scan_id = service.submit()
    for _ in range(3):
        full = service.client.post("/v1/scans", json=scan_of(), headers=service.as_())
        assert (full.status_code, fields_of(full)["code"]) == (429, "queue_full")
        assert int(full.headers["retry-after"]) >= 1
    service.client.post(f"/v1/scans/{scan_id}/cancel", headers=service.as_())
    service.submit()


def test_what_is_kept_of_a_scan_is_its_owners(service: Service) -> None:
    scan_id = service.client.post("/v1/scans", json=scan_of(URL), headers=service.as_("acme")).json()["id"]
    scan_one(service, scan_id)
    url = f"/v1/scans/{scan_id}/artifacts"
    service.parts.artifacts.put(f"scans/{scan_id}/track-0-0.jpg", b"jpeg", expires_at=4e9)
    kept = service.client.get(f"{url}/track-0-0.jpg", headers=service.as_("acme"))
    assert (kept.status_code, kept.content, kept.headers["content-type"]) == (200, b"jpeg", "image/jpeg")
    gone = service.client.get(f"{url}/frames.jsonl", headers=service.as_("acme"))
    assert (gone.status_code, fields_of(gone)["detail"]) == (404, "not retained")
    assert service.client.get(f"{url}/track-0-0.jpg", headers=service.as_("umbrella")).status_code == 404
    for name in ("..%2f..%2fkeys.jpg", "a.txt", ".jpg", "%00.jpg", "@1.jpg"):
        assert service.client.get(f"{url}/{name}", headers=service.as_("acme")).status_code in (404, 422)
