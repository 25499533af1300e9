"""Frames of a file that are decoded before they are asked for are those that would be decoded then."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from tests.worker.frames import hostile
from tests.worker.frames.test_lost import ruined
from tests.worker.frames.test_sandbox import write_clip
from worker.errors import CorruptMedia, DecodeTimeout, SourceError, VeriframeError
from worker.frames import ahead
from worker.frames.ahead import FramesAhead
from worker.frames.limits import Limits
from worker.frames.sandbox import SandboxedFrames
from worker.types import Frame, SamplingRequest

REQUEST = SamplingRequest(max_frames=12)
WAIT_S = 30.0


@pytest.fixture(scope="module")
def plain() -> Iterator[SandboxedFrames]:
    with SandboxedFrames(Limits()) as frames:
        yield frames


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return write_clip(tmp_path / "clip.mp4")


def seen(frames: Iterator[Frame]) -> list[tuple[float, bytes]]:
    return [(frame.pts_s, frame.small_HWC.tobytes()) for frame in frames]


def decoded(source: SandboxedFrames | FramesAhead, path: Path, request: SamplingRequest = REQUEST) -> list[tuple[float, bytes]]:
    with source.open(path) as media:
        return seen(media.frames(request))


@contextmanager
def begun(path: Path, frames: SandboxedFrames | None = None, **limits: Any) -> Iterator[FramesAhead]:
    with FramesAhead(frames or SandboxedFrames(Limits(), **limits), path, REQUEST) as source:
        source.begin()
        yield source


def running() -> Iterator[int]:
    """Processes below this one."""
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            if child.status() != psutil.STATUS_ZOMBIE:
                yield child.pid


def await_children(source: SandboxedFrames, count: int) -> None:
    deadline = time.monotonic() + WAIT_S
    while len(children(source)) != count:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def children(source: SandboxedFrames) -> list[int]:
    return [] if source.zygote_pid is None else [child.pid for child in psutil.Process(source.zygote_pid).children()]


@pytest.mark.parametrize("most_bytes", [ahead.MOST_BYTES, 1])
def test_the_frames_are_the_same_however_many_waited(
    plain: SandboxedFrames, clip: Path, monkeypatch: pytest.MonkeyPatch, most_bytes: int
) -> None:
    monkeypatch.setattr(ahead, "MOST_BYTES", most_bytes)
    frames = SandboxedFrames(Limits())
    with begun(clip, frames) as source:
        with source.open(clip) as media:
            (child,) = children(frames)
            assert seen(media.frames(REQUEST)) == decoded(plain, clip)
            (still,) = children(frames)
            assert still == child, "nothing was opened again"
            other = SamplingRequest(max_frames=3)
            assert seen(media.frames(other)) == decoded(plain, clip, other), "a second pass"
        assert children(frames) == []
        assert decoded(source, clip) == decoded(plain, clip), "the file again"


def test_what_could_not_be_decoded_is_told(clips: Any, tmp_path: Path) -> None:
    path = ruined(clips["half_minute"], tmp_path / "ruined.mp4", 8.0, 20.0)
    with begun(path) as source, source.open(path) as media:
        seen(media.frames(REQUEST))
        assert media.lost_share == pytest.approx(12 / 31.2, abs=0.1)


def test_another_request_begins_anew(plain: SandboxedFrames, clip: Path) -> None:
    other = SamplingRequest(max_frames=5)
    with begun(clip) as source:
        assert decoded(source, clip, other) == decoded(plain, clip, other)


def test_another_file_is_opened_as_ever(plain: SandboxedFrames, clip: Path, tmp_path: Path) -> None:
    other = write_clip(tmp_path / "other.mp4", n_frames=20)
    with begun(clip) as source:
        assert decoded(source, other) == decoded(plain, other)
        assert decoded(source, clip) == decoded(plain, clip)


def test_a_file_that_was_replaced_meanwhile_is_opened_anew(plain: SandboxedFrames, clip: Path, tmp_path: Path) -> None:
    other = write_clip(tmp_path / "other.mp4", n_frames=20)
    expected = decoded(plain, other)
    frames = SandboxedFrames(Limits())
    with begun(clip, frames) as source:
        await_children(frames, 1)
        other.replace(clip)
        assert decoded(source, clip) == expected


def test_a_file_that_was_written_to_meanwhile_is_opened_anew(plain: SandboxedFrames, clip: Path, tmp_path: Path) -> None:
    other = write_clip(tmp_path / "other.mp4", n_frames=20)
    expected = decoded(plain, other)
    frames, before = SandboxedFrames(Limits()), clip.stat()
    with begun(clip, frames) as source:
        await_children(frames, 1)
        clip.write_bytes(other.read_bytes())
        os.utime(clip, ns=(before.st_atime_ns, before.st_mtime_ns))
        assert decoded(source, clip) == expected


def test_frames_come_before_what_then_went_wrong(tmp_path: Path) -> None:
    """As from a file that is opened when it is asked for: what was decoded before stays good."""
    path = tmp_path / "deed.json"
    path.write_text('{"deed": "show_descriptors"}')
    frames = SandboxedFrames(Limits(), opener="hostile:open_misbehaving", import_path=[Path(hostile.__file__).parent])
    with begun(path, frames) as source, source.open(path) as media:
        given = media.frames(REQUEST)
        assert next(given).pts_s == 0.0
        with pytest.raises(CorruptMedia):
            next(given)


def test_a_limit_that_was_met_is_met_once(clip: Path) -> None:
    lost: list[str] = []
    with begun(clip, timeout_s=1e-6, on_lost=lost.append) as source, pytest.raises(DecodeTimeout), source.open(clip):
        pass
    assert lost == ["timeout"]


def test_what_nobody_asks_for_is_let_go_once_others_are_scanned(clip: Path, tmp_path: Path) -> None:
    frames = SandboxedFrames(Limits())
    others = [write_clip(tmp_path / f"{number}.mp4", n_frames=5) for number in range(3)]
    with begun(clip, frames) as source:
        await_children(frames, 1)
        decoded(source, others[0])
        assert len(children(frames)) == 1, "it may be hashed at the moment, to be opened next"
        decoded(source, others[1])
        assert children(frames) == []
        assert decoded(source, clip) == decoded(source, clip)


@pytest.mark.parametrize(("data", "error"), [(None, SourceError), (b"\0\0\0\x18ftypisom" + bytes(500), CorruptMedia)])
def test_what_cannot_be_opened_is_told_when_it_is_opened(tmp_path: Path, data: bytes | None, error: type[VeriframeError]) -> None:
    path = tmp_path / "broken.mp4"
    if data is not None:
        path.write_bytes(data)
    with begun(path) as source, pytest.raises(error), source.open(path):
        pass


def test_frames_may_outlive_what_gave_them(clip: Path) -> None:
    with begun(clip) as source, source.open(clip) as media:
        frames = list(media.frames(REQUEST))
    assert len({frame.small_HWC.tobytes() for frame in frames}) == 12
    assert all(np.isfinite(frame.small_HWC.mean()) for frame in frames)


@pytest.mark.parametrize("has_opened", [True, False])
def test_what_nobody_asked_for_ends_with_it(clip: Path, has_opened: bool) -> None:
    frames = SandboxedFrames(Limits())
    before = set(running())
    with begun(clip, frames):
        if has_opened:
            await_children(frames, 1)
    deadline = time.monotonic() + WAIT_S
    while frames.zygote_pid is not None or set(running()) - before:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_disk_that_does_not_answer_is_not_waited_for(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answered = threading.Event()
    real = os.open

    def slow(path: Any, flags: int, *more: Any, **named: Any) -> int:
        if path == clip:
            answered.wait(WAIT_S)
        return real(path, flags, *more, **named)

    monkeypatch.setattr(os, "open", slow)
    monkeypatch.setattr(ahead, "PATIENCE_S", 0.1)
    started = time.monotonic()
    frames = SandboxedFrames(Limits())
    with begun(clip, frames):
        pass
    assert time.monotonic() - started < WAIT_S / 2
    answered.set()
    for thread in threading.enumerate():
        if thread.name == "ahead":
            thread.join(WAIT_S)
    assert frames.zygote_pid is None, "what the thread started after that has ended, too"
