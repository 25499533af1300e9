"""Ctrl-C, SIGTERM and SIGHUP, in a process of its own: signals are for all of one."""

from __future__ import annotations

import signal
import subprocess
import sys

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


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("how", ["ignored", "heard"])
def test_a_signal_is_put_off_while_held_and_one_that_was_ignored_stays_so(number: signal.Signals, how: str) -> None:
    command = [sys.executable, "-c", SCRIPT, str(int(number)), how]
    told = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.split("\n")
    expected = ["held", "after", "True"] if how == "ignored" else ["held", f"stopped {128 + number}", "False"]
    assert told[:-1] == expected


@pytest.mark.parametrize(("how", "times"), [("heard", 3), ("ignored", 2)])
def test_what_runs_until_it_is_told_to_stop_is_told_by_each(how: str, times: int) -> None:
    told = subprocess.run([sys.executable, "-c", SERVICE, how], capture_output=True, text=True, check=True, timeout=60).stdout
    assert told.split() == ["told"] * times + ["True"]


def test_signals_that_come_while_the_lock_of_what_they_tell_is_held_are_told_all_the_same() -> None:
    told = subprocess.run([sys.executable, "-c", TWO], capture_output=True, text=True, check=True, timeout=60).stdout
    assert told.split() == ["True"]


def test_one_that_comes_while_python_ends_does_not_keep_it() -> None:
    subprocess.run([sys.executable, "-c", LATE], check=True, timeout=60)
