"""Perceptual hashes of media as text, and how far apart two of them are.

A text is ``v1:`` and one hash for each place of the media that was looked at, 16 hexadecimal digits, or ``-`` where there was
nothing but a flat picture, joined by ``.``; a picture has one. ``worker.frame_hash`` makes them.

A face swap leaves the frame almost as it was, so a fake and its original are near each other, too: what is near has been seen
before, and is neither fake nor real for it. Distances as measured: docs/decisions/0014-near-duplicates.md.
"""

from __future__ import annotations

import re
from typing import Final

NEAR: Final = 8.0
NEAR_OF_FEW: Final = 4.0
FEW: Final = 3
"""Media are near each other up to a mean of so many bits of 64; less where one of the two has fewer hashes than ``FEW``: a single
picture may well look like another."""
BAND_BITS: Final = 16
_FORM = re.compile(r"v1:(?:[0-9a-f]{16}|-)(?:\.(?:[0-9a-f]{16}|-)){0,31}")

Hashes = tuple[int, ...]


def hashes_of(phash: str) -> Hashes:
    """The hashes in a text, without flat ones; none where another version wrote it."""
    if not _FORM.fullmatch(phash):
        return ()
    return tuple(int(word, 16) for word in phash.removeprefix("v1:").split(".") if word != "-")


def distance(one: Hashes, other: Hashes) -> float:
    """Mean number of differing bits between each hash and the nearest of the other's, over both; infinite where one has none.

    Nearest, not at the same place: in a trimmed copy the places lie elsewhere in the clip.
    """
    if not one or not other:
        return float("inf")
    table = [[(a ^ b).bit_count() for b in other] for a in one]
    rows = sum(min(row) for row in table) / len(one)
    columns = sum(min(row[place] for row in table) for place in range(len(other))) / len(other)
    return (rows + columns) / 2


def limit(one: Hashes, other: Hashes) -> float:
    """The largest distance at which these two are near each other."""
    return NEAR_OF_FEW if min(len(one), len(other)) < FEW else NEAR


def bands(hashes: Hashes) -> frozenset[bytes]:
    """What an index finds them by: each hash's four quarters, three bytes each, the first of them the quarter's number.

    Two hashes of fewer than four differing bits have one in common for certain; of two clips' many hashes, some have at a greater
    distance, too.
    """
    return frozenset(
        bytes([number]) + (one >> (BAND_BITS * number) & 0xFFFF).to_bytes(2, "big")
        for one in hashes
        for number in range(64 // BAND_BITS)
    )
