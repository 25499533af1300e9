"""What people decided, as rows of a training manifest: the latest label of each whole content."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from worker.output.text import bare_address
from worker.queue.audit import part_of
from worker.queue.desk import Desk

COLUMNS = ("path", "label", "source", "group", "family", "scan", "sha256", "url", "category")
"""The first five are those of a training manifest; its reader passes the others over."""
FAMILIES = frozenset({"blend", "manipulation", "synthetic"})
AT_ONCE = 1000
SUFFIX = re.compile(r"\.[a-z0-9]{1,5}", re.ASCII)


def latest_decisions(desk: Desk, owner: str | None) -> tuple[list[dict[str, Any]], int]:
    """The last one on each whole content, in the order in which contents were first decided on; entries of ``Desk.audit``. And on
    how many parts of videos there are others, which say nothing of the whole: training takes whole files."""
    latest = {(entry["sha256"], *part_of(entry)): entry for entry in _decisions(desk, owner)}
    whole = [entry for entry in latest.values() if not part_of(entry)]
    return whole, len(latest) - len(whole)


def manifest_row(entry: dict[str, Any], path: str | None = None) -> dict[str, str]:
    """A decision by ``COLUMNS``; ``path`` None: where the file was, or what it is to be called beside the manifest."""
    source, sha256, label = entry.get("source") or {}, entry["sha256"], entry["verdict"]
    url = bare_address(source["url"]) if source.get("url") else None  # whole where an earlier version wrote it
    category = entry.get("category") or ""
    return {
        "path": path or source.get("path") or sha256 + _suffix(url or ""),
        "label": label,
        "source": "feedback",
        "group": f"feedback/{sha256}",
        "family": "real" if label == "real" else category if category in FAMILIES else "",
        "scan": entry["scan"],
        "sha256": sha256,
        "url": url or "",
        "category": category,
    }


def _decisions(desk: Desk, owner: str | None) -> Iterator[dict[str, Any]]:
    """Oldest first."""
    if owner is not None:
        yield from desk.decisions_of(owner)
        return
    after = "-"
    while found := desk.audit(None, after=after, count=AT_ONCE):
        yield from (entry for _, entry in found)
        after = found[-1][0]


def _suffix(url: str) -> str:
    suffix = posixpath.splitext(urlsplit(url).path)[1].lower()
    return suffix if SUFFIX.fullmatch(suffix) else ""
