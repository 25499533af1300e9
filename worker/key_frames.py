"""Whole frames of a scan, made smaller and bounded: that of the most suspicious face of each track is kept as JPEG."""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np

from worker.evidence import Jpegs
from worker.types import UInt8

MOST_SIDE_PX: Final = 640
QUALITY: Final = 80
UNCODED: Final = 8
"""So many, some 700 KB each, are encoded only when they are asked for: a short clip's track has a worse face some five times."""


def reduced(small_HWC: UInt8) -> UInt8:
    """Its longer side has at most ``MOST_SIDE_PX`` pixels."""
    height, width = small_HWC.shape[:2]
    scale = MOST_SIDE_PX / max(height, width)
    if scale >= 1:
        return small_HWC
    size = (max(1, round(scale * width)), max(1, round(scale * height)))
    return np.asarray(cv2.resize(small_HWC, size, interpolation=cv2.INTER_AREA), np.uint8)


class KeyFrames:
    """Keeps a frame for each of the ``capacity`` tracks of the highest logits, once where several share it (some 60 KB each).

    Only what is kept is made smaller, of n frames of a track in any order about log n; a few are encoded only when they are
    asked for. Tracks may be provisional: the worst face of those that become one is the worst of one of them.
    """

    def __init__(self, capacity: int = 64) -> None:
        self._capacity = capacity
        self._best: dict[int, tuple[float, float]] = {}
        """Logit and moment of each track."""
        self._frames = Jpegs[float](QUALITY, UNCODED)
        """By moment."""

    def offer(self, track: int, logit: float, pts_s: float, small_HWC: UInt8) -> None:
        """Show the store the frame in which a face was scored; of equal logits the earlier offer stays."""
        held = self._best.get(track)
        if held is not None and logit <= held[0]:
            return
        if held is None and len(self._best) >= self._capacity:
            lowest = min(self._best, key=lambda number: self._best[number][0], default=None)
            if lowest is None or logit <= self._best[lowest][0]:
                return
            held = self._best.pop(lowest)
        self._best[track] = (logit, pts_s)
        if held is not None and all(moment != held[1] for _, moment in self._best.values()):
            self._frames.drop(held[1])
        if pts_s not in self._frames:
            self._frames.put(pts_s, reduced(small_HWC))

    def jpeg(self, pts_s: float) -> bytes | None:
        """The frame of this moment as JPEG, or None if it was not kept."""
        return self._frames.get(pts_s)
