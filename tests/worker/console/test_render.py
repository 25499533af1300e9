"""How times, addresses and other people's text are shown."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from worker.console.notices import notice
from worker.console.render import address, ago, at, duration, lines, percent, plain, shown_source
from worker.report import Source

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://media.example/a/b.mp4", "https://media.example/a/b.mp4"),
        ("https://user:pw@media.example:8443/a?token=hush#frag", "https://media.example:8443/a?…"),
        ("https://media.example/\u202egpj.mp4", "https://media.example/\\u202egpj.mp4"),
        ("https://media.example:x/", "an address that cannot be read"),
        ("https://[::1/", "an address that cannot be read"),
        ("https://media.example/" + "a" * 5000, "https://media.example/" + "a" * 277 + "…"),
    ],
)
def test_an_address_without_what_it_may_keep_secret(url: str, shown: str) -> None:
    assert address(url) == shown
    assert shown_source(Source(kind="url", url=url)) == shown


def test_other_sources() -> None:
    assert shown_source(Source(kind="upload")) == "uploaded file"
    assert shown_source(Source(kind="path", path="/media/a\nb.mp4")) == "/media/a\\nb.mp4"


def test_text_keeps_its_lines_and_loses_what_hides_it() -> None:
    assert plain("a\u200bb\x1b[2J") == "a\\u200bb\\x1b[2J"
    assert lines("a\u202e\nb") == "a\\u202e\nb"


@pytest.mark.parametrize(
    ("past", "shown"),
    [(0, "just now"), (-9, "just now"), (42, "42 s ago"), (150, "2 min ago"), (7300, "2 h ago"), (2e5, "2 d ago")],
)
def test_how_long_ago(past: float, shown: str) -> None:
    assert ago(NOW - timedelta(seconds=past), NOW) == shown


def test_times_and_shares() -> None:
    assert at(NOW) == at(round(NOW.timestamp() * 1000)) == "2026-01-02 03:04:05 UTC"
    assert (at(None), ago(None), duration(None), percent(None)) == ("\N{EN DASH}",) * 4
    assert (duration(9.04), duration(75), percent(0.405)) == ("9.0 s", "01:15 min", "40 %")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("replayed-1", "1 dead letter is scanned again."),
        ("replayed-12", "12 dead letters are scanned again."),
        ("decided", "Your verdict is recorded, and holds for every scan of the same bytes."),
        ("decided-1", None),
        ("replayed", None),
        ("replayed--1", None),
        ("<script>", None),
        ("", None),
        (None, None),
    ],
)
def test_only_our_own_notices_are_said(name: str | None, said: str | None) -> None:
    assert notice(name) == said
