"""What ``veriframe scan`` says where there is nothing to scan."""

from __future__ import annotations

from pathlib import Path

from typer.testing import CliRunner

from tests.worker.fake_scanner import build
from worker.cli import app


def test_a_folder_that_reports_are_written_to_is_named_where_that_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_text("real")
    folder = str(tmp_path)
    into = CliRunner().invoke(app, ["scan", folder, "--out", folder], obj=build)
    assert into.exit_code == 2
    assert "no files there outside --out" in into.stderr
    without = CliRunner().invoke(app, ["scan", folder, "--exclude", "*"], obj=build)
    assert without.exit_code == 2
    assert "--out" not in without.stderr
