"""Scan speed against the reference pipeline: the same frames of the same clips, alternately, each side in a process of its own.

A clip's time is the median over the rounds; the ratio is the sum of ours over the sum of the reference's. Start-up (imports,
models, a first clip) is told apart. Both sides must find the same number of faces within 2 %, or the comparison says so.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from optimize.memory import PeakMemory
from optimize.side import Run, Side

FACES_TOLERANCE = 0.02
STAGES = ("decode", "detect", "infer")
VIDEO_SUFFIXES = frozenset({".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v", ".ts"})


class Scanning(Protocol):
    """What a comparison needs of a side."""

    def scan(self, path: Path, times_s: Sequence[float] = ()) -> Run: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipTimes:
    """The runs of both sides over one clip, in the order in which they were made."""

    path: Path
    ours: tuple[Run, ...]
    reference: tuple[Run, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SideSummary:
    """Seconds are sums over clips of the median run. ``stages_s`` leaves out what no stage counts (hashing, tracks, verdict)."""

    total_s: float
    stages_s: dict[str, float]
    median_clip_s: float
    faces: int
    frames: int
    start_up_s: float
    peak_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    clips: int
    rounds: int
    threads: int
    ours: SideSummary
    reference: SideSummary
    median_clip_ratio: float

    @property
    def ratio(self) -> float:
        """Our time over the reference's: below 1 is faster."""
        return self.ours.total_s / self.reference.total_s

    @property
    def faces_difference(self) -> float:
        """Share by which the two sides' numbers of faces differ."""
        return abs(self.ours.faces - self.reference.faces) / max(self.reference.faces, 1)

    @property
    def faces_agree(self) -> bool:
        return self.faces_difference <= FACES_TOLERANCE

    def as_json(self) -> dict[str, Any]:
        return asdict(self) | {"ratio": self.ratio, "faces_difference": self.faces_difference, "faces_agree": self.faces_agree}


def find_clips(folder: Path, count: int | None = None) -> list[Path]:
    """Video files below ``folder`` in a stable order; with ``count``, that many, evenly chosen."""
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in VIDEO_SUFFIXES and path.is_file())
    if count is None or len(found) <= count:
        return found
    return [found[(2 * i + 1) * len(found) // (2 * count)] for i in range(count)]


def time_clip(path: Path, ours: Scanning, reference: Scanning, rounds: int) -> ClipTimes:
    """Scan one clip ``rounds`` times by each side, taking turns in who begins.

    An untimed scan of ours comes first: it says which frames are looked at, and brings the file into memory.
    """
    times_s = ours.scan(path).times_s
    our_runs: list[Run] = []
    reference_runs: list[Run] = []
    for number in range(rounds):
        turns: list[Callable[[], None]] = [
            lambda: our_runs.append(ours.scan(path)),
            lambda: reference_runs.append(reference.scan(path, times_s)),
        ]
        for turn in turns if number % 2 == 0 else reversed(turns):
            turn()
    return ClipTimes(path=path, ours=tuple(our_runs), reference=tuple(reference_runs))


def summarise(runs_by_clip: Sequence[Sequence[Run]], *, start_up_s: float, peak_bytes: int) -> SideSummary:
    medians = [statistics.median(run.total_s for run in runs) for runs in runs_by_clip]
    return SideSummary(
        total_s=sum(medians),
        stages_s={
            stage: sum(statistics.median(getattr(run, f"{stage}_s") for run in runs) for runs in runs_by_clip) for stage in STAGES
        },
        median_clip_s=statistics.median(medians),
        faces=sum(runs[0].faces for runs in runs_by_clip),
        frames=sum(runs[0].frames for runs in runs_by_clip),
        start_up_s=start_up_s,
        peak_bytes=peak_bytes,
    )


def compare(
    clips: Sequence[Path], *, frames: int, rounds: int, threads: int, on_clip: Callable[[ClipTimes], None] = lambda _: None
) -> Comparison:
    """Time both sides over all clips. Raises SideFailed if a side cannot start or cannot scan a clip."""
    with (
        Side("veriframe", threads=threads, max_frames=frames) as ours,
        Side("reference", threads=threads, max_frames=None) as reference,
        PeakMemory(ours.pid) as our_memory,
        PeakMemory(reference.pid) as reference_memory,
    ):
        # The first scan loads what was left for later: it belongs to the start-up.
        first = ours.scan(clips[0])
        our_start_s = ours.start_up_s + first.total_s
        reference_start_s = reference.start_up_s + reference.scan(clips[0], first.times_s[:1]).total_s
        timed = []
        for path in clips:
            timed.append(time_clip(path, ours, reference, rounds))
            on_clip(timed[-1])
    return Comparison(
        clips=len(clips),
        rounds=rounds,
        threads=threads,
        ours=summarise([clip.ours for clip in timed], start_up_s=our_start_s, peak_bytes=our_memory.peak_bytes),
        reference=summarise(
            [clip.reference for clip in timed], start_up_s=reference_start_s, peak_bytes=reference_memory.peak_bytes
        ),
        median_clip_ratio=statistics.median(
            statistics.median(run.total_s for run in clip.ours) / statistics.median(run.total_s for run in clip.reference)
            for clip in timed
        ),
    )
