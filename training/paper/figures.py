"""Figures 3 to 5: losses and accuracies by epoch, ours beside what the paper gives."""

from __future__ import annotations

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from training.figure_text import literal
from training.paper.evaluate import SourceResult
from training.paper.tables import Epoch, Published

OURS, THEIRS = "#1f5fa8", "#b0561a"


def draw_stage(published: Published, ours: list[Epoch], path: Path) -> None:
    """Loss on the left (the paper's as printed in its table), accuracy on the right (the paper: the one number in its text)."""
    figure, (losses, accuracies) = _canvas(2)
    for lines, who, colour in ((published.epochs, "paper", THEIRS), (ours, "ours", OURS)):
        epochs = [line.epoch for line in lines]
        losses.plot(epochs, [line.train_loss for line in lines], "--o", color=colour, label=f"train, {who}", markersize=4)
        losses.plot(
            epochs, [line.validation_loss for line in lines], "-s", color=colour, label=f"validation, {who}", markersize=4
        )
    _labelled(losses, "loss (cross-entropy)", bottom=0)
    epochs = [line.epoch for line in ours]
    accuracies.plot(epochs, [line.train_accuracy for line in ours], "--o", color=OURS, label="train, ours", markersize=4)
    accuracies.plot(epochs, [line.validation_accuracy for line in ours], "-s", color=OURS, label="validation, ours", markersize=4)
    accuracies.axhline(published.accuracy, color=THEIRS, linestyle=":", label=f"validation, paper: {published.accuracy_said}")
    _labelled(accuracies, "accuracy", bottom=None)
    figure.suptitle(f"Figure {published.figure}: {published.figure_caption}")
    _save(figure, path)


def draw_sources(results: list[SourceResult], path: Path) -> None:
    """Accuracy on every test source, beside the paper's range."""
    figure, (axes,) = _canvas(1)
    ordered = sorted(results, key=lambda result: result.accuracy)
    axes.axvspan(0.65, 0.77, color=THEIRS, alpha=0.35, zorder=3, label="paper's test sources: 0.65 to 0.77")
    names = [f"{literal(result.source)} ({result.real} real, {result.fake} fake)" for result in ordered]
    axes.barh(names, [result.accuracy for result in ordered], color=OURS, height=0.6)
    for place, result in enumerate(ordered):
        axes.text(result.accuracy + 0.01, place, f"{result.accuracy:.2f}", va="center", fontsize=8)
    axes.set_xlim(0, 1.08)
    axes.set_xlabel("accuracy at 0.5, picture by picture")
    axes.legend(loc="lower center", bbox_to_anchor=(0.4, 1.0), fontsize=8)
    _save(figure, path)


def _canvas(columns: int) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(4.6 * columns + 0.6, 3.7), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, [figure.add_subplot(1, columns, place + 1) for place in range(columns)]


def _labelled(axes: Axes, what: str, bottom: float | None) -> None:
    axes.set_xlabel("epoch")
    axes.set_ylabel(what)
    if bottom is not None:
        axes.set_ylim(bottom=bottom)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.25)
    axes.legend(fontsize=8)


def _save(figure: Figure, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)
