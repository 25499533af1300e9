"""No page of the console has a serious or critical fault by axe's rules, in light and dark, and each fits a telephone."""

from __future__ import annotations

import secrets

import pytest
from playwright.sync_api import Browser

from tests.browser.access import WIDE, faults, serious_faults
from tests.browser.chromium import Visits
from tests.browser.site import Site
from tests.worker.source.loopback import reply, serve

STILL = "window.EventSource = class extends EventTarget { close() {} }"
"""Nothing on the page changes under axe's eyes: other tests have scans run meanwhile."""


@pytest.fixture(scope="module")
def paths(site: Site) -> dict[str, str]:
    """Every kind of page, below the console's address."""
    with serve(reply(b"", 503)) as media:
        dead = site.submit(media.url("/gone.mp4"), f"dead-{secrets.token_hex(4)}")
        assert site.ended(dead).dead
    return {
        "a scan": f"/scans/{site.scan('swapped.mp4')}",
        "its page to print": f"/scans/{site.scan('swapped.mp4')}/page",
        "overview": "/",
        "scans": "/scans",
        "dead letters": "/dead",
        "a dead letter": f"/scans/{dead}",
        "submit": "/submit",
    }


def test_no_page_keeps_anybody_out(site: Site, visits: Visits, paths: dict[str, str]) -> None:
    page = visits.page(key=site.key, viewport=WIDE)
    page.add_init_script(STILL)
    found = {}
    for name, path in paths.items():
        page.goto(f"{site.console}{path}")
        found[name] = faults(page)
    stranger = visits.page(viewport=WIDE)
    stranger.goto(f"{site.console}/sign-in")
    found["sign in"] = faults(stranger)
    assert {name: wrong for name, wrong in found.items() if wrong} == {}


def test_the_page_of_an_error_too(site: Site, visits: Visits) -> None:
    page = visits.page(key=site.key)
    with page.context.expect_console_message(lambda message: "404" in message.text):
        page.goto(f"{site.console}/scans/{'0' * 32}")
    (complaint,) = visits.complaints  # no fault whatever follows, a skip without axe too
    assert "404" in complaint
    visits.complaints.clear()
    assert serious_faults(page) == []


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
