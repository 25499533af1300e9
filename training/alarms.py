"""How often real video is called fake, as it is and compressed again, at thresholds that never saw the clip's group.

Clips are those of the committed split, or of a cache's own, that were not trained on. A clip and its copies are judged by the
score that a scan would give with a calibration and thresholds that were fitted on the scans of all other groups' clips as they
are; what else makes a verdict uncertain (deviation, quality, coverage) is left out.
Each group is left out by itself: cut into few folds, a few dozen clips give another figure with every cut. Fakes are judged as
they are, by the same thresholds: few false alarms are worth nothing where nothing is found.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from training.calibration import RULE, Target
from training.evaluation.cases import Case
from training.evaluation.degrade import FAMILIES
from training.evaluation.judged import judge
from training.evaluation.replay import replay
from training.evaluation.robustness import Key, Trial
from training.metrics import Bools, Proportion, clustered_clopper_pearson
from training.scans import Scanned, fit_kind, fit_videos, votes_of
from training.splits import Item
from worker.errors import ConfigError
from worker.report import Report
from worker.types import Label, MediaKind, Verdict
from worker.verdict.calibrate import Calibration
from worker.verdict.decide import Policy

COPIES = (("h264", 23.0), ("h264", 28.0), ("h264", 35.0), ("rows", 360.0))
"""Family and level (``training.evaluation.degrade``)."""
NAMES = {("h264", 23.0): "CRF 23", ("h264", 28.0): "CRF 28", ("h264", 35.0): "CRF 35", ("rows", 360.0): "360 rows, CRF 23"}
AS_IT_IS = "as it is"


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A clip or a copy of it, with the scan's report; ``copy`` is one of ``NAMES`` or ``AS_IT_IS``."""

    scanned: Scanned
    report: Report
    copy: str


def trials(reports: Iterable[tuple[Item, Report]], data: Path) -> list[Trial]:
    """Every copy of every real video that got a verdict as it is."""
    families = {family.name: family for family in FAMILIES}
    real = [
        judge(Case(name=item.path, path=data / item.path, label="real", source=item.source, group=item.group), report)
        for item, report in reports
        if item.label == "real" and item.is_video and votes_of(report, item) is not None
    ]
    return [Trial(item=item, family=families[name], level=level) for name, level in COPIES for item in real]


def seen_of(reports: Mapping[str, tuple[Item, Report]], copies: Mapping[Key, Report]) -> tuple[list[Seen], int]:
    """Clips and copies that got a score, and how many copies got none (no usable face any more, or failed); ``reports`` by the
    file's name."""
    found = [
        Seen(scanned=scanned, report=report, copy=AS_IT_IS)
        for item, report in reports.values()
        if item.is_video and (scanned := votes_of(report, item)) is not None
    ]
    lost = 0
    for (family, level, name), report in copies.items():
        scanned = votes_of(report, reports[name][0])
        if scanned is None:
            lost += 1
        else:
            found.append(Seen(scanned=scanned, report=report, copy=NAMES[family, level]))
    return found, lost


def report_lines(seen: Sequence[Seen], target: Target, degraded: Sequence[Scanned] = ()) -> list[str]:
    """Markdown: false alarms by copy, and what is found and left open at the same thresholds. ``degraded``: as
    ``training.scans.calibrate_checkpoint`` takes them.

    Raises ConfigError where the clips do not allow a calibration.
    """
    own = [one.scanned for one in seen if one.copy == AS_IT_IS]
    try:
        like = fit_kind(MediaKind.VIDEO, own, target, draws=10).calibration
        groups = {file.item.group for file in own}
        poor = [file for file in degraded if file.kind is MediaKind.VIDEO]
        fitted = {group: fit_videos([file for file in own if file.item.group != group], like, target, poor) for group in groups}
    except ValueError as exc:
        raise ConfigError(f"cannot calibrate video: {exc}") from exc
    verdicts = [_verdict(one.report, fitted[one.scanned.item.group]) for one in seen]
    called_N = np.array([verdict is Label.FAKE for verdict in verdicts])
    uncertain_N = np.array([verdict is Label.UNCERTAIN for verdict in verdicts])
    return [*_alarms(seen, called_N, uncertain_N), "", *_found(seen, called_N, uncertain_N)]


def _verdict(report: Report, calibration: Calibration) -> Label:
    """By a scan's score alone. Raises ValueError for a report without one."""
    found = replay(report, Policy(rule=RULE, calibrations=(calibration,)))
    if not isinstance(found, Verdict):
        raise ValueError("no verdict to judge")
    return Label.FAKE if found.score > calibration.t_fake else Label.REAL if found.score < calibration.t_real else Label.UNCERTAIN


def _alarms(seen: Sequence[Seen], called_N: Bools, uncertain_N: Bools) -> list[str]:
    real_N = np.array([one.scanned.item.label == "real" for one in seen])
    copy_N = np.array([one.copy for one in seen])
    ffpp_N = np.array([one.scanned.item.source == "ffpp" for one in seen])
    lines = [
        "| real video | clips | groups | called fake (95 %) | one-sided 95 % bound | of FF++ | of other sources | uncertain |",
        "|---|---|---|---|---|---|---|---|",
    ]
    parts = {name: real_N & (copy_N == name) for name in (AS_IT_IS, *NAMES.values())}
    for name, mask in (parts | {"all of these": real_N}).items():
        alarms = _share(seen, called_N, mask)
        if alarms is None:
            continue
        lines.append(
            f"| {name} | {alarms.total} | {alarms.groups} | {_told(alarms)} | {alarms.upper:.3f}"
            f" | {_counted(called_N, mask & ffpp_N)} | {_counted(called_N, mask & ~ffpp_N)} | {uncertain_N[mask].mean():.2f} |"
        )
    return lines


def _found(seen: Sequence[Seen], called_N: Bools, uncertain_N: Bools) -> list[str]:
    """On FF++; where none of it was scanned, on all clips."""
    as_they_are_N = np.array([one.copy == AS_IT_IS for one in seen])
    ffpp_N = np.array([one.scanned.item.source == "ffpp" for one in seen])
    own_N = as_they_are_N & ffpp_N if ffpp_N.any() else as_they_are_N
    held_out = "Held-out FF++" if ffpp_N.any() else "Held-out"
    fake_N = np.array([one.scanned.item.label == "fake" for one in seen])
    told = {
        "fakes called fake": _share(seen, called_N, own_N & fake_N),
        "clips, real and fake, uncertain": _share(seen, uncertain_N, own_N),
    }
    return [f"{held_out} {name}, as they are: {_told(share)}." for name, share in told.items() if share is not None]


def _share(seen: Sequence[Seen], passed_N: Bools, mask: Bools) -> Proportion | None:
    if not mask.any():
        return None
    groups = [one.scanned.item.group for one, its in zip(seen, mask, strict=True) if its]
    return clustered_clopper_pearson(passed_N[mask], groups)


def _told(share: Proportion) -> str:
    return f"{share.count} of {share.total}: {share.share:.3f} ({share.low:.3f}-{share.high:.3f})"


def _counted(passed_N: Bools, mask: Bools) -> str:
    return f"{int(passed_N[mask].sum())} of {int(mask.sum())}"
