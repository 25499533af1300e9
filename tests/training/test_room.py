"""Whether a file can be written, before the work whose end it is."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from training.commands import adapt, data, evaluate, heads, release
from training.room import refuse_unwritable
from worker.errors import ConfigError


def test_a_file_that_can_be_written_is_left_as_it_is(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.write_text("all of it")
    refuse_unwritable(kept)
    refuse_unwritable(kept, is_replaced=False)
    refuse_unwritable(tmp_path / "new" / "folder" / "file")
    refuse_unwritable(Path("/dev/null"), is_replaced=False)
    assert ([path.name for path in tmp_path.iterdir()], kept.read_text()) == (["kept"], "all of it")


@pytest.mark.parametrize(("name", "told"), [("", "is a folder: name a file"), ("file/out", "cannot be written: Not a directory")])
def test_one_that_cannot_be_is_named(name: str, told: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=f"^{tmp_path / name} {told}"):
        refuse_unwritable(tmp_path / name)


@pytest.mark.parametrize(
    ("app", "words"),
    [
        (adapt.app, ["wrong.csv", "--model", "m.safetensors", "--out", "OUT", "--run", "run"]),
        (data.app, ["sheet", "--out", "OUT"]),
        (heads.app, ["--run", "OUT"]),
        (evaluate.app, ["empty", "--out", "OUT"]),
        (release.app, ["alarms", "empty", "empty", "--out", "OUT"]),
        (release.app, ["calibrate", "OUT", "empty"]),
        (release.app, ["calibrate", "m.safetensors", "empty", "--card", "OUT"]),
        (release.app, ["degrade", "OUT"]),
        (release.app, ["export", "OUT", "--run", "run"]),
    ],
)
def test_commands_look_before_anything_else(
    app: typer.Typer, words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before their inputs, of which none is there."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").touch()
    result = CliRunner().invoke(app, ["empty/out" if word == "OUT" else word for word in words])
    assert result.exit_code == 2, result.output
    assert "cannot be written: Not a directory" in result.stderr
