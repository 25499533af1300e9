"""How fast a run goes is said on its way, and whether the crops starve it."""

from __future__ import annotations

import io
import re
from pathlib import Path

from rich.console import Console

from training.loop import fit_network
from training.pace import Pace
from training.settings import Fit, Network, Stage


def test_the_pace_is_since_the_last_line() -> None:
    pace = Pace()
    pace.add(crops=24, seconds=1.5, waited_s=0.0)
    pace.add(crops=24, seconds=2.5, waited_s=1.0)
    assert pace.told() == "12 crops/s, 25% of the time waiting for them"
    pace.add(crops=8, seconds=2.0, waited_s=0.1)
    assert pace.told() == "4 crops/s, 5% of the time waiting for them"
    pace.add(crops=6172, seconds=4.0, waited_s=0.0)
    assert pace.told().startswith("1540 crops/s, ")


def test_a_run_says_how_fast_it_goes(cache: Path, tmp_path: Path) -> None:
    network = Network(backbone="test_efficientnet", hidden_dim=16, num_steps=2)
    fit = Fit(network=network, stages=(Stage(until=1, size=32, pairs=4),), steps=2, threads=1)
    console = Console(file=io.StringIO(), record=True, width=80)
    run = fit_network(fit, cache, tmp_path, console=console, log_every=1)
    found = re.findall(r"accuracy [\d.]+, ([\d.]+) crops/s, (\d+)% of the time waiting for them", console.export_text())
    assert len(found) == 2
    seconds = sum(8 / float(speed) for speed, _ in found)
    assert abs(seconds - run.trained_s) < 0.1 * run.trained_s
    assert int(found[0][1]) > 0, "the first batch comes from a process that has yet to start"
