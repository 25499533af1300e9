"""What comes from outside, on a terminal."""

from __future__ import annotations

import pytest

from worker.output.text import bare_address, clock, escaped, shown_address, shown_score


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("caf\u00e9 [x]", "caf\u00e9 [x]"),
        ("caf\udce9\udc80\udcff", r"caf\xe9\x80\xff"),
        ("\x1b\n\u202e\ud800", r"\x1b\n\u202e\ud800"),
    ],
)
def test_what_cannot_be_printed_is_an_escape(text: str, shown: str) -> None:
    assert escaped(text) == shown


@pytest.mark.parametrize(
    ("url", "bare", "shown"),
    [
        ("https://x.example/a.mp4", "https://x.example/a.mp4", "https://x.example/a.mp4"),
        ("https://me:p@ss@x.example:8/a?sig=1#f", "https://x.example:8/a", "https://x.example:8/a?…"),
        ("http://me@[::1]:8/a'b?sig=1", "http://[::1]:8/a'b", "http://[::1]:8/a'b?…"),
        ("https://x.example/\u202ea", "https://x.example/\u202ea", r"https://x.example/\u202ea"),
        ("https://[x/?sig=1", None, "an address that cannot be read"),
        ("https://x.example:y/?sig=1", None, "an address that cannot be read"),
    ],
)
def test_an_address_without_what_it_may_keep_secret(url: str, bare: str | None, shown: str) -> None:
    assert bare_address(url) == bare
    assert shown_address(url) == shown


@pytest.mark.parametrize(
    ("t_ms", "shown"), [(0, "00:00"), (65_999, "01:05"), (3_599_999, "59:59"), (3_600_000, "1:00:00"), (37_325_000, "10:22:05")]
)
def test_a_moment_is_shown_as_on_a_clock(t_ms: int, shown: str) -> None:
    assert clock(t_ms) == shown


@pytest.mark.parametrize(
    ("score", "digits", "short", "in_words"),
    [
        (0.0, 2, "0.00", "0.00"),
        (5e-324, 2, "<0.01", "under 0.01"),
        (0.0049, 2, "<0.01", "under 0.01"),
        (0.0051, 2, "0.01", "0.01"),
        (0.5, 2, "0.50", "0.50"),
        (0.9949, 2, "0.99", "0.99"),
        (0.9951, 2, ">0.99", "over 0.99"),
        (0.9951, 3, "0.995", "0.995"),
        (0.9996, 3, ">0.999", "over 0.999"),
        (1 - 2**-53, 2, ">0.99", "over 0.99"),
        (1 - 2**-53, 17, "0.99999999999999989", "0.99999999999999989"),
        (1.0, 2, "1.00", "1.00"),
    ],
)
def test_a_score_reads_as_certainty_only_where_it_is(score: float, digits: int, short: str, in_words: str) -> None:
    assert (shown_score(score, digits), shown_score(score, digits, in_words=True)) == (short, in_words)
