from __future__ import annotations

from pathlib import Path

from typer.testing import CliRunner

from optimize.bench.document import Document, Figure
from optimize.bench.machine import Machine
from optimize.cli import app

MACHINE = Machine(cpu="CPU", cores=2, commit="abc", veriframe="0.1.0")


def test_figures_become_rows(tmp_path: Path) -> None:
    figures = (Figure(name="speed", value=2.0, unit="x"), Figure(name="memory", value=3.0, unit="MiB"))
    path = tmp_path / "run.json"
    Document(bench="scan", command="veriframe bench scan", at="2026-11-28T00:00:00", machine=MACHINE, figures=figures).write(path)
    all_rows = CliRunner().invoke(app, ["history", str(path), "--head"])
    some_rows = CliRunner().invoke(app, ["history", str(path), "--only", "speed"])
    assert len(all_rows.output.splitlines()) == 4
    assert some_rows.output == "| 2026-11-28 | abc | CPU, 2 cores | `veriframe bench scan` | speed | 2 x |\n"


def test_other_files_are_a_usage_error(tmp_path: Path) -> None:
    (tmp_path / "other.json").write_text("{}")
    result = CliRunner().invoke(app, ["history", str(tmp_path / "other.json")])
    assert result.exit_code == 2
    assert "other.json" in result.output
