"""Signals reach the process that was meant, or none; on real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.worker.queue.receivers import soon
from worker.up.identity import MARK, Identity, end_all, identity_of, is_running, marked, send

SLEEP = [sys.executable, "-c", "import time; print(flush=True); time.sleep(600)"]
STUBBORN = [
    sys.executable,
    "-c",
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(600)",
]


@contextmanager
def process(command: list[str], mark: str | None = None) -> Iterator[Identity]:
    """One that has begun its work."""
    environment = os.environ | ({} if mark is None else {MARK: mark})
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as started:
        try:
            assert started.stdout is not None
            started.stdout.readline()
            found = identity_of(started.pid)
            assert found is not None
            yield found
        finally:
            started.kill()


def test_a_process_is_itself_as_long_as_it_runs() -> None:
    with process(SLEEP) as sleeper:
        assert is_running(sleeper)
        assert identity_of(sleeper.pid) == sleeper
        send(sleeper, signal.SIGKILL)
        assert soon(lambda: not is_running(sleeper)), "one that has ended does not run, though nobody has buried it"
    assert identity_of(sleeper.pid) is None
    send(sleeper, signal.SIGKILL)  # nothing happens


def test_the_next_process_of_a_number_is_not_signalled() -> None:
    with process(SLEEP) as sleeper:
        earlier = Identity(pid=sleeper.pid, started="before this one")
        assert not is_running(earlier)
        send(earlier, signal.SIGKILL)
        assert end_all([earlier], grace_s=0) == []
        assert is_running(sleeper)


def test_what_takes_no_hint_is_killed_and_what_is_paused_ends() -> None:
    with process(STUBBORN) as stubborn, process(SLEEP) as paused:
        send(paused, signal.SIGSTOP)
        assert end_all([stubborn, paused], grace_s=0.1) == []
        assert not is_running(stubborn)
        assert not is_running(paused)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux shows what is in a process's environment")
def test_what_a_killed_part_left_is_known_by_its_mark() -> None:
    left = "import subprocess, sys; print(subprocess.Popen([*sys.argv[1:]], start_new_session=True).pid, flush=True)"
    with subprocess.Popen(
        [sys.executable, "-c", left, *SLEEP], stdout=subprocess.PIPE, env=os.environ | {MARK: "a" * 32}
    ) as gone:
        assert gone.stdout is not None
        child = identity_of(int(gone.stdout.readline()))
        gone.stdout.readline()
    assert child is not None
    with process(SLEEP, mark="b" * 32) as other:
        assert soon(lambda: list(marked("a" * 32)) == [child])
        assert end_all(marked("a" * 32), grace_s=1) == []
        assert list(marked("a" * 32)) == []
        assert list(marked("b" * 32)) == [other]
