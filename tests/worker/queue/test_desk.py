"""Lists, cursors and human decisions over a real Redis."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from redis import Redis

from tests.worker.queue.scans import claim, complete, fail, submit
from worker.errors import BadRequest, Conflict, NoSuchScan, UnreadableRecord
from worker.queue.audit import DECISIONS
from worker.queue.desk import PAGE, SCANNED_A_PAGE, Decision, Desk
from worker.queue.doorbell import Doorbells
from worker.queue.places import STEP
from worker.queue.record import Purge
from worker.queue.requests import RequestSource, ScanRequest
from worker.report import Report


def many(desk: Desk, count: int) -> list[str]:
    """Newest first, as lists are."""
    return [submit(desk, external_id=str(number)) for number in range(count)][::-1]


def ids(reports: tuple[Report, ...]) -> list[str]:
    return [report.id for report in reports]


def test_pages_hold_each_scan_once_while_others_come_in(desk: Desk) -> None:
    before = many(desk, 2 * PAGE + 7)
    first = desk.page("acme", limit=PAGE)
    many(desk, 5)
    second = desk.page("acme", limit=PAGE, cursor=first.cursor)
    many(desk, 5)
    third = desk.page("acme", limit=PAGE, cursor=second.cursor)
    assert third.cursor is None
    seen = ids((*first.reports, *second.reports, *third.reports))
    assert len(seen) == len(set(seen))
    assert set(seen) == set(before)
    created = [report.created_at for report in (*first.reports, *second.reports, *third.reports)]
    assert created == sorted(created, reverse=True)


def test_scans_of_one_millisecond_are_told_apart(desk: Desk) -> None:
    wanted = many(desk, 25)
    desk.records.redis.zadd("vf:index:acme", dict.fromkeys(wanted, 1_700_000_000_000))
    seen: list[str] = []
    cursor = None
    while True:
        page = desk.page("acme", limit=4, cursor=cursor)
        seen += ids(page.reports)
        cursor = page.cursor
        if cursor is None:
            break
    assert seen == sorted(wanted, reverse=True)


def test_a_cursor_outlives_the_scan_that_it_stands_at(desk: Desk) -> None:
    wanted = many(desk, 4)
    page = desk.page("acme", limit=2)
    desk.records.cancel(page.reports[-1].id)
    assert desk.records.purge([page.reports[-1].id], Purge(), really=True) == 1
    rest = desk.page("acme", cursor=page.cursor)
    assert set(ids(page.reports) + ids(rest.reports)) == set(wanted)
    assert len(rest.reports) == 2


@pytest.mark.parametrize(
    "cursor", ["", "x", "1-" + "g" * 32, "-1-" + "a" * 32, "1" * 16 + "-" + "a" * 32, "1-" + "a" * 32 + "\n"]
)
def test_a_cursor_that_is_none_is_refused(desk: Desk, cursor: str) -> None:
    with pytest.raises(BadRequest, match="cursor"):
        desk.page("acme", cursor=cursor)


def test_filters(desk: Desk) -> None:
    done, real, corrupt, dead, waiting = (submit(desk, f"https://example.org/{n}.mp4", external_id=str(n)) for n in range(5))
    theirs = submit(desk, owner="zenith", external_id="3")
    complete(desk.records, done)
    complete(desk.records, real, sha256="cd" * 32, verdict="real")
    fail(desk.records, corrupt)
    fail(desk.records, dead, dead=True)
    fail(desk.records, theirs, dead=True)

    def found(**filters: object) -> set[str]:
        return {report.id for report in desk.each("acme", **filters)}

    assert found() == {done, real, corrupt, dead, waiting}
    assert found(status="failed") == {corrupt, dead}
    assert found(status="queued") == {waiting}
    assert found(verdict="real") == {real}
    assert found(external_id="3") == {dead}
    assert found(dead=True) == {dead}
    assert found(dead=False) == {done, real, corrupt, waiting}
    assert {report.id for report in desk.each(None, dead=True)} == {dead, theirs}
    assert len(list(desk.each(None))) == 6


def test_another_owners_dead_letters_hide_none_and_are_in_no_cursor(desk: Desk) -> None:
    mine = [submit(desk) for _ in range(3)]
    for scan_id in mine:
        fail(desk.records, scan_id, dead=True)
    desk.records.redis.zadd("vf:dead", {scan_id: at_ms for at_ms, scan_id in enumerate(mine, 1)})
    theirs = [submit(desk, owner="zenith") for _ in range(2 * PAGE)]
    for scan_id in theirs:
        fail(desk.records, scan_id, dead=True)
    desk.records.redis.zadd("vf:dead", {f"{number:032x}": 10 for number in range(SCANNED_A_PAGE)})
    page = desk.page("acme", dead=True, limit=2)
    assert (ids(page.reports), page.cursor) == ([mine[2], mine[1]], f"2-{mine[1]}")
    rest = desk.page("acme", dead=True, limit=2, cursor=page.cursor)
    assert (ids(rest.reports), rest.cursor) == ([mine[0]], None)
    nothing = desk.page("hooli", dead=True)
    assert (nothing.reports, nothing.cursor) == ((), None)


def test_others_dead_letters_cost_a_page_no_commands(desk: Desk) -> None:
    mine = [submit(desk) for _ in range(3)]
    for scan_id in mine:
        fail(desk.records, scan_id, dead=True)
    redis = desk.records.redis
    redis.zadd("vf:dead", {scan_id: at_ms for at_ms, scan_id in enumerate(mine, 1)})
    redis.zadd("vf:dead", {f"{number:032x}": 10 + number for number in range(5 * STEP)})
    redis.config_resetstat()
    assert ids(desk.page("acme", dead=True).reports) == mine[::-1]
    calls = redis.info("commandstats")
    assert sum(int(calls[f"cmdstat_{name}"]["calls"]) for name in ("zrevrangebyscore", "zmscore", "zinter")) == 3


def test_another_owners_scan_does_not_exist(desk: Desk) -> None:
    scan_id = submit(desk, owner="zenith")
    for ask in (desk.report, desk.cancel, desk.retry):
        with pytest.raises(NoSuchScan):
            ask(scan_id, "acme")
    with pytest.raises(NoSuchScan):
        desk.decide(scan_id, "acme", Decision(verdict="real", by="eve"))
    assert desk.records.states([scan_id], "acme") == [None]
    assert desk.records.states([scan_id], "zenith") == [("queued", 0.0)]
    desk.records.redis.hset(f"vf:scan:{scan_id}", "request", "of a later version")
    for owner, error in (("acme", NoSuchScan), ("zenith", UnreadableRecord), (None, UnreadableRecord)):
        with pytest.raises(error):
            desk.report(scan_id, owner)


def test_cancelling_some_rings_for_what_followed_them(desk: Desk, redis: Redis) -> None:
    leader, follower, other = (submit(desk) for _ in range(3))
    for scan_id in (leader, follower):
        desk.records.settle(claim(desk.records, scan_id), "ab" * 32, "key")
    desk.records.hand_back(claim(desk.records, leader))
    redis.delete("rq:queue:vf-batch")
    assert desk.cancel_each([other, leader], "acme") == ["cancelled", "cancelled"]
    assert Doorbells(redis, "vf").waiting() == {follower}


def test_a_decision_holds_for_the_bytes_whenever_they_are_posted(desk: Desk) -> None:
    first, other, theirs = submit(desk), submit(desk), submit(desk, owner="zenith")
    complete(desk.records, first)
    complete(desk.records, other, sha256="cd" * 32)
    complete(desk.records, theirs)
    stored = desk.record(first, None).report
    decided = desk.decide(first, "acme", Decision(verdict="real", by="ada", category="satire"))
    assert (decided.verdict, decided.decided_by) == ("real", "human")
    again = submit(desk)
    complete(desk.records, again)
    assert {(r.id, r.verdict, r.decided_by) for r in desk.each(None)} == {
        (first, "real", "human"),
        (again, "real", "human"),
        (other, "fake", "model"),
        (theirs, "fake", "model"),
    }
    assert desk.record(first, None).report == stored
    desk.decide(again, "acme", Decision(verdict="fake", by="bob"))
    assert desk.report(first, "acme").verdict == "fake"
    assert [(entry["by"], entry["scan"], entry["verdict"]) for _, entry in desk.audit("acme")] == [
        ("ada", first, "real"),
        ("bob", again, "fake"),
    ]
    assert desk.audit("zenith") == []


def test_a_decision_on_a_part_of_a_video_holds_for_that_part_alone(desk: Desk) -> None:
    whole, part, again, other = (submit(desk) for _ in range(4))
    for scan_id, part_s in ((whole, None), (part, (0.0, 12.625)), (again, (0.0, 12.625)), (other, (12.625, 20.0))):
        complete(desk.records, scan_id, part_s=part_s)

    def said() -> list[str]:
        told = [f"{desk.report(scan_id, 'acme').verdict} {desk.report(scan_id, 'acme').decided_by}" for scan_id in scans]
        listed = {report.id for report in desk.page("acme", verdict="real").reports}
        assert listed == {scan_id for scan_id, word in zip(scans, told, strict=True) if word.startswith("real")}
        return told

    scans = (whole, part, again, other)
    desk.decide(part, "acme", Decision(verdict="real", by="ada"))
    assert said() == ["fake model", "real human", "real human", "fake model"]
    desk.decide(whole, "acme", Decision(verdict="real", by="bob"))
    desk.decide(again, "acme", Decision(verdict="fake", by="eve"))
    assert said() == ["real human", "fake human", "fake human", "real human"], "the whole's where a part has none of its own"
    parts = [(entry["by"], entry["start_s"], entry["end_s"]) for _, entry in desk.audit("acme")]
    assert parts == [("ada", 0.0, 12.625), ("bob", None, None), ("eve", 0.0, 12.625)]


@pytest.mark.parametrize("options", [{"start_s": 2.0}, {"end_s": 9.0}, {"start_s": 0.0}, {}])
def test_a_part_that_an_earlier_version_did_not_tell_takes_no_decision(desk: Desk, options: dict[str, float]) -> None:
    scan_id = submit(desk, options=options)
    complete(desk.records, scan_id)
    desk.records.redis.hset(desk.records.key("scan", scan_id), "summary", '{"verdict": "fake", "score": 0.9}')
    is_part = bool(sum(options.values()))
    with pytest.raises(Conflict, match="retry it") if is_part else contextlib.nullcontext():
        desk.decide(scan_id, "acme", Decision(verdict="real", by="ada"))
    assert len(desk.audit("acme")) == (not is_part)


@pytest.mark.parametrize(
    ("source", "kept"),
    [
        ({"url": "https://me:hush@example.org/a.mp4?sig=hush#hush"}, {"url": "https://example.org/a.mp4"}),
        ({"path": "/clips/a?b#c.mp4"}, {"path": "/clips/a?b#c.mp4"}),
        ({"upload": "a" * 32}, {"upload": "a" * 32}),
    ],
)
def test_what_is_kept_for_ever_of_a_source_may_be_known(desk: Desk, source: dict[str, str], kept: dict[str, str]) -> None:
    scan_id = desk.submit_one(ScanRequest(source=RequestSource(**source)), "acme").id
    complete(desk.records, scan_id)
    desk.decide(scan_id, "acme", Decision(verdict="real", by="ada"))
    assert desk.record(scan_id, "acme").request.source == RequestSource(**source), "the record has it whole"
    told = [*desk.audit("acme"), *desk.decisions(desk.record(scan_id, "acme"))]
    assert [entry["source"] for _, entry in told] == [kept, kept]


def test_the_audit_log_goes_on_where_it_was_left(desk: Desk) -> None:
    scan_id = submit(desk)
    complete(desk.records, scan_id)
    for name in ("ada", "bob", "eve"):
        desk.decide(scan_id, None, Decision(verdict="real", by=name))
    (number, first), *_ = desk.audit(None, count=1)
    assert first["by"] == "ada"
    assert [entry["by"] for _, entry in desk.audit(None, after=number)] == ["bob", "eve"]


def test_the_decisions_on_some_bytes_are_those_of_one_owner(desk: Desk) -> None:
    scans = [submit(desk, owner=owner) for owner in ("acme", "acme", "acme", "zenith")]
    first, again, other, theirs = scans
    for scan_id, sha256 in zip(scans, ("ab" * 32, "ab" * 32, "cd" * 32, "ab" * 32), strict=True):
        complete(desk.records, scan_id, sha256)
    for scan_id, name in ((first, "ada"), (other, "bob"), (theirs, "eve"), (again, "kim")):
        desk.decide(scan_id, None, Decision(verdict="real", by=name, note=f"by {name}"))
    found = desk.decisions(desk.record(first, "acme"))
    assert [(entry["by"], entry["scan"], entry["note"]) for _, entry in found] == [
        ("kim", again, "by kim"),
        ("ada", first, "by ada"),
    ]
    assert 0 <= desk.records.now_ms() - found[0][0] < 60_000
    assert [entry["by"] for _, entry in desk.decisions(desk.record(first, "acme"), count=1)] == ["kim"]
    assert desk.decisions(desk.record(submit(desk), "acme")) == []


def test_of_many_decisions_on_some_bytes_the_latest_are_kept_twice(desk: Desk) -> None:
    scan_id = submit(desk)
    complete(desk.records, scan_id, "ab" * 32)
    for number in range(DECISIONS + 3):
        desk.decide(scan_id, None, Decision(verdict="real", by=str(number)))
    found = desk.decisions(desk.record(scan_id, None), count=2 * DECISIONS)
    assert [entry["by"] for _, entry in found] == [str(number) for number in range(DECISIONS + 2, 2, -1)]
    assert len(desk.audit(None)) == DECISIONS + 3


@pytest.mark.parametrize("state", ["queued", "running", "failed"])
def test_what_has_no_result_cannot_be_decided(desk: Desk, state: str) -> None:
    scan_id = submit(desk)
    if state != "queued":
        claimed = claim(desk.records, scan_id)
        desk.records.settle(claimed, "ab" * 32, "a result's key")
    if state == "failed":
        desk.records.fail(claimed, code="unsupported", message="no video", retryable=False)
    with pytest.raises(Conflict):
        desk.decide(scan_id, "acme", Decision(verdict="real", by="ada"))
    assert (desk.record(scan_id, "acme").state, desk.audit("acme")) == (state, [])


def test_a_result_of_another_version_breaks_no_list(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    good, odd, waiting = (submit(desk, f"https://example.org/{n}.mp4") for n in range(3))
    complete(desk.records, good)
    complete(desk.records, odd)
    desk.records.redis.hset(f"vf:scan:{odd}", "report", b"of a later one")
    assert set(ids(desk.page("acme").reports)) == {good, waiting}
    assert odd in caplog.text
    with pytest.raises(UnreadableRecord, match=odd):
        desk.report(odd, "acme")
    with pytest.raises(UnreadableRecord, match=odd):
        desk.decide(odd, "acme", Decision(verdict="real", by="ada"))
    assert desk.audit("acme") == []


def test_a_list_by_verdict_reads_no_other_reports(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    fake, real, turned = (submit(desk, f"https://example.org/{n}.mp4") for n in range(3))
    for scan_id, sha256, verdict in ((fake, "aa" * 32, "fake"), (real, "bb" * 32, "real"), (turned, "cc" * 32, "fake")):
        complete(desk.records, scan_id, sha256, verdict)
    desk.decide(turned, "acme", Decision(verdict="real", by="ada"))
    desk.records.redis.hset(f"vf:scan:{fake}", "report", b"that nobody can read")
    assert set(ids(desk.page("acme", verdict="real").reports)) == {real, turned}
    assert "passed over" not in caplog.text
    assert desk.page("acme", verdict="fake").reports == ()
    assert "passed over" in caplog.text


@pytest.mark.parametrize(
    "filters", [{"status": "cancelled"}, {"verdict": "real"}, {"external_id": "none"}, {"dead": True, "verdict": "fake"}]
)
def test_a_filtered_list_reads_no_record_that_does_not_fit(desk: Desk, filters: dict[str, Any]) -> None:
    one, queued, failed = submit(desk, external_id="1"), submit(desk), submit(desk)
    complete(desk.records, one)
    fail(desk.records, failed, dead=True)
    redis = desk.records.redis
    for number in range(SCANNED_A_PAGE // 4):
        redis.copy(f"vf:scan:{one}", f"vf:scan:{number:032x}")
    redis.zadd("vf:index:acme", {f"{number:032x}": number for number in range(SCANNED_A_PAGE // 4)})
    redis.config_resetstat()
    assert desk.page("acme", **filters).reports == ()
    assert "cmdstat_hgetall" not in redis.info("commandstats")
    assert ids(desk.page("acme", status="queued").reports) == [queued]
    assert redis.info("commandstats")["cmdstat_hgetall"]["calls"] == 1


def test_a_summary_that_cannot_be_read_hides_no_report(desk: Desk) -> None:
    scan_id = submit(desk)
    complete(desk.records, scan_id)
    for summary in (b"", b"null", b"[]"):
        desk.records.redis.hset(f"vf:scan:{scan_id}", "summary", summary)
        assert desk.page("acme", verdict="real").reports == ()
        assert len(desk.page("acme", verdict="fake").reports) == (summary != b"[]"), "such a record is passed over"


def test_a_retry_is_a_scan_of_its_own(desk: Desk) -> None:
    scan_id = submit(desk, idempotency_key="k", external_id="7", priority="live")
    with pytest.raises(Conflict):
        desk.retry(scan_id, "acme")
    fail(desk.records, scan_id)
    new = desk.record(desk.retry(scan_id, "acme").id, "acme")
    assert (new.retry_of, new.state, new.request.external_id, new.request.priority) == (scan_id, "queued", "7", "live")
    assert desk.record(scan_id, "acme").state == "failed"
