"""Plots of sources of any name."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from training.evaluation import plots
from training.evaluation.judged import Judged
from training.figure_text import literal

NAMES = ("5$", r"$\frac$", "$a$ and $b", r"a\$b\$")


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_drawn_as_it_is(name: str) -> None:
    def drawn(text: str, *, parse_math: bool) -> np.ndarray:
        figure = Figure(figsize=(2, 0.5))
        canvas = FigureCanvasAgg(figure)
        figure.text(0, 0.5, text, parse_math=parse_math)
        canvas.draw()
        return np.asarray(canvas.buffer_rgba())

    assert (drawn(literal(name), parse_math=True) == drawn(name, parse_math=False)).all()


def test_sources_may_be_named_with_dollars(judged: Callable[..., Judged]) -> None:
    name = NAMES[1]
    files = [judged(label, logit, f"{label}.mp4", source=name) for label, logit in (("real", -1.0), ("fake", 1.0))]
    for draw in (plots.roc, plots.histograms):
        png = draw(files)
        assert png is not None
        assert png.startswith(b"\x89PNG")


def test_a_source_whose_name_begins_with_an_underscore_is_in_the_legend(judged: Callable[..., Judged]) -> None:
    def drawn(name: str) -> bytes | None:
        return plots.roc([judged(label, logit, f"{label}.mp4", source=name) for label, logit in (("real", -1.0), ("fake", 1.0))])

    assert drawn("_mine") != drawn("_yours")
