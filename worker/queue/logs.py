"""How the service's processes log: to standard error, what our own modules have to say."""

from __future__ import annotations

import logging


def begin_logging() -> None:
    """httpx tells of every request, of a watched stream all the time (``worker.source.client`` keeps queries out of it)."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
