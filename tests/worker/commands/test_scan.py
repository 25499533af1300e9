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


def test_links_in_a_folder_are_said_to_be_passed_over_and_how_they_are_not(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_text("real")
    (tmp_path / "links").mkdir()
    link = tmp_path / "links" / "b.mp4"
    link.symlink_to(tmp_path / "a.mp4")
    inside = CliRunner().invoke(app, ["scan", str(tmp_path / "links")], obj=build)
    assert inside.exit_code == 2
    assert "links inside a folder are passed over: name them outright" in " ".join(inside.stderr.split())
    outright = CliRunner().invoke(app, ["scan", str(link)], obj=build)
    assert outright.exit_code == 0
    assert "a.mp4" in outright.stdout
