"""Text from outside (names, addresses, messages) made safe to show: on a terminal, on a page."""

from __future__ import annotations

from urllib.parse import urlsplit


def escaped(text: str, encoding: str = "utf-8") -> str:
    r"""The text with every character that is not printable, or not in ``encoding``, as an escape: ``\x1b``, ``\n``, ``\u202e``.

    Bytes of a name that are not UTF-8, which Python keeps as surrogates, are shown as ``\xNN``.
    """
    printable = "".join(char if char.isprintable() else _escape(char) for char in text)
    return printable.encode(encoding, "backslashreplace").decode(encoding)


def _escape(char: str) -> str:
    if "\udc80" <= char <= "\udcff":
        return f"\\x{ord(char) - 0xDC00:02x}"
    return char.encode("unicode_escape").decode("ascii")


def bare_address(url: str) -> str | None:
    """The address without what it may keep secret: login, query and fragment. None for one that cannot be read."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return None
    return f"{parts.scheme}://{f'[{host}]' if ':' in host else host}{port}{parts.path}"


def shown_address(url: str) -> str:
    """``bare_address``, ``escaped``; ``?…`` at its end says that there was a query."""
    bare = bare_address(url)
    if bare is None:
        return "an address that cannot be read"
    return escaped(bare) + ("?…" if urlsplit(url).query else "")


def shown_score(score: float, digits: int = 2, *, in_words: bool = False) -> str:
    """With so many decimal places; where these would say certainty and the score does not, ``>0.99`` or ``<0.01``, in words
    ``over 0.99`` or ``under 0.01``."""
    rounded = f"{score:.{digits}f}"
    if not 0 < score < 1 or 0 < float(rounded) < 1:
        return rounded
    least = 10.0**-digits
    beyond, edge = ("over " if in_words else ">", 1 - least) if score > 0.5 else ("under " if in_words else "<", least)
    return f"{beyond}{edge:.{digits}f}"


def clock(t_ms: int) -> str:
    """A moment as ``mm:ss`` or ``h:mm:ss``."""
    minutes, seconds = divmod(t_ms // 1000, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes:02d}:{seconds:02d}"
