"""The log of a service is not one of requests."""

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


def test_requests_are_not_logged(as_before: None, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with httpx.Client(transport=httpx.MockTransport(lambda request: httpx.Response(204))) as client:
        client.get("https://media.example/seg1.ts")
        assert "seg1.ts" in caplog.text, "as httpx does by itself"
        caplog.clear()
        begin_logging()
        client.get("https://media.example/seg2.ts")
    assert caplog.text == ""
