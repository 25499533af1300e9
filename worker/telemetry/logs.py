"""How the service's processes log: to standard error, a line for each event, as JSON for machines or as text for people.

All goes through the standard library's logging, so that uvicorn's, RQ's and our own lines look alike; structlog gives the lines
their form. Fields: what ``extra`` holds of ``FIELDS``, and what ``context.about`` says.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import MutableMapping
from typing import Any, Literal, TextIO

from worker.telemetry.context import now_about
from worker.telemetry.secrecy import without_secrets

LogFormat = Literal["auto", "json", "text"]
LogLevel = Literal["info", "warning", "error"]
FIELDS = (
    "scan_id", "attempt", "request_id", "queue", "kind", "stage", "state", "verdict", "code", "worker", "callback", "tries",
    "method", "path", "status", "took_ms",
)  # fmt: skip
"""Others are not told: what a library hangs on its lines is not for everybody."""
FIRST = ("timestamp", "level", "event")
OURS = "veriframe"
Event = MutableMapping[str, Any]


class StandardError(logging.StreamHandler[TextIO]):
    """Whatever ``sys.stderr`` is at that moment."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:
        return sys.stderr

    @stream.setter
    def stream(self, stream: TextIO) -> None:
        """It is always that one."""


def begin_logging(log_format: LogFormat = "auto", log_level: LogLevel = "info") -> None:
    """May be called again once the settings are known. ``auto``: text where standard error is a terminal.

    httpx tells of every request, of a watched stream all the time: not here.
    """
    is_text = log_format == "text" or (log_format == "auto" and sys.stderr.isatty())
    handler = StandardError()
    handler.set_name(OURS)
    handler.setFormatter(formatter(is_text=is_text))
    root = logging.getLogger()
    for old in [old for old in root.handlers if old.get_name() == OURS]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(log_level.upper())
    logging.getLogger("httpx").setLevel(logging.WARNING)


def formatter(*, is_text: bool) -> logging.Formatter:
    import structlog

    rendering: list[Any] = [structlog.processors.format_exc_info, _scrub, structlog.processors.JSONRenderer(ensure_ascii=True)]
    if is_text:
        rendering = [_plain_exception, _scrub, structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), pad_event_to=0)]
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[
            structlog.stdlib.add_log_level,
            structlog.stdlib.add_logger_name,
            structlog.stdlib.ExtraAdder(allow=FIELDS),
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _add_context,
        ],
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendering],
    )


def _add_context(logger: Any, method: str, event: Event) -> Event:
    """The line's own word goes first."""
    first = {name: event.pop(name) for name in FIRST if name in event}
    return {**first, **now_about(), **event, "pid": event["_record"].process}


def _plain_exception(logger: Any, method: str, event: Event) -> Event:
    """As Python prints it: nothing of the variables, which may hold anything."""
    if error := event.pop("exc_info", None):
        event["exception"] = logging.Formatter().formatException(error if isinstance(error, tuple) else sys.exc_info())
    return event


def _scrub(logger: Any, method: str, event: Event) -> Event:
    return {name: without_secrets(value) if isinstance(value, str) else value for name, value in event.items()}
