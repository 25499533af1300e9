"""How good a calibration is on files that it never saw: tables by source, and the calibration error, as Markdown lines.

Axes: n files. Out of fold: the calibration never saw the file's group. Out of source: never its source.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from training.calibration import Clips, Fit, OutOfFold
from training.metrics import auc, calibration_error_floor, expected_calibration_error, interval_of_both, log_loss
from training.splits import Item


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """Quality of out-of-fold predictions."""

    n_real: int
    n_fake: int
    auc: float
    auc_interval: tuple[float, float]
    """95 % percentile interval over resampled groups; nan where a class has few."""
    coverage: float
    balanced_accuracy: float
    """Of the decided clips; nan if one class has none decided."""
    fpr: float
    """Share of all real clips called fake."""
    fnr: float
    """Share of all fake clips called real."""


def score(clips: Clips, found: OutOfFold, n_bootstrap: int = 1000) -> Scores:
    """AUC with an interval that resamples whole groups, coverage, and accuracy of the decided clips."""
    y_n = clips.labels_n
    called_fake, called_real = found.p_n > found.t_fake_n, found.p_n < found.t_real_n
    decided = called_fake | called_real
    recalls = [(called_fake if label else called_real)[decided & (y_n == label)] for label in (0, 1)]
    balanced = float(np.mean([r.mean() for r in recalls])) if all(len(r) for r in recalls) else float("nan")
    return Scores(
        n_real=int((y_n == 0).sum()),
        n_fake=int((y_n == 1).sum()),
        auc=auc(y_n == 1, found.p_n),
        auc_interval=interval_of_both(
            y_n == 1, clips.groups_n.tolist(), lambda rows: auc(y_n[rows] == 1, found.p_n[rows]), draws=n_bootstrap
        ),
        coverage=float(decided.mean()),
        balanced_accuracy=balanced,
        fpr=float(called_fake[y_n == 0].mean()),
        fnr=float(called_real[y_n == 1].mean()),
    )


def out_of_source(clips: Clips, sources: Sequence[str], fit: Fit) -> tuple[Clips, OutOfFold] | None:
    """Each source's files by a calibration of all the others, one table of them all; sources without which nothing can be fitted
    are left out. None where none can be, or what is left has one class."""
    source_n = np.asarray(sources)
    p_n, t_real_n, t_fake_n = (np.full(len(source_n), np.nan) for _ in range(3))
    for source in np.unique(source_n):
        own = source_n == source
        try:
            calibration = fit(clips.take(~own))
        except ValueError:
            continue
        pairs = zip(clips.logits_n[own], clips.qualities_n[own], strict=True)
        p_n[own] = [calibration.apply(float(logit), quality=float(quality)) for logit, quality in pairs]
        t_real_n[own], t_fake_n[own] = calibration.t_real, calibration.t_fake
    known = np.isfinite(p_n)
    if len(np.unique(clips.labels_n[known])) < 2:
        return None
    return clips.take(known), OutOfFold(p_n=p_n[known], t_real_n=t_real_n[known], t_fake_n=t_fake_n[known])


def calibration_line(name: str, clips: Clips, found: OutOfFold) -> str:
    """The calibration error, what chance alone would show, and the log loss."""
    fake_n = clips.labels_n == 1
    error = expected_calibration_error(fake_n, found.p_n)
    floor = calibration_error_floor(fake_n, found.p_n)
    return (
        f"ECE after calibration, {name}: {error:.3f} on {len(fake_n)} files, both classes alike (perfect calibration would show "
        f"{floor:.3f} by chance); log loss {log_loss(fake_n, found.p_n):.3f}"
    )


def judged(clips: Clips, found: OutOfFold, chosen: Sequence[bool], *, draws: int = 1000) -> Scores | None:
    """Scores of the chosen files; None where one class is missing."""
    rows = np.flatnonzero(chosen)
    if len(np.unique(clips.labels_n[rows])) < 2:
        return None
    part = OutOfFold(p_n=found.p_n[rows], t_real_n=found.t_real_n[rows], t_fake_n=found.t_fake_n[rows])
    return score(clips.take(rows), part, n_bootstrap=draws)


def sources_table(items: Sequence[Item], clips: Clips, found: OutOfFold, *, draws: int = 1000) -> list[str]:
    """Markdown rows: each source (FF++ also by manipulation) with sizes, AUC, coverage, accuracy and errors.

    ``draws``: groups are drawn again so often for the intervals.
    """
    rows = [
        "| source | real | fake | AUC (95 % over groups) | decided | balanced accuracy | real called fake | fake called real |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, chosen in _parts(items):
        n_real = sum(c and item.label == "real" for c, item in zip(chosen, items, strict=True))
        n_fake = sum(chosen) - n_real
        mask = np.array(chosen)
        real = mask & np.array([item.label == "real" for item in items])
        fake = mask & ~real
        called_fake, called_real = found.p_n > found.t_fake_n, found.p_n < found.t_real_n
        decided = (called_fake | called_real)[mask].mean()
        alarms = f"{called_fake[real].mean():.2f}" if real.any() else "-"
        misses = f"{called_real[fake].mean():.2f}" if fake.any() else "-"
        both = judged(clips, found, chosen, draws=draws)
        ranks = _ranks(both) if both else "-"
        accuracy = f"{both.balanced_accuracy:.3f}" if both and not np.isnan(both.balanced_accuracy) else "-"
        rows.append(f"| {name} | {n_real} | {n_fake} | {ranks} | {decided:.2f} | {accuracy} | {alarms} | {misses} |")
    return rows


def _ranks(found: Scores) -> str:
    low, high = found.auc_interval
    return f"{found.auc:.3f}" if np.isnan(low) else f"{found.auc:.3f} ({low:.2f}-{high:.2f})"


def _parts(items: Sequence[Item]) -> list[tuple[str, list[bool]]]:
    parts: list[tuple[str, list[bool]]] = [("all", [True] * len(items))]
    for source in sorted({item.source for item in items}):
        split = next(item.split for item in items if item.source == source)
        parts.append((f"{source} ({split})", [item.source == source for item in items]))
    for kind in sorted({item.manipulation for item in items if item.source == "ffpp" and item.label == "fake"}):
        chosen = [item.source == "ffpp" and (item.label == "real" or item.manipulation == kind) for item in items]
        parts.append((f"ffpp: {kind}", chosen))
    return parts
