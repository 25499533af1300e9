"""Going on after a broken connection: when to try again, and when the bytes at hand may be kept (RFC 9110, 8.8 and 14)."""

from __future__ import annotations

import random
import re
import time
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Final

import httpx

from worker.errors import FetchError, FetchRateLimited
from worker.source.answers import coding_of, declared_size

LONGEST_WAIT_S: Final = 30.0
"""A server that wants to be left alone for longer is left to a later attempt."""
_FIRST_WAIT_S, _MOST_WAIT_S = 0.5, 5.0
_STRONG_AFTER_S: Final = 60
"""A date is a strong validator where the answer was made so long after it (RFC 9110, 8.8.2.2)."""
_ETAG = re.compile(r'"[\x21\x23-\x7e]{1,512}"')
_CONTENT_RANGE = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19}|\*)", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """What proves that a later answer is of the same bytes. ``total``: of how many, where the server said so."""

    validator: str
    total: int | None


def mark_of(response: httpx.Response) -> Mark | None:
    """None where the answer has no strong validator, or was compressed: then a broken download begins anew."""
    validator = _strong_validator(response)
    if validator is None or coding_of(response):
        return None
    return Mark(validator=validator, total=declared_size(response))


def range_headers(mark: Mark, first: int) -> dict[str, str]:
    """Asks for the bytes from ``first`` on if they are still the same, else for all of them."""
    return {"range": f"bytes={first}-", "if-range": mark.validator}


def continues(response: httpx.Response, mark: Mark, first: int) -> bool:
    """Whether an answer is the rest, from byte ``first`` on, of what ``mark`` was taken from."""
    part = part_of(response)
    if part is None or coding_of(response):
        return False
    begins, ends, total = part
    # A part must bear the tag (RFC 9110, 15.3.7); a date may be missing. There are servers that do not know If-Range.
    is_tag = mark.validator.startswith('"')
    told = response.headers.get("etag" if is_tag else "last-modified", "" if is_tag else mark.validator).strip()
    return (
        begins == first
        and (total is None or (ends == total - 1 and mark.total in (None, total)))
        and (mark.total is None or ends == mark.total - 1)
        and told == mark.validator
    )


def part_of(response: httpx.Response) -> tuple[int, int, int | None] | None:
    """First and last byte and length of all, of an answer that is a part."""
    match = _CONTENT_RANGE.fullmatch(response.headers.get("content-range", "").strip())
    if response.status_code != 206 or match is None:
        return None
    first, last = int(match[1]), int(match[2])
    total = None if match[3] == "*" else int(match[3])
    if last < first or (total is not None and last >= total):
        return None
    return first, last, total


def _strong_validator(response: httpx.Response) -> str | None:
    tag = response.headers.get("etag", "").strip()
    if _ETAG.fullmatch(tag):
        return str(tag)
    changed, made = (response.headers.get(name, "").strip() for name in ("last-modified", "date"))
    try:
        age_s = (parsedate_to_datetime(made) - parsedate_to_datetime(changed)).total_seconds()
    except (ValueError, TypeError, OverflowError):
        return None
    return str(changed) if age_s >= _STRONG_AFTER_S else None


class Tries:
    """How often and how long one download is tried.

    One that begins anew is tried ``retries`` times more. One that can go on is tried until ``patience_s`` have passed without a
    new byte. All within ``ends_at`` (``time.monotonic()``).
    """

    def __init__(self, *, retries: int, patience_s: float, ends_at: float) -> None:
        self._left, self._patience_s, self._ends_at = retries, patience_s, ends_at
        self._in_a_row = 0
        self._last_byte_at = time.monotonic()

    def came(self) -> None:
        """A byte has come."""
        self._last_byte_at = time.monotonic()
        self._in_a_row = 0

    def wait_s(self, error: FetchError, *, goes_on: bool) -> float:
        """How long to wait before the next try. Raises ``error`` if there is to be none."""
        now = time.monotonic()
        wait_s = min(_MOST_WAIT_S, _FIRST_WAIT_S * 2.0 ** min(self._in_a_row, 10)) * random.uniform(0.5, 1)
        if isinstance(error, FetchRateLimited) and error.retry_after_s is not None:
            wait_s = max(wait_s, error.retry_after_s)
        self._in_a_row += 1
        if not error.retryable or wait_s > LONGEST_WAIT_S or now + wait_s >= self._ends_at:
            raise error
        if goes_on:
            if now - self._last_byte_at >= self._patience_s:
                raise error
            return wait_s
        if self._left <= 0:
            raise error
        self._left -= 1
        return wait_s
