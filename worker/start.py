"""The console script: what takes longest to start is started first, before anything else is imported; and it ends at once."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import sys
from collections.abc import Iterator, Sequence

from worker import stdio
from worker.frames.boot import Booted, boot

NOT_HERE = ("-h", "--help", "--workers")
"""With one of these, or what begins so, ``scan`` decodes nothing in this process, or perhaps not."""
NOTHING_TO_UNDO = (["scan"], ["calibrate"], ["doctor"])
"""Commands that have nothing begun, or nothing to end, where Ctrl-C comes and they do not listen for it."""
_booted: list[Booted] = []


def console() -> None:
    """The console script: ``main``, and out. After a scan in this process everything of ours is closed; that libraries take
    themselves apart piece by piece would cost an eighth of a second."""
    try:
        main()
    except SystemExit as ended:
        sys.stdout.flush()  # here it may still say that nobody reads
        code = 0 if ended.code is None else ended.code
        if not isinstance(code, int) or not scans_here(sys.argv[1:]):
            raise
        sys.stderr.flush()
        os._exit(code)
    except Exception:  # noqa: BLE001  # a bug outside of every command: Python's own 1 would be a --fail-on verdict
        sys.excepthook(*sys.exc_info())
        raise SystemExit(stdio.INTERNAL) from None


def main() -> None:
    """As ``worker.cli.main``, with the decoders' process started before where a scan is asked for."""
    stdio.open_closed()
    if not scans_here(sys.argv[1:]):
        with _killed_by_ctrl_c() if sys.argv[1:2] in NOTHING_TO_UNDO else contextlib.nullcontext():
            from worker.cli import main as run

            run()
        return
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # no large matrices here, and threads cost NumPy's import time
    gc.disable()  # imports leave next to no garbage, and many objects for each collection to look through
    with contextlib.suppress(OSError):  # tried again where an error gets its exit code
        _booted.append(boot())
    with _killed_by_ctrl_c():
        try:
            from worker.cli import main as run

            run()
        finally:
            gc.enable()
            while _booted:
                _booted.pop().kill()


@contextlib.contextmanager
def _killed_by_ctrl_c() -> Iterator[None]:
    """Until the command itself listens, Ctrl-C ends the process at once: nothing is done yet, and libraries swallow Python's
    exception now and then while they are imported."""
    before = signal.getsignal(signal.SIGINT)
    if before is not signal.default_int_handler:  # somebody ignores it, or has another use for it
        yield
        return
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def scans_here(arguments: Sequence[str]) -> bool:
    """Whether this command line will need decoders in this process, as far as can be told at a glance."""
    return arguments[:1] == ["scan"] and not any(argument.startswith(NOT_HERE) for argument in arguments)


def decoders() -> Booted:
    """The process that loads the decoders: the one started first of all, or one that is started now. The caller owns it."""
    return _booted.pop() if _booted else boot()


def imported() -> None:
    """The scan begins: garbage is collected again, but not among what was imported."""
    if not gc.isenabled():
        gc.freeze()
        gc.enable()


if __name__ == "__main__":
    from worker.start import console as run_once  # the module that ``decoders`` is asked of, not this copy of it

    run_once()
