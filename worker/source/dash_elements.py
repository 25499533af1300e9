"""Elements of DASH manifests (ISO/IEC 23009-1): children by name, what is inherited from the levels above, durations."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from worker.errors import UnsupportedMedia
from worker.source.client import joined_url

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

_ELSEWHERE: Final = "{http://www.w3.org/1999/xlink}href"
_NOTHING: Final = "urn:mpeg:dash:resolve-to-zero:2013"
"""An element that refers to this is to be taken away."""
_DURATION = re.compile(
    r"P(?:0{1,4}Y)?(?:0{1,4}M)?(?:(\d{1,6})D)?(?:T(?:(\d{1,6})H)?(?:(\d{1,8})M)?(?:(\d{1,9}(?:\.\d{1,9})?)S)?)?", re.ASCII
)


def inherited(levels: Sequence[Element], name: str) -> str | None:
    """Of the first level that says it."""
    return next((value for level in levels if (value := level.get(name)) is not None), None)


def nearest(levels: Sequence[Element], name: str) -> list[Element]:
    """Children of the first level that has any."""
    return next(filter(None, (children(level, name) for level in levels)), [])


def based(base: str, level: Element) -> str:
    """The level's BaseURL (the first, where there are several places) on top of those above it."""
    own = children(level, "BaseURL")
    return joined_url(base, (own[0].text or "").strip()) if own else base


def children(element: Element, name: str) -> list[Element]:
    """Those of this name, without what stands for nothing. Raises UnsupportedMedia for one that lies elsewhere."""
    found = [child for child in element if name_of(child) == name]
    if any(child.get(_ELSEWHERE, _NOTHING) != _NOTHING for child in found):
        raise UnsupportedMedia(
            f"{name} of the DASH manifest lies elsewhere (xlink): give the address of a manifest without links"
        )
    return [child for child in found if child.get(_ELSEWHERE) is None]


def name_of(element: Element) -> str:
    return element.tag.rpartition("}")[2] if isinstance(element.tag, str) else ""


def seconds(text: str | None) -> float | None:
    """An xs:duration of days and less (years and months may be there, as nought); None where there is none."""
    match = _DURATION.fullmatch(text.strip()) if text else None
    if match is None or not any(match.groups()):
        return None
    days, hours, minutes, rest = (float(part or 0) for part in match.groups())
    return 86400 * days + 3600 * hours + 60 * minutes + rest
