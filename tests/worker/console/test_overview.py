"""The first page: for whom it shows what."""

from __future__ import annotations

from tests.worker.api.conftest import Service
from tests.worker.console.conftest import SignIn, read
from tests.worker.console.reports import completed, with_faces
from tests.worker.queue import scans
from worker.report import Report

FACTS = {"host": "gpu-<b>7</b>", "queues": ["live", "batch"], "ready": True, "scans": 12, "memory_mib": 812.4}


def test_workers_have_names_for_operators_only(service: Service, sign_in: SignIn) -> None:
    service.parts.roster.tell("w1", FACTS)
    service.parts.roster.tell("w2", {"ready": False, "queues": None, "scans": None})
    running = service.submit("umbrella")
    service.parts.roster.tell("w3", {**FACTS, "scan": running})
    seen, mine = (read(sign_in(*who).page()) for who in (("ops", "admin"), ("acme", "read")))
    assert "gpu-<b>7</b>" in seen.text
    assert "812 MiB" in seen.text
    assert f"/console/scans/{running}" in [link["href"] for link in seen.all("a")]
    assert "gpu-" not in mine.text
    assert "2 + 1 starting" in mine.text
    assert "umbrella" not in mine.text
    assert "No worker is running" not in mine.text


def test_what_waits_where_and_what_is_ones_own(service: Service, sign_in: SignIn) -> None:
    for priority in ("live", "live", "low"):
        service.submit("umbrella", priority=priority)
    service.submit("acme")
    page = read(sign_in("acme", "scan").page())
    assert "No worker is running" in page.text
    assert "Yours under way 1" in page.text
    assert "Waiting 4" in page.text
    assert "Live 2" in page.text
    assert page.by_id("latest") is None, "this key may not read"


def test_what_the_model_could_not_decide_waits_for_a_person(service: Service, sign_in: SignIn) -> None:
    decided, unsure = service.submit(external_id="a"), service.submit(external_id="b")
    for scan_id, sha256 in ((decided, "cd" * 32), (unsure, "ef" * 32)):
        report = with_faces(scan_id, score=0.5)
        told = {"verdict": "uncertain", "reasons": [{"code": "near_threshold"}]}
        completed(service.parts.desk.records, scan_id, Report.model_validate({**report.model_dump(), **told}), sha256)
    browser = sign_in()
    browser.post(f"/scans/{decided}/decision", label="real")
    page = read(browser.page())
    waiting = page.text[page.text.index("Waiting for your word") : page.text.index("Latest scans")]
    assert (", b, submitted" in waiting, ", a, submitted" in waiting) == (True, False)
    assert "by a person" in page.text


def test_nothing_was_scanned_yet(sign_in: SignIn) -> None:
    page = read(sign_in().page())
    assert "Nothing was scanned yet" in page.text
    assert (page.by_id("queue") or {})["data-live"] == "/console/live"


def test_a_worker_of_another_version_breaks_nothing(service: Service, sign_in: SignIn) -> None:
    service.parts.roster.tell("w1", {"scans": "many", "queues": "live", "memory_mib": "1"})
    assert sign_in("ops", "admin").get().status_code == 200
    assert scans.submit(service.parts.desk)
