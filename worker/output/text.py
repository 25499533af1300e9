"""Text from outside (names, messages) made safe to show on a terminal."""

from __future__ import annotations


def escaped(text: str) -> str:
    r"""The text with every character that is not printable as an escape: ``\x1b``, ``\n``, ``\u202e``.

    Bytes of a name that are not UTF-8, which Python keeps as surrogates, are shown as ``\xNN``.
    """
    return "".join(char if char.isprintable() else _escape(char) for char in text)


def _escape(char: str) -> str:
    if "\udc80" <= char <= "\udcff":
        return f"\\x{ord(char) - 0xDC00:02x}"
    return char.encode("unicode_escape").decode("ascii")


def clock(t_ms: int) -> str:
    """A moment as ``mm:ss`` or ``h:mm:ss``."""
    minutes, seconds = divmod(t_ms // 1000, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes:02d}:{seconds:02d}"
