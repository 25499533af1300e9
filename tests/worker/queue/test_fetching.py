"""Where bytes come from, and what of a scan is kept."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from redis import Redis

from tests.worker.queue.fake_scanner import FakeScanner
from worker.artifacts import ArtifactStore, open_store
from worker.errors import FetchRefused, StorageFull
from worker.pipeline import ScanResult
from worker.queue.assemble import STREAMS, build_performer
from worker.queue.embedded import EmbeddedRedis
from worker.queue.fetching import Artifacts, Sources, upload_key
from worker.queue.requests import RequestSource
from worker.queue.watching import Order
from worker.report import Evidence, FrameItem, Report, Source, Track
from worker.settings import Settings
from worker.source.fetch import UrlSource
from worker.source.guard import AddressGuard
from worker.source.http import HttpSource
from worker.source.playlist import PlaylistLimits, Playlists

HTTP = HttpSource(guard=AddressGuard(), max_bytes=1 << 20, timeout_s=5, connect_s=1, stall_s=1, max_redirects=1)
URLS = UrlSource(http=HTTP, playlists=Playlists(PlaylistLimits()))
EVIDENCE = Evidence(t_ms=0, box=(0, 0, 1, 1), score=0.5, crop="track-0.jpg")
TRACK = Track(id=0, score=0.5, frames=1, votes=1, start_ms=0, end_ms=0, evidence=(EVIDENCE,))
REPORT = Report(
    id="a" * 32,
    source=Source(kind="url", url="https://media.example/a.mp4"),
    created_at=datetime(2026, 1, 1, tzinfo=UTC),
    status="completed",
    tracks=(TRACK,),
)
FRAME = FrameItem(index=0, t_ms=40, faces=())
OUTPUT = ScanResult(report=REPORT, crops={"track-0.jpg": b"jpeg"}, frames=(FRAME,))


def crop_of(report: Report) -> str | None:
    return report.tracks[0].evidence[0].crop


def sources(store: ArtifactStore, roots: tuple[Path, ...] = ()) -> Sources:
    return Sources(urls=URLS, roots=roots, store=store)


def test_paths_are_taken_below_a_root_only(tmp_path: Path) -> None:
    root = tmp_path / "media"
    root.mkdir()
    (root / "a.mp4").write_bytes(b"bytes")
    (tmp_path / "secret").write_bytes(b"secret")
    (root / "link").symlink_to(tmp_path / "secret")
    with sources(open_store(None), (root,)).fetch(RequestSource(path=str(root / "a.mp4")), tmp_path) as brought:
        assert brought.path.read_bytes() == b"bytes"
    for path in (tmp_path / "secret", root / "link", root / ".." / "secret"):
        with (
            pytest.raises(FetchRefused),
            sources(open_store(None), (root,)).fetch(RequestSource(path=str(path)), tmp_path),
        ):
            pass
    with pytest.raises(FetchRefused), sources(open_store(None)).fetch(RequestSource(path=str(root / "a.mp4")), tmp_path):
        pass


def test_an_address_of_this_machine_is_refused(tmp_path: Path) -> None:
    with (
        pytest.raises(FetchRefused),
        sources(open_store(None)).fetch(RequestSource(url="http://127.0.0.1:9/a.mp4"), tmp_path),
    ):
        pass


def test_an_upload_comes_from_the_store(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "store"))
    store.put(upload_key("b" * 32), b"bytes", expires_at=4e9)
    with sources(store).fetch(RequestSource(upload="b" * 32), tmp_path) as brought:
        assert brought.path.read_bytes() == b"bytes"
        assert brought.content is not None
        assert brought.content.size_bytes == 5


def test_crops_are_named_if_they_are_kept(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "store"))
    assert crop_of(Artifacts(store=store, keep_s=3600).keep(REPORT, OUTPUT)) == "track-0.jpg"
    with store.open(f"scans/{REPORT.id}/track-0.jpg") as file:
        assert file.read() == b"jpeg"
    with store.open(f"scans/{REPORT.id}/frames.jsonl") as file:
        assert FrameItem.model_validate_json(file.read()) == FRAME
    assert crop_of(Artifacts(store=store, keep_s=0).keep(REPORT, OUTPUT)) is None
    assert crop_of(Artifacts(store=open_store(None), keep_s=3600).keep(REPORT, OUTPUT)) is None


class FullStore:
    """A store whose disk is full."""

    retains = True

    def put(self, *arguments: object, **keywords: object) -> None:
        raise StorageFull("no room")


def test_a_full_store_costs_the_crops_not_the_verdict() -> None:
    kept = Artifacts(store=FullStore(), keep_s=3600).keep(REPORT, OUTPUT)  # type: ignore[arg-type]
    assert crop_of(kept) is None
    assert kept.status == "completed"


@pytest.mark.parametrize("days", [-3650, 3650])
def test_a_machine_whose_clock_is_wrong_keeps_by_that_of_redis(
    redis: Redis, redis_server: EmbeddedRedis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, days: int
) -> None:
    now_s = time.time()
    told = {"redis": {"url": redis_server.url}, "artifacts": {"url": str(tmp_path), "keep_s": 600, "media_keep_s": 600}}
    media = tmp_path / "media.mp4"
    media.write_bytes(b"media")
    monkeypatch.setattr(time, "time", lambda: now_s + days * 86400)
    settings, order = Settings.model_validate(told), Order()
    with build_performer(settings, FakeScanner(), tmp_path, streams=STREAMS, order=order) as performer:
        performer.keeper.keep(REPORT, OUTPUT)
        performer.retain(RequestSource(url="https://media.example/a.mp4"), media, "ab" * 32)
    until_s = [int(path.name[1:]) for path in tmp_path.rglob("@*")]
    assert [0 < at - now_s - 600 < 60 for at in until_s] == [True] * 3
