"""Frames of a file that are decoded before they are asked for are those that would be decoded then."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from tests.worker.frames.test_sandbox import write_clip
from worker.errors import CorruptMedia, SourceError, VeriframeError
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


def children(source: SandboxedFrames) -> list[int]:
    return [] if source.zygote_pid is None else [child.pid for child in psutil.Process(source.zygote_pid).children()]


@pytest.mark.parametrize("most_bytes", [ahead.MOST_BYTES, 1])
def test_the_frames_are_the_same_however_many_waited(
    plain: SandboxedFrames, clip: Path, monkeypatch: pytest.MonkeyPatch, most_bytes: int
) -> None:
    monkeypatch.setattr(ahead, "MOST_BYTES", most_bytes)
    frames = SandboxedFrames(Limits())
    with FramesAhead(frames, clip, REQUEST) as source:
        with source.open(clip) as media:
            (begun,) = children(frames)
            assert seen(media.frames(REQUEST)) == decoded(plain, clip)
            (still,) = children(frames)
            assert still == begun, "nothing was opened again"
            other = SamplingRequest(max_frames=3)
            assert seen(media.frames(other)) == decoded(plain, clip, other), "a second pass"
        assert children(frames) == []
        assert decoded(source, clip) == decoded(plain, clip), "the file again"


def test_another_request_begins_anew(plain: SandboxedFrames, clip: Path) -> None:
    other = SamplingRequest(max_frames=5)
    with FramesAhead(SandboxedFrames(Limits()), clip, REQUEST) as source:
        assert decoded(source, clip, other) == decoded(plain, clip, other)


def test_another_file_is_opened_as_ever(plain: SandboxedFrames, clip: Path, tmp_path: Path) -> None:
    other = write_clip(tmp_path / "other.mp4", n_frames=20)
    with FramesAhead(SandboxedFrames(Limits()), clip, REQUEST) as source:
        assert decoded(source, other) == decoded(plain, other)
        assert decoded(source, clip) == decoded(plain, clip)


def test_a_file_that_was_replaced_meanwhile_is_opened_anew(plain: SandboxedFrames, clip: Path, tmp_path: Path) -> None:
    other = write_clip(tmp_path / "other.mp4", n_frames=20)
    expected = decoded(plain, other)
    with FramesAhead(SandboxedFrames(Limits()), clip, REQUEST) as source:
        other.replace(clip)
        assert decoded(source, clip) == expected


@pytest.mark.parametrize(("data", "error"), [(None, SourceError), (b"\0\0\0\x18ftypisom" + bytes(500), CorruptMedia)])
def test_what_cannot_be_opened_is_told_when_it_is_opened(tmp_path: Path, data: bytes | None, error: type[VeriframeError]) -> None:
    path = tmp_path / "broken.mp4"
    if data is not None:
        path.write_bytes(data)
    with FramesAhead(SandboxedFrames(Limits()), path, REQUEST) as source, pytest.raises(error), source.open(path):
        pass


def test_frames_may_outlive_what_gave_them(clip: Path) -> None:
    with FramesAhead(SandboxedFrames(Limits()), clip, REQUEST) as source, source.open(clip) as media:
        frames = list(media.frames(REQUEST))
    assert len({frame.small_HWC.tobytes() for frame in frames}) == 12
    assert all(np.isfinite(frame.small_HWC.mean()) for frame in frames)


@pytest.mark.parametrize("wait_s", [0.0, 1.5])
def test_what_nobody_asked_for_ends_with_it(clip: Path, wait_s: float) -> None:
    frames = SandboxedFrames(Limits())
    with FramesAhead(frames, clip, REQUEST):
        time.sleep(wait_s)
        pid = frames.zygote_pid
    assert frames.zygote_pid is None
    assert pid is None or not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
