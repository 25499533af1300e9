"""One try of one callback: a POST, how its answer is read, and an end to it whatever the receiver does."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import httpx

from worker.errors import FetchError, FetchRefused
from worker.source.client import plain_url, retry_after_s
from worker.source.guard import AddressRefused

Outcome = Literal["delivered", "again", "dead"]
OpenClient = Callable[[float], httpx.Client]
"""Makes a client for one try that ends at the given ``time.monotonic()``; see ``worker.source.client.guarded_client``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came of a try: ``delivered``, worth another one (``again``), or never to be tried again (``dead``).

    ``error`` names the status or the failure, for people, and holds nothing that the receiver wrote, nor of the URL more than the
    host. ``retry_after_s``: what it asked for.
    """

    outcome: Outcome
    error: str = ""
    retry_after_s: float | None = None


def post(open_client: OpenClient, url: str, body: str, headers: Mapping[str, str], timeout_s: float) -> Answer:
    """Deliver ``body``; never raises for what a receiver, a network or a URL does. Redirects are answers like others.

    The answer's body is not read beyond what came along with its headers. After ``timeout_s`` it is over, also where a receiver
    sends a byte now and then; only a name server that does not answer may take longer.
    """
    sent = {**headers, "content-type": "application/json", "connection": "close"}
    try:
        with (
            open_client(time.monotonic() + timeout_s) as client,
            client.stream("POST", url, content=body, headers=sent, follow_redirects=False) as response,
        ):
            return _read(response)
    except AddressRefused as exc:  # one odd answer of a name server's must not cost all the tries
        return Answer(outcome="again", error=str(exc))
    except FetchRefused as exc:
        return Answer(outcome="dead", error=str(exc))
    except (httpx.InvalidURL, httpx.UnsupportedProtocol):
        return Answer(outcome="dead", error="not a URL")
    except FetchError as exc:
        return Answer(outcome="again", error=str(exc))
    except httpx.TimeoutException:
        return Answer(outcome="again", error=f"no answer within {timeout_s:g} s")
    except httpx.TransportError as exc:
        return Answer(outcome="again", error=type(exc).__name__)


def plain(url: str) -> str:
    """A URL without user, query and fragment, which may hold secrets."""
    try:
        return plain_url(httpx.URL(url))
    except httpx.InvalidURL:
        return "(not a URL)"


def _read(response: httpx.Response) -> Answer:
    status = response.status_code
    if 200 <= status < 300:
        return Answer(outcome="delivered")
    if status == httpx.codes.GONE:
        return Answer(outcome="dead", error="status 410")
    waits = status in (httpx.codes.TOO_MANY_REQUESTS, httpx.codes.SERVICE_UNAVAILABLE)
    return Answer(outcome="again", error=f"status {status}", retry_after_s=retry_after_s(response) if waits else None)
