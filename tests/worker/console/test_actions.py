"""What a person does to a scan, and the trail that it leaves."""

from __future__ import annotations

from tests.worker.api.conftest import Service
from tests.worker.console.conftest import SignIn, read
from tests.worker.console.reports import completed, with_faces
from tests.worker.queue import scans


def test_a_verdict_with_its_reason_and_the_trail_of_all(service: Service, sign_in: SignIn) -> None:
    first, again = service.submit(), service.submit()
    for scan_id in (first, again):
        completed(service.parts.desk.records, scan_id, with_faces(scan_id))
    browser = sign_in("acme", "read", "feedback")
    answer = browser.post(f"/scans/{first}/decision", label="real", category="satire", note="shot on set,\r\nsaw it myself")
    assert (answer.status_code, answer.headers["location"]) == (303, f"/console/scans/{first}?done=decided")
    browser.post(f"/scans/{again}/decision", label="fake", category="", note="")
    page = read(browser.page(f"/scans/{first}?done=decided"))
    assert page.verdict() == ("fake", "human")
    assert "Your verdict is recorded" in page.text
    assert "The model said: ▲ Fake" in page.text
    trail = page.text[page.text.index("Verdicts by people") :]
    assert trail.index("Fake") < trail.index("Real satire"), "the latest first"
    (key,) = [key.id for key in service.parts.keys.list() if "feedback" in key.scopes and "scan" not in key.scopes]
    assert f"key:{key}" in trail
    service.parts.desk.records.redis.hset(f"vf:key:{key}", "name", "Ada <b>")
    named = read(browser.page(f"/scans/{first}")).text
    assert ("Ada <b>" in named, key in named) == (True, False)
    assert "shot on set, saw it myself" in trail
    assert f"/console/scans/{again}" in [link["href"] for link in page.all("a")]
    stored = [entry for _, entry in service.parts.desk.audit("acme")]
    assert [(entry["verdict"], entry["category"], entry["note"]) for entry in stored] == [
        ("real", "satire", "shot on set,\nsaw it myself"),
        ("fake", None, None),
    ]


def test_a_verdict_on_a_part_names_it_in_the_trail(service: Service, sign_in: SignIn) -> None:
    whole, part = service.submit(), service.submit()
    scans.complete(service.parts.desk.records, whole)
    scans.complete(service.parts.desk.records, part, part_s=(3.0, 65.5))
    browser = sign_in("acme", "read", "feedback")
    assert "The scanned part is" in browser.page(f"/scans/{part}")
    assert "These media are" in browser.page(f"/scans/{whole}")
    browser.post(f"/scans/{part}/decision", label="real", category="", note="")
    page = read(browser.page(f"/scans/{whole}"))
    assert page.verdict() == ("fake", "model")
    assert "another scan of the same bytes, of 0:03.0 to 1:05.5 alone" in page.text


WRONG: tuple[dict[str, str], ...] = (
    {},
    {"label": "uncertain"},
    {"label": "real", "category": "Not So"},
    {"label": "real", "note": "a\x00b"},
    {"note": "x"},
)


def test_what_is_no_verdict_is_refused(service: Service, sign_in: SignIn) -> None:
    scan_id, browser = service.submit(), sign_in()
    completed(service.parts.desk.records, scan_id, with_faces(scan_id))
    for fields in WRONG:
        answer = browser.post(f"/scans/{scan_id}/decision", **fields)
        assert (answer.status_code, "Error 422" in answer.text) == (422, True), fields
    assert service.parts.desk.audit("acme") == []


def test_what_was_never_seen_cannot_be_decided(service: Service, sign_in: SignIn) -> None:
    scan_id = service.submit()
    browser = sign_in()
    assert browser.post(f"/scans/{scan_id}/decision", label="real").status_code == 409
    assert read(browser.page(f"/scans/{scan_id}")).by_id("decision") is None


def test_cancelling_and_scanning_again(service: Service, sign_in: SignIn) -> None:
    waiting, running, ended = (service.submit(external_id=name) for name in "abc")
    scans.claim(service.parts.desk.records, running)
    scans.fail(service.parts.desk.records, ended)
    between = scans.watched(service.parts.desk, 1)
    browser = sign_in()
    told = {
        scan_id: browser.post(f"/scans/{scan_id}/cancel").headers["location"].partition("=")[2]
        for scan_id in (waiting, running, ended, between)
    }
    assert told == {waiting: "cancelled", running: "cancelling", ended: "ended", between: "cancelling"}
    assert "Being cancelled" in browser.page(f"/scans/{running}")
    answer = browser.post(f"/scans/{ended}/retry")
    new = answer.headers["location"].removeprefix("/console/scans/").removesuffix("?done=retried")
    record = service.parts.desk.record(new, "acme")
    assert (record.retry_of, record.request.external_id, record.state) == (ended, "c", "queued")
    assert browser.post(f"/scans/{running}/retry").status_code == 409


def test_an_operator_acts_for_every_owner(service: Service, sign_in: SignIn) -> None:
    scan_id = service.submit("acme")
    scans.fail(service.parts.desk.records, scan_id)
    answer = sign_in("ops", "admin").post(f"/scans/{scan_id}/retry")
    new = answer.headers["location"].removeprefix("/console/scans/").partition("?")[0]
    assert service.parts.desk.record(new, None).owner == "acme"


def test_who_may_not_read_goes_to_the_first_page(service: Service, sign_in: SignIn) -> None:
    scan_id = service.submit()
    answer = sign_in("acme", "scan").post(f"/scans/{scan_id}/cancel")
    assert answer.headers["location"] == "/console/?done=cancelled"
