"""A running service, a browser, and pages of it that complain of nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from tests.browser.chromium import Visits, launched
from tests.browser.site import Site, shared_site


@pytest.fixture(scope="session")
def site(shared_tmp: Path) -> Iterator[Site]:
    with shared_site(shared_tmp) as running:
        yield running


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with launched() as browser:
        yield browser


@pytest.fixture
def visits(chromium: Browser, site: Site) -> Iterator[Visits]:
    """Fails the test if a page asked anybody but the service for anything, or complained."""
    made = Visits(browser=chromium, home=site.api)
    try:
        yield made
    finally:
        made.close()
    assert made.complaints == []
