"""What a server's answer means: its status, the bytes that it compressed, and a connection that ends, as errors of ours."""

from __future__ import annotations

import re
import ssl
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import httpx

from worker.errors import (
    EmptyMedia,
    FetchAuth,
    FetchError,
    FetchGeo,
    FetchGone,
    FetchRateLimited,
    FetchRefused,
    FetchTimeout,
)
from worker.source.client import retry_after_s

_STEP: Final = 1 << 16
NOTHING_YET: Final = "the server has nothing of the stream yet"
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


def error_of_status(
    status: int, retry_after_s: float | None = None, host: str | None = None, *, who: str = "the server"
) -> FetchError:
    """What a status that brings no bytes means, said by ``host``; ``who`` that is, in words."""
    message = f"{who} answered with status {status}"
    if status == 429 or (status == 503 and retry_after_s is not None):
        return FetchRateLimited(message, retry_after_s=retry_after_s, host=host)
    if status in _BY_STATUS:
        return _BY_STATUS[status](message)
    return FetchTimeout(message) if status >= 500 else FetchRefused(message)


def check_status(response: httpx.Response) -> None:
    """Raises FetchError or EmptyMedia unless the answer is the whole body."""
    status = response.status_code
    if status in (204, 205):
        raise EmptyMedia(f"the server answered with status {status}")
    if status not in (200, 203):
        raise error_of_status(status, retry_after_s(response), response.url.host)


def check_serving(response: httpx.Response) -> None:
    """As ``check_status``, of a stream: an answer without a body is none yet, not an end. Raises FetchError."""
    try:
        check_status(response)
    except EmptyMedia as exc:
        raise FetchTimeout(NOTHING_YET) from exc


def error_of_proxy(error: httpx.ProxyError) -> FetchError:
    """Why an egress proxy makes no tunnel: what passes is worth another try, as for a server; all else is its refusal."""
    status = re.match(r"\d{3}\b", str(error))  # httpcore puts the answer's status in front of its reason
    if status is not None:
        told = error_of_status(int(status[0]), host=error.request.url.host, who="the egress proxy")
        if told.retryable:
            return told
    return FetchRefused("the egress proxy refuses this address")


def declared_size(response: httpx.Response) -> int | None:
    """Content-Length, which may be a lie."""
    text = response.headers.get("content-length", "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else None


def coding_of(response: httpx.Response) -> str:
    """Content-Encoding; empty where the bytes are as they are."""
    coding: str = response.headers.get("content-encoding", "").strip().lower()
    return "" if coding == "identity" else coding


def decoded(response: httpx.Response, pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The body as it was before the server compressed it, in small steps: a bomb is cut where the bytes are counted.

    Some stores (S3) send ``gzip`` whatever was asked for. Others, and one within another, are refused.
    """
    coding = coding_of(response)
    if not coding:
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
            if inflate.unused_data:  # zlib holds all of it, and copies it with every piece that comes
                raise FetchRefused(f"the server's {coding} has something behind its end")
    except zlib.error as exc:
        raise FetchRefused(f"the server's {coding} does not decode") from exc
    if not inflate.eof:
        raise FetchTimeout("the server broke off within compressed bytes")


@contextmanager
def translated(*, timeout_s: float, connect_s: float, stall_s: float, ends_at: float) -> Iterator[None]:
    """httpx's errors as ours; none of their messages, which may hold the URL, goes on."""
    try:
        yield
    except httpx.TimeoutException as exc:
        if time.monotonic() >= ends_at:
            raise FetchTimeout(f"not done within {timeout_s:g} s") from exc
        limit_s = connect_s if isinstance(exc, httpx.ConnectTimeout) else stall_s
        raise FetchTimeout(f"no answer for {limit_s:g} s") from exc
    except httpx.ProxyError as exc:
        raise error_of_proxy(exc) from exc
    except httpx.ConnectError as exc:
        if _is_certificate(exc):
            raise FetchRefused("the server's certificate is not valid for its name") from exc
        raise FetchTimeout("no connection") from exc
    except (httpx.NetworkError, httpx.RemoteProtocolError) as exc:
        if isinstance(exc.__context__, httpx.InvalidURL):
            raise FetchRefused("the server leads to what is no URL") from exc
        raise FetchTimeout(f"the server broke off ({type(exc).__name__})") from exc
    except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, UnicodeError) as exc:
        raise FetchRefused(f"the server's answer cannot be followed ({type(exc).__name__})") from exc


def _is_certificate(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return True
        error = error.__cause__ or error.__context__
    return False
