"""Makes degraded copies of held-out files: what tells a calibration how much less poor faces say."""

from __future__ import annotations

import os
import shutil
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
UNFINISHED = ".copy-"
COARSEST_NS = 2_000_000_000
"""FAT's step of time."""


def changes(kind: MediaKind) -> list[tuple[Family, float]]:
    """(family, level) in a fixed order; file n of a kind gets the n-th, round and round."""
    return [
        (family, level) for family in FAMILIES if family.name in STRONG and kind in family.kinds for level in family.levels[-2:]
    ]


def make_copies(items: Sequence[Item], data: Path, out: Path, frames: FrameSource) -> int:
    """One copy of each file below ``out``, at the file's own path; those of the file as it is now stay.

    Gives the number of files that could not be read. Raises ConfigError where ``out`` holds the originals.
    """
    if out.resolve() == data.resolve():
        raise ConfigError(f"{out} holds the originals: name another folder for the copies")
    for left in out.glob(f"{UNFINISHED}*"):  # by a run that was killed; a scan of the copies would find it
        shutil.rmtree(left)
    failed = 0
    for kind in (MediaKind.VIDEO, MediaKind.PICTURE):
        ways = changes(kind)
        chosen = [item for item in items if item.is_video == (kind is MediaKind.VIDEO)]
        for number, item in enumerate(track(chosen, description=f"degrading {kind.value}s")):
            place = out / item.path
            original = data / item.path
            if place.exists() and _is_of(place, original):
                continue
            place.unlink(missing_ok=True)
            place.parent.mkdir(parents=True, exist_ok=True)
            family, level = ways[number % len(ways)]
            with tempfile.TemporaryDirectory(dir=out, prefix=UNFINISHED) as folder:
                try:
                    times_ns = original.stat().st_mtime_ns if original.exists() else 0
                    copy = degrade(frames, original, family, level, Path(folder))
                    os.utime(copy, ns=(times_ns, times_ns))
                    copy.rename(place)
                except VeriframeError:
                    failed += 1
    return failed


def _is_of(copy: Path, original: Path) -> bool:
    """A copy bears its original's time of modification, as far as file systems keep it. That of a file that is gone stays."""
    return not original.exists() or abs(copy.stat().st_mtime_ns - original.stat().st_mtime_ns) < COARSEST_NS
