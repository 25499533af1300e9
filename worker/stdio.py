"""Standard streams that are closed, full or without a reader: what becomes of a command then.

Without a reader of standard output it ends with 141, as most programs are ended by SIGPIPE; where that cannot be written to, with
4; one that does not block is waited for. What standard error does not take is lost, and the command goes on. A closed stream is
the null device. Imports next to nothing: it comes before the decoders.
"""

from __future__ import annotations

import errno
import io
import os
import select
import sys
from typing import TextIO

BROKEN_PIPE = 141
INTERNAL = 4


class _Output(io.FileIO):
    """Raises SystemExit where a write fails: no library on the way takes it for something else. What is left goes nowhere."""

    def write(self, data: bytes | bytearray | memoryview) -> int:  # type: ignore[override]  # of any buffer
        try:
            while (written := super().write(data)) is None:
                select.select([], [self.fileno()], [])
            return written
        except OSError as exc:
            _lose(self.fileno())
            if exc.errno == errno.EPIPE:
                raise SystemExit(BROKEN_PIPE) from exc
            print(f"veriframe: standard output: {exc.strerror or exc}", file=sys.stderr)
            raise SystemExit(INTERNAL) from exc


class _Messages(io.FileIO):
    """Takes whatever is written, also where it reaches nobody: the next line may find room again."""

    def write(self, data: bytes | bytearray | memoryview) -> int:  # type: ignore[override]  # of any buffer
        try:
            written = super().write(data)
        except OSError:
            written = None
        return len(data) if written is None else written


def open_closed() -> None:
    """Puts the null device in the place of streams that are closed, before another file takes their numbers."""
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            handle = os.open(os.devnull, os.O_RDWR)
            os.set_inheritable(handle, True)
            setattr(sys, name, open(handle, "r" if name == "stdin" else "w", closefd=False))  # noqa: SIM115  # lives on


def guard() -> None:
    """Replaces standard output and standard error; what their encodings lack is written as escapes."""
    sys.stdout = _text(_Output(sys.stdout.fileno(), "w", closefd=False), sys.stdout)
    sys.stderr = _text(_Messages(sys.stderr.fileno(), "w", closefd=False), sys.stderr)


def _text(raw: io.FileIO, before: TextIO) -> TextIO:
    at_once = bool(before.line_buffering) or getattr(before, "write_through", False)
    return io.TextIOWrapper(io.BufferedWriter(raw), before.encoding, "backslashreplace", line_buffering=at_once)


def _lose(handle: int) -> None:
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, handle)
    os.close(null)
