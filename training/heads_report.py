"""The comparison of heads as a Markdown table and risk-coverage curves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from training.heads import COVERAGES

TITLES = {
    "heldout": "Held-out people and pictures of the training sources",
    "leftout": "Sources that were left out",
    "cost": "Cost",
}


def markdown(results: Sequence[dict[str, Any]], own: dict[str, dict[str, float]]) -> str:
    """A table for each part: a line for each number, a column for each head, mean +- standard deviation over the seeds.

    ``own``: what was measured of the checkpoint's own head, trained together with the backbone; the last column.
    """
    heads = [*results[0]["metrics"], "checkpoint's own"]
    tau = _spread([result["tau"] for result in results])
    lines = [f"{len(results)} seeds; CARD's tau {tau}, fitted on the held-out crops: its log loss and ECE on these are flattered"]
    for part, title in TITLES.items():
        of_head = {head: [result["metrics"][head][part] for result in results] for head in heads[:-1]} | {heads[-1]: [own[part]]}
        names = list(dict.fromkeys(name for head in heads for name in of_head[head][0]))
        lines += ["", f"### {title}", "", f"| | {' | '.join(heads)} |", "|---" * (len(heads) + 1) + "|"]
        for name in names:
            cells = [_spread([found[name] for found in of_head[head] if name in found]) for head in heads]
            lines.append(f"| {_cell(name)} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _spread(values: Sequence[float]) -> str:
    if not values:
        return "-"
    mean, deviation = float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
    if mean >= 1000:
        return f"{mean:,.0f}"
    return f"{mean:.3f} ± {deviation:.3f}" if len(values) > 1 else f"{mean:.3f}"


def plot(results: Sequence[dict[str, Any]], out: Path) -> None:
    """Risk over coverage on the left-out sources, means over the seeds: every head's rules in a panel of its own."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    heads = list(results[0]["curves"])
    figure = Figure(figsize=(4 * len(heads), 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(heads), sharey=True, squeeze=False)[0]
    for axis, head in zip(panels, heads, strict=True):
        for rule in results[0]["curves"][head]:
            axis.plot(COVERAGES, np.mean([result["curves"][head][rule] for result in results], axis=0), label=rule)
        axis.set(title=head, xlabel="coverage", xlim=(0, 1))
        axis.legend(fontsize=8)
    panels[0].set_ylabel("risk (share of wrong answers)")
    figure.savefig(out, dpi=120)
