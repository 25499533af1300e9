"""``make chaos ARGS="--watch-metrics"``: what is looked for on the dashboards, and, among the longer checks, the drill itself."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.chaos import parts
from tests.chaos.plan import Plan
from tests.chaos.spectator import Sight
from tests.deploy.monitoring.expressions import Expression
from tests.deploy.monitoring.tools import tool

SIGHTS = [
    *(one for one in vars(parts).values() if isinstance(one, Sight)),
    parts.all_ready(4),
    parts.fewer_ready(4),
    parts.oldest(parts.some, ""),
]


@pytest.mark.parametrize("sight", SIGHTS, ids=lambda sight: sight.words or sight.panel)
def test_there_is_a_panel_for_every_sight(sight: Sight) -> None:
    assert sight.expressions
    assert all(Expression(place=sight.panel, text=one).metrics for one in sight.expressions)


def test_a_panel_that_is_not_there_is_noticed() -> None:
    with pytest.raises(ValueError, match="not enough values"):
        _ = Sight(board="overview", panel="No such", holds=parts.some, words="").expressions


def test_four_times_as_much_waits_as_the_workers_can_hold() -> None:
    assert Plan(workers=2, watched=True).open_scans == 4 * 4


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_each_part_is_killed_and_the_dashboards_show_it(tmp_path: Path) -> None:
    tool("prometheus")
    done = subprocess.run(
        [sys.executable, "-m", "tests.chaos", "drive", "--short", "--watch-metrics", "--scans", "60"],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "OMP_NUM_THREADS": "1", "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "NOT SHOWN" not in done.stdout
    assert "lost = 0" in done.stdout
