"""Makes degraded copies of held-out files: what tells a calibration how much less poor faces say."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from rich.progress import track

from training.evaluation.degrade import FAMILIES, Family, degrade
from training.splits import Item
from worker.errors import ConfigError, VeriframeError
from worker.ports import FrameSource
from worker.types import MediaKind

STRONG = ("jpeg", "h264", "blur", "resize")
"""What takes away from faces, each at its two worst levels."""


def changes(kind: MediaKind) -> list[tuple[Family, float]]:
    """(family, level) in a fixed order; file n of a kind gets the n-th, round and round."""
    return [
        (family, level) for family in FAMILIES if family.name in STRONG and kind in family.kinds for level in family.levels[-2:]
    ]


def make_copies(items: Sequence[Item], data: Path, out: Path, frames: FrameSource) -> int:
    """One copy of each file below ``out``, at the file's own path; those that are there stay.

    Gives the number of files that could not be read. Raises ConfigError where ``out`` holds the originals.
    """
    if out.resolve() == data.resolve():
        raise ConfigError(f"{out} holds the originals: name another folder for the copies")
    failed = 0
    for kind in (MediaKind.VIDEO, MediaKind.PICTURE):
        ways = changes(kind)
        chosen = [item for item in items if item.is_video == (kind is MediaKind.VIDEO)]
        for number, item in enumerate(track(chosen, description=f"degrading {kind.value}s")):
            place = out / item.path
            if place.exists():
                continue
            place.parent.mkdir(parents=True, exist_ok=True)
            family, level = ways[number % len(ways)]
            with tempfile.TemporaryDirectory(dir=out, prefix=".copy-") as folder:
                try:
                    degrade(frames, data / item.path, family, level, Path(folder)).rename(place)
                except VeriframeError:
                    failed += 1
    return failed
