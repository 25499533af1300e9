from __future__ import annotations

import shlex
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from optimize.bench.start import Start, measure, start_figures
from worker.commands.scan import app
from worker.demo import FOLDER
from worker.errors import ConfigError


def test_a_scan_is_started_in_a_process_of_its_own_without_torch() -> None:
    runs, torch = measure(FOLDER / "no_face.mp4", rounds=1)
    assert [run.wall_s > 0 and run.cpu_s > 0 for run in runs] == [True]
    assert not torch


def test_what_cannot_be_scanned_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a scan says of it, said by a program that starts at once."""
    (tmp_path / "clip.mp4").write_bytes(b"no video")
    scanned = CliRunner().invoke(app, [str(tmp_path / "clip.mp4"), "--format", "jsonl"])
    program = tmp_path / "python"
    program.write_text(f"#!/bin/sh\nprintf %s {shlex.quote(scanned.stdout)}\nexit {scanned.exit_code}\n")
    program.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(program))
    with pytest.raises(ConfigError, match=r"clip\.mp4 was not scanned: not a video or picture that is read here$"):
        measure(tmp_path / "clip.mp4", rounds=1)


@pytest.mark.parametrize("name", ["", "nowhere.mp4"])
def test_only_a_file_is_started_with(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        measure(tmp_path / name, rounds=1)


def test_figures_are_medians() -> None:
    runs = [Start(wall_s=wall_s, cpu_s=1.0) for wall_s in (1.0, 9.0, 2.0)]
    figures = {figure.name: figure for figure in start_figures(runs, torch=False, media_s=10)}
    assert figures["from shell to verdict, warm caches"].value == 2.0
    assert (figures["torch imported"].value, figures["torch imported"].note) == (0.0, "no")
