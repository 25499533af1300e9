from __future__ import annotations

from pathlib import Path

import pytest

from optimize.bench.document import Chart
from optimize.bench.plot import check_plot, draw
from worker.errors import ConfigError

LINES = Chart(title="growth", kind="lines", x="size", y="s", series={"ours": [(1, 1.0), (2, 2.0)]}, logarithmic=True)
BARS = Chart(
    title="stages",
    kind="bars",
    x="",
    y="s",
    labels=["ours", "reference"],
    series={"decode": [(0, 1.0), (1, 2.0)], "": [(0, 1.0)]},
)


@pytest.mark.parametrize(("name", "start"), [("plot.png", b"\x89PNG"), ("plot.svg", b"<?xml")])
def test_charts_are_drawn(tmp_path: Path, name: str, start: bytes) -> None:
    draw([LINES, BARS, LINES], "bench", tmp_path / name)
    drawn = (tmp_path / name).read_bytes()
    assert drawn.startswith(start)
    assert len(drawn) > 5000


def test_other_kinds_of_files_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"\.png or \.svg"):
        check_plot(Path("plot.gif"))
