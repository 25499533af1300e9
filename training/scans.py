"""Fits a checkpoint's calibrations on reports of real scans: the very numbers that a scan's verdict is made of.

Reports come from ``veriframe scan --format jsonl`` over files of the committed split that were not trained on. Videos and
pictures are calibrated apart; reported scores are out of fold over groups.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from training.calibration import Clips, OutOfFold, Scores, Target, crossfit, fit_calibration, joined, score
from training.longtracks import ClipVotes, Layout, long_tracks
from training.splits import Item
from worker.errors import ConfigError
from worker.model import checkpoint
from worker.model import spec as model_spec
from worker.report import Report
from worker.types import Coverage, Face, MediaKind, Strategy, Verdict
from worker.verdict.aggregate import Windows
from worker.verdict.calibrate import Calibration
from worker.verdict.decide import Policy, decide

RULE = "mean_logit"
EDGE = 1e-7
LONG_VIDEOS = 120
LEAST_VOTES = 16
"""Clips with fewer votes are not looped to long videos."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scanned:
    """One labelled file, the frame votes (times, logits) of its decisive track, and that track's logit."""

    item: Item
    kind: MediaKind
    strategy: Strategy
    requested: int
    logit: float
    times_s: tuple[float, ...]
    votes: tuple[float, ...]


def read_reports(paths: Iterable[Path], items: Mapping[str, Item], data: Path, model_sha256: str) -> list[Scanned]:
    """Completed reports with votes, all made with the checkpoint of this hash.

    Raises ConfigError for a line that is no report, one of another checkpoint, and for a file outside ``data`` or not held out.
    """
    found: list[Scanned] = []
    for path in paths:
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
            try:
                report = Report.model_validate_json(line)
                name = Path(report.source.path or "").relative_to(data.resolve()).as_posix()
            except ValueError as exc:  # pydantic's errors are ValueErrors too
                raise ConfigError(f"{path}:{number} is not a report on a file below {data}: {exc}") from exc
            if report.model is None or report.model.sha256 != model_sha256:
                raise ConfigError(f"{path}:{number} was made with another checkpoint: scan again with --model")
            if name not in items or items[name].split == "train":
                raise ConfigError(f"{path}:{number}: {name} is not held out, it cannot calibrate")
            if scanned := votes_of(report, items[name]):
                found.append(scanned)
    return found


def votes_of(report: Report, item: Item) -> Scanned | None:
    """The decisive track as ``worker.verdict.decide`` judges it; None where there is no verdict.

    A report lists at most 256 frames; of longer scans these are the worst and evenly spaced ones.
    """
    if report.media is None or report.sampling is None:
        return None
    faces = [
        Face(
            pts_s=frame.t_ms / 1000,
            box_xyxy=face.box,
            det_prob=face.det_conf,
            track=face.track,
            quality=face.quality,
            logit=_logit(face.score),
        )
        for frame in report.frames
        for face in frame.faces
        if face.score is not None
    ]
    sampling = report.sampling
    coverage = Coverage(
        kind=report.media.kind,
        strategy=sampling.strategy,
        requested=sampling.requested,
        decoded=sampling.decoded,
        with_face=sampling.with_face,
        max_gap_s=sampling.max_gap_s,
        end_s=report.media.duration_s,
    )
    verdict = decide(faces, coverage, Policy(rule=RULE))
    if not isinstance(verdict, Verdict):
        return None
    decisive = max(verdict.tracks, key=lambda track: track.logit)
    votes = sorted((face.pts_s, face.logit) for face in faces if face.track == decisive.track and face.logit is not None)
    return Scanned(
        item=item,
        kind=report.media.kind,
        strategy=sampling.strategy,
        requested=sampling.requested,
        logit=decisive.logit,
        times_s=tuple(time for time, _ in votes),
        votes=tuple(logit for _, logit in votes),
    )


def _logit(p: float) -> float:
    p = min(max(p, EDGE), 1 - EDGE)
    return math.log(p) - math.log1p(-p)


def clips_of(scanned: Sequence[Scanned]) -> Clips:
    return Clips(
        logits_n=np.array([file.logit for file in scanned]),
        labels_n=np.array([int(file.item.label == "fake") for file in scanned], dtype=np.int64),
        groups_n=np.array([file.item.group for file in scanned]),
    )


def fit_videos(scanned: Sequence[Scanned], target: Target) -> Calibration:
    """Holds for the strategies of the scans, from their least number of frames up to that of the longest looped video."""
    layouts = (Layout(), Layout(duration_s=2560.0))
    return fit_calibration(
        clips_of(scanned),
        kind=MediaKind.VIDEO,
        rule=RULE,
        strategies=frozenset(file.strategy for file in scanned),
        frames=(
            min(file.requested for file in scanned),
            max(round(layout.duration_s / layout.first_gap_s) for layout in layouts),
        ),
        target=target,
        long_tracks=_long(scanned, layouts),
    )


def fit_pictures(scanned: Sequence[Scanned], target: Target) -> Calibration:
    return fit_calibration(
        clips_of(scanned), kind=MediaKind.PICTURE, rule=RULE, strategies=frozenset(Strategy), frames=(1, 1), target=target
    )


def _long(scanned: Sequence[Scanned], layouts: Sequence[Layout]) -> Clips | None:
    """Long videos looped from the clips (there and back); None where too few clips have the votes for it."""
    clips = [
        ClipVotes(
            logits_n=np.array(file.votes + file.votes[-2:0:-1]),
            step_s=float(np.median(np.diff(file.times_s))),
            fake=file.item.label == "fake",
            group=file.item.group,
        )
        for file in scanned
        if len(file.votes) >= LEAST_VOTES
    ]
    if not any(clip.fake for clip in clips) or all(clip.fake for clip in clips):
        return None
    tables = [
        long_tracks(clips, seed=seed, n_videos=LONG_VIDEOS, layout=layout, windows=Windows(), rule=RULE)
        for seed, layout in enumerate(layouts)
    ]
    return joined(*tables)


def out_of_fold(scanned: Sequence[Scanned], target: Target, seed: int = 0) -> OutOfFold:
    """What each file would have got from a calibration that never saw its group."""

    def fit(part: Clips) -> Calibration:
        return fit_calibration(
            part, kind=MediaKind.VIDEO, rule=RULE, strategies=frozenset(Strategy), frames=(1, 512), target=target
        )

    clips = clips_of(scanned)
    return crossfit(clips, fit, n_folds=min(5, len(np.unique(clips.groups_n))), seed=seed)


def judged(scanned: Sequence[Scanned], found: OutOfFold, chosen: Sequence[bool]) -> Scores | None:
    """Scores of the chosen files; None where one class is missing."""
    rows = np.flatnonzero(chosen)
    labels = {scanned[int(row)].item.label for row in rows}
    if len(labels) < 2:
        return None
    part = OutOfFold(p_n=found.p_n[rows], t_real_n=found.t_real_n[rows], t_fake_n=found.t_fake_n[rows])
    return score(clips_of(scanned).take(rows), part)


def calibrate_checkpoint(path: Path, scanned: Sequence[Scanned], target: Target) -> list[str]:
    """Fit video and picture calibrations, write them into the checkpoint, and give the out-of-fold tables as Markdown lines.

    Raises ConfigError where the scans hold too few files of both classes for a kind; a kind that is absent stays uncalibrated.
    """
    spec, arrays = checkpoint.load(path)
    entries: list[model_spec.Calibration] = []
    lines: list[str] = []
    for kind, fit in ((MediaKind.VIDEO, fit_videos), (MediaKind.PICTURE, fit_pictures)):
        files = [file for file in scanned if file.kind is kind]
        if not files:
            continue
        try:
            calibration = fit(files, target)
            lines += [f"### {kind.value}", "", *sources_table(files, out_of_fold(files, target)), ""]
        except ValueError as exc:
            raise ConfigError(f"cannot calibrate {kind.value}: {exc}") from exc
        entries.append(as_spec(calibration))
        lines += [f"Fitted: {calibration}", ""]
    checkpoint.save(path, arrays, spec.model_copy(update={"calibrations": tuple(entries)}))
    return lines


def as_spec(calibration: Calibration) -> model_spec.Calibration:
    """For the checkpoint."""
    return model_spec.Calibration(
        media=calibration.kind,
        rule=calibration.rule,
        strategies=tuple(sorted(calibration.strategies)),
        min_frames=calibration.frames[0],
        max_frames=calibration.frames[1],
        a=calibration.a,
        b=calibration.b,
        c_tracks=calibration.c_tracks,
        c_windows=calibration.c_windows,
        t_real=calibration.t_real,
        t_fake=calibration.t_fake,
    )


def sources_table(scanned: Sequence[Scanned], found: OutOfFold) -> list[str]:
    """Markdown rows: each source (FF++ also by manipulation) with sizes, AUC, coverage, accuracy and errors."""
    rows = [
        "| source | real | fake | AUC (95 % over groups) | decided | balanced accuracy | real called fake | fake called real |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, chosen in _parts(scanned):
        n_real = sum(c and f.item.label == "real" for c, f in zip(chosen, scanned, strict=True))
        n_fake = sum(chosen) - n_real
        mask = np.array(chosen)
        real = mask & np.array([f.item.label == "real" for f in scanned])
        fake = mask & ~real
        called_fake, called_real = found.p_n > found.t_fake_n, found.p_n < found.t_real_n
        decided = (called_fake | called_real)[mask].mean()
        alarms = f"{called_fake[real].mean():.2f}" if real.any() else "-"
        misses = f"{called_real[fake].mean():.2f}" if fake.any() else "-"
        both = judged(scanned, found, chosen)
        auc = f"{both.auc:.3f} ({both.auc_interval[0]:.2f}-{both.auc_interval[1]:.2f})" if both else "-"
        accuracy = f"{both.balanced_accuracy:.3f}" if both else "-"
        rows.append(f"| {name} | {n_real} | {n_fake} | {auc} | {decided:.2f} | {accuracy} | {alarms} | {misses} |")
    return rows


def _parts(scanned: Sequence[Scanned]) -> list[tuple[str, list[bool]]]:
    parts: list[tuple[str, list[bool]]] = [("all", [True] * len(scanned))]
    for source in sorted({file.item.source for file in scanned}):
        split = next(file.item.split for file in scanned if file.item.source == source)
        parts.append((f"{source} ({split})", [file.item.source == source for file in scanned]))
    for kind in sorted({file.item.manipulation for file in scanned if file.item.source == "ffpp" and file.item.label == "fake"}):
        chosen = [
            file.item.source == "ffpp" and (file.item.label == "real" or file.item.manipulation == kind) for file in scanned
        ]
        parts.append((f"ffpp: {kind}", chosen))
    return parts
