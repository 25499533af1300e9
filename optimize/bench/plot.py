"""Draws a document's charts side by side, into a PNG or SVG file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from optimize.bench.document import Chart
from worker.errors import ConfigError

SUFFIXES = (".png", ".svg")
DPI = 120
MARKERS = "os^Dv*Px"
COLUMNS = 2


def check_plot(path: Path) -> None:
    """Raises ConfigError before anything is measured for a kind of file that cannot be drawn."""
    if path.suffix.lower() not in SUFFIXES:
        raise ConfigError(f"{path}: a plot is a .png or .svg file")


def draw(charts: Sequence[Chart], title: str, path: Path) -> None:
    columns = min(COLUMNS, len(charts))
    rows = -(-len(charts) // columns)
    figure = Figure(figsize=(6.2 * columns, 3.9 * rows + 0.4), layout="constrained")
    figure.suptitle(title, fontsize=9)
    axes = list(figure.subplots(rows, columns, squeeze=False).ravel())
    for each, chart in zip(axes, charts, strict=False):
        _bars(each, chart) if chart.kind == "bars" else _lines(each, chart)
        each.set_title(chart.title, fontsize=10)
        each.set_xlabel(chart.y if chart.kind == "bars" else chart.x)
        each.set_ylabel(chart.x if chart.kind == "bars" else chart.y)
        each.grid(alpha=0.3)
        if any(name for name in chart.series):
            each.legend(fontsize=8)
    for spare in axes[len(charts) :]:
        spare.set_axis_off()
    figure.savefig(path, format=path.suffix.lower().removeprefix("."), dpi=DPI)


def _lines(axes: Axes, chart: Chart) -> None:
    for marker, (name, points) in zip(MARKERS * len(chart.series), chart.series.items(), strict=False):
        axes.plot([x for x, _ in points], [y for _, y in points], marker=marker, markersize=4, label=name or None)
    if chart.logarithmic:
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")


def _bars(axes: Axes, chart: Chart) -> None:
    """Horizontal, stacked; x of a point is the place of its label."""
    left = [0.0] * len(chart.labels)
    for name, points in chart.series.items():
        for number, (place, length) in enumerate(points):
            at = int(place)
            colour = f"C{list(chart.series).index(name)}"
            axes.barh(at, length, left=left[at], color=colour, label=name if number == 0 and name else None)
            left[at] += length
    axes.set_yticks(range(len(chart.labels)), chart.labels, fontsize=8)
    axes.invert_yaxis()
