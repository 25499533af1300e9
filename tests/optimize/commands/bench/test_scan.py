from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from optimize.cli import app
from optimize.commands.bench.outcome import told_command
from worker.demo import FOLDER


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--plot", "plot.gif"], ".png or .svg"),
        (["--json", "nowhere/at/all.json"], "no such folder"),
        (["--backend", "abacus"], "backend"),
    ],
)
def test_what_cannot_be_done_is_refused_at_once(arguments: list[str], message: str) -> None:
    result = CliRunner().invoke(app, ["scan", *arguments])
    assert result.exit_code == 2
    assert message in result.output


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("scan /home/me/videos --json /tmp/a.json --clips 3", "scan videos --clips 3"),
        ("scan videos --json=/tmp/a.json --plot=a.svg --clips=3", "scan videos --clips=3"),
        ("memory --clip=/home/me/own.mp4", "memory --clip=own.mp4"),
    ],
)
def test_commands_are_told_without_the_files_they_write_and_where_they_lie(words: str, told: str) -> None:
    assert told_command(words.split()) == f"veriframe {told}"


def test_a_bench_that_is_stopped_closes_what_it_opened(tmp_path: Path) -> None:
    told = """
import os, signal, tempfile
from optimize.commands.bench.outcome import bench_exit_codes
with bench_exit_codes(), tempfile.TemporaryDirectory(dir=os.environ["FOLDER"]):
    os.kill(os.getpid(), signal.SIGTERM)
"""
    done = subprocess.run([sys.executable, "-c", told], env=os.environ | {"FOLDER": str(tmp_path)}, timeout=60, check=False)
    assert done.returncode == 143
    assert list(tmp_path.iterdir()) == []


@pytest.mark.soak
def test_the_demo_clips_are_compared_with_reference_b(tmp_path: Path) -> None:
    out, plot = tmp_path / "scan.json", tmp_path / "scan.svg"
    options = ["--clips", "1", "--frames", "2", "--repeat", "1", "--json", str(out), "--plot", str(plot)]
    result = CliRunner().invoke(app, ["scan", str(FOLDER), *options])
    assert result.exit_code == 0, result.output
    names = {figure["name"] for figure in json.loads(out.read_text())["figures"]}
    assert {"auto: times as fast as reference b", "auto: time over the floor"} <= names
    assert plot.stat().st_size > 5000
