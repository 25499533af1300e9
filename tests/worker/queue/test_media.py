"""Retained media: what is kept, for how long, and as which type."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from tests.worker.queue.fake_scanner import FakeScanner
from tests.worker.queue.fake_streams import KeepsNothing, slices
from worker.artifacts import open_store
from worker.content import read_content
from worker.errors import CorruptMedia, FetchGone, StorageFull
from worker.queue.desk import Desk
from worker.queue.doorbell import Doorbells
from worker.queue.media import MediaShelf, is_retained, media_key, media_type, open_media
from worker.queue.perform import Brought, Performer
from worker.queue.record import Claim, Submission, Terms
from worker.queue.records import Records
from worker.queue.requests import RequestSource, ScanRequest
from worker.report import Media, Report, Source
from worker.types import MediaKind

URL = RequestSource(url="https://media.example/a.mp4")
FACTS: dict[str, Any] = {"duration_s": 1, "fps": 25, "width": 8, "height": 8, "decoder": "fake"}


def media_of(codec: str, container: str, sha256: str | None = None) -> Media:
    return Media(kind=MediaKind.VIDEO, codec=codec, container=container, sha256=sha256, **FACTS)


def report_on(sha256: str | None, kind: str = "url") -> Report:
    source = Source(kind=kind)  # type: ignore[arg-type]
    media = media_of("h264", "mov,mp4,m4a,3gp,3g2,mj2", sha256)
    return Report(id="a" * 32, source=source, created_at=datetime(2026, 1, 1, tzinfo=UTC), status="completed", media=media)


def test_kept_by_its_hash_until_its_time_is_over(tmp_path: Path) -> None:
    now = [1000.0]
    store = open_store(str(tmp_path / "store"), clock=lambda: now[0])
    file = tmp_path / "a"
    file.write_bytes(b"media")
    content = read_content(file, 99)
    store.put(media_key(content.sha256), file, expires_at=1060)
    report = report_on(content.sha256)
    kept = open_media(store, report)
    with kept.file as opened:
        assert (opened.read(), kept.mime, kept.suffix, kept.sha256) == (b"media", "video/mp4", ".mp4", content.sha256)
    assert is_retained(store, report)
    now[0] = 1061
    assert not is_retained(store, report)
    assert store.sweep() == 1
    for other in (report_on(None), report_on(content.sha256, "path"), report.model_copy(update={"status": "failed"})):
        with pytest.raises(FetchGone):
            open_media(store, other)


@pytest.mark.parametrize(
    ("codec", "container", "kind"),
    [
        ("h264", "mov,mp4,m4a,3gp,3g2,mj2", ("video/mp4", ".mp4")),
        ("vp9", "matroska,webm", ("video/webm", ".webm")),
        ("h264", "matroska,webm", ("video/x-matroska", ".mkv")),
        ("webp", "webp", ("image/webp", ".webp")),
        ("text/html", "html", ("application/octet-stream", ".bin")),
    ],
)
def test_its_type_is_what_the_probe_saw(codec: str, container: str, kind: tuple[str, str]) -> None:
    assert media_type(media_of(codec, container)) == kind


class FullStore:
    retains = True

    def put(self, *arguments: object, **keywords: object) -> None:
        raise StorageFull("no room")


def test_what_is_not_kept(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "store"))
    file = tmp_path / "a"
    file.write_bytes(b"media")
    MediaShelf(store=store, keep_s=0).keep(URL, file, "ab" * 32)
    MediaShelf(store=store, keep_s=60).keep(RequestSource(path=str(file)), file, "ab" * 32)
    MediaShelf(store=open_store(None), keep_s=60).keep(URL, file, "ab" * 32)
    MediaShelf(store=FullStore(), keep_s=60).keep(URL, file, "ab" * 32)  # type: ignore[arg-type]
    away = open_store(str(tmp_path / "away"))
    (tmp_path / "away").rmdir()
    MediaShelf(store=away, keep_s=60).keep(URL, file, "ab" * 32)
    assert not is_retained(store, report_on("ab" * 32))
    MediaShelf(store=store, keep_s=60).keep(RequestSource(upload="c" * 32), file, "ab" * 32)
    assert is_retained(store, report_on("ab" * 32))


class Here:
    """A source whose bytes are a file of this scan's own."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def fetch(self, *_: object) -> Here:
        return self

    def __enter__(self) -> Brought:
        return Brought(path=self._path, content=read_content(self._path, 99))

    def __exit__(self, *error: object) -> None:
        self._path.unlink()


@pytest.mark.parametrize(("words", "kept"), [("ok", 2), ("crash", 0)])
def test_scans_that_are_completed_keep_theirs_the_taken_over_ones_too(
    redis: Redis, tmp_path: Path, words: str, kept: int
) -> None:
    records, told, stages = Records(redis, terms=Terms(max_attempts=1)), list[tuple[str | None, bytes]](), list[str]()
    desk = Desk(records, Doorbells(redis))

    def retain(source: RequestSource, path: Path, sha256: str) -> None:
        told.append((source.url, path.read_bytes()))
        assert read_content(path, 99).sha256 == sha256
        stages.append(records.stage(claim.id))

    for _ in range(2):
        file = tmp_path / "media"
        file.write_text(words)
        claim = records.claim(desk.submit_one(ScanRequest(source=URL), "acme").id, "w")
        assert isinstance(claim, Claim)
        keeper = KeepsNothing()
        parts: dict[str, Any] = {"brisk": records, "scanner": FakeScanner(), "keeper": keeper, "watches": slices(records, keeper)}
        Performer(records=records, sources=Here(file), folder=tmp_path, retain=retain, **parts).perform(claim)
    assert told == [(URL.url, words.encode())] * kept
    assert stages == ["store"] * kept, "a slow store is no slow decoder: that would be final"


class FollowedMeanwhile(FakeScanner):
    def __init__(self, follow: Callable[[], None]) -> None:
        self._follow = follow

    def scan(self, path: Path, **more: Any) -> Any:
        self._follow()
        return FakeScanner.scan(self, path, **more)


@pytest.mark.parametrize("first", ["of a path", "of an address, fails"])
def test_one_that_waits_for_a_scan_of_a_path_keeps_its_own(redis: Redis, tmp_path: Path, first: str) -> None:
    """Also where that leads only since another one failed."""
    records, shelf = Records(redis), MediaShelf(store=open_store(str(tmp_path / "store")), keep_s=3600)
    desk, states, hows = Desk(records, Doorbells(redis)), list[tuple[str, str]](), list[str]()
    failing, leader, follower = ids = [f"{number:032x}" for number in range(3)]  # of those that wait, the least leads next
    sources = [URL, RequestSource(path="/media/a.mp4"), URL]
    desk.send([Submission(id=ids[n], request=ScanRequest(source=source), owner="acme") for n, source in enumerate(sources)])

    def retain(source: RequestSource, path: Path, sha256: str) -> None:
        if source.url:
            states.append((records.get(follower).state, records.stage(follower)))
        shelf.keep(source, path, sha256)

    def perform(scan_id: str, scanner: FakeScanner) -> None:
        file = tmp_path / scan_id
        file.write_text("ok")
        claim = records.claim(scan_id, scan_id)
        assert isinstance(claim, Claim)
        keeper = KeepsNothing()
        parts: dict[str, Any] = {"brisk": records, "scanner": scanner, "keeper": keeper, "watches": slices(records, keeper)}
        ended = Performer(records=records, sources=Here(file), folder=tmp_path, retain=retain, **parts).perform(claim)
        hows.append(ended.how)

    def both_follow() -> None:
        for scan_id in (leader, follower):
            perform(scan_id, FakeScanner())
        raise CorruptMedia("no video")

    if first == "of a path":
        perform(leader, FollowedMeanwhile(lambda: perform(follower, FakeScanner())))
    else:
        perform(failing, FollowedMeanwhile(both_follow))
        perform(leader, FakeScanner())
    perform(follower, FakeScanner())
    assert hows == [*(["following"] if first == "of a path" else ["following", "following", "failed"]), "finished", "finished"]
    assert states == [("running", "store")], "while it is its worker's, which would be killed for it later"
    sha256 = records.get(follower).sha256
    assert sha256 is not None
    with shelf.store.open(media_key(sha256)) as kept:
        assert kept.read() == b"ok"
