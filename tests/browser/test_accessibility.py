"""No page of the console has a serious or critical fault by axe's rules, in light and dark, and each fits a telephone."""

from __future__ import annotations

import secrets

import pytest
from playwright.sync_api import Browser, Page

from tests.browser.chromium import Visits, serious_faults
from tests.browser.site import Site
from tests.worker.source.loopback import reply, serve

NARROW_PX = 360


@pytest.fixture(scope="module")
def paths(site: Site) -> dict[str, str]:
    """Every kind of page, below the console's address."""
    with serve(reply(b"", 503)) as media:
        dead = site.submit(media.url("/gone.mp4"), f"dead-{secrets.token_hex(4)}")
        assert site.ended(dead).dead
    clips = {name: f"/scans/{site.scan(f'{name}.mp4')}" for name in ("swapped", "no_face")}
    return clips | {
        "overview": "/",
        "scans": "/scans",
        "dead letters": "/dead",
        "a dead letter": f"/scans/{dead}",
        "submit": "/submit",
    }


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_page_keeps_anybody_out(site: Site, visits: Visits, paths: dict[str, str], scheme: str) -> None:
    page = visits.page(key=site.key, color_scheme=scheme, viewport={"width": 1280, "height": 900})
    faults = {name: found for name, path in paths.items() if (found := seen(page, f"{site.console}{path}", scheme))}
    stranger = visits.page(color_scheme=scheme)
    assert faults == {}
    assert seen(stranger, f"{site.console}/sign-in", scheme) == []


def seen(page: Page, address: str, scheme: str) -> list[str]:
    """In the dark, colours alone are different."""
    page.goto(address)
    return serious_faults(page, only="color-contrast" if scheme == "dark" else None)


def test_the_page_of_an_error_too(site: Site, visits: Visits) -> None:
    page = visits.page(key=site.key)
    page.goto(f"{site.console}/scans/{'0' * 32}")
    assert serious_faults(page) == []
    assert [complaint for complaint in visits.complaints if "404" not in complaint] == []
    visits.complaints.clear()


def test_every_page_fits_a_telephone(site: Site, visits: Visits, paths: dict[str, str]) -> None:
    page = visits.page(key=site.key, viewport={"width": NARROW_PX, "height": 740})
    widths = {}
    for name, path in paths.items():
        page.goto(f"{site.console}{path}")
        widths[name] = page.evaluate("document.documentElement.scrollWidth")
    assert {name: width for name, width in widths.items() if width > NARROW_PX} == {}


BAD_PAGE = b"""<!doctype html><title>x</title><img src="http://127.0.0.2:1/spy.png"><p style="color: #777; background: #888">x</p>
<script>console.error("said")</script><script src="/thrower.js"></script>"""


def test_what_would_be_wrong_is_found(chromium: Browser) -> None:
    """The checks that all pages pass can fail: a request to elsewhere, a breach of the policy, a fault of access."""
    policy = "default-src 'none'; img-src *; script-src 'self'"
    with serve(reply(BAD_PAGE, Content_Type="text/html", Content_Security_Policy=policy)) as server:
        visits = Visits(browser=chromium, home=server.url("").rstrip("/"))
        page = visits.page()
        page.goto(server.url("/"))
        assert any("image-alt (critical)" in fault for fault in serious_faults(page))
        visits.close()
    assert "request: http://127.0.0.2:1/spy.png" in visits.complaints
    assert any("Content Security Policy" in complaint for complaint in visits.complaints)
    assert any("script: " in complaint for complaint in visits.complaints), "the second script is no script"
