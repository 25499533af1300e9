"""TensorRT's logger: what the library says goes to the log, and what went wrong into our errors.

Its own logger writes to standard output, which is a scan's (``--format jsonl``). One code for ``tensorrt`` and ``tensorrt_rtx``,
whose module is passed in.
"""

from __future__ import annotations

import logging
from collections import deque
from typing import Any

from worker.errors import ModelError

KEPT = 4
_OTHERS_HEAR = "The logger passed into createInfer"
"""Said to every listener behind the first of a process: it is that one which hears. All of ours tell the log."""

log = logging.getLogger(__name__)


def new_listener(trt: Any) -> Any:
    """An ``ILogger`` of the library. ``said()`` gives its last errors, oldest first: a reason is followed by what it led to."""

    class Listener(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self._errors: deque[str] = deque(maxlen=KEPT)

        def log(self, severity: Any, message: str) -> None:
            if _OTHERS_HEAR in message:
                return
            if severity <= trt.ILogger.Severity.ERROR:
                self._errors.append(message)
            if severity <= trt.ILogger.Severity.WARNING:
                log.warning("%s: %s", trt.__name__, message)

        def said(self) -> str:
            return "; ".join(self._errors) or "no reason given"

    return Listener()


def made_with(factory: Any, listener: Any) -> Any:
    """A ``Runtime`` or ``Builder`` of the library. Raises ModelError with the library's words where it makes none."""
    try:
        return factory(listener)
    except TypeError as exc:  # pybind11's class for a factory that gave null: no memory, no driver
        raise ModelError(f"TensorRT does not start here: {listener.said()} ({exc})") from exc


def lacks_memory(said: str) -> bool:
    """Whether these errors are of memory: TensorRT's own is ``OutOfMemory``, CUDA's ``out of memory``."""
    return "outofmemory" in said.replace(" ", "").lower()
