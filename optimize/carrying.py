"""What carrying changes: every clip is scanned without and with it, the same 32 frames, all of them scored.

    python -m optimize.carrying DIR [CLIPS]

Prints each clip whose verdict differs, then the figures of ``Effect``. Exit code 1: a verdict differs, fewer than 98 % of the
boxes have a partner, or more than 2 % of the larger faces are lost. 2: there is no clip, or no verdict
differs and no clip has a score on both sides.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
import typer

from optimize.bench.clips import chosen_clips
from worker.commands.outcome import exit_codes
from worker.compose import build_scanner
from worker.errors import ConfigError
from worker.pipeline import Scanner, ScanResult
from worker.report import FaceItem
from worker.settings import Settings, load_settings
from worker.types import Float32

FRAMES = 32
BATCH = 16
"""Faces are carried within a batch: its first and last frames are detected in full."""
LARGE_PX = 80
SAME = 0.5
"""IoU from which two boxes are partners."""
LEAST_MATCHED, LEAST_RECALL = 0.98, 0.98


@dataclass(slots=True)
class Effect:
    """Counts over the clips: boxes of either side, partners, faces of at least ``LARGE_PX``, and verdicts that differ."""

    clips: int = 0
    full: int = 0
    carried: int = 0
    matched: int = 0
    large: int = 0
    large_matched: int = 0
    score_changes: list[float] = field(default_factory=list)
    flips: list[str] = field(default_factory=list)

    def add(self, path: Path, full: ScanResult, carried: ScanResult) -> None:
        self.clips += 1
        labels = [result.report.verdict for result in (full, carried)]
        if labels[0] != labels[1]:
            self.flips.append(f"{path.parent.name}/{path.name}: {labels[0]} -> {labels[1]}")
        scores = [result.report.score for result in (full, carried)]
        if scores[0] is not None and scores[1] is not None:
            self.score_changes.append(abs(scores[0] - scores[1]))
        for frame, again in zip(full.frames, carried.frames, strict=True):
            self._add_boxes(_boxes(frame.faces), _boxes(again.faces))

    def _add_boxes(self, full_N4: Float32, carried_N4: Float32) -> None:
        partnered = has_partner(full_N4, carried_N4)
        large = (full_N4[:, 2:] - full_N4[:, :2]).min(axis=1, initial=np.inf) >= LARGE_PX
        self.full += len(full_N4)
        self.carried += len(carried_N4)
        self.matched += int(partnered.sum())
        self.large += int(large.sum())
        self.large_matched += int((partnered & large).sum())

    @property
    def share_matched(self) -> float:
        """Of the boxes of the side that has more."""
        return self.matched / max(self.full, self.carried, 1)

    @property
    def recall(self) -> float:
        """Of larger faces."""
        return self.large_matched / max(self.large, 1)

    @property
    def holds(self) -> bool:
        return not self.flips and self.share_matched >= LEAST_MATCHED and self.recall >= LEAST_RECALL


def _boxes(faces: Sequence[FaceItem]) -> Float32:
    return np.array([face.box for face in faces], np.float32).reshape(-1, 4)


def has_partner(boxes_N4: Float32, others_M4: Float32) -> npt.NDArray[np.bool_]:
    """[N]: each box takes the other one that overlaps it most; no other one is taken twice."""
    a, b = boxes_N4[:, None], others_M4[None]
    shared = np.maximum(np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2]), 0).prod(-1)
    iou = shared / np.maximum((a[..., 2:] - a[..., :2]).prod(-1) + (b[..., 2:] - b[..., :2]).prod(-1) - shared, 1e-3)
    found = np.zeros(len(boxes_N4), bool)
    while iou.size and iou.max() > SAME:
        mine, other = np.unravel_index(iou.argmax(), iou.shape)
        found[mine] = True
        iou[mine], iou[:, other] = 0, 0
    return found


def scan_settings(carry: bool) -> Settings:
    sampling = {"strategy": "uniform", "max_frames": FRAMES, "exhaustive": True}
    return load_settings(flags={"sampling": sampling, "faces": {"carry": carry, "batch_frames": BATCH}})


def measure(paths: Sequence[Path], full: Scanner, carried: Scanner) -> Effect:
    """Raises ConfigError where there is nothing to compare: no verdict differs, and no clip has a score on both sides."""
    effect = Effect()
    for path in paths:
        effect.add(path, full.scan(path), carried.scan(path))
    if not (effect.flips or effect.score_changes):
        raise ConfigError(f"of {len(paths)} clips none has a score with and without carrying: there is nothing to compare")
    return effect


app = typer.Typer(add_completion=False)


@app.command()
def main(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of clips.")],
    clips: Annotated[int | None, typer.Argument(min=1, metavar="[CLIPS]", help="So many of them, evenly chosen.")] = None,
) -> None:
    """Scan every clip without and with carrying, and print what differs."""
    with exit_codes(), ExitStack() as stack:
        paths = chosen_clips(folder, clips)
        full, carried = (stack.enter_context(build_scanner(scan_settings(carry))) for carry in (False, True))
        effect = measure(paths, full, carried)
        print(*effect.flips, sep="\n")
        print(f"{effect.clips} clips, verdicts that differ: {len(effect.flips)}")
        print(f"boxes: {effect.full} without, {effect.carried} with carrying, {effect.share_matched:.4f} matched")
        print(f"faces of {LARGE_PX} px or more: {effect.large}, recall {effect.recall:.4f}")
        if changes := effect.score_changes:
            print(f"change of the score: median {np.median(changes):.4f}, most {max(changes):.4f}")
        raise typer.Exit(0 if effect.holds else 1)


if __name__ == "__main__":
    app()
