"""The report's plots, as PNG bytes. Blue is real, red is fake; nothing is shown by colour alone."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from sklearn.metrics import roc_curve

from training.evaluation.degrade import FAMILIES
from training.evaluation.judged import Judged
from training.evaluation.results import Calibration, Level
from training.evaluation.summary import parts
from training.figure_text import literal
from training.metrics import Bools, Floats, auc, class_weights, one_class, risk_coverage

REAL, FAKE, NEUTRAL = "#1d5fa8", "#c0392b", "#555555"
DPI = 100
SQUARE = (3.85, 3.8)
"""Inches: three abreast on the report's page."""
COLUMNS = 4


def _png(figure: Figure) -> bytes:
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=DPI)
    return stream.getvalue()


def _figure(width: float, height: float) -> Figure:
    return Figure(figsize=(width, height), layout="constrained")


def _axes(count: int, *, height: float = 2.3) -> tuple[Figure, list[Axes]]:
    """A grid of small multiples, at most four abreast; unused ones are hidden."""
    columns = min(COLUMNS, count)
    rows = -(-count // columns)
    figure = _figure(max(3.2, 2.7 * columns), height * rows + 0.3)
    axes = list(figure.subplots(rows, columns, squeeze=False).ravel())
    for spare in axes[count:]:
        spare.set_axis_off()
    return figure, axes[:count]


def _scored(judged: Sequence[Judged]) -> tuple[Bools, Floats]:
    scored = [item for item in judged if item.score is not None]
    return np.array([item.case.fake for item in scored], dtype=bool), np.array([item.score for item in scored], dtype=np.float64)


def roc(judged: Sequence[Judged]) -> bytes | None:
    """Fakes found over false alarms, for all files and for each source with both classes; None where there is none."""
    both = [(name, *_scored(part)) for name, part in parts(judged) if ": " not in name]
    both = [(name, fake_N, p_N) for name, fake_N, p_N in both if not one_class(fake_N)]
    if not both:
        return None
    figure = _figure(*SQUARE)
    axes = figure.subplots()
    for number, (name, fake_N, p_N) in enumerate(both):
        fpr_T, tpr_T, _ = roc_curve(fake_N, p_N)
        colour, width = (f"C{number - 1}", 1.2) if number else ("black", 2.2)
        axes.plot(fpr_T, tpr_T, label=f"{literal(name)}, AUC {auc(fake_N, p_N):.3f}", color=colour, linewidth=width)
    lines = axes.get_lines()
    labels = [str(line.get_label()) for line in lines]  # named one by one: else those that begin with "_" are left out
    axes.plot([0, 1], [0, 1], color=NEUTRAL, linewidth=0.8, linestyle=":")
    axes.set(xlabel="real files above the threshold", ylabel="fakes above the threshold", xlim=(0, 1), ylim=(0, 1.005))
    axes.legend(lines, labels, loc="lower right", fontsize=7)
    return _png(figure)


def reliability_diagram(found: Calibration) -> bytes:
    """Share of fakes over mean probability, bins of equal mass."""
    figure = _figure(*SQUARE)
    axes = figure.subplots()
    bins_B3 = np.array(found.bins)
    axes.plot([0, 1], [0, 1], color=NEUTRAL, linewidth=0.8, linestyle=":")
    axes.plot(bins_B3[:, 0], bins_B3[:, 1], marker="o", color="black", linewidth=1.2)
    axes.set(xlabel="mean score of the bin", ylabel="share of fakes in it (classes alike)", xlim=(0, 1), ylim=(0, 1))
    axes.set_title(f"ECE {found.ece:.3f}; by chance alone {found.ece_floor:.3f}", fontsize=9)
    return _png(figure)


def histograms(judged: Sequence[Judged]) -> bytes | None:
    """Scores of real files and fakes of each source, with the thresholds; None where nothing was scored."""
    sources = [(name, part) for name, part in parts(judged) if name != "all" and ": " not in name and len(_scored(part)[0])]
    if not sources:
        return None
    figure, grid = _axes(len(sources))
    bins = np.linspace(0, 1, 21).tolist()
    for axes, (name, part) in zip(grid, sources, strict=True):
        fake_N, p_N = _scored(part)
        axes.hist(p_N[~fake_N], bins=bins, color=REAL, alpha=0.6, label="real")
        axes.hist(p_N[fake_N], bins=bins, color=FAKE, alpha=0.6, hatch="//", label="fake")
        for limit in sorted({limit for item in part if item.thresholds for limit in item.thresholds}):
            axes.axvline(limit, color=NEUTRAL, linewidth=0.8, linestyle="--")
        axes.set_title(f"{literal(name)}: {(~fake_N).sum()} real, {fake_N.sum()} fake", fontsize=9)
        axes.set_xlim(0, 1)
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
        axes.tick_params(labelsize=7)
    figure.supxlabel("score, p(fake); dashed: thresholds", fontsize=8)
    figure.legend(*grid[0].get_legend_handles_labels(), loc="outside lower right", ncols=2, fontsize=8)
    return _png(figure)


def risk_over_coverage(judged: Sequence[Judged]) -> bytes | None:
    """Share of errors at p = 0.5 among the surest files; None where a class is missing."""
    fake_N, p_N = _scored(judged)
    if one_class(fake_N):
        return None
    figure = _figure(*SQUARE)
    axes = figure.subplots()
    wrong_N, weight_N = (p_N > 0.5) != fake_N, class_weights(fake_N)
    coverage_K, risk_K = risk_coverage(np.abs(p_N - 0.5), wrong_N, weight_N)
    axes.step(coverage_K, risk_K, where="post", color="black", label="surest by |p - 0.5|")
    width_N = np.array([np.nan if item.piw is None else item.piw for item in judged if item.score is not None])
    if not np.isnan(width_N).any():
        axes.step(
            *risk_coverage(-width_N, wrong_N, weight_N), where="post", color="C1", linestyle="--", label="surest by interval"
        )
    axes.axhline(float((weight_N * wrong_N).mean()), color=NEUTRAL, linewidth=0.8, linestyle=":", label="no choice")
    axes.set(xlabel="share of files answered (classes alike)", ylabel="share of wrong answers", xlim=(0, 1), ylim=(0, None))
    axes.legend(fontsize=8)
    return _png(figure)


def robustness(levels: Sequence[Level]) -> bytes | None:
    """AUC, false alarms, detection and uncertain share over each family's levels, the untouched files first."""
    clean = [level for level in levels if level.family == "none"]
    families = [family for family in FAMILIES if any(level.family == family.name for level in levels)]
    if not clean or not families:
        return None
    figure, grid = _axes(len(families), height=2.6)
    for axes, family in zip(grid, families, strict=True):
        points = [*clean, *(level for level in levels if level.family == family.name)]
        places = np.arange(len(points))
        low_P, high_P = np.array([point.interval for point in points]).T
        axes.fill_between(places, low_P, high_P, color="black", alpha=0.12, linewidth=0)
        axes.plot(places, [point.auc for point in points], color="black", marker="o", markersize=3, label="AUC (95 %)")
        alarms = [point.false_alarms.share if point.false_alarms else np.nan for point in points]
        found = [point.detected.share if point.detected else np.nan for point in points]
        axes.plot(places, alarms, color=REAL, marker="v", markersize=3, label="real called fake")
        axes.plot(places, found, color=FAKE, marker="^", markersize=3, linestyle="--", label="fakes called fake")
        shares = [point.uncertain.share for point in points]
        axes.plot(places, shares, color=NEUTRAL, marker="s", markersize=3, linestyle=":", label="uncertain")
        axes.set_xticks(places, ["as is", *(f"{point.level:g}" for point in points[1:])], fontsize=7)
        axes.set_title(f"{family.name} ({family.unit})", fontsize=9)
        axes.set_ylim(-0.03, 1.03)
        axes.tick_params(labelsize=7)
    handles, labels = grid[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, fontsize=8)
    return _png(figure)
