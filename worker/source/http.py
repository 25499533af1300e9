"""A source at an http or https address: streamed to a file and hashed on the way, within limits of time, bytes and rate.

URLs' queries and fragments, which often are credentials, are in no error message and no log line.
"""

from __future__ import annotations

import logging
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx

from worker.content import Intake, disk_bytes, taking_in
from worker.errors import EmptyMedia, FetchError, FetchRefused, FetchTimeout, MediaTooLarge
from worker.source.answers import check_status, coding_of, declared_size, decoded, translated
from worker.source.client import ASK_S, Stopped, guarded_client, never, plain_url
from worker.source.guard import AddressGuard
from worker.source.resume import Mark, Tries, continues, mark_of, part_of, range_headers

log = logging.getLogger(__name__)

HEADERS: Final = {"accept": "*/*", "accept-encoding": "identity"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """A finished download. ``final_url``: where redirects led to, without query."""

    path: Path
    sha256: str
    size_bytes: int
    final_url: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Body:
    """A small answer in memory. ``url``: where it came from in the end, whole: what is in it may be relative to that."""

    data: bytes
    url: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ByteRange:
    """``length`` bytes of a resource from byte ``first`` on."""

    first: int
    length: int


OnProgress = Callable[[int, int | None], None]
"""Bytes that have come and, where the server said so, bytes in all; called for every piece."""
CookieFor = Callable[[str], str | None]
"""The cookies that go with a URL."""
Stop = Callable[[], bool]
"""Asked at least each second, also while nothing comes; True ends the request by ``worker.source.client.Stopped``."""


class HttpSource:
    """Downloads one file at a time; may be shared by threads.

    ``max_bytes`` holds for the bytes as received and for what becomes of them if the server compressed them unasked.
    ``timeout_s``: for all of it, but for the name server (``AddressGuard.resolve``); ``stall_s``: without a byte. ``retries`` and
    ``patience_s``: see ``worker.source.resume.Tries``. ``rate_bytes_s``: no faster on the average; 0: as fast as can be.
    ``proxy``: an egress proxy, which then looks up names and is the boundary; the guard sees only how URLs are written.
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
        retries: int = 2,
        patience_s: float = 60,
        rate_bytes_s: int = 0,
        proxy: str | None = None,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        self.guard = guard
        self.max_bytes = max_bytes
        self.timeout_s, self.connect_s, self.stall_s = timeout_s, connect_s, stall_s
        self.max_redirects = max_redirects
        self.retries, self.patience_s = retries, patience_s
        self.rate_bytes_s = rate_bytes_s
        self._proxy = proxy
        self._ssl_context = ssl_context or httpx.create_ssl_context(trust_env=False)
        if proxy is not None:
            log.info("an egress proxy resolves names: it is the boundary, the check of addresses here is a first filter")

    def fetch(self, url: str, into: Path, on_progress: OnProgress | None = None) -> Fetched:
        """Download to the new file ``into``, which only this user can read; after an error there is none.

        Raises FetchError, MediaTooLarge, EmptyMedia, StorageFull (no room on the disk).
        """
        self.guard.check_url(url)
        with self.session() as session:
            return session.download(url, into, on_progress)

    @contextmanager
    def session(self, stop: Stop = never, ends_at: float | None = None) -> Iterator[Session]:
        """Several requests that share connections and one limit of time; ``ends_at``: another than in ``timeout_s``."""
        if ends_at is None:
            ends_at = time.monotonic() + self.timeout_s
        with self._client(ends_at, stop) as client:
            yield Session(self, client, ends_at, stop)

    def _client(self, ends_at: float, stop: Stop) -> httpx.Client:
        return guarded_client(
            self.guard,
            connect_s=self.connect_s,
            stall_s=self.stall_s,
            ends_at=ends_at,
            proxy=self._proxy,
            ssl_context=self._ssl_context,
            stop=stop,
        )


class Session:
    """Requests for the parts of one source, within one limit of time. For one thread.

    ``headers`` go with every request; ``cookie_for`` gives the cookies for each hop.
    """

    def __init__(self, source: HttpSource, client: httpx.Client, ends_at: float, stop: Stop = never) -> None:
        self.source, self.client, self.ends_at = source, client, ends_at
        self._stop = stop
        self.headers: Mapping[str, str] = {}
        self.cookie_for: CookieFor | None = None
        self._pace = _Pace(source.rate_bytes_s)

    def download(self, url: str, into: Path, on_progress: OnProgress | None = None) -> Fetched:
        """As ``HttpSource.fetch``."""
        self.source.guard.check_url(url)
        with taking_in(into, self.source.max_bytes, disk_bytes(into.parent)) as intake:
            return _Download(self, url, intake, on_progress).run(into)

    def read(self, url: str, *, max_bytes: int, part: ByteRange | None = None) -> Body:
        """A small body, or a part of one, in memory. Raises FetchError, MediaTooLarge, EmptyMedia."""
        self.source.guard.check_url(url)
        tries = self.tries()
        while True:
            try:
                return self._read_once(url, max_bytes, part)
            except FetchError as exc:
                time.sleep(tries.wait_s(exc, goes_on=False))

    def _read_once(self, url: str, max_bytes: int, part: ByteRange | None) -> Body:
        asked = {"range": f"bytes={part.first}-{part.first + part.length - 1}"} if part else {}
        with self.translated(), self.answer(url, asked) as response:
            if part is not None and part_of(response) is not None:
                _check_part(response, part)
            else:
                check_status(response)
                if part is not None:
                    raise FetchRefused("the server gives no parts of its files, and this one is only to be had in parts")
            held = bytearray()
            for piece in decoded(response, self.pieces(response)):
                held += piece
                if len(held) > max_bytes:
                    raise MediaTooLarge(f"more than {max_bytes} bytes in one part")
            if part is not None and len(held) != part.length:
                raise FetchTimeout("the server sent less than it said")
            if not held:
                raise EmptyMedia("the server sent no bytes")
            return Body(data=bytes(held), url=str(response.url))

    @contextmanager
    def answer(self, url: str, headers: Mapping[str, str] | None = None) -> Iterator[httpx.Response]:
        """The answer at the end of the redirects, whatever its status; each of them passes the guard as the first URL did."""
        request = self.client.build_request("GET", url, headers={**HEADERS, **self.headers, **(headers or {})})
        for _ in range(self.source.max_redirects + 1):
            self.source.guard.check_url(str(request.url))
            if self.cookie_for is not None and (cookie := self.cookie_for(str(request.url))):
                request.headers["cookie"] = cookie
            response = self.client.send(request, stream=True)
            try:
                if response.next_request is None:
                    yield response
                    return
                request = response.next_request
            finally:
                response.close()
        raise FetchRefused(f"more than {self.source.max_redirects} redirects")

    def pieces(self, response: httpx.Response) -> Iterator[bytes]:
        """The body as it comes, no faster than it may and no more than it may. Raises MediaTooLarge."""
        received = 0
        for piece in self.endless(response):
            received += len(piece)
            if received > self.source.max_bytes:
                raise MediaTooLarge(f"more than {self.source.max_bytes} bytes")
            yield piece

    def endless(self, response: httpx.Response) -> Iterator[bytes]:
        """As ``pieces``, of what has no end."""
        for piece in response.iter_raw():
            yield piece
            self._pace.keep(len(piece), self.ends_at, self._stop)

    def translated(self) -> AbstractContextManager[None]:
        source = self.source
        return translated(timeout_s=source.timeout_s, connect_s=source.connect_s, stall_s=source.stall_s, ends_at=self.ends_at)

    def tries(self) -> Tries:
        """For one download or one part."""
        return Tries(retries=self.source.retries, patience_s=self.source.patience_s, ends_at=self.ends_at)


class _Download:
    """One file on its way into ``intake``, however many connections that takes."""

    def __init__(self, session: Session, url: str, intake: Intake, on_progress: OnProgress | None) -> None:
        self._session, self._url, self._intake, self._on_progress = session, url, intake, on_progress
        self._tries = session.tries()
        self._mark: Mark | None = None

    def run(self, into: Path) -> Fetched:
        while True:
            try:
                return self._once(into)
            except FetchError as exc:
                goes_on = self._mark is not None and self._intake.size_bytes > 0
                time.sleep(self._tries.wait_s(exc, goes_on=goes_on))
                log.debug("a download is tried again (%s) after %d bytes", exc.code, self._intake.size_bytes)

    def _once(self, into: Path) -> Fetched:
        mark, first = self._mark, self._intake.size_bytes
        asked = range_headers(mark, first) if mark is not None and first else {}
        with self._session.translated(), self._session.answer(self._url, asked) as response:
            if mark is None or not first or not continues(response, mark, first):
                self._begin(response, asked=bool(asked))
            self._take(response)
            content = self._intake.content()
            if not content.size_bytes:
                raise EmptyMedia("the server sent no bytes")
            return Fetched(path=into, sha256=content.sha256, size_bytes=content.size_bytes, final_url=plain_url(response.url))

    def _begin(self, response: httpx.Response, *, asked: bool) -> None:
        """An answer from the first byte on, which is what is wanted, or what a server makes of a resource that has changed."""
        if asked and response.status_code in (206, 416):
            self._forget()
            raise FetchTimeout("the server's part does not fit to what came before")
        check_status(response)
        total = declared_size(response)
        if total is not None and total > self._session.source.max_bytes:
            raise MediaTooLarge(f"{total} bytes, limit {self._session.source.max_bytes}")
        self._intake.expect(total or 0)
        self._forget()
        self._mark = mark_of(response)

    def _forget(self) -> None:
        self._mark = None
        self._intake.restart()

    def _take(self, response: httpx.Response) -> None:
        for piece in decoded(response, self._told(response)):
            self._intake.write(piece)
            if piece:
                self._tries.came()
        if self._mark is not None and self._mark.total not in (None, self._intake.size_bytes):
            raise FetchTimeout("the server sent less than it said")

    def _told(self, response: httpx.Response) -> Iterator[bytes]:
        """The pieces; of each, that it has come is told once it is written."""
        received, size = self._intake.size_bytes, declared_size(response)
        total = None if size is None else received + size
        for piece in self._session.pieces(response):
            yield piece
            received += len(piece)
            if self._on_progress is not None:
                self._on_progress(received, total)


def _check_part(response: httpx.Response, part: ByteRange) -> None:
    found = part_of(response)
    if found is None or found[:2] != (part.first, part.first + part.length - 1) or coding_of(response):
        raise FetchRefused("the server sent another part than was asked for")


class _Pace:
    """Keeps the average of what comes below a rate."""

    def __init__(self, bytes_s: int) -> None:
        self._bytes_s = bytes_s
        self._begun_at = time.monotonic()
        self._bytes = 0

    def keep(self, size_bytes: int, ends_at: float, stop: Stop) -> None:
        """Wait until so many more bytes were allowed to come, at most until ``ends_at``. Raises Stopped."""
        if not self._bytes_s:
            return
        self._bytes += size_bytes
        due_at = min(self._begun_at + self._bytes / self._bytes_s, ends_at)
        while (early_s := due_at - time.monotonic()) > 0:
            if stop():
                raise Stopped
            time.sleep(min(early_s, ASK_S))
