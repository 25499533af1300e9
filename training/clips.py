"""Frames of labelled files by their numbers, decoded as a scan decodes them: sandboxed, upright, square pixels, SDR.

Frame ``n`` is the one shown at ``n / rate``: the same number is the same moment in a fake and in its original, whatever the rates
that they were written with.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from worker.errors import CorruptMedia
from worker.frames.limits import Limits
from worker.frames.picture import PictureDecoder
from worker.frames.sandbox import SandboxedFrames
from worker.ports import FrameSource
from worker.types import SamplingRequest, Strategy, UInt8


def open_frames() -> SandboxedFrames:
    """A frame source with a scan's limits; a context manager."""
    return SandboxedFrames(Limits())


def count_frames(source: FrameSource, path: Path) -> int:
    """1 for a still picture. Raises MediaError, DecodeError or SourceError."""
    with source.open(path.resolve()) as media:
        return media.info.n_frames


def read_clip(source: FrameSource, path: Path, count: int, last: int | None = None, phase: float = 0.5) -> dict[int, UInt8]:
    """``count`` evenly spaced frames by number, of the first ``last`` frames; a still picture's only one is 0.

    Raises MediaError, DecodeError or SourceError; CorruptMedia also where none of them decodes.
    """
    with source.open(path.resolve()) as media:
        info = media.info
        numbers = even(min(info.n_frames, last or info.n_frames), count, phase)
        if info.n_frames < 2 or not info.fps:
            request, times_s = SamplingRequest(strategy=Strategy.UNIFORM, max_frames=1), np.zeros(1)
        else:
            times_s = np.array(numbers) / info.fps
            request = SamplingRequest(times_s=tuple(times_s.tolist()))
        found = {numbers[int(np.abs(times_s - f.pts_s).argmin())]: f.rgb_HWC for f in media.frames(request)}
    if not found:
        raise CorruptMedia(f"{path}: no frame decodes")
    return found


def even(total: int, count: int, phase: float = 0.5) -> list[int]:
    """``count`` frame numbers (fewer in a short clip): one in each equal part of ``total`` frames, ``phase`` (0 to 1) into it."""
    count = min(total, count)
    return [int((part + phase) * total / count) for part in range(count)]


def read_picture(path: Path) -> UInt8:
    """Upright RGB of a picture that is trusted: decoded in this process. Raises MediaError."""
    with path.open("rb") as file, PictureDecoder(Limits()).open(file) as media:
        return next(iter(media.frames(SamplingRequest()))).rgb_HWC
