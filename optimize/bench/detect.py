"""Face detection alone, on the same frames: ours with and without carrying, against facenet-pytorch's ``detect``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from optimize.bench.clips import lasts_s
from optimize.bench.document import Chart, Figure
from optimize.bench.ratio import Runs, ratio, sum_of_medians
from optimize.bench.side import Answered, Asking, Rival
from optimize.bench.turns import take_turns
from worker.errors import ConfigError
from worker.frames.sampling import even_times
from worker.types import Float32, Json

OURS = ("ours", "carrying")
REFERENCES = {"a": "full size, defaults", "b": "half size, min_face 40"}
LARGE_PX = 80
MATCH_IOU = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipDetections:
    """Timed answers by side, and the boxes [N, 4] of each frame by side."""

    path: Path
    answers: Mapping[str, tuple[Answered, ...]]
    boxes: Mapping[str, Sequence[Float32]]


def rivals(names: Sequence[str]) -> list[Rival]:
    return [Rival(name=name, build="optimize.bench.rivals.detector:build", options={"kind": name}) for name in names]


def detect_clip(path: Path, sides: Mapping[str, Asking], *, frames: int, rounds: int) -> ClipDetections:
    """The first answer of each side, with decoding in it, is not timed; it gives the boxes.

    Raises ConfigError for a clip that does not say how long it lasts: all frames would be its first.
    """
    if not (duration_s := lasts_s(path)):
        raise ConfigError(f"{path} does not say how long it lasts: leave it out, or repack it (ffmpeg -c copy)")
    request: Json = {"path": str(path), "times_s": list(even_times(0.0, duration_s, frames))}
    boxes = {name: side.ask(request | {"boxes": True}).reply["boxes"] for name, side in sides.items()}
    answers = take_turns(sides, {name: request for name in sides}, rounds)
    as_arrays = {name: [np.array(one, np.float32).reshape(-1, 4) for one in given] for name, given in boxes.items()}
    return ClipDetections(path=path, answers=answers, boxes=as_arrays)


def detect(
    clips: Sequence[Path],
    sides: Mapping[str, Asking],
    *,
    frames: int,
    rounds: int,
    on_clip: Callable[[ClipDetections], None] = lambda _: None,
) -> list[ClipDetections]:
    found = []
    for path in clips:
        found.append(detect_clip(path, sides, frames=frames, rounds=rounds))
        on_clip(found[-1])
    return found


def recall(found: Sequence[Float32], truth: Sequence[Float32]) -> float | None:
    """Share of the true boxes of at least ``LARGE_PX`` (shorter side) that a found box of the frame meets; None without any."""
    wanted = met = 0
    for boxes_N4, true_M4 in zip(found, truth, strict=True):
        large_M4 = true_M4[(true_M4[:, 2:] - true_M4[:, :2]).min(axis=1, initial=np.inf) >= LARGE_PX] if len(true_M4) else true_M4
        wanted += len(large_M4)
        if len(large_M4) and len(boxes_N4):
            met += int((ious(large_M4, boxes_N4).max(axis=1) >= MATCH_IOU).sum())
    return met / wanted if wanted else None


def ious(a_M4: Float32, b_N4: Float32) -> npt.NDArray[np.float64]:
    """Intersection over union of every pair: [M, N]."""
    low = np.maximum(a_M4[:, None, :2], b_N4[None, :, :2])
    high = np.minimum(a_M4[:, None, 2:], b_N4[None, :, 2:])
    shared = np.clip(high - low, 0, None).prod(axis=2, dtype=np.float64)
    area_M, area_N = ((boxes[:, 2:] - boxes[:, :2]).prod(axis=1, dtype=np.float64) for boxes in (a_M4, b_N4))
    return np.asarray(shared / np.maximum(area_M[:, None] + area_N[None] - shared, 1e-9), np.float64)


def detect_figures(found: Sequence[ClipDetections]) -> list[Figure]:
    names = list(found[0].answers)
    figures: list[Figure] = []
    for name in names:
        frames = sum(clip.answers[name][0].reply["frames"] for clip in found)
        faces = sum(clip.answers[name][0].reply["faces"] for clip in found)
        figures += [
            Figure(
                name=f"{name}: time",
                value=1e3 * sum_of_medians(_walls(found, name)) / frames,
                unit="ms a frame",
                note=f"{faces} faces",
            ),
            Figure(name=f"{name}: CPU time", value=1e3 * sum_of_medians(_cpus(found, name)) / frames, unit="ms a frame"),
        ]
        if name in OURS:
            for mode in (mode for mode in REFERENCES if mode in names):
                about = f"{name}: times as fast as detect(), {REFERENCES[mode]}"
                figures.append(Figure.of(about, ratio(_walls(found, mode), _walls(found, name))))
                about = f"{name}: CPU time, times less than detect(), {REFERENCES[mode]}"
                figures.append(Figure.of(about, ratio(_cpus(found, mode), _cpus(found, name))))
        figures += [_recall_figure(found, name, mode) for mode in REFERENCES if mode in names and mode != name]
    return figures


def _recall_figure(found: Sequence[ClipDetections], name: str, mode: str) -> Figure:
    ours = [boxes for clip in found for boxes in clip.boxes[name]]
    theirs = [boxes for clip in found for boxes in clip.boxes[mode]]
    return Figure(
        name=f"{name}: recall of faces of {LARGE_PX} px or more found by detect(), {REFERENCES[mode]}",
        value=recall(ours, theirs),
        unit="",
    )


def detect_charts(found: Sequence[ClipDetections]) -> list[Chart]:
    names = list(found[0].answers)
    frames = sum(clip.answers[names[0]][0].reply["frames"] for clip in found)
    walls = [(float(place), 1e3 * sum_of_medians(_walls(found, name)) / frames) for place, name in enumerate(names)]
    labels = [f"detect(), {REFERENCES[name]}" if name in REFERENCES else name for name in names]
    return [Chart(title="Detection", kind="bars", x="", y="ms a frame", series={"": walls}, labels=labels)]


def _walls(found: Sequence[ClipDetections], name: str) -> Runs:
    return [[run.wall_s for run in clip.answers[name]] for clip in found]


def _cpus(found: Sequence[ClipDetections], name: str) -> Runs:
    return [[run.cpu_s for run in clip.answers[name]] for clip in found]
