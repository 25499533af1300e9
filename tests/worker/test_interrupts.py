"""Ctrl-C, SIGTERM and SIGHUP, in a process of its own: signals are for all of one."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import pytest

SCRIPT = """
import os, signal, sys
from worker.interrupts import Interrupts
number = signal.Signals(int(sys.argv[1]))
if sys.argv[2] == "ignored":
    signal.signal(number, signal.SIG_IGN)
try:
    with Interrupts(on_kill=lambda: print("killed", flush=True)) as interrupts:
        with interrupts.held():
            os.kill(os.getpid(), number)
            if number == signal.SIGHUP:  # from the shell, and from the kernel
                os.kill(os.getpid(), number)
            print("held", flush=True)
        print("after", flush=True)
except KeyboardInterrupt:
    print("stopped", interrupts.exit_code)
print(signal.getsignal(number) is signal.SIG_IGN)
"""
LOGOUT = """
import os, signal, sys
from contextlib import suppress
from worker.interrupts import Interrupts
first, *more = (signal.Signals[name] for name in sys.argv[1].split())
interrupts = Interrupts(on_kill=lambda: print("killed", flush=True))
with interrupts, suppress(KeyboardInterrupt), interrupts.held():
    os.kill(os.getpid(), first)
    if sys.argv[2] == "held":
        for number in more:
            os.kill(os.getpid(), number)
    print("seen", flush=True)
if sys.argv[2] == "after":
    for number in more:
        os.kill(os.getpid(), number)
print("written", interrupts.exit_code)
"""
SERVICE = """
import os, queue, signal, sys
from worker.interrupts import stop_on_signals
if sys.argv[1] == "ignored":
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
told = queue.SimpleQueue()
stop_on_signals(lambda: told.put("told"))
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
    os.kill(os.getpid(), number)
    if number != signal.SIGHUP or sys.argv[1] == "heard":
        print(told.get(timeout=30))
print(told.empty())
"""
TWO = """
import os, signal, threading
from worker.interrupts import stop_on_signals
told = threading.Event()
stop_on_signals(told.set)
with told._cond:  # as where a signal comes while the event is being set, or is just beginning to be waited for
    os.kill(os.getpid(), signal.SIGHUP)
    os.kill(os.getpid(), signal.SIGTERM)
print(told.wait(30))
"""
LATE = """
import os, signal, sys
from worker.interrupts import stop_on_signals

class Late:
    def write(self, text): pass
    def flush(self):
        if sys.is_finalizing():
            os.kill(os.getpid(), signal.SIGTERM)

stop_on_signals(lambda: None)
sys.stdout = Late()
"""
TWICE = """
import os, signal
from rich.console import Console
from worker.interrupts import Interrupts
from worker.progress import Bar
with Interrupts(on_kill=lambda: None) as interrupts, Bar(Console(stderr=True), total=1, live=True), interrupts.held():
    os.kill(os.getpid(), signal.SIGINT)
    os.kill(os.getpid(), signal.SIGINT)
"""
QUEUEING = """
import os, signal
from rich.console import Console
from worker.commands.service import interruptible
with interruptible(""), Console(stderr=True).status("listing"):
    os.kill(os.getpid(), signal.SIGTERM)
"""

REPOSITORY = Path(__file__).parents[2]
HIDDEN, SHOWN = b"\x1b[?25l", b"\x1b[?25h"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("how", ["ignored", "heard"])
def test_a_signal_is_put_off_while_held_and_one_that_was_ignored_stays_so(number: signal.Signals, how: str) -> None:
    command = [sys.executable, "-c", SCRIPT, str(int(number)), how]
    told = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.split("\n")
    expected = ["held", "after", "True"] if how == "ignored" else ["held", f"stopped {128 + number}", "False"]
    assert told[:-1] == expected


@pytest.mark.parametrize("when", ["held", "after"])
@pytest.mark.parametrize(
    ("signals", "killed_by"),
    [
        ("SIGHUP SIGTERM", 0),
        ("SIGHUP SIGHUP SIGTERM SIGHUP", 0),
        ("SIGHUP SIGTERM SIGTERM", signal.SIGTERM),
        ("SIGHUP SIGINT", signal.SIGINT),
        ("SIGTERM SIGTERM", signal.SIGTERM),
    ],
)
def test_a_logout_that_sends_both_is_one_signal(signals: str, killed_by: int, when: str) -> None:
    done = subprocess.run([sys.executable, "-c", LOGOUT, signals, when], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == -killed_by
    assert ("written 129" in done.stdout) is (not killed_by)


@pytest.mark.parametrize(("how", "times"), [("heard", 3), ("ignored", 2)])
def test_what_runs_until_it_is_told_to_stop_is_told_by_each(how: str, times: int) -> None:
    told = subprocess.run([sys.executable, "-c", SERVICE, how], capture_output=True, text=True, check=True, timeout=60).stdout
    assert told.split() == ["told"] * times + ["True"]


def test_signals_that_come_while_the_lock_of_what_they_tell_is_held_are_told_all_the_same() -> None:
    told = subprocess.run([sys.executable, "-c", TWO], capture_output=True, text=True, check=True, timeout=60).stdout
    assert told.split() == ["True"]


def test_one_that_comes_while_python_ends_does_not_keep_it() -> None:
    subprocess.run([sys.executable, "-c", LATE], check=True, timeout=60)


@pytest.fixture
def terminal() -> Iterator[tuple[BinaryIO, int]]:
    """A terminal's screen, and what a process writes to it by."""
    screen, side = os.openpty()
    with open(screen, "rb", buffering=0) as opened:
        yield opened, side


def shown(screen: BinaryIO, until: bytes | None = None) -> bytes:
    """What is written up to ``until``, or as long as there is somebody to write."""
    text = b""
    with contextlib.suppress(OSError):  # Linux: all writers are gone
        while (until is None or until not in text) and (chunk := screen.read(1 << 16)):
            text += chunk
    return text


def without_a_core() -> None:
    """And as from a terminal: what a shell starts in the background ignores SIGINT and SIGQUIT."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for number in (signal.SIGINT, signal.SIGQUIT):
        signal.signal(number, signal.SIG_DFL)


@pytest.mark.parametrize(
    ("command", "number"),
    [
        (("-c", TWICE), signal.SIGINT),
        (("-m", "worker.start", "scan", "-"), signal.SIGINT),
        (("-m", "worker.start", "scan", "-"), signal.SIGTERM),
        (("-m", "worker.start", "scan", "-"), signal.SIGQUIT),
        (("-c", QUEUEING), signal.SIGTERM),
    ],
    ids=["twice", "while listing", "while listing, by SIGTERM", "while listing, by SIGQUIT", "while queueing, by SIGTERM"],
)
def test_where_it_kills_the_cursor_is_shown_again(
    command: tuple[str, ...], number: signal.Signals, terminal: tuple[BinaryIO, int]
) -> None:
    screen, side = terminal
    environment = os.environ | {"TERM": "xterm"}
    with subprocess.Popen(
        [sys.executable, *command], stdin=subprocess.PIPE, stderr=side, env=environment, preexec_fn=without_a_core
    ) as process:
        os.close(side)
        text = shown(screen, HIDDEN)
        if command[0] == "-m":  # it waits for the list
            process.send_signal(number)
        text += shown(screen)
        assert process.wait(60) == -number
    assert text.count(SHOWN) == text.count(HIDDEN) == 1


def test_a_scan_that_is_ended_by_sigquit_shows_the_cursor_again(terminal: tuple[BinaryIO, int], tmp_path: Path) -> None:
    screen, side = terminal
    (tmp_path / "a.mp4").write_text("slow")
    environment = os.environ | {"TERM": "xterm", "PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, str(REPOSITORY / "tests" / "worker" / "fake_scanner.py"), "scan", str(tmp_path)]
    with subprocess.Popen(command, stderr=side, env=environment, preexec_fn=without_a_core) as process:
        os.close(side)
        text = shown(screen, b"a.mp4")
        process.send_signal(signal.SIGQUIT)
        text += shown(screen)
        assert process.wait(60) == -signal.SIGQUIT
    assert text.count(SHOWN) == text.count(HIDDEN) == 2, "while listing, and while scanning"
