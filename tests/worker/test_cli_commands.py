"""Commands: ours, and those of other packages by entry points, loaded when they are invoked and never before."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from worker.cli import ADDED, OWN, app


def veriframe(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A distribution that gives commands of its own: one that works, one that cannot be imported, one named like ours."""
    info = tmp_path / "extra-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: extra\nVersion: 1.0\n")
    entries = ("greet = extra_greeting:app", "lift = extra_heavy:app", "paint = extra_heavy:app [art]", "scan = extra_heavy:app")
    (info / "entry_points.txt").write_text("\n".join(("[veriframe.commands]", *entries)))
    (tmp_path / "extra_greeting.py").write_text(
        "import typer\n\napp = typer.Typer()\n\n@app.command()\ndef go(name: str) -> None:\n    print('hello', name)\n"
    )
    (tmp_path / "extra_heavy.py").write_text("import no_such_library\n")
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.usefixtures("commands")
def test_commands_of_entry_points_are_loaded_only_when_invoked() -> None:
    shown = veriframe("--help").stdout
    assert "greet" in shown
    assert "lift" in shown
    assert "extra_greeting" not in sys.modules
    assert veriframe("scan", "--help").exit_code == 0  # ours, not the one of that name
    assert veriframe("greet", "Ada").stdout == "hello Ada\n"


def test_help_says_what_each_command_of_the_project_is_for() -> None:
    declared = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text("utf-8"))["project"]["entry-points"]
    shown = veriframe("--help").stdout
    assert set(ADDED) == set(declared["veriframe.commands"])
    assert not [line for line in shown.splitlines() if "From training" in line or "From optimize" in line]
    assert shown.index("Commands") < shown.index("Training") < shown.index("Engines and measurements")


@pytest.mark.usefixtures("commands")
@pytest.mark.parametrize(("name", "extra"), [("lift", "train"), ("paint", "art")])
def test_a_command_that_cannot_be_imported_says_what_to_install(name: str, extra: str) -> None:
    result = veriframe(name)
    assert result.exit_code == 2
    assert "no_such_library is not installed" in result.stderr
    assert f'pip install "SOURCE[{extra}]"' in result.stderr


@pytest.mark.parametrize("name", OWN)
def test_help_shows_flags_of_ours_alone(name: str) -> None:
    """Typer would offer to install its completion, which does not know our commands."""
    shown = veriframe(name, "--help")
    assert shown.exit_code == 0
    assert "completion" not in shown.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ["scan", "in", "--out", ""],
        ["scan", "in", "--out="],
        ["scan", "in", "--model", ""],
        ["doctor", "--config", ""],
        ["calibrate", ""],
        ["enqueue", "--from", "list", "--from", ""],
        ["feedback", "export", "--out", ""],
        ["train", "", "--run", "run"],
    ],
)
def test_an_empty_name_of_a_file_or_folder_is_not_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    result = veriframe(*arguments)
    assert result.exit_code == 2
    assert "it is empty, and names no file or folder" in " ".join(result.stderr.replace("│", " ").split())
    assert not list(tmp_path.iterdir())
