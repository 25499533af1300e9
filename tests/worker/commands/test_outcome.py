"""How a command ends that could not do its work."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
import typer

from tests.worker.exhaustion import no_more_files, no_room_for_the_network
from worker.commands.outcome import exit_codes
from worker.stdio import INTERNAL


def told(capsys: pytest.CaptureFixture[str]) -> str:
    out, err = capsys.readouterr()
    assert (out, len(err.splitlines())) == ("", 1)
    return err


def test_what_a_process_has_no_more_of_is_said_in_a_sentence(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    with pytest.raises(typer.Exit) as ended, exit_codes(), no_more_files():
        (tmp_path / "a").open("w")
    assert ended.value.exit_code == INTERNAL
    assert "may not have more open files (ulimit -n)" in told(capsys)
    threads, memory = RuntimeError("can't start new thread"), MemoryError("of numpy")
    for error, limits in ((threads, "ulimit -u, pids.max"), (memory, "ulimit -v"), (no_room_for_the_network(), "ulimit -v")):
        with pytest.raises(typer.Exit) as ended, exit_codes():
            raise error
        assert ended.value.exit_code == INTERNAL
        assert limits in told(capsys)
    assert caplog.text == ""


def test_a_bug_is_told_with_its_place(capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(typer.Exit) as ended, exit_codes():
        threading.Lock().release()
    assert ended.value.exit_code == INTERNAL
    assert "internal error: RuntimeError: release unlocked lock" in told(capsys)
    assert "Traceback" in caplog.text
