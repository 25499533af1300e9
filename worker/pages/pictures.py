"""The pictures of one page, inside it as data: URIs up to a limit, or the reason why one is missing."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from worker.pages.words import NOT_RETAINED

MOST_BYTES: Final = 8 << 20
"""Of the pictures of one page, as JPEG; base64 makes them a third larger."""
JPEG: Final = b"\xff\xd8"

Load = Callable[[str], bytes | None]
"""The bytes of a picture that a report names; None where it is not retained."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """``uri`` empty: there is none, and ``missing`` says why."""

    uri: str = ""
    missing: str = ""


class PictureSource(Protocol):
    """Gives the pictures that a report names, inside the page or by their addresses."""

    def get(self, name: str | None) -> Picture: ...


class Pictures:
    """Asked for in the order of their weight: what comes last is left out first."""

    def __init__(self, load: Load, most_bytes: int = MOST_BYTES) -> None:
        self._load, self._left = load, most_bytes
        self._known: dict[str, Picture] = {}

    def get(self, name: str | None) -> Picture:
        if name is None:
            return Picture(missing=NOT_RETAINED)
        if name not in self._known:
            self._known[name] = self._read(name)
        return self._known[name]

    def _read(self, name: str) -> Picture:
        jpeg = self._load(name)
        if jpeg is None or not jpeg.startswith(JPEG):
            return Picture(missing=NOT_RETAINED)
        if len(jpeg) > self._left:
            return Picture(missing="left out: the page would become too large")
        self._left -= len(jpeg)
        return Picture(uri="data:image/jpeg;base64," + base64.b64encode(jpeg).decode("ascii"))
