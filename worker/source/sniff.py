"""What fetched bytes are, by their beginning; what the server calls them is not asked."""

from __future__ import annotations

import re
from enum import StrEnum
from pathlib import Path
from typing import Final

HEAD_BYTES: Final = 4096
_MPD = re.compile(rb"<(?:[A-Za-z_][\w.-]*:)?MPD[\s>/]")
_PAGE = re.compile(rb"<(?:!doctype html|html|head|body|script)[\s>]", re.IGNORECASE)


class Kind(StrEnum):
    HLS = "hls"
    DASH = "dash"
    PAGE = "page"
    MEDIA = "media"
    """Anything else: whether it is, the decoder says."""


def sniff(head: bytes) -> Kind:
    """``head``: the first ``HEAD_BYTES`` of a file, or all of a shorter one."""
    text = head[:HEAD_BYTES].removeprefix(b"\xef\xbb\xbf").lstrip()
    if text.startswith(b"#EXTM3U"):
        return Kind.HLS
    if text.startswith(b"<"):
        return Kind.DASH if _MPD.search(text) else Kind.PAGE if _PAGE.search(text) else Kind.MEDIA
    return Kind.MEDIA


def sniff_file(path: Path) -> Kind:
    with path.open("rb") as file:
        return sniff(file.read(HEAD_BYTES))
