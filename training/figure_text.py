"""Names as they are in figures: matplotlib takes what stands between two ``$`` for a formula."""

from __future__ import annotations


def literal(name: str) -> str:
    """The text that draws this one."""
    return name.replace("$", r"\$")
