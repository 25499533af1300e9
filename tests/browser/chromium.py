"""The system's Chromium as a test meets it: pages that may ask nobody but the service, and complain of nothing."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Request, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-dev-shm-usage",  # containers have little of it
)
PATIENCE_MS = 120_000


def path_of_chromium() -> str:
    """Skips the test where there is none; where everything must have been installed (``CI``), fails."""
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is None:
        missing = "there is no Chromium on this machine: `make tools` as root, or install the package chromium"
        in_vain = os.environ.get("CI") != "true" or os.environ.get("CI_TOOLS") == "missing"
        pytest.skip(missing) if in_vain else pytest.fail(missing)
    return found


@contextmanager
def launched() -> Iterator[Browser]:
    """For one module at a time: while Playwright runs, the thread's asyncio is its own, and other modules' tests want it."""
    path = path_of_chromium()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=[*FLAGS])
        try:
            yield browser
        finally:
            browser.close()


@dataclass(slots=True, kw_only=True)
class Visits:
    """Opens pages, and keeps what was wrong with any: a request to elsewhere, a breach of its security policy, an error of
    a script, a warning."""

    browser: Browser
    home: str
    complaints: list[str] = field(default_factory=list)
    contexts: list[BrowserContext] = field(default_factory=list)

    def page(self, *, key: str | None = None, **options: Any) -> Page:
        """A page of a fresh profile, signed in with ``key``."""
        context = self.browser.new_context(**options)
        self.contexts.append(context)
        context.set_default_timeout(PATIENCE_MS)
        context.on("request", lambda request: self._note_request(request))
        context.on("console", lambda message: self._note_console(message))
        context.on("weberror", lambda error: self.complaints.append(f"script: {error.error}"))
        if key is not None:
            answer = context.request.post(f"{self.home}/console/sign-in", form={"key": key})
            assert answer.ok, answer.status
        return context.new_page()

    def close(self) -> None:
        for context in self.contexts:
            context.close()

    def _note_request(self, request: Request) -> None:
        if not request.url.startswith((f"{self.home}/", "data:", "blob:")):
            self.complaints.append(f"request: {request.url}")

    def _note_console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(f"console: {message.text}")
