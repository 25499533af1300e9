from __future__ import annotations

import pytest
from typer.testing import CliRunner

from training.commands.release import app


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["calibrate", "none.safetensors", __file__], "none.safetensors"),
        (["calibrate", "none.safetensors", "none.jsonl"], "none.jsonl"),
        (["alarms", "none.safetensors", __file__], "none.safetensors"),
        (["calibrate", __file__, __file__, "--cache", "nowhere"], "nowhere has no split of its own"),
        (["degrade", "copies", "--cache", "nowhere"], "nowhere has no split of its own"),
        (["alarms", __file__, __file__, "--cache", "nowhere"], "nowhere has no split of its own"),
        (["export", "out.safetensors", "--run", "nowhere"], "holds no run"),
    ],
)
def test_mistakes_are_told_without_a_traceback(arguments: list[str], told: str) -> None:
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2, result.output
    assert told in " ".join(result.stderr.split())
    assert "Traceback" not in result.stderr


def test_help_shows_both_commands() -> None:
    text = CliRunner().invoke(app, ["--help"]).output
    assert "export" in text
    assert "calibrate" in text
    assert "completion" not in text
