"""A source at an http or https address: streamed to a file and hashed on the way, within limits of time and bytes.

URLs' queries and fragments, which often are credentials, are in no error message and no log line.
"""

from __future__ import annotations

import re
import ssl
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx

from worker.content import taking_in
from worker.errors import (
    EmptyMedia,
    FetchAuth,
    FetchError,
    FetchGeo,
    FetchGone,
    FetchRateLimited,
    FetchRefused,
    FetchTimeout,
    MediaTooLarge,
)
from worker.source.client import guarded_client, plain_url, retry_after_s
from worker.source.guard import AddressGuard

HEADERS: Final = {"accept": "*/*", "accept-encoding": "identity"}
_STEP: Final = 1 << 16
_BY_STATUS: Final[dict[int, type[FetchError]]] = {
    401: FetchAuth,
    402: FetchAuth,
    403: FetchAuth,
    404: FetchGone,
    408: FetchTimeout,
    410: FetchGone,
    425: FetchTimeout,
    451: FetchGeo,
}
_CONTENT_TYPE = re.compile(r"[\w.+-]{1,64}/[\w.+-]{1,64}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """A finished download. ``final_url``: where redirects led to, without query; ``content_type``: as the server claims."""

    path: Path
    sha256: str
    size_bytes: int
    final_url: str
    content_type: str | None


OnProgress = Callable[[int, int | None], None]
"""Bytes that have come and, where the server said so, bytes in all; called for every piece."""


class HttpSource:
    """Downloads one file at a time; may be shared by threads.

    ``max_bytes`` holds for the bytes as received and for what becomes of them if the server compressed them unasked.
    ``timeout_s``: for all of it, but for the name server (``AddressGuard.resolve``); ``stall_s``: without a byte.
    """

    def __init__(
        self,
        *,
        guard: AddressGuard,
        max_bytes: int,
        timeout_s: float = 300,
        connect_s: float = 10,
        stall_s: float = 30,
        max_redirects: int = 5,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        self._guard = guard
        self._max_bytes = max_bytes
        self._timeout_s, self._connect_s, self._stall_s = timeout_s, connect_s, stall_s
        self._max_redirects = max_redirects
        self._ssl_context = ssl_context or httpx.create_ssl_context(trust_env=False)

    def fetch(self, url: str, into: Path, on_progress: OnProgress | None = None) -> Fetched:
        """Download to the new file ``into``, which only this user can read; after an error there is none.

        Raises FetchError, MediaTooLarge, EmptyMedia, StorageFull (no room on the disk).
        """
        self._guard.check_url(url)
        ends_at = time.monotonic() + self._timeout_s
        client = guarded_client(
            self._guard, connect_s=self._connect_s, stall_s=self._stall_s, ends_at=ends_at, ssl_context=self._ssl_context
        )
        with client, self._translated(ends_at), self._answer(client, url) as response:
            return self._save(response, into, on_progress)

    @contextmanager
    def _answer(self, client: httpx.Client, url: str) -> Iterator[httpx.Response]:
        """The answer at the end of the redirects; each of them passes the guard as the first URL did."""
        request = client.build_request("GET", url, headers=HEADERS)
        for _ in range(self._max_redirects + 1):
            response = client.send(request, stream=True)
            try:
                if response.next_request is None:
                    _check_status(response)
                    yield response
                    return
                request = response.next_request
            finally:
                response.close()
        raise FetchRefused(f"more than {self._max_redirects} redirects")

    def _save(self, response: httpx.Response, into: Path, on_progress: OnProgress | None) -> Fetched:
        total = _declared(response)
        if total is not None and total > self._max_bytes:
            raise MediaTooLarge(f"{total} bytes, limit {self._max_bytes}")
        with taking_in(into, self._max_bytes) as intake:
            for piece in _decoded(response, self._received(response, total, on_progress)):
                intake.write(piece)
            content = intake.content()
            if not content.size_bytes:
                raise EmptyMedia("the server sent no bytes")
        kind = _CONTENT_TYPE.match(response.headers.get("content-type", ""))
        return Fetched(
            path=into,
            sha256=content.sha256,
            size_bytes=content.size_bytes,
            final_url=plain_url(response.url),
            content_type=kind.group().lower() if kind else None,
        )

    def _received(self, response: httpx.Response, total: int | None, on_progress: OnProgress | None) -> Iterator[bytes]:
        received = 0
        for piece in response.iter_raw():
            received += len(piece)
            if received > self._max_bytes:
                raise MediaTooLarge(f"more than {self._max_bytes} bytes")
            yield piece
            if on_progress is not None:
                on_progress(received, total)

    @contextmanager
    def _translated(self, ends_at: float) -> Iterator[None]:
        """httpx's errors as ours; none of their messages, which may hold the URL, goes on."""
        try:
            yield
        except httpx.TimeoutException as exc:
            if time.monotonic() >= ends_at:
                raise FetchTimeout(f"not done within {self._timeout_s:g} s") from exc
            limit_s = self._connect_s if isinstance(exc, httpx.ConnectTimeout) else self._stall_s
            raise FetchTimeout(f"no answer for {limit_s:g} s") from exc
        except httpx.ConnectError as exc:
            if _is_certificate(exc):
                raise FetchRefused("the server's certificate is not valid for its name") from exc
            raise FetchTimeout("no connection") from exc
        except (httpx.NetworkError, httpx.RemoteProtocolError) as exc:
            raise FetchTimeout(f"the server broke off ({type(exc).__name__})") from exc
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, UnicodeError) as exc:
            raise FetchRefused(f"the server's answer cannot be followed ({type(exc).__name__})") from exc


def _check_status(response: httpx.Response) -> None:
    status = response.status_code
    message = f"the server answered with status {status}"
    if status in (204, 205):
        raise EmptyMedia(message)
    if status == 429 or (status == 503 and "retry-after" in response.headers):
        raise FetchRateLimited(message, retry_after_s=retry_after_s(response))
    if status in _BY_STATUS:
        raise _BY_STATUS[status](message)
    if status >= 500:
        raise FetchTimeout(message)
    if status not in (200, 203):
        raise FetchRefused(message)


def _declared(response: httpx.Response) -> int | None:
    text = response.headers.get("content-length", "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else None


def _decoded(response: httpx.Response, pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The body as it was before the server compressed it, in small steps: a bomb is cut where the bytes are counted.

    Some stores (S3) send ``gzip`` whatever was asked for. Others, and one within another, are refused.
    """
    coding = response.headers.get("content-encoding", "identity").strip().lower()
    if coding in ("", "identity"):
        yield from pieces
        return
    if coding not in ("gzip", "x-gzip", "deflate"):
        raise FetchRefused("the server compressed its answer, which was not asked for")
    inflate = zlib.decompressobj(zlib.MAX_WBITS | 32)  # 32: gzip or zlib, by the header
    try:
        for piece in pieces:
            step = inflate.decompress(piece, _STEP)
            yield step
            while inflate.unconsumed_tail or len(step) == _STEP:
                step = inflate.decompress(inflate.unconsumed_tail, _STEP)
                yield step
    except zlib.error as exc:
        raise FetchRefused(f"the server's {coding} does not decode") from exc
    if inflate.unused_data:
        raise FetchRefused(f"the server's {coding} has something behind its end")
    if not inflate.eof:
        raise FetchTimeout("the server broke off within compressed bytes")


def _is_certificate(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return True
        error = error.__cause__ or error.__context__
    return False
