"""What every line of the log is about: the scan, attempt or request at hand, said once and not at each line."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from contextvars import ContextVar

_FACTS: ContextVar[Mapping[str, str | int] | None] = ContextVar("facts", default=None)


@contextlib.contextmanager
def about(**facts: str | int) -> Iterator[None]:
    """Lines that are logged inside, on this thread or task, carry these facts as well; ``logs.FIELDS`` has their names."""
    token = _FACTS.set({**now_about(), **facts})
    try:
        yield
    finally:
        _FACTS.reset(token)


def now_about() -> Mapping[str, str | int]:
    return _FACTS.get() or {}
