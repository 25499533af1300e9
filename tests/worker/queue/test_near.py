"""Near-identical media of one owner: found by their hashes, never another owner's, never what is gone; bounded and quick."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from tests.worker.queue.fake_scanner import FakeScanner, Output
from tests.worker.queue.fake_streams import KeepsNothing, slices
from worker.content import Content
from worker.queue.connection import connect
from worker.queue.desk import Decision, Desk
from worker.queue.doorbell import Doorbells
from worker.queue.embedded import EmbeddedRedis
from worker.queue.near import LISTED, NearIndex
from worker.queue.perform import Brought, Performer
from worker.queue.record import Claim, Purge, Terms, pack
from worker.queue.records import NEAR_AGES, Records
from worker.queue.requests import RequestSource, ScanRequest
from worker.report import Media, Report, Source, new_id, now
from worker.types import MediaKind

FACTS: dict[str, Any] = {"duration_s": 1, "fps": 25, "width": 8, "height": 8, "codec": "h264", "container": "mp4"}
DRAW = random.Random(11)


def clip(places: int = 8) -> list[int]:
    return [DRAW.getrandbits(64) for _ in range(places)]


def altered(hashes: list[int], bits: int) -> list[int]:
    """So many bits of each differ."""
    return [one ^ sum(1 << bit for bit in DRAW.sample(range(64), bits)) for one in hashes]


def text(hashes: list[int]) -> str:
    return "v1:" + ".".join(f"{one:016x}" for one in hashes)


class Library(FakeScanner):
    """Finds in a file the hash that is written there, and a verdict."""

    def scan(self, path: Path, **more: Any) -> Output:
        output = FakeScanner.scan(self, path, **more)
        media = Media(phash=path.read_text() or None, kind=MediaKind.VIDEO, decoder="fake", **FACTS)
        return replace(output, report=output.report.model_copy(update={"media": media}))


class Posts:
    """Scans media of given hashes, each of other bytes."""

    def __init__(self, redis: Redis, folder: Path) -> None:
        self.records = Records(redis, "vf", Terms(max_attempts=1))
        self.desk = Desk(self.records, Doorbells(redis))
        self._file = folder / "media"

    def post(
        self, hashes: list[int] | None, owner: str = "acme", content: str | None = None, brisk: Records | None = None
    ) -> str:
        self._file.write_text(text(hashes) if hashes is not None else "crash")
        scan_id = self.desk.submit_one(ScanRequest(source=RequestSource(url="https://media.example/a.mp4")), owner).id
        claim = self.records.claim(scan_id, "w")
        assert isinstance(claim, Claim), claim
        brought = Brought(path=self._file, content=Content(sha256=content or new_id() * 2, size_bytes=1))
        keeper = KeepsNothing()
        parts: dict[str, Any] = {
            "brisk": brisk or self.records,
            "scanner": Library(),
            "keeper": keeper,
            "watches": slices(self.records, keeper),
        }
        Performer(records=self.records, sources=Here(brought), folder=self._file.parent, **parts).perform(claim)
        return scan_id

    def named(self, scan_id: str) -> tuple[str, ...]:
        return self.desk.report(scan_id, "acme").near_duplicates

    def near(self, scan_id: str) -> list[str]:
        return [report.id for report, _ in self.desk.near_duplicates(scan_id, "acme")]


class Here:
    def __init__(self, brought: Brought) -> None:
        self._brought = brought

    def fetch(self, *_: object) -> Here:
        return self

    def __enter__(self) -> Brought:
        return self._brought

    def __exit__(self, *error: object) -> None:
        pass


@pytest.fixture
def posts(redis: Redis, tmp_path: Path) -> Posts:
    return Posts(redis, tmp_path)


def test_a_report_names_earlier_scans_of_near_identical_media(posts: Posts) -> None:
    one, other = clip(), clip()
    first, stranger = posts.post(one), posts.post(other)
    second = posts.post(altered(one, 2))
    third = posts.post(altered(one[2:] + one[:2], 3))
    assert posts.named(first) == posts.named(stranger) == ()
    assert posts.named(second) == (first,)
    assert posts.named(third) == (second, first), "the newest first"
    assert posts.near(first) == [third, second], "later ones, too, when it is asked now"
    assert posts.near(stranger) == []


def test_their_verdicts_are_those_of_now_and_decide_nothing(posts: Posts) -> None:
    one = clip()
    first, second = posts.post(one), posts.post(altered(one, 1))
    posts.desk.decide(first, "acme", Decision(verdict="fake", by="ada"))
    ((report, distance),) = posts.desk.near_duplicates(second, "acme")
    assert (report.id, report.verdict, report.decided_by, distance) == (first, "fake", "human", 1.0)
    own = posts.desk.report(second, "acme")
    assert (own.verdict, own.decided_by, own.score) == ("real", "model", 0.1)


def test_too_far_away_is_not_near(posts: Posts) -> None:
    """Of one picture, fewer bits may differ."""
    for hashes, most in ((clip(), 8), (clip(1), 4)):
        first = posts.post(hashes)
        for bits, near in ((most + 1, ()), (most, (first,))):
            scan_id = posts.post([one ^ ((1 << bits) - 1) for one in hashes])
            assert posts.named(scan_id) == near
            posts.records.purge([scan_id], Purge(), really=True)


def test_another_owners_are_not_there_also_where_their_result_is_taken_over(posts: Posts) -> None:
    one = clip()
    theirs = posts.post(one, "umbrella", content="cd" * 32)
    mine = posts.post(one, content="cd" * 32)
    assert posts.named(mine) == ()
    again = posts.post(one, content="cd" * 32)
    assert posts.named(again) == (mine,)
    assert theirs not in posts.desk.report(again, "acme").model_dump_json()


def test_what_has_no_hash_is_near_nothing(posts: Posts) -> None:
    one = clip()
    posts.post(one)
    failed, flat = posts.post(None), posts.post([])
    for scan_id in (failed, flat):
        assert posts.named(scan_id) == ()
        assert posts.near(scan_id) == []
    waiting = posts.desk.submit_one(ScanRequest(source=RequestSource(url="https://media.example/a.mp4")), "acme").id
    assert posts.near(waiting) == []


def test_a_record_that_is_gone_is_found_and_named_no_more(posts: Posts) -> None:
    one = clip()
    first, second, third = (posts.post(altered(one, 1)) for _ in range(3))
    assert posts.named(third) == (second, first)
    posts.records.purge([first], Purge(), really=True)
    assert posts.named(third) == (second,)
    assert posts.near(third) == [second]
    page = posts.desk.page("acme").reports
    assert {report.id: report.near_duplicates for report in page} == {third: (second,), second: ()}
    posts.records.purge([second], Purge(), really=True)
    assert posts.named(posts.post(one)) == (third,)


def test_of_many_the_newest_are_named(posts: Posts) -> None:
    one = clip()
    posted = [posts.post(altered(one, 1)) for _ in range(LISTED + 3)]
    last = posts.post(one)
    finished = {scan_id: posts.records.get(scan_id).finished_ms or 0 for scan_id in posted}
    assert len(posts.named(last)) == LISTED
    assert {finished[one] for one in posts.named(last)} >= set(sorted(finished.values())[-LISTED:])


def stored(records: Records, index: NearIndex, hashes: list[int], owner: str = "acme") -> str:
    """A completed record and its place in the index, without a scan."""
    media = Media(phash=text(hashes), kind=MediaKind.VIDEO, decoder="fake", **FACTS)
    report = Report(id=new_id(), owner=owner, source=Source(kind="url"), created_at=now(), status="completed", media=media)
    told = {"id": report.id, "owner": owner, "state": "completed", "finished_ms": records.now_ms(), "report": pack(report)}
    records.redis.hset(records.key("scan", report.id), mapping=told)  # type: ignore[arg-type]
    index.add(report)
    return report.id


def near_of(index: NearIndex, hashes: list[int], owner: str = "acme") -> list[str]:
    media = Media(phash=text(hashes), kind=MediaKind.VIDEO, decoder="fake", **FACTS)
    report = Report(id=new_id(), owner=owner, source=Source(kind="url"), created_at=now(), status="completed", media=media)
    return [near.id for near in index.near(report)]


def test_an_index_is_bounded_and_the_oldest_go_first(redis: Redis) -> None:
    records = Records(redis)
    index = NearIndex(records, most=2 * NEAR_AGES)
    clips = [clip() for _ in range(2 * NEAR_AGES + 3)]
    posted = [stored(records, index, one) for one in clips]
    found = [near_of(index, one) == [scan_id] for one, scan_id in zip(clips, posted, strict=True)]
    assert found[-(2 * NEAR_AGES - 2) :] == [True] * (2 * NEAR_AGES - 2)
    assert found[:2] == [False, False]
    ages = {key.decode().split(":")[3] for key in redis.scan_iter("vf:near:acme:*")}
    assert len(ages) == NEAR_AGES, "what was dropped is gone from Redis"
    assert near_of(index, clips[-1], "umbrella") == []


@pytest.mark.parametrize(("began_s", "age"), [(90, b"0"), (101, b"1")])
def test_an_age_ends_after_its_share_of_the_time(redis: Redis, began_s: int, age: bytes) -> None:
    records = Records(redis, terms=Terms(keep_s=100 * NEAR_AGES))
    index = NearIndex(records)
    stored(records, index, clip())
    redis.hset("vf:near:acme", "began_ms", records.now_ms() - 1000 * began_s)
    stored(records, index, clip())
    assert redis.hget("vf:near:acme", "age") == age


def test_everything_of_it_expires(redis: Redis) -> None:
    records = Records(redis, terms=Terms(keep_s=50))
    stored(records, NearIndex(records), clip())
    keys = list(redis.scan_iter("vf:near:*"))
    assert keys
    assert all(0 < int(redis.ttl(key)) <= 50 for key in keys)


def postings(redis: Redis) -> dict[tuple[bytes, bytes], bytes]:
    return {(key, low): ids for key in redis.keys("vf:near:acme:*") for low, ids in redis.hgetall(key).items()}


def test_of_a_purged_scan_no_piece_of_its_hash_is_left(redis: Redis) -> None:
    records = Records(redis)
    index = NearIndex(records, most=2 * NEAR_AGES)
    clips = [clip(3) for _ in range(NEAR_AGES)]
    posted = [(stored(records, index, one), stored(records, index, altered(one, 2))) for one in clips]
    for (first, second), one in zip(posted, clips, strict=True):
        others = {place: ids.replace(bytes.fromhex(first), b"") for place, ids in postings(redis).items()}
        assert records.purge([first], Purge(), really=True) == 1
        assert postings(redis) == {place: ids for place, ids in others.items() if ids}, "the others' are where they were"
        assert near_of(index, one) == [second]
    assert records.purge([second for _, second in posted], Purge(), really=False) == NEAR_AGES
    assert postings(redis)
    assert records.purge([second for _, second in posted], Purge(), really=True) == NEAR_AGES
    assert redis.keys("vf:near:*") == [b"vf:near:acme"]


def test_no_result_waits_until_it_can_be_found(redis: Redis, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Behind it nothing is left to do but that: who waited for a Redis that is full would be taken for stuck."""
    posts = Posts(redis, tmp_path)
    with connect(url="redis://127.0.0.1:1/0", timeout_s=1, patience_s=0) as away:
        scan_id = posts.post(clip(), brisk=Records(away, "vf"))
    assert posts.records.get(scan_id).state == "completed"
    assert f"scan {scan_id} is not among those that are looked for" in caplog.text


def test_a_purge_looks_only_where_the_hash_lies(redis: Redis, tmp_path: Path) -> None:
    posts = Posts(redis, tmp_path)
    scan_id = posts.post(clip())
    redis.hset("vf:near:acme", "age", NEAR_AGES + 3)
    redis.config_resetstat()
    assert posts.records.purge([scan_id], Purge(), really=True) == 1
    assert redis.info("commandstats")["cmdstat_hget"]["calls"] < 2 * 4 * 8, "four bands of eight hashes, in one age"


def test_a_full_redis_is_purged_too(own_redis: EmbeddedRedis) -> None:
    with connect(url=own_redis.url, timeout_s=5, patience_s=5) as redis:
        records = Records(redis)
        index, one = NearIndex(records), clip()
        first, second = (stored(records, index, one) for _ in range(2))
        redis.config_set("maxmemory", 1)
        assert records.purge([first], Purge(), really=True) == 1
        assert set(postings(redis).values()) == {bytes.fromhex(second)}


def test_told_twice_it_is_there_once_and_what_is_not_completed_is_not(redis: Redis) -> None:
    records = Records(redis)
    index, one = NearIndex(records), clip()
    scan_id = stored(records, index, one)
    before = redis.dbsize()
    media = Media(phash=text(one), kind=MediaKind.VIDEO, decoder="fake", **FACTS)
    told = Report(id=scan_id, owner="acme", source=Source(kind="url"), created_at=now(), status="completed", media=media)
    index.add(told)
    index.add(told.model_copy(update={"id": new_id()}))
    assert redis.dbsize() == before
    assert redis.hget("vf:near:acme", "count") == b"1"
    assert near_of(index, one) == [scan_id]


def test_one_look_costs_few_commands_however_many_there_are(redis: Redis) -> None:
    records = Records(redis)
    index = NearIndex(records)
    clips = [clip() for _ in range(100)]
    for one in clips:
        stored(records, index, one)
    redis.config_resetstat()
    near_of(index, clips[7])
    calls = sum(int(stat["calls"]) for name, stat in redis.info("commandstats").items() if name != "cmdstat_info")
    assert calls <= NEAR_AGES * 32 + 16


@pytest.mark.parametrize("keys", ["%R~vf:near:*", "~nothing"], ids=["cannot be written", "cannot be read"])
def test_a_scan_is_completed_whatever_becomes_of_its_place_in_the_index(
    redis: Redis, redis_server: EmbeddedRedis, tmp_path: Path, keys: str
) -> None:
    one = clip()
    first = Posts(redis, tmp_path).post(one)
    redis.execute_command("ACL", "SETUSER", "limited", "on", "nopass", "+@all", "&*", "~rq:*", "~vf:[a-mo-z]*", keys)
    try:
        with connect(url=redis_server.url, username="limited", password="any", timeout_s=10, patience_s=10) as limited:
            second = Posts(limited, tmp_path).post(one)
    finally:
        redis.acl_deluser("limited")
    posts = Posts(redis, tmp_path)
    assert posts.desk.report(second, "acme").status == "completed"
    assert posts.named(second) == ((first,) if "R" in keys else ())
    assert posts.near(first) == [], "it cannot be found, that is all"
