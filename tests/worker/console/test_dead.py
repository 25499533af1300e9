"""Dead letters of scans and callbacks, and their replay."""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain

import pytest

from tests.worker.api.conftest import Serve, Service
from tests.worker.console.conftest import LIMITS, Browser, SignIn, read, with_console
from tests.worker.queue import scans
from tests.worker.queue.test_callbacks import give_up
from worker.console.dead import LOOKED_AT, replayed
from worker.queue import callbacks
from worker.queue.bulk import Redone
from worker.queue.callbacks import Callbacks
from worker.queue.desk import SCANNED_A_PAGE
from worker.queue.record import Submitted


def dead(service: Service, owner: str, **more: object) -> str:
    """A scan that was given up."""
    desk = service.parts.desk
    scan_id = scans.submit(desk, owner=owner, **more)
    for _ in range(desk.records.terms.max_attempts):
        desk.records.redis.hset(f"vf:scan:{scan_id}", "not_before_ms", 0)
        scans.fail(desk.records, scan_id, dead=True)
    assert desk.record(scan_id, None).dead
    return scan_id


def test_the_selected_are_scanned_again_once(service: Service, sign_in: SignIn) -> None:
    first, second, third, theirs = (dead(service, owner) for owner in ("acme", "acme", "acme", "umbrella"))
    browser = sign_in()
    page = read(browser.page("/dead"))
    boxes = {box["value"] for box in page.all("input") if box.get("name") == "scan"}
    assert boxes == {first, second, third}
    assert "internal" in page.text
    answer = browser.post("/dead/scans", which="selected", scan=[first, third, theirs])
    assert answer.headers["location"] == "/console/dead?done=replayed-2"
    assert "2 dead letters are scanned again" in browser.page("/dead?done=replayed-2")
    again = [report.retry_of for report in service.parts.desk.page(None, status="queued").reports]
    assert sorted(again, key=str) == sorted([first, third])
    page = read(browser.page("/dead"))
    assert {box["value"] for box in page.all("input") if box.get("name") == "scan"} == {second}
    assert page.text.count("replayed") == 2
    assert browser.post("/dead/scans", which="selected", scan=[first]).headers["location"] == "/console/dead?done=nothing"
    assert browser.post("/dead/scans", which="all").headers["location"] == "/console/dead?done=replayed-1"
    assert len(service.parts.desk.page(None, status="queued").reports) == 3


def test_those_replayed_before_do_not_hide_the_others() -> None:
    before = [Redone(old=str(n), new=Submitted(id=str(n), created=False)) for n in range(7)]
    fresh = iter([Redone(old=str(n), new=Submitted(id=str(n), created=True)) for n in range(7, 15)])
    assert replayed(chain(before, fresh), most=5) == ("replayed", 5)
    assert [one.old for one in fresh] == ["12", "13", "14"], "for another click"


def test_where_not_all_were_looked_at_that_is_said(service: Service, sign_in: SignIn) -> None:
    letter = dead(service, "acme")
    others = {f"{number:032x}": number for number in range(LOOKED_AT)}
    service.parts.desk.records.redis.zadd("vf:dead", {letter: LOOKED_AT, **others})
    browser = sign_in()
    for done, told in (("latest-1", "1 dead letter is scanned again; there are too many"), ("unseen", "None of the latest")):
        assert browser.post("/dead/scans", which="all").headers["location"] == f"/console/dead?done={done}"
        assert told in read(browser.page(f"/dead?done={done}")).text


def test_replays_count_against_the_owners_day(serve: Serve, open_browser: Callable[[Service], Browser], sign_in: SignIn) -> None:
    service = with_console(serve(limits=LIMITS, scans_per_day=3))
    letters = [dead(service, "acme") for _ in range(4)]
    theirs = dead(service, "umbrella")
    browser = sign_in(service=service)
    assert browser.post("/dead/scans", which="selected", scan=letters[0]).headers["location"] == "/console/dead?done=replayed-1"
    assert browser.post("/dead/scans", which="all").headers["location"] == "/console/dead?done=partly-2"
    assert "2 dead letters are scanned again; others are refused" in browser.page("/dead?done=partly-2")
    for which in ({"which": "all"}, {"which": "selected", "scan": letters}):
        full = browser.post("/dead/scans", **which)
        assert (full.status_code, "more than 3 scans a day" in read(full.text).text) == (429, True)
    assert len(service.parts.desk.page("acme", status="queued").reports) == 3
    everyones = sign_in("ops", "admin", service=service).post("/dead/scans", which="all")
    assert everyones.headers["location"] == "/console/dead?done=partly-1", "by the day of the owner whose scan it is"
    (again,) = service.parts.desk.page("umbrella", status="queued").reports
    assert again.retry_of == theirs


def test_what_is_no_scans_id_is_refused(sign_in: SignIn) -> None:
    browser = sign_in()
    for scan in ("x", "../../etc", "0" * 31):
        assert browser.post("/dead/scans", which="selected", scan=scan).status_code == 422


def test_callbacks_are_sent_again(service: Service, sign_in: SignIn) -> None:
    kept = Callbacks(service.parts.desk.records.redis)
    for owner in ("acme", "acme", "umbrella"):
        scan_id = scans.submit(service.parts.desk, owner=owner, callback_url="https://hook.example/in?key=hush")
        scans.complete(service.parts.desk.records, scan_id, verdict="real")
    parcels, _ = kept.claim(10, lease_s=10, share=10)
    assert len(parcels) == 3
    for parcel in parcels:
        kept.give_up(parcel, error='<b>HTTP</b> "500"', keep_s=1000)
    browser = sign_in()
    html = browser.page("/dead")
    boxes = [box["value"] or "" for box in read(html).all("input") if box.get("name") == "callback"]
    assert len(boxes) == 2
    assert "https://hook.example/in?…" in read(html).text
    assert "hush" not in html
    assert "<b>" not in html
    theirs = next(parcel.id for parcel in parcels if parcel.owner == "umbrella")
    answer = browser.post("/dead/callbacks", which="selected", callback=[boxes[0], theirs])
    assert answer.headers["location"] == "/console/dead?done=sent-1"
    assert {one.id for one in kept.dead()} == {boxes[1], theirs}
    assert browser.post("/dead/callbacks", which="all").headers["location"] == "/console/dead?done=sent-1"
    assert sign_in("ops", "admin").post("/dead/callbacks", which="all").headers["location"] == "/console/dead?done=sent-1"
    assert kept.dead() == []


def test_another_owners_many_dead_callbacks_hide_none(service: Service, sign_in: SignIn) -> None:
    redis = service.parts.desk.records.redis
    give_up(redis, "acme", 2, at_ms=1)
    give_up(redis, "umbrella", 1200)
    browser = sign_in()
    boxes = [box["value"] for box in read(browser.page("/dead")).all("input") if box.get("name") == "callback"]
    assert boxes == ["evt_acme0001", "evt_acme0000"]
    answer = browser.post("/dead/callbacks", which="selected", callback=["evt_acme0000", "evt_umbrella0000"])
    assert answer.headers["location"] == "/console/dead?done=sent-1"
    assert browser.post("/dead/callbacks", which="all").headers["location"] == "/console/dead?done=sent-1"
    assert sign_in("umbrella").post("/dead/callbacks", which="all").headers["location"] == "/console/dead?done=sent-1200"


def test_where_not_all_callbacks_were_looked_at_that_is_said(
    service: Service, sign_in: SignIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    most = 2 * callbacks.AT_ONCE
    monkeypatch.setattr(callbacks, "LOOKED_AT", most)
    redis = service.parts.desk.records.redis
    give_up(redis, "acme", 2)
    others = {f"evt_{number}": 2 + number for number in range(most)}
    redis.zadd("vf:callbacks:dead", {"evt_acme0000": 1, "evt_acme0001": most + 2, **others})
    browser = sign_in()
    for done, told in (("latestsent-1", "1 callback is sent again; there are too many"), ("unsent", "None of the latest")):
        assert browser.post("/dead/callbacks", which="all").headers["location"] == f"/console/dead?done={done}"
        assert told in read(browser.page(f"/dead?done={done}")).text
    assert [one.id for one in Callbacks(redis).dead(2)] == ["evt_acme0000"]


def test_an_empty_page_of_dead_letters_leads_further_back(service: Service, sign_in: SignIn) -> None:
    letter = dead(service, "acme")
    redis = service.parts.desk.records.redis
    redis.zadd("vf:dead", {letter: 1, **{f"{number:032x}": 2 for number in range(SCANNED_A_PAGE)}})
    browser = sign_in("ops", "admin")
    page = read(browser.page("/dead"))
    assert page.by_id("no-dead") is None
    (older,) = [link["href"] or "" for link in page.all("a") if "cursor" in (link.get("href") or "")]
    assert letter in browser.page(older.removeprefix("/console"))


def test_nothing_is_dead(sign_in: SignIn) -> None:
    page = read(sign_in().page("/dead"))
    assert page.by_id("no-dead") is not None
    assert page.by_id("no-callbacks") is not None
