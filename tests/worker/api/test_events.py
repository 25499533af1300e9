"""A watch over HTTP: submitted, its events page by page, cancelled, its report."""

from __future__ import annotations

from typing import Any

from tests.worker.api.conftest import Service, fields_of, scan_one
from tests.worker.queue.fake_streams import address


def events(service: Service, scan_id: str, owner: str = "acme", **query: object) -> Any:
    return service.client.get(f"/v1/scans/{scan_id}/events", params=query, headers=service.as_(owner))  # type: ignore[arg-type]


def test_a_watch_from_its_submission_to_its_report(service: Service) -> None:
    body = {"kind": "watch", "options": {"window_s": 4, "hop_s": 2}, "url": address(4)}
    scan_id = service.submit(**body)
    before = events(service, scan_id).json()
    assert before == {"events": [], "status": "queued", "count": 0, "oldest": 0}
    scan_one(service, scan_id)
    told = events(service, scan_id).json()
    assert (told["status"], told["count"]) == ("completed", 5)
    kinds = ["track_seen", "verdict_changed", "verdict_changed", "verdict_changed", "stream_ended"]
    assert [(one["number"], one["kind"]) for one in told["events"]] == list(enumerate(kinds))
    page = events(service, scan_id, after=1, limit=2).json()
    assert ([one["number"] for one in page["events"]], page["oldest"]) == ([2, 3], 0)
    assert events(service, scan_id, after=4).json()["events"] == []
    report = service.client.get(f"/v1/scans/{scan_id}", headers=service.as_("acme")).json()
    assert (report["kind"], report["status"], report["watch"]["windows"]) == ("watch", "completed", 5)
    (summary,) = service.client.get("/v1/scans", headers=service.as_("acme")).json()["scans"]
    assert summary["kind"] == "watch"


def test_a_scan_has_no_events_and_anothers_watch_is_not_there(service: Service) -> None:
    scan_id = service.submit()
    assert (events(service, scan_id).status_code, fields_of(events(service, scan_id))["code"]) == (409, "conflict")
    watch_id = service.submit(kind="watch", url=address(1))
    assert events(service, watch_id, "umbrella").status_code == 404
    for query in ({"after": "-2"}, {"after": "1_0"}, {"limit": "0"}, {"afer": "1"}):
        assert events(service, watch_id, **query).status_code == 422


def test_a_watchs_bytes_were_never_seen(service: Service) -> None:
    scan_id = service.submit(kind="watch", url=address(1))
    scan_one(service, scan_id)
    headers = service.as_("acme", "feedback")
    answer = service.client.post(f"/v1/scans/{scan_id}/feedback", json={"label": "fake"}, headers=headers)
    assert answer.status_code == 409
