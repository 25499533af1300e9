"""The parent's hold on its scanning process."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.worker.queue.harness import BUILD, REPOSITORY, STREAMS, until
from worker.queue.assemble import told_settings
from worker.queue.warm import ChildDied, WarmChild
from worker.settings import Settings


@pytest.fixture
def child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[WarmChild]:
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    settings = Settings.model_validate({"source": {"temp_dir": str(tmp_path)}})
    made = WarmChild(settings=told_settings(settings), build=BUILD, streams=STREAMS, boot_timeout_s=120)
    made.start()
    yield made
    made.retire()


def test_one_that_was_found_dead_keeps_its_number_until_it_is_killed(child: WarmChild) -> None:
    assert child.is_ready
    pid = child.pid
    for number in (signal.SIGTERM, signal.SIGHUP):  # it heeds the end of its orders only
        os.kill(pid, number)
    assert child.is_alive
    os.kill(pid, signal.SIGKILL)
    until(lambda: not child.is_alive, 30, "it is seen to have ended")
    os.kill(pid, 0)
    assert child.kill() == "SIGKILL"
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert (child.pid, child.kill()) == (0, "not started")


def test_the_end_of_one_that_died_is_told_once_and_leaves_nothing(child: WarmChild) -> None:
    os.kill(child.pid, signal.SIGKILL)
    with pytest.raises(ChildDied, match="SIGKILL"):
        until(lambda: child.hear(1.0), 30)
    assert child.pid == 0
    for ask in (lambda: child.send({}), lambda: child.hear(0.0)):
        with pytest.raises(ChildDied, match="not there"):
            ask()


def test_too_little_memory_for_the_model_is_no_fault_of_the_settings(child: WarmChild) -> None:
    child.build = f"{BUILD.rpartition(':')[0]}:build_in_vain"
    with pytest.raises(ChildDied, match="cannot load the network"):
        child.start()
