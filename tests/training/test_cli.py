from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from training.cli import app


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["fit", "--config", "none.yaml"], "none.yaml"),
        (["files", "everything"], "no such part of the split"),
        (["calibrate", "none.safetensors", __file__], "none.safetensors"),
        (["calibrate", "none.safetensors", "none.jsonl"], "none.jsonl"),
        (["export-checkpoint", "out.safetensors", "--run", "nowhere"], "holds no run"),
    ],
)
def test_mistakes_are_told_without_a_traceback(arguments: list[str], told: str) -> None:
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2, result.output
    assert told in " ".join(result.stderr.split())
    assert "Traceback" not in result.stderr


def test_without_torch_the_extra_is_named(tmp_path: Path) -> None:
    code = "import sys; sys.modules['torch'] = None; from training.cli import app; app(['fit'])"
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False, cwd=root)
    assert done.returncode == 2
    assert "torch is not installed" in done.stderr
    assert "[train]" in done.stderr
    assert "Traceback" not in done.stderr


def test_help_offers_no_shell_completion() -> None:
    assert "completion" not in CliRunner().invoke(app, ["--help"]).output
