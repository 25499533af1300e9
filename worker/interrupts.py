"""Ctrl-C, SIGTERM, SIGHUP (its terminal is gone): the first stops between reports and keeps what is done, the second kills."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from threading import Thread
from types import FrameType, TracebackType
from typing import Self

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def stop_on_signals(stop: Callable[[], None]) -> None:
    """What runs until it is told to stop is told by each of these. A SIGHUP that is ignored, as by nohup, stays so.

    It is told on a thread of its own: what a signal interrupts, even ``stop`` for another, may hold a lock that it needs.
    """

    def handle(number: int, frame: FrameType | None) -> None:
        if sys.is_finalizing():  # a thread would never begin
            return
        try:
            Thread(target=stop, name="stop", daemon=True).start()
        except RuntimeError:  # no more threads: rather with that risk than not at all
            stop()

    for number in _SIGNALS:
        if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, handle)


@contextmanager
def cursor_given_back() -> Iterator[None]:
    """While a spinner or a bar hides the cursor: where Ctrl-C (``worker.start``), SIGTERM or SIGQUIT ends the process at once, it
    is shown again before."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT)
    ending = [number for number in numbers if signal.getsignal(number) is signal.SIG_DFL]
    for number in ending:
        signal.signal(number, _end_by)
    try:
        yield
    finally:
        for number in ending:
            signal.signal(number, signal.SIG_DFL)


def _end_by(number: int, frame: FrameType | None = None) -> None:
    """Die of the signal. What hid the terminal's cursor has no time to show it again, and may hold a lock."""
    if os.isatty(2) and os.environ.get("TERM") not in ("dumb", "unknown"):  # where rich hides none
        with suppress(OSError):
            os.write(2, b"\x1b[?25h")
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


class Interrupts:
    """While entered (main thread only), the first signal raises KeyboardInterrupt, though not inside ``held``; the second calls
    ``on_kill`` and ends the process by the signal. ``exit_code`` is 128 + the signal's number.

    A signal that whoever started the process has it ignore stays ignored, as Ctrl-C is by what a script runs in the background,
    and SIGHUP by nohup. SIGHUP is never the second: shell and kernel each send one, and what was seen is still to be written.
    Nor is the first SIGTERM behind a SIGHUP: what ends a session may send both at once.
    """

    def __init__(self, on_kill: Callable[[], None]) -> None:
        self._on_kill = on_kill
        self._held = False
        self._pending = False
        self._spared = {signal.SIGHUP}
        """What is not the second."""
        self._before: list[tuple[signal.Signals, object]] = []
        self.exit_code = 0

    def __enter__(self) -> Self:
        wanted = [number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
        self._before = [(number, signal.signal(number, self._handle)) for number in wanted]
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for number, handler in self._before:
            if number not in self._spared or not self.exit_code:
                signal.signal(number, handler)  # type: ignore[arg-type]  # what signal.signal gave

    @contextmanager
    def held(self) -> Iterator[None]:
        """A stretch that is not interrupted half-way: one report's output."""
        self._held = True
        try:
            yield
        finally:
            self._held = False
        if self._pending:
            self._pending = False
            raise KeyboardInterrupt

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.exit_code:
            if number not in self._spared:
                self._on_kill()
                _end_by(number)
            elif number == signal.SIGTERM:
                self._spared.discard(signal.SIGTERM)
            return
        self.exit_code = 128 + number
        if number == signal.SIGHUP:
            self._spared.add(signal.SIGTERM)
        if self._held:
            self._pending = True
        else:
            raise KeyboardInterrupt
