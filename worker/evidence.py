"""Evidence crops of a scan, bounded: the most suspicious faces of each track are kept as JPEG, the rest forgotten."""

from __future__ import annotations

import heapq
from collections.abc import Hashable
from typing import Final, Generic, TypeVar

import cv2

from worker.types import UInt8

JPEG_QUALITY = 92
CAPACITY: Final = 256
"""Crops of a scan, some 15 KB each."""
UNCODED: Final = 48
"""So many crops, some 150 KB each, are encoded only when they are asked for: of a short clip's track three, rather than all."""
K = TypeVar("K", bound=Hashable)


class Jpegs(Generic[K]):
    """Pictures (uint8 RGB) kept as JPEG by name; ``most_uncoded`` of them at most are encoded only when they are asked for."""

    def __init__(self, quality: int, most_uncoded: int) -> None:
        self._quality, self._most_uncoded = quality, most_uncoded
        self._kept: dict[K, bytes | UInt8] = {}
        self._uncoded = 0

    def __contains__(self, name: K) -> bool:
        return name in self._kept

    def put(self, name: K, rgb_HWC: UInt8) -> None:
        """Keep a copy of a picture."""
        waits = self._uncoded < self._most_uncoded
        self._uncoded += waits
        self._kept[name] = rgb_HWC.copy() if waits else encoded(rgb_HWC, self._quality)

    def drop(self, name: K) -> None:
        self._uncoded -= not isinstance(self._kept.pop(name), bytes)

    def get(self, name: K) -> bytes | None:
        """As JPEG, or None if it is not kept."""
        picture = self._kept.get(name)
        if picture is not None and not isinstance(picture, bytes):
            picture = self._kept[name] = encoded(picture, self._quality)
            self._uncoded -= 1
        return picture


class EvidenceStore:
    """Keeps the crops of the ``per_track`` highest logits of each track, ``capacity`` at most.

    Tracks may be provisional, as final ones are only known at the end of a scan; where one is parted then, the highest of each
    part need not be among its own highest: keep more. Where there are too many, those with the most crops give up their lowest
    first: with ``capacity`` tracks or fewer each keeps at least one.
    """

    def __init__(self, per_track: int, capacity: int = CAPACITY) -> None:
        self._per_track = per_track
        self._capacity = capacity
        self._kept: dict[int, list[tuple[float, int]]] = {}
        """Heap of (logit, minus the face's number) of each track: of equal logits the earlier face stays."""
        self._crops = Jpegs[int](JPEG_QUALITY, UNCODED)
        """By the face's number."""

    def offer(self, track: int, face: int, logit: float, crop_HWC: UInt8) -> None:
        """Show the store a scored crop; ``face`` is its number in the scan, rising."""
        kept = self._kept.setdefault(track, [])
        heapq.heappush(kept, (logit, -face))
        lost = None
        if len(kept) > self._per_track:
            lost = self._drop(track)
        elif sum(map(len, self._kept.values())) > self._capacity:
            lost = self._drop(min(self._kept, key=lambda number: (-len(self._kept[number]), self._kept[number][0])))
        if lost == face:
            return
        if lost is not None:
            self._crops.drop(lost)
        self._crops.put(face, crop_HWC)

    def _drop(self, track: int) -> int:
        """Forget the lowest of a track; returns its number."""
        _, minus_face = heapq.heappop(self._kept[track])
        if not self._kept[track]:
            del self._kept[track]
        return -minus_face

    def jpeg(self, face: int) -> bytes | None:
        """The crop of a face as JPEG, or None if it was not kept."""
        return self._crops.get(face)


def encoded(rgb_HWC: UInt8, quality: int) -> bytes:
    """RGB pixels as JPEG."""
    ok, coded = cv2.imencode(".jpg", cv2.cvtColor(rgb_HWC, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not ok:
        raise RuntimeError("OpenCV could not encode a picture as JPEG")
    return bytes(coded)
