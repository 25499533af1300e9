"""Evidence crops of a scan, bounded: the most suspicious faces are kept as JPEG, the rest forgotten."""

from __future__ import annotations

import heapq
import itertools

import cv2

from worker.types import UInt8

JPEG_QUALITY = 92


class EvidenceStore:
    """Keeps the crops of the ``capacity`` highest logits; memory is ``capacity`` x 224 x 224 x 3 bytes at most."""

    def __init__(self, capacity: int = 128) -> None:
        self._capacity = capacity
        self._heap: list[tuple[float, int, int, UInt8]] = []
        self._order = itertools.count()

    def offer(self, face: int, logit: float, crop_HWC: UInt8) -> None:
        """Show the store a scored crop; ``face`` is its number in the scan."""
        if self._capacity == 0 or (len(self._heap) == self._capacity and logit <= self._heap[0][0]):
            return
        entry = (logit, next(self._order), face, crop_HWC.copy())
        if len(self._heap) < self._capacity:
            heapq.heappush(self._heap, entry)
        else:
            heapq.heapreplace(self._heap, entry)

    def jpeg(self, face: int) -> bytes | None:
        """The crop of a face as JPEG, or None if it was not kept."""
        for _, _, kept, crop_HWC in self._heap:
            if kept == face:
                ok, coded = cv2.imencode(
                    ".jpg", cv2.cvtColor(crop_HWC, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
                )
                if not ok:
                    raise RuntimeError("OpenCV could not encode a crop as JPEG")
                return bytes(coded)
        return None
