"""``veriframe tune`` with real training, one trial of two steps."""

from __future__ import annotations

import csv
from pathlib import Path

from typer.testing import CliRunner

from training.commands.tune import app
from training.settings import read_fit

SEARCH = """
recipe:
  network: {backbone: test_efficientnet, hidden_dim: 16, num_steps: 2}
  stages: [{until: 1, size: 32, pairs: 2}]
  minutes: 1
  threads: 1
steps: 2
validations: 2
sources: [ffpp]
space: {lr: {low: 1.0e-4, high: 1.0e-3, log: true}}
"""


def test_a_trial_is_trained_judged_on_its_way_and_written_down(cache: Path, tmp_path: Path) -> None:
    config = tmp_path / "small.yaml"
    config.write_text(SEARCH)
    arguments = [str(config), "--trials", "1", "--run", str(tmp_path / "run"), "--cache", str(cache)]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    trial = tmp_path / "run" / "trials" / "0000"
    with (trial / "validation.csv").open() as file:
        assert [row["step"] for row in csv.DictReader(file) if row["source"] == "ffpp AUC"] == ["1", "2"]
    assert "validation ffpp AUC" in (trial / "log.txt").read_text()
    assert "| 0 | complete | 2 |" in (tmp_path / "run" / "report.md").read_text()
    best = read_fit(tmp_path / "run" / "best.yaml")
    assert 1e-4 <= best.lr <= 1e-3
    assert best.steps is None
