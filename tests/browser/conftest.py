"""A running service, a browser, and pages of it that complain of nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from tests.browser.chromium import Visits, launched
from tests.browser.site import LIMIT_S, Site, shared_site


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whoever comes first brings the service up, and others wait for it: on a busy machine that takes its time."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.timeout(2 * LIMIT_S + 100))


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
