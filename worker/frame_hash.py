"""The perceptual hash of media, from frames that a scan decodes anyway: pHash (DCT) of a few of them, shrunk to 32 x 32."""

from __future__ import annotations

import math
from typing import Final

import cv2
import numpy as np

from worker.types import UInt8

PLACES: Final = 8
"""Hashed are the frames nearest the middles of so many equal parts of the scanned window."""
SIDE: Final = 32
FLAT: Final = 4.0
"""Standard deviation in grey levels below which a picture says nothing: black, white, a fade."""
MOST_KEPT: Final = 1024


class FrameHashes:
    """Small grey pictures of frames as they come, in bounded memory: of a great many frames, an even part. ``expected``: how many
    will come, where that is known; two for each place are enough."""

    def __init__(self, expected: int | None = None, *, most: int = MOST_KEPT) -> None:
        self._kept: list[tuple[float, UInt8]] = []
        self._most, self._every, self._came = most, max(1, (expected or 0) // (2 * PLACES)), 0

    def add(self, pts_s: float, rgb_HWC: UInt8) -> None:
        """Note a frame, of any size."""
        self._came += 1
        if (self._came - 1) % self._every:
            return
        self._kept.append((pts_s, _grey(rgb_HWC)))
        if len(self._kept) == self._most:
            self._kept = self._kept[::2]
            self._every *= 2

    def phash(self, start_s: float, end_s: float) -> str | None:
        """As text (``worker.phash``), of the window [start_s, end_s); an infinite end: at the last frame. None: nothing but flat
        pictures, or no frame."""
        if not self._kept:
            return None
        times_N = np.array([time_s for time_s, _ in self._kept])
        places = PLACES if len(self._kept) > 1 else 1
        last_s = end_s if math.isfinite(end_s) and end_s > start_s else float(times_N.max())
        at_P = start_s + (last_s - start_s) * (np.arange(places) + 0.5) / places
        hashes = [_hash(self._kept[int(np.abs(times_N - at_s).argmin())][1]) for at_s in at_P]
        return f"v1:{'.'.join(hashes)}" if set(hashes) != {"-"} else None


def _grey(rgb_HWC: UInt8) -> UInt8:
    """uint8 [32, 32]. Every pixel counts, or copies of other sizes would differ; halving twice first is the quick way."""
    grey_HW = cv2.cvtColor(rgb_HWC, cv2.COLOR_RGB2GRAY)
    for _ in range(2):
        height, width = grey_HW.shape[0] // 2, grey_HW.shape[1] // 2
        if min(height, width) < 2 * SIDE:
            break
        grey_HW = cv2.resize(grey_HW[: 2 * height, : 2 * width], (width, height), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(grey_HW, (SIDE, SIDE), interpolation=cv2.INTER_AREA), np.uint8)


def _hash(grey_HW: UInt8) -> str:
    if float(grey_HW.std()) < FLAT:
        return "-"
    return bytes(cv2.img_hash.pHash(grey_HW)[0]).hex()
