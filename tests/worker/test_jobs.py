"""What a report names as its source."""

from __future__ import annotations

from pathlib import Path

import pytest

from worker.errors import FetchRefused
from worker.jobs import failed, sourced
from worker.output.jsonl import json_line
from worker.report import Report
from worker.source.files import Item


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("https://me:secret@media.example/a.mp4?token=1", "https://***@media.example/a.mp4?token=1"),
        ("https://me:se@cret@media.example", "https://***@media.example"),
        ("https://me:se/cret@media.example/a.mp4", "https://***@media.example/a.mp4"),
        ("https://me:s?cr#t@media.example", "https://***@media.example"),
        ("https://me@:se/cret@media.example", "https://***@media.example"),
        ("https://media.example/@me/a.mp4", "https://media.example/@me/a.mp4"),
        ("https://media.example:8443/@me/a.mp4", "https://media.example:8443/@me/a.mp4"),
        ("https://[::1]:8443/@me/a.mp4?of=me@media.example", "https://[::1]:8443/@me/a.mp4?of=me@media.example"),
    ],
)
def test_a_report_keeps_no_password_of_an_address(url: str, told: str) -> None:
    report = failed(Path("/0/a.mp4"), FetchRefused("a URL with a user name or password in it"))
    assert sourced(report, Item(path=Path("/0/a.mp4"), url=url)).source.url == told


def test_a_report_on_an_address_that_is_not_utf_8_is_json() -> None:
    item = Item(path=Path("/0/a.mp4"), url="https://media.example/\udcff\u00e9.mp4")
    report = sourced(failed(item.path, FetchRefused("not a valid URL")), item)
    assert Report.model_validate_json(json_line(report)).source.url == "https://media.example/\\xff\u00e9.mp4"
