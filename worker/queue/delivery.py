"""One try of one callback: a POST, how its answer is read, and an end to it whatever the receiver does."""

from __future__ import annotations

import math
import os
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any, Literal
from urllib.parse import urlsplit

import httpx

from worker.errors import FetchError, FetchRefused

Outcome = Literal["delivered", "again", "dead"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came of a try: ``delivered``, worth another one (``again``), or never to be tried again (``dead``).

    ``error`` names the status or the failure and holds nothing that the receiver wrote. ``retry_after_s``: what it asked for.
    """

    outcome: Outcome
    error: str = ""
    retry_after_s: float | None = None


def post(client: httpx.Client, url: str, body: str, headers: Mapping[str, str], timeout_s: float) -> Answer:
    """Deliver ``body``; never raises for what a receiver, a network or a URL does. Redirects are answers like others.

    The answer's body is not read beyond what came along with its headers. After ``timeout_s`` the connection is cut, also under a
    receiver that sends a byte now and then; a name server that does not answer may take longer.
    """
    limit = _Limit(timeout_s)
    try:
        # Its own connection: a kept one could not be cut at the limit, and may be closed just as the request is sent.
        # Its own request: one that the client builds would carry the cookies which earlier receivers set.
        request = httpx.Request(
            "POST",
            url,
            content=body,
            headers={**headers, "content-type": "application/json", "connection": "close"},
            extensions={"trace": limit.watch, "timeout": httpx.Timeout(timeout_s).as_dict()},
        )
        with limit.running():
            response = client.send(request, stream=True, follow_redirects=False)
            response.close()
            return _read(response)
    except (httpx.InvalidURL, httpx.UnsupportedProtocol, UnicodeError):
        return Answer(outcome="dead", error="not a URL")
    except httpx.TransportError as exc:
        is_late = limit.is_over or isinstance(exc, httpx.TimeoutException)
        return Answer(outcome="again", error=f"no answer within {timeout_s:g} s" if is_late else type(exc).__name__)
    except FetchRefused as exc:
        return Answer(outcome="dead", error=exc.code)
    except FetchError as exc:
        return Answer(outcome="again", error=exc.code)


def plain(url: str) -> str:
    """A URL without user, query and fragment, which may hold secrets."""
    try:
        parts = urlsplit(url)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
    except ValueError:
        return "(not a URL)"


def _read(response: httpx.Response) -> Answer:
    status = response.status_code
    if 200 <= status < 300:
        return Answer(outcome="delivered")
    if status == httpx.codes.GONE:
        return Answer(outcome="dead", error="status 410")
    waits = status in (httpx.codes.TOO_MANY_REQUESTS, httpx.codes.SERVICE_UNAVAILABLE)
    asked_s = _seconds(response.headers.get("retry-after", "")) if waits else None
    return Answer(outcome="again", error=f"status {status}", retry_after_s=asked_s)


def _seconds(retry_after: str) -> float | None:
    """Retry-After is a number of seconds or a date (RFC 9110, 10.2.3); None for anything else."""
    if retry_after.isascii() and retry_after.isdigit() and len(retry_after) < 10:
        return float(retry_after)
    try:
        left_s = parsedate_to_datetime(retry_after).timestamp() - time.time()
    except (ValueError, OverflowError):
        return None
    return max(left_s, 0.0) if math.isfinite(left_s) else None


class _Limit:
    """Cuts the connection of a request that is still under way after ``timeout_s``; httpx's limits begin anew with every byte.

    httpcore tells of the socket when it is connected. It is duplicated: TLS takes the first descriptor over, and a shutdown holds
    for all of them.
    """

    def __init__(self, timeout_s: float) -> None:
        self._timer = threading.Timer(timeout_s, self._cut)
        self._timer.daemon = True
        self._lock = threading.Lock()
        self._sockets: list[socket.socket] = []
        self.is_over = False

    @contextmanager
    def running(self) -> Iterator[None]:
        self._timer.start()
        try:
            yield
        finally:
            self._timer.cancel()
            with self._lock:
                for connection in self._sockets:
                    connection.close()
                self._sockets.clear()

    def watch(self, event: str, info: Mapping[str, Any]) -> None:
        """httpcore's ``trace`` extension."""
        if not event.endswith("connect_tcp.complete"):
            return
        connected = info["return_value"].get_extra_info("socket")
        with self._lock:
            self._sockets.append(socket.socket(fileno=os.dup(connected.fileno())))
        if self.is_over:
            self._cut()

    def _cut(self) -> None:
        self.is_over = True
        with self._lock:
            for connection in self._sockets:
                try:
                    connection.shutdown(socket.SHUT_RDWR)
                except OSError:  # the receiver was faster
                    continue
