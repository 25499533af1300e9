"""No secret of an address's query comes into the log."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import httpx
import pytest

from worker.queue.logs import begin_logging


@pytest.fixture
def as_before() -> Iterator[None]:
    level = logging.getLogger("httpx").level
    yield
    logging.getLogger("httpx").setLevel(level)


def test_addresses_are_not_logged(as_before: None, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with httpx.Client(transport=httpx.MockTransport(lambda request: httpx.Response(204))) as client:
        client.get("https://media.example/a.mp4?token=hush")
        assert "hush" in caplog.text, "as httpx does by itself"
        caplog.clear()
        begin_logging()
        client.get("https://media.example/a.mp4?token=hush")
    assert caplog.text == ""
