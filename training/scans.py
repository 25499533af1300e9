"""Fits a checkpoint's calibrations on reports of real scans: the very numbers that a scan's verdict is made of.

Reports come from ``veriframe scan --format jsonl`` over files of the committed split, or of a cache's own, that were not
trained on. Videos and pictures are calibrated apart; reported scores are out of fold over groups.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from training.calibration import RULE, Clips, Fit, Target, crossfit, fit_single, joined, with_chances
from training.composites import CUTS, TrackVotes, composite_clips, crossfit_alarms
from training.evaluation.replay import coverage_of, faces_of, why_not_whole
from training.labelled import Judge
from training.longtracks import ClipVotes, Layout, long_tracks
from training.quality import fit_quality
from training.scores import calibration_line, out_of_source, sources_table
from training.splits import Item
from worker.errors import ConfigError
from worker.model import checkpoint
from worker.model import spec as model_spec
from worker.report import Report
from worker.types import MediaKind, Strategy, Verdict
from worker.verdict.aggregate import Windows
from worker.verdict.calibrate import Calibration
from worker.verdict.decide import Policy, decide

T = TypeVar("T")
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
    quality: float = 1.0
    """Median quality of that track's voting faces."""
    others: tuple[float, ...] = ()
    """Logits of the other tracks that are judged."""

    def log_odds(self, calibration: Calibration) -> float:
        """Of all its tracks, at full quality."""
        return calibration.together((self.logit, *self.others))


def silent(note: str) -> None:
    """Tells nobody."""


def read_reports(
    paths: Iterable[Path], judges: Sequence[Judge], data: Path, tell: Callable[[str], None] = silent
) -> list[Scanned]:
    """Completed reports with votes, the last of each file. Raises ConfigError as ``named_reports`` does."""
    votes = ((item.path, votes_of(report, item)) for item, report in named_reports(paths, judges, data, tell))
    return [scanned for scanned in last_of_each(votes, tell).values() if scanned]


def last_of_each(named: Iterable[tuple[str, T]], tell: Callable[[str], None] = silent) -> dict[str, T]:
    """What came last under each file's name; ``tell`` hears of files that came more than once."""
    found: dict[str, T] = {}
    again: dict[str, None] = {}
    for name, one in named:
        if name in found:
            again[name] = None
        found[name] = one
    if again:
        tell(f"{len(again)} files were scanned more than once, the first of them {next(iter(again))}: the last scans count")
    return found


def named_reports(
    paths: Iterable[Path], judges: Sequence[Judge], data: Path, tell: Callable[[str], None] = silent
) -> Iterator[tuple[Item, Report]]:
    """Reports with their files, all made with one of these checkpoints, but for scans that failed without one (of a file that is
    not there any more): files with no other scan are counted, and ``tell`` hears of them.

    Raises ConfigError for a line that is no report, one of another checkpoint or of a scan of less than all (ended early by its
    verdict, or of a part), and for a file outside ``data`` or that its checkpoint may not judge (``training.labelled.judges``).
    """
    root = data.resolve()
    names = {name for judge in judges for name in judge.files}
    linked = {place: name for name in names if (place := (root / name).resolve()) != root / name}
    lost: dict[str, None] = {}
    there: set[str] = set()
    for path in paths:
        with path.open("rb") as file:
            lines = list(file)  # a killed scan may have torn the last one in the midst of a character
        for number, line in enumerate(lines, 1):
            try:
                report = Report.model_validate_json(line)
                place = Path(report.source.path or "")
                name = linked.get(place) or place.relative_to(root).as_posix()
            except ValueError as exc:  # pydantic's errors are ValueErrors too
                raise ConfigError(f"{path}:{number} is not a report on a file below {data}: {exc}") from exc
            without_model = report.model is None and report.status == "failed"
            could = judges if without_model else [one for one in judges if report.model and report.model.sha256 == one.sha256]
            if not could:
                raise ConfigError(f"{path}:{number} was made with another checkpoint: scan again with --model")
            if why := why_not_whole(report):
                raise ConfigError(f"{path}:{number} {why}")
            known = [item for one in could if (item := one.files.get(name)) and item.split != "train"]
            if not known:
                raise ConfigError(f"{path}:{number}: {name} was trained on or is not of the split, it cannot calibrate")
            if without_model:
                lost[name] = None
            else:
                there.add(name)
                yield known[0], report
    if gone := [name for name in lost if name not in there]:
        tell(f"{len(gone)} files could not be read, the first of them {gone[0]}: they do not count")


def votes_of(report: Report, item: Item) -> Scanned | None:
    """The decisive track as ``worker.verdict.decide`` judges it; None where there is no verdict.

    A report lists at most 256 frames; of longer scans these are the worst and evenly spaced ones.
    """
    coverage = coverage_of(report)
    if coverage is None:
        return None
    faces = faces_of(report)
    verdict = decide(faces, coverage, Policy(rule=RULE))
    if not isinstance(verdict, Verdict):
        return None
    decisive = max(verdict.tracks, key=lambda track: track.logit)
    own = [face for face in faces if face.track == decisive.track]
    votes = sorted((face.pts_s, face.logit) for face in own if face.logit is not None)
    return Scanned(
        item=item,
        kind=coverage.kind,
        strategy=coverage.strategy,
        requested=coverage.requested,
        logit=decisive.logit,
        times_s=tuple(time for time, _ in votes),
        votes=tuple(logit for _, logit in votes),
        quality=float(np.median([face.quality for face in own])) if own else 1.0,
        others=tuple(track.logit for track in verdict.tracks if track is not decisive),
    )


def clips_of(scanned: Sequence[Scanned]) -> Clips:
    return Clips(
        logits_n=np.array([file.logit for file in scanned]),
        labels_n=np.array([int(file.item.label == "fake") for file in scanned], dtype=np.int64),
        groups_n=np.array([file.item.group for file in scanned]),
        quality_n=np.array([file.quality for file in scanned]),
    )


LAYOUTS = (Layout(), Layout(duration_s=2560.0))
"""The long videos that are made of clips: a calibration holds up to the frames that the longest asks for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """One kind's calibration, what it was fitted on, and what it is worth as Markdown lines."""

    calibration: Calibration
    lines: list[str]


def fit_kind(
    kind: MediaKind, scanned: Sequence[Scanned], target: Target, degraded: Sequence[Scanned] = (), *, draws: int = 1000
) -> Fitted:
    """Fit and judge one kind's calibration. Raises ValueError where the files do not allow it."""
    clips = clips_of(scanned)
    copies = clips_of(degraded) if degraded else None
    video = kind is MediaKind.VIDEO
    strategies = frozenset(file.strategy for file in scanned) if video else frozenset(Strategy)
    most = max(round(layout.duration_s / layout.first_gap_s) for layout in LAYOUTS)
    frames = (min(file.requested for file in scanned), most) if video else (1, 1)

    quality = fit_quality(clips, copies)
    found = fit_single(clips, kind=kind, rule=RULE, strategies=strategies, frames=frames, target=target, quality=quality.used)
    several, lines = _tracks(scanned, target) if video else (None, [])
    found = with_chances(found, clips, several=several, long_tracks=_long(scanned, LAYOUTS) if video else None)
    lines += _worth(scanned, clips, refit(found, target, copies), draws)
    return Fitted(calibration=found, lines=[str(quality), "", *lines])


def refit(like: Calibration, target: Target, copies: Clips | None = None) -> Fit:
    """Fits a part of the clips anew, as ``fit_kind`` does all of them: what a calibration for the same scans would be that never
    saw the rest. ``copies``: degraded ones; those of the part's groups say how much poor faces tell."""

    def anew(part: Clips) -> Calibration:
        return fit_single(
            part,
            kind=like.kind,
            rule=like.rule,
            strategies=like.strategies,
            frames=like.frames,
            target=target,
            quality=fit_quality(part, _of_groups(copies, part)).used,
        )

    return anew


def fit_videos(scanned: Sequence[Scanned], like: Calibration, target: Target, degraded: Sequence[Scanned] = ()) -> Calibration:
    """What ``fit_kind`` gives for these videos alone, but for what long videos cost; of the degraded copies those of the videos'
    groups count. Raises ValueError alike."""
    clips = clips_of(scanned)
    copies = clips_of(degraded) if degraded else None
    try:
        several = composite_clips(_track_votes(scanned))
    except ValueError:  # too few groups for composites: on the greatest logits of several clips
        several = None
    return with_chances(refit(like, target, copies)(clips), clips, several=several)


def _of_groups(copies: Clips | None, part: Clips) -> Clips | None:
    """The copies of the part's groups; None where they lack a class."""
    if copies is None:
        return None
    rows = np.isin(copies.groups_n, part.groups_n)
    return copies.take(rows) if len(np.unique(copies.labels_n[rows])) == 2 else None


def _worth(scanned: Sequence[Scanned], clips: Clips, fit: Fit, draws: int) -> list[str]:
    """Tables and calibration errors of calibrations that never saw the file's group, and never its source."""
    items = [file.item for file in scanned]
    found = crossfit(clips, fit, n_folds=min(5, len(np.unique(clips.groups_n))))
    lines = [*sources_table(items, clips, found, draws=draws), "", calibration_line("out of fold", clips, found)]
    elsewhere = out_of_source(clips, [item.source for item in items], fit)
    if elsewhere is not None:
        lines += ["", calibration_line("out of source", *elsewhere)]
    return lines


def _tracks(scanned: Sequence[Scanned], target: Target) -> tuple[Clips | None, list[str]]:
    """Composites of several tracks and what c_tracks is worth on them, or why nobody can tell; (None, why) where the clips do not
    allow any."""
    clips = _track_votes(scanned)
    try:
        several = composite_clips(clips)
    except ValueError as exc:
        return None, [f"c_tracks: fitted on the greatest logits of several clips ({exc})", ""]
    try:
        alarms = crossfit_alarms(clips, target)
    except ValueError as exc:
        return several, [f"c_tracks: fitted on composites; too few clips to tell what it is worth on other people ({exc})", ""]
    lines = [
        f"Composites of clips, joined in time or side by side, out of fold in {CUTS} cuts; called fake:",
        "",
        "| tracks | composites | real, without c_tracks | real | one fake among real |",
        "|---|---|---|---|---|",
        *(f"| {row.size} | {row.n} | {row.uncorrected:.2f} | {row.real:.2f} | {row.fake:.2f} |" for row in alarms),
        "",
    ]
    return several, lines


def _track_votes(scanned: Sequence[Scanned]) -> list[TrackVotes]:
    return [
        TrackVotes(
            times_n=np.array(file.times_s),
            logits_n=np.array(file.votes),
            fake=file.item.label == "fake",
            group=file.item.group,
        )
        for file in scanned
        if file.votes
    ]


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
        long_tracks(clips, seed=seed, n_videos=LONG_VIDEOS, layout=layout, windows=Windows())
        for seed, layout in enumerate(layouts)
    ]
    return joined(*tables)


def calibrate_checkpoint(
    path: Path,
    scanned: Sequence[Scanned],
    target: Target,
    degraded: Sequence[Scanned] = (),
    *,
    version: str | None = None,
    draws: int = 1000,
) -> list[str]:
    """Fit video and picture calibrations, write them into the checkpoint, and give the out-of-fold tables as Markdown lines.

    ``degraded``: scans of degraded copies of the same files (``read_reports`` with the copies' folder as ``data``); they only say
    how much less poor faces tell. ``version``: the checkpoint's from now on; None: as before. ``draws``: of the intervals.
    A kind that is absent stays as it was: uncalibrated, or as earlier scans of these weights calibrated it. What it had of the
    parent's goes. Raises ConfigError, the checkpoint untouched, for no scans, and where they hold too few files of both classes
    for a kind.
    """
    if not scanned:
        raise ConfigError("none of the reports gives a score: there is nothing to calibrate on")
    spec, arrays = checkpoint.load(path)
    entries: list[model_spec.Calibration] = []
    lines: list[str] = []
    for kind in (MediaKind.VIDEO, MediaKind.PICTURE):
        files = [file for file in scanned if file.kind is kind]
        if not files:
            if before := [entry for entry in spec.calibrations if entry.media is kind]:
                is_parents = spec.calibration_is_inherited
                entries += [] if is_parents else before
                fate = "its calibration, the parent's, is gone" if is_parents else "calibrated as before"
                lines += [f"### {kind.value}", "", f"No scans of this kind: {fate}.", ""]
            continue
        try:
            fitted = fit_kind(kind, files, target, [file for file in degraded if file.kind is kind], draws=draws)
        except ValueError as exc:
            groups = {label: len({file.item.group for file in files if file.item.label == label}) for label in ("real", "fake")}
            raise ConfigError(
                f"cannot calibrate {kind.value}: {exc}. The scans hold {groups['real']} groups of real files and "
                f"{groups['fake']} of fakes; every part that is fitted apart needs both: hold more groups out"
            ) from exc
        entries.append(as_spec(fitted.calibration, files))
        lines += [f"### {kind.value}", "", *fitted.lines, "", f"Fitted: {fitted.calibration}", ""]
    fitted_anew = {"calibrations": tuple(entries), "calibration_is_inherited": False, "version": version or spec.version}
    checkpoint.save(path, arrays, spec.model_copy(update=fitted_anew))
    return lines


def quantiles(calibration: Calibration, scanned: Sequence[Scanned], label: str) -> tuple[float, ...]:
    """Every 5 % of the calibrated log odds of the files with this label, least to greatest; empty for no files."""
    odds = [file.log_odds(calibration) for file in scanned if file.item.label == label]
    return tuple(round(float(value), 4) for value in np.quantile(odds, np.linspace(0, 1, 21))) if odds else ()


def as_spec(calibration: Calibration, scanned: Sequence[Scanned]) -> model_spec.Calibration:
    """For the checkpoint, with the log odds of the files that it was fitted on."""
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
        quality_full=calibration.quality_full,
        quality_slope=calibration.quality_slope,
        real_log_odds=quantiles(calibration, scanned, "real"),
        fake_log_odds=quantiles(calibration, scanned, "fake"),
    )
