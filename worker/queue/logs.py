"""How the service's processes log: to standard error, and no address whole, since its query may hold a secret."""

from __future__ import annotations

import logging


def begin_logging() -> None:
    """httpx would write every address that it goes to, as it is; what is worth telling of them our own modules tell."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
