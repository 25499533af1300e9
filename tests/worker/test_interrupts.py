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
import os, signal, sys
from worker.interrupts import stop_on_signals
if sys.argv[1] == "ignored":
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
stop_on_signals(lambda: print("told", flush=True))
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
    os.kill(os.getpid(), number)
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
    assert told.split() == ["told"] * times
