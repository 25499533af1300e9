"""Who may work in a run folder, with real locks: what holds one in the same process holds it against others too."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from training.folder_lock import alone_in, in_turn, locked, sharing
from worker.errors import ConfigError

ROOT = Path(__file__).parents[2]
HOLDING = """
import multiprocessing, os, sys, time
from pathlib import Path
from training.folder_lock import alone_in

def load():
    print(os.getpid(), flush=True)
    time.sleep(60)

with alone_in(Path(sys.argv[1]), print):
    multiprocessing.get_context("fork").Process(target=load).start()
    time.sleep(60)
"""


def test_one_run_at_a_time_has_a_folder_and_says_so(tmp_path: Path) -> None:
    notes: list[str] = []
    with alone_in(tmp_path, notes.append), pytest.raises(ConfigError, match=f"{tmp_path}: another process .* --run"):
        alone_in(tmp_path, notes.append).__enter__()
    with alone_in(tmp_path, notes.append):
        pass
    assert not notes


def test_a_folder_that_is_removed_meanwhile_hides_no_error(tmp_path: Path) -> None:
    held = alone_in(tmp_path / "run", print)
    held.__enter__()
    shutil.rmtree(tmp_path / "run")
    assert not held.__exit__(ZeroDivisionError, ZeroDivisionError(), None)


def test_several_share_a_folder_that_nobody_has_alone(tmp_path: Path) -> None:
    with sharing(tmp_path, print) as first, sharing(tmp_path, print) as second:
        assert (first, second) == (True, False)
        with pytest.raises(ConfigError, match="another process"):
            alone_in(tmp_path, print).__enter__()
    with alone_in(tmp_path, print), pytest.raises(ConfigError, match="another process"):
        sharing(tmp_path, print).__enter__()


def test_a_killed_process_lets_go_at_once_though_one_that_it_forked_lives(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLDING, str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as holding:
        assert holding.stdout is not None
        loader = int(holding.stdout.readline())
        with pytest.raises(ConfigError, match="another process"):
            alone_in(tmp_path, print).__enter__()
        holding.kill()
        holding.wait(timeout=60)
        with alone_in(tmp_path, print):
            os.kill(loader, signal.SIGKILL)  # it lived


def test_without_locks_it_goes_on_and_says_so_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(handle: int, how: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", none)
    notes: list[str] = []
    with alone_in(tmp_path, notes.append), in_turn(tmp_path), locked(tmp_path / "trial") as is_ours:
        assert is_ours
    with sharing(tmp_path, notes.append) as is_first:
        assert not is_first, "nobody knows: a live study is not to be taken for an empty one"
    assert [note.split(" has no locks")[0] for note in notes] == [f"{tmp_path}: its file system"] * 2


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"file/run cannot be written to: Not a directory; .* --run"):
        alone_in(tmp_path / "file" / "run", print).__enter__()
