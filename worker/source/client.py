"""HTTP clients of which every connection passes the address guard: for fetching and for callbacks."""

from __future__ import annotations

import http.cookiejar
import logging
import math
import ssl
import time
from collections.abc import Callable, Iterable, Sequence
from email.utils import parsedate_to_datetime
from typing import Any, Final
from urllib.parse import urljoin

import httpcore
import httpx

from worker import __version__
from worker.source.guard import MAX_URL, AddressGuard

USER_AGENT = f"veriframe/{__version__}"
ASK_S: Final = 0.5
"""Whoever waits for bytes is asked so often whether to go on."""


class Stopped(Exception):
    """Whoever asked for bytes does not want them any more. No error: it ends at whoever said so."""


def never() -> bool:
    return False


def guarded_client(
    guard: AddressGuard,
    *,
    connect_s: float = 10,
    stall_s: float = 30,
    ends_at: float | None = None,
    connections: int = 100,
    proxy: str | None = None,
    ssl_context: ssl.SSLContext | None = None,
    stop: Callable[[], bool] = never,
) -> httpx.Client:
    """A client for http and https that connects to what ``guard`` lets pass and to nothing else; redirects are not followed.

    ``connect_s`` is for each of connecting and TLS, ``stall_s`` for each wait for a byte. ``ends_at`` (``time.monotonic()``) ends
    all of it, whatever the other end does. Behind ``proxy`` (http://HOST:PORT) it connects to that and nothing else, and checks
    how URLs are written; where names lead is the proxy's to check. It takes no proxy, certificate or password from the
    environment and keeps no cookies. ``stop`` is asked at every byte that comes or goes, and each ``ASK_S`` where none does.
    A request raises FetchError for what the guard refuses, Stopped where ``stop`` said so, httpx.HTTPError for the rest. The
    caller closes it.
    """
    _keep_secrets_from_logs()
    backend = _GuardedBackend(guard.resolve if proxy is None else lambda host, port: (host,), ends_at, stop)
    return httpx.Client(
        transport=_GuardedTransport(guard, backend, connections, proxy, ssl_context or httpx.create_ssl_context(trust_env=False)),
        timeout=httpx.Timeout(stall_s, connect=connect_s),
        headers={"user-agent": USER_AGENT},
        cookies=http.cookiejar.CookieJar(http.cookiejar.DefaultCookiePolicy(allowed_domains=())),
        follow_redirects=False,
        trust_env=False,
    )


def retry_after_s(response: httpx.Response) -> float | None:
    """Retry-After is a number of seconds or a date (RFC 9110, 10.2.3); None for anything else."""
    text = response.headers.get("retry-after", "").strip()
    if text.isascii() and text.isdigit() and len(text) < 10:
        return float(text)
    try:
        left_s = parsedate_to_datetime(text).timestamp() - time.time()
    except (ValueError, OverflowError):
        return None
    return max(left_s, 0.0) if math.isfinite(left_s) else None


class _GuardedTransport(httpx.HTTPTransport):
    """httpx's own transport over a pool whose connections are made by ``_GuardedBackend``."""

    def __init__(
        self, guard: AddressGuard, backend: _GuardedBackend, connections: int, proxy: str | None, ssl_context: ssl.SSLContext
    ) -> None:
        super().__init__(verify=ssl_context, trust_env=False)
        self._guard = guard
        # httpx has no public way to give its pool a network backend; test_guard.py fails should this one end.
        if proxy is None:
            self._pool = httpcore.ConnectionPool(ssl_context=ssl_context, max_connections=connections, network_backend=backend)
        else:
            self._pool = httpcore.HTTPProxy(
                proxy_url=proxy, ssl_context=ssl_context, max_connections=connections, network_backend=backend
            )

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self._guard.check_url(str(request.url))
        return super().handle_request(request)


class _GuardedBackend(httpcore.NetworkBackend):
    """Connects to the addresses that it is given for a host, the guard's checked ones; TLS goes on with the name."""

    def __init__(self, addresses: Callable[[str, int], Sequence[str]], ends_at: float | None, stop: Callable[[], bool]) -> None:
        self._addresses, self._ends_at, self._stop = addresses, ends_at, stop
        self._sockets = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        addresses = self._addresses(host, port)
        until = _earlier(None if timeout is None else time.monotonic() + timeout, self._ends_at)
        for left, address in zip(range(len(addresses), 0, -1), addresses, strict=True):
            if self._stop():
                raise Stopped
            wait_s = _left_s(None, until, httpcore.ConnectTimeout)
            try:
                stream = self._sockets.connect_tcp(
                    address, port, None if wait_s is None else wait_s / left, local_address, socket_options
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                if left == 1:
                    raise
            else:
                return _EndingStream(stream, self._ends_at, self._stop)
        raise httpcore.ConnectError("no address")

    def connect_unix_socket(self, path: str, timeout: float | None = None, socket_options: Any = None) -> httpcore.NetworkStream:
        raise httpcore.ConnectError("no local sockets")


class _EndingStream(httpcore.NetworkStream):
    """A connection that nothing keeps open beyond ``ends_at``: httpx's own limits begin anew with every byte. It is waited on in
    short steps, between which ``stop`` is asked."""

    def __init__(self, stream: httpcore.NetworkStream, ends_at: float | None, stop: Callable[[], bool]) -> None:
        self._stream, self._ends_at, self._stop = stream, ends_at, stop

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        until = _earlier(None if timeout is None else time.monotonic() + timeout, self._ends_at)
        while True:
            if self._stop():
                raise Stopped
            left_s = _left_s(None, until, httpcore.ReadTimeout)
            is_last = left_s is not None and left_s <= ASK_S
            try:
                return self._stream.read(max_bytes, left_s if is_last else ASK_S)
            except httpcore.ReadTimeout:
                if is_last:
                    raise

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        if self._stop():
            raise Stopped
        self._stream.write(buffer, _left_s(timeout, self._ends_at, httpcore.WriteTimeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        wait_s = _left_s(timeout, self._ends_at, httpcore.ConnectTimeout)
        return _EndingStream(self._stream.start_tls(ssl_context, server_hostname, wait_s), self._ends_at, self._stop)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


def _earlier(one: float | None, other: float | None) -> float | None:
    return min((time_ for time_ in (one, other) if time_ is not None), default=None)


def _left_s(timeout: float | None, ends_at: float | None, late: type[Exception]) -> float | None:
    """How long to wait. Raises ``late`` if there is no time left."""
    if ends_at is None:
        return timeout
    left_s = ends_at - time.monotonic()
    if left_s <= 0:
        raise late("no time left")
    return left_s if timeout is None else min(timeout, left_s)


def _keep_secrets_from_logs() -> None:
    """httpx logs whole URLs at INFO, and httpcore whole headers at DEBUG (Location, signatures): they carry tokens."""
    logging.getLogger("httpx").addFilter(_without_query)
    logging.getLogger("httpcore").setLevel(logging.INFO)


def _without_query(record: logging.LogRecord) -> bool:
    if isinstance(record.args, tuple):
        record.args = tuple(plain_url(value) if isinstance(value, httpx.URL) else value for value in record.args)
    return True


def plain_url(url: httpx.URL | str) -> str:
    """A URL without what may be secret in it: user, query, fragment."""
    return str(httpx.URL(url).copy_with(userinfo=b"", query=None, fragment=None))


def joined_url(base: str, text: str) -> str:
    """``text`` as a reference from ``base``; as it stands where it is none, for the guard to refuse.

    Raises ValueError where either is longer than any address that is asked for: one name may stand for thousands of segments.
    """
    if max(len(base), len(text)) > MAX_URL:
        raise ValueError("an address that is too long")
    try:
        return urljoin(base, text)
    except ValueError:
        return text
