"""What one attempt makes of a record, its options, and a result that another scan paid for."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from redis import Redis

from tests.worker.queue.fake_scanner import FakeScanner
from worker.content import Content
from worker.errors import FetchGone, FetchRateLimited, StorageFull
from worker.queue.desk import Desk
from worker.queue.doorbell import Doorbells
from worker.queue.perform import Brought, Performer, cache_key, sampling_request, without_crops
from worker.queue.record import Claim, Terms
from worker.queue.records import Records
from worker.queue.requests import RequestOptions, RequestSource, ScanRequest
from worker.report import Evidence, Report, Source, Track
from worker.types import SamplingRequest, Strategy

CONTENT = Content(sha256="ab" * 32, size_bytes=7)
DEFAULT = SamplingRequest(strategy=Strategy.AUTO, max_frames=None, fps=None, start_s=0.0, end_s=None)
URL = "https://media.example/a.mp4?token=secret"


class Here:
    """A source whose bytes are a file, or cannot be had."""

    def __init__(self, path: Path, error: Exception | None = None) -> None:
        self._path, self._error = path, error

    def fetch(self, source: RequestSource, folder: Path) -> Here:
        return self

    def __enter__(self) -> Brought:
        if self._error is not None:
            raise self._error
        return Brought(path=self._path)

    def __exit__(self, *error: object) -> None:
        pass


class KeepsNothing:
    def keep(self, report: Report, output: object) -> Report:
        return without_crops(report)


class Attempt:
    """A record, and a performer that scans ``text``."""

    def __init__(self, redis: Redis, folder: Path) -> None:
        self.records = Records(redis, "vf", Terms(backoff_s=1))
        self.desk = Desk(self.records, Doorbells(redis))
        self.folder = folder

    def submit(self, external_id: str | None = None) -> str:
        request = ScanRequest(source=RequestSource(url=URL), external_id=external_id)
        return self.desk.submit_one(request, "acme").id

    def perform(self, scan_id: str, text: str = "ok", error: Exception | None = None) -> str:
        path = self.folder / "media"
        path.write_text(text)
        claim = self.records.claim(scan_id, "w")
        assert isinstance(claim, Claim), claim
        performer = Performer(
            records=self.records, scanner=FakeScanner(), sources=Here(path, error), keeper=KeepsNothing(), folder=self.folder
        )
        return performer.perform(claim).how


@pytest.fixture
def attempt(redis: Redis, tmp_path: Path) -> Attempt:
    return Attempt(redis, tmp_path)


def test_the_report_is_this_scans_own(attempt: Attempt) -> None:
    scan_id = attempt.submit("post 7")
    assert attempt.perform(scan_id) == "finished"
    report = attempt.desk.report(scan_id, "acme")
    assert (report.id, report.owner, report.external_id, report.status) == (scan_id, "acme", "post 7", "completed")
    assert report.source == Source(kind="url", url=URL)


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
        (StorageFull("no room"), "internal", "again"),
    ],
)
def test_errors_have_a_code_of_the_wires(attempt: Attempt, error: Exception, code: str, how: str) -> None:
    scan_id = attempt.submit()
    assert attempt.perform(scan_id, error=error) == how
    stored = attempt.records.get(scan_id).error
    assert stored is not None
    assert stored["code"] == code
    attempt.desk.report(scan_id, "acme")


def test_a_servers_waiting_time_is_kept(attempt: Attempt) -> None:
    scan_id = attempt.submit()
    attempt.perform(scan_id, error=FetchRateLimited("later", retry_after_s=40))
    assert attempt.records.get(scan_id).not_before_ms - attempt.records.now_ms() > 35_000


def test_options_are_laid_over_the_workers_own() -> None:
    assert sampling_request(DEFAULT, RequestOptions()) == DEFAULT
    asked = sampling_request(DEFAULT, RequestOptions(strategy="fps", fps=2, start_s=1, end_s=9, max_frames=5))
    assert asked == SamplingRequest(strategy=Strategy.FPS, fps=2, start_s=1, end_s=9, max_frames=5)
    by_fps = SamplingRequest(strategy=Strategy.FPS, max_frames=None, fps=3, start_s=0.0, end_s=None)
    assert sampling_request(by_fps, RequestOptions(strategy="uniform")).fps is None


def test_a_result_is_one_for_bytes_model_settings_and_options() -> None:
    keys = {
        cache_key(CONTENT, "a", RequestOptions()),
        cache_key(CONTENT, "b", RequestOptions()),
        cache_key(Content(sha256="cd" * 32, size_bytes=7), "a", RequestOptions()),
        cache_key(CONTENT, "a", RequestOptions(max_frames=8)),
    }
    assert len(keys) == 4
    assert cache_key(CONTENT, "a", RequestOptions()) in keys


def test_crops_of_another_scan_are_not_named() -> None:
    evidence = Evidence(t_ms=0, box=(0, 0, 1, 1), score=0.5, crop="track-0.jpg")
    track = Track(id=0, score=0.5, frames=1, votes=1, start_ms=0, end_ms=0, evidence=(evidence,))
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    report = Report(id="x", source=Source(kind="url", url=URL), created_at=moment, status="completed", tracks=(track,))
    assert without_crops(report).tracks[0].evidence[0].crop is None
