"""Frames by decord at given times, as the reference pipelines get them; imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import decord
import numpy as np

from worker.types import UInt8


def decode(path: Path, times_s: Sequence[float], threads: int) -> UInt8:
    """The frames nearest the times: RGB [B, H, W, 3]."""
    reader = decord.VideoReader(str(path), ctx=decord.cpu(0), num_threads=threads)
    starts_s = reader.get_frame_timestamp(range(len(reader)))[:, 0]
    indices = [int(np.abs(starts_s - starts_s[0] - t).argmin()) for t in times_s]
    return np.asarray(reader.get_batch(indices).asnumpy(), np.uint8)
