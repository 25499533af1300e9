"""What one attempt makes of a record, its options, and a result that another scan paid for."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from tests.worker.grey_media import Clip, scanner
from tests.worker.queue.fake_scanner import FakeScanner
from tests.worker.queue.fake_streams import KeepsNothing, address, slices
from tests.worker.telemetry.recorded import Recorded
from worker.artifacts import open_store
from worker.content import Content, read_content
from worker.errors import FetchGone, FetchRateLimited, FetchTimeout, LeaseLost, ModelError, OutOfMemory, StorageDown, StorageFull
from worker.queue.child import is_poisoned, waits_for_its_turn
from worker.queue.desk import Desk
from worker.queue.doorbell import Doorbells
from worker.queue.fetching import Artifacts
from worker.queue.perform import Brought, Keeper, OnBytes, Performer, QueueScanner, cache_key, identity
from worker.queue.record import Claim, Ended, Terms, unpack
from worker.queue.records import LONGEST_PASSED_ON_S, PASSED_ON_S, Records
from worker.queue.requests import RequestOptions, RequestSource, ScanRequest
from worker.report import Media, Source, Timings
from worker.types import MediaKind, SamplingRequest, Scores, Strategy, UInt8

CONTENT = Content(sha256="ab" * 32, size_bytes=7)
DEFAULT = SamplingRequest(strategy=Strategy.AUTO, max_frames=None, fps=None, start_s=0.0, end_s=None)
URL = "https://media.example/a.mp4?token=secret"


class Here:
    """A source whose bytes are a file, or cannot be had."""

    def __init__(
        self, path: Path, error: Exception | None = None, content: Content | None = None, pieces: Iterable[int] = ()
    ) -> None:
        self._path, self._error, self._content, self._pieces = path, error, content, pieces

    def fetch(self, source: RequestSource, folder: Path, on_bytes: OnBytes, scan_id: str) -> Here:
        self.scan_id = scan_id
        for piece in self._pieces:
            on_bytes(piece, 100)
        return self

    def __enter__(self) -> Brought:
        if self._error is not None:
            raise self._error
        return Brought(path=self._path, content=self._content)

    def __exit__(self, *error: object) -> None:
        pass


class Attempt:
    """A record, and a performer that scans ``text``."""

    def __init__(self, redis: Redis, folder: Path) -> None:
        self.records = Records(redis, "vf", Terms(backoff_s=1))
        self.desk = Desk(self.records, Doorbells(redis))
        self.folder = folder
        self.told = Recorded()

    def submit(self, external_id: str | None = None, **options: Any) -> str:
        request = ScanRequest(source=RequestSource(url=URL), external_id=external_id, options=RequestOptions(**options))
        return self.desk.submit_one(request, "acme").id

    def perform(self, scan_id: str, text: str = "ok", error: Exception | None = None) -> str:
        path = self.folder / "media"
        path.write_text(text)
        return self.perform_with(Here(path, error), scan_id).how

    def perform_with(
        self, source: Here, scan_id: str, scanner: QueueScanner | None = None, keeper: Keeper | None = None
    ) -> Ended:
        claim = self.records.claim(scan_id, "w")
        assert isinstance(claim, Claim), claim
        performer = Performer(
            records=self.records,
            brisk=self.records,
            scanner=scanner or FakeScanner(),
            sources=source,
            keeper=keeper or KeepsNothing(),
            watches=slices(self.records, KeepsNothing()),
            folder=self.folder,
            telemetry=self.told,
        )
        return performer.perform(claim)


class Removes(FakeScanner):
    """Somebody takes the file away while it is scanned."""

    def scan(self, path: Path, **more: Any) -> Any:
        output = FakeScanner.scan(self, path, **more)
        path.unlink()
        return output


@pytest.fixture
def attempt(redis: Redis, tmp_path: Path) -> Attempt:
    return Attempt(redis, tmp_path)


def test_the_report_is_this_scans_own(attempt: Attempt) -> None:
    scan_id = attempt.submit("post 7")
    assert attempt.perform(scan_id) == "finished"
    report = attempt.desk.report(scan_id, "acme")
    assert (report.id, report.owner, report.external_id, report.status) == (scan_id, "acme", "post 7", "completed")
    assert report.source == Source(kind="url", url=URL)


class Timed(FakeScanner):
    """As the real one: with times and media."""

    def scan(self, path: Path, **more: Any) -> Any:
        output = FakeScanner.scan(self, path, **more)
        media = Media(
            kind=MediaKind.PICTURE, duration_s=0, fps=0, width=8, height=8, codec="png", container="png", decoder="pillow"
        )
        timings = Timings(decode=1000, detect=2000, infer=3000, total=4000)
        return replace(output, report=output.report.model_copy(update={"media": media, "timings_ms": timings}))


def test_stages_and_scores_of_what_was_scanned_are_told(attempt: Attempt, caplog: pytest.LogCaptureFixture) -> None:
    path = attempt.folder / "media"
    path.write_text("ok")
    first, second = attempt.submit(), attempt.submit()
    with caplog.at_level(logging.INFO, "worker.queue.perform"):
        attempt.perform_with(Here(path), first, Timed())
    told = attempt.told.seen
    assert told["stage_seconds", "decode"] == [1.0]
    assert told["stage_seconds", "detect"] == [2.0]
    assert told["stage_seconds", "infer"] == [3.0]
    assert [len(told["stage_seconds", stage]) for stage in ("fetch", "total")] == [1, 1]
    assert told["score", "picture"] == [0.1]
    assert [vars(record)["stage"] for record in caplog.records] == ["fetch", "decode", "infer", "store"]
    before = {name: list(values) for name, values in told.items()}
    attempt.perform_with(Here(path), second, Timed())
    assert told == before, "a result from the cache took no time and is no other score"


def test_a_stored_result_is_taken_over_without_a_word_of_whose_it_was(attempt: Attempt) -> None:
    first, second = attempt.submit("mine"), attempt.submit("yours")
    attempt.perform(first)
    assert attempt.perform(second) == "finished"
    report = attempt.desk.report(second, "acme")
    assert (report.id, report.external_id) == (second, "yours")
    assert first not in report.model_dump_json()


@pytest.mark.parametrize(
    ("error", "code", "how"),
    [
        (FetchGone("there is no such file"), "fetch_gone", "failed"),
        (FetchRateLimited("later", retry_after_s=40), "fetch_rate_limited", "again"),
    ],
)
def test_errors_have_a_code_of_the_wires(attempt: Attempt, error: Exception, code: str, how: str) -> None:
    scan_id = attempt.submit()
    assert attempt.perform(scan_id, error=error) == how
    stored = attempt.records.get(scan_id).error
    assert stored is not None
    assert stored["code"] == code
    attempt.desk.report(scan_id, "acme")


@pytest.mark.parametrize(
    ("error", "how"),
    [
        (StorageFull("no room"), "queued"),
        (StorageDown("no answer"), "queued"),
        (FetchTimeout("slow"), "again"),
        (OutOfMemory("of the sandboxed decoder's"), "failed"),
    ],
)
def test_what_is_wrong_outside_costs_no_warm_model(attempt: Attempt, error: Exception, how: str) -> None:
    ended = attempt.perform_with(Here(attempt.folder / "none", error), attempt.submit())
    assert ended.how == how
    assert not is_poisoned(ended)


def test_a_scan_waits_for_its_turn_at_a_site_however_far_away_and_loses_no_attempt(attempt: Attempt) -> None:
    scan_id = attempt.submit()
    for wait_s in (7000, 4000, 1000, 400):
        error = FetchRateLimited("asked often enough", retry_after_s=wait_s, is_turn=True)
        source = Here(attempt.folder / "none", error)
        assert waits_for_its_turn(attempt.perform_with(source, scan_id))
        assert source.scan_id == scan_id, "whose turn it is"
        ahead_ms = attempt.records.get(scan_id).not_before_ms - attempt.records.now_ms()
        assert 1000 * (wait_s - 60) < ahead_ms <= 1000 * wait_s
        attempt.records.redis.hset(f"vf:scan:{scan_id}", "not_before_ms", 0)
    assert attempt.perform(scan_id) == "finished"


class Fails:
    """A classifier that meets an error, by what is told of it before."""

    name = "failing"

    def __init__(self, error: Exception, tell: Callable[[], object] = lambda: None) -> None:
        self._error, self._tell = error, tell

    def scores(self, crops_FHWC: UInt8) -> Scores:
        self._tell()
        raise self._error


@pytest.mark.parametrize("error", [ModelError("the card failed: out of memory"), RuntimeError("a bug")])
def test_a_card_that_fails_and_a_bug_are_tried_again_in_another_process(attempt: Attempt, error: Exception) -> None:
    (attempt.folder / "media").write_text("ok")
    scan_id, hows = attempt.submit(), []
    with scanner(Clip(duration_s=0.4), classifier=Fails(error), threads=1) as failing:
        for _ in range(3):
            ended = attempt.perform_with(Here(attempt.folder / "media"), scan_id, failing)
            hows.append(ended.how)
            assert is_poisoned(ended)
            attempt.records.redis.hset(f"vf:scan:{scan_id}", "not_before_ms", 0)
    assert hows == ["again", "again", "dead"]
    stored = attempt.records.get(scan_id).error
    assert stored is not None
    assert (stored["code"], stored["retryable"]) == ("internal", True)
    assert attempt.desk.report(scan_id, "acme").sha256 == hashlib.sha256(b"ok").hexdigest()


def test_a_watch_whose_card_fails_goes_on_in_another_process(attempt: Attempt) -> None:
    request = ScanRequest(kind="watch", source=RequestSource(url=address(2, card=1)))
    scan_id = attempt.desk.submit_one(request, "acme").id
    ended = attempt.perform_with(Here(attempt.folder), scan_id)
    assert ended.how == "again"
    assert is_poisoned(ended)


def test_a_card_that_fails_on_a_scan_that_was_cancelled_meanwhile_is_not_tried_again(attempt: Attempt) -> None:
    (attempt.folder / "media").write_text("ok")
    scan_id = attempt.submit()
    failing = Fails(ModelError("the card failed"), lambda: attempt.desk.cancel(scan_id, "acme"))
    with scanner(Clip(duration_s=0.4), classifier=failing, threads=1) as once:
        assert attempt.perform_with(Here(attempt.folder / "media"), scan_id, once).how == "cancelled"


@pytest.mark.parametrize("content", [None, CONTENT], ids=["somebody's", "fetched for this scan"])
def test_a_file_that_is_taken_away_in_mid_scan(attempt: Attempt, content: Content | None) -> None:
    path = attempt.folder / "media"
    path.write_text("ok")
    scan_id = attempt.submit()
    ended = attempt.perform_with(Here(path, content=content), scan_id, Removes())
    if content is None:
        assert (ended.how, ended.code) == ("failed", "fetch_gone")
    else:
        assert ended.how == "finished"


@pytest.mark.parametrize(("below", "error"), [("gone", FetchGone), ("media/file", FetchTimeout)])
def test_a_file_that_is_not_there_has_a_code(tmp_path: Path, below: str, error: type[Exception]) -> None:
    (tmp_path / "media").write_text("no folder")
    with pytest.raises(error):
        identity(Brought(path=tmp_path / below))
    assert identity(Brought(path=tmp_path / below, content=CONTENT)) == ()


def test_a_stored_result_of_another_version_is_none(attempt: Attempt) -> None:
    first, second, third = attempt.submit(), attempt.submit(), attempt.submit()
    attempt.perform(first)
    attempt.records.redis.hset(f"vf:scan:{first}", "report", b"of a later version")
    assert attempt.perform(second) == "finished"
    assert attempt.desk.report(second, "acme").verdict == "real"
    claim = attempt.records.claim(third, "w")
    assert isinstance(claim, Claim)
    key = attempt.records.get(second).cache_key
    assert key is not None
    cached = attempt.records.settle(claim, "ab" * 32, key).cached
    assert cached is not None
    assert unpack(cached).id == second, "the new result answers from now on"


def test_a_leaders_result_of_another_version_is_none(attempt: Attempt) -> None:
    leader, follower = attempt.submit(), attempt.submit()
    path = attempt.folder / "media"
    path.write_text("ok")
    key = cache_key(read_content(path, 99), FakeScanner.fingerprint, RequestOptions())
    claims = [attempt.records.claim(scan_id, "w") for scan_id in (leader, follower)]
    for claim in claims:
        assert isinstance(claim, Claim)
        attempt.records.settle(claim, "ab" * 32, key)
    assert isinstance(claims[0], Claim)
    attempt.records.finish(claims[0], attempt.desk.report(leader, "acme"))
    attempt.records.redis.hset(f"vf:scan:{leader}", "report", b"of a later version")
    assert attempt.perform_with(Here(path), follower).how == "finished"
    assert attempt.desk.report(follower, "acme").verdict == "real"


def test_a_scan_with_an_option_of_a_newer_version_waits_for_a_worker_that_knows_it_and_costs_no_warm_model(
    attempt: Attempt,
) -> None:
    scan_id, redis = attempt.submit(), attempt.records.redis
    known = redis.hget(f"vf:scan:{scan_id}", "request")
    newer = json.dumps(json.loads(known) | {"options": {"next_option": True}})
    redis.hset(f"vf:scan:{scan_id}", "request", newer)

    def passed_on() -> str:
        before_ms = attempt.records.now_ms()
        ended = attempt.perform_with(Here(attempt.folder), scan_id)
        assert not is_poisoned(ended)
        assert not ended.ring, "its time has not come"
        if ended.how == "queued":
            assert int(redis.hget(f"vf:scan:{scan_id}", "not_before_ms")) >= before_ms + 1e3 * PASSED_ON_S
        redis.hset(f"vf:scan:{scan_id}", "not_before_ms", 0)
        return ended.how

    assert [passed_on() for _ in range(5)] == ["queued"] * 5
    assert redis.hget(f"vf:scan:{scan_id}", "tries") == b"0"
    long_ago = attempt.records.now_ms() - 1000 * LONGEST_PASSED_ON_S
    redis.hset(f"vf:scan:{scan_id}", "request", known)
    redis.hset(f"vf:scan:{scan_id}", "passed_on", f"{long_ago} 5")
    assert attempt.perform(scan_id, error=FetchTimeout("later")) == "again"
    redis.hset(f"vf:scan:{scan_id}", mapping={"request": newer, "not_before_ms": 0})
    assert passed_on() == "queued", "there was one that could"
    redis.hset(f"vf:scan:{scan_id}", "passed_on", f"{long_ago} 7")
    assert passed_on() == "dead"
    assert redis.hget(f"vf:scan:{scan_id}", "dead") == b"1"


def test_one_that_is_not_wanted_any_more_waits_for_no_other_worker(attempt: Attempt) -> None:
    scan_id = attempt.submit()
    claim = attempt.records.claim(scan_id, "w")
    assert isinstance(claim, Claim)
    attempt.desk.cancel(scan_id, "acme")
    assert attempt.records.pass_on(claim, "").how == "cancelled"
    with pytest.raises(LeaseLost):
        attempt.records.pass_on(claim, "")


def test_a_cancelled_scan_ends_in_mid_download(attempt: Attempt) -> None:
    scan_id = attempt.submit()

    def pieces() -> Iterator[int]:
        yield 1
        attempt.desk.cancel(scan_id, "acme")
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            yield 50
        raise AssertionError("the download went on")

    assert attempt.perform_with(Here(attempt.folder / "none", pieces=pieces()), scan_id).how == "cancelled"
    assert attempt.records.get(scan_id).state == "cancelled"


def test_a_servers_waiting_time_is_kept(attempt: Attempt) -> None:
    scan_id, before_ms = attempt.submit(), attempt.records.now_ms()
    attempt.perform(scan_id, error=FetchRateLimited("later", retry_after_s=40))
    assert attempt.records.get(scan_id).not_before_ms >= before_ms + 40_000


class Asked(FakeScanner):
    """Remembers whether maps were to be made."""

    def __init__(self) -> None:
        self.explain: list[bool | None] = []

    def scan(self, path: Path, **more: Any) -> Any:
        self.explain.append(more["explain"])
        return FakeScanner.scan(self, path, **more)


def test_maps_are_made_only_where_they_can_be_kept(attempt: Attempt, tmp_path: Path) -> None:
    path = attempt.folder / "media"
    path.write_text("ok")
    keeps = Artifacts(store=open_store(str(tmp_path / "artifacts")), keep_s=60)
    scanner = Asked()
    for keeper in (keeps, KeepsNothing()):
        for number, options in enumerate(({}, {"explain": True}, {"explain": False})):
            path.write_text(f"ok {number} {keeper.keeps}")
            attempt.perform_with(Here(path), attempt.submit(**options), scanner, keeper)
    assert scanner.explain == [None, True, False, False, False, False]
