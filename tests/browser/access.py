"""What keeps people out of a page: axe's serious and critical faults, in the dark too, and what is too wide for a telephone."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Page, ViewportSize

AXE = Path(__file__).resolve().parents[2] / ".tools/npm/node_modules/axe-core/axe.min.js"
NARROW: ViewportSize = {"width": 360, "height": 740}
WIDE: ViewportSize = {"width": 1280, "height": 900}
WIDTH_WHEN_DRAWN = """new Promise(tell => requestAnimationFrame(() => requestAnimationFrame(
    () => tell(document.documentElement.scrollWidth))))"""
"""What draws itself anew for another width does so before the next frame."""


def faults(page: Page) -> list[str]:
    """Of the page as it is shown now, a line each."""
    return serious_faults(page) + in_the_dark(page) + on_a_telephone(page)


def serious_faults(page: Page, *, only: str | None = None) -> list[str]:
    """What axe finds; ``only``: one rule."""
    if not AXE.is_file():
        pytest.skip("axe is not installed: `make assets`, which needs npm")
    if not page.evaluate("Boolean(window.axe)"):
        page.evaluate(AXE.read_text(encoding="utf-8"))
    options = {"resultTypes": ["violations"]} | ({} if only is None else {"runOnly": {"type": "rule", "values": [only]}})
    found = page.evaluate("options => axe.run(document, options)", options)
    assert found["passes"], "axe looked at nothing"
    return [
        f"{fault['id']} ({fault['impact']}): {fault['help']}: {node['html']}"
        for fault in found["violations"]
        if fault["impact"] in ("serious", "critical")
        for node in fault["nodes"]
    ]


def in_the_dark(page: Page) -> list[str]:
    """Colours alone are different there."""
    page.emulate_media(color_scheme="dark")
    found = serious_faults(page, only="color-contrast")
    page.emulate_media(color_scheme="light")
    return [f"in the dark: {fault}" for fault in found]


def on_a_telephone(page: Page) -> list[str]:
    """Nothing is to be scrolled sideways."""
    page.set_viewport_size(NARROW)
    width = page.evaluate(WIDTH_WHEN_DRAWN)
    page.set_viewport_size(WIDE)
    return [f"{width} px wide on {NARROW['width']}"] if width > NARROW["width"] else []
