"""Takes out of a text what no log may hold: what follows an address's path, who it is for, tokens and secrets of ours.

Nobody should have written them there. Errors of libraries do all the same, and tracebacks quote them.
"""

from __future__ import annotations

import re

_URL = re.compile(
    r"([a-zA-Z][a-zA-Z0-9+.-]{1,15}://)(?:[^\s/?#'\"<>]{0,512}@)?([^\s?#'\"<>]*)(?:[?#](?:[^\s'\"<>]|['\"<>]+(?=[^\s'\"<>,;:)\]}]))*)?"
)
"""A quote or bracket belongs to a query that goes on behind it, and not to the text around an address."""
_TOKEN = re.compile(r"(vf_[0-9a-f]{16}_|whsec_|\b[Bb]earer )[A-Za-z0-9+/=._~-]+")


def without_secrets(text: str) -> str:
    """``https://me:word@host/path?token=1`` becomes ``https://host/path``; a token keeps its first part, which names its key."""
    return _TOKEN.sub(r"\1***", _URL.sub(r"\1\2", text))
