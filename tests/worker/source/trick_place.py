"""One server that is allowed among all that is not, under a spy: where the tests try every trick in every place."""

from __future__ import annotations

import json
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest

from tests.worker.source.local_site import LocalSiteIE
from tests.worker.source.loopback import Answer, Loopback, reply, serve
from tests.worker.source.url_tricks import ALLOWED, TRICKS, resolve
from tests.worker.spy import Spy
from worker.demo import demo_files
from worker.errors import FetchGone, FetchRefused, VeriframeError
from worker.source.fetch import UrlSource
from worker.source.guard import MAX_URL, AddressGuard
from worker.source.http import HttpSource
from worker.source.limits import LocalSiteLimiter
from worker.source.playlist import PlaylistLimits, Playlists
from worker.source.social import SocialOptions, SocialSource

NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
DEMO = demo_files()[0].path


class Told:
    """``/clip.mp4`` is a demo clip; all else is what was said that it is: a redirect, a text, a page of JSON."""

    def __init__(self) -> None:
        self._answers: dict[str, Answer] = {"/clip.mp4": reply(DEMO.read_bytes())}

    def path(self, answer: Answer, folder: str = "said") -> str:
        path = f"/{folder}/{len(self._answers)}"
        self._answers[path] = answer
        return path

    def __call__(self, request: BaseHTTPRequestHandler, served: Loopback) -> None:
        self._answers.get(request.path, reply(b"", 404))(request, served)


class Place:
    """One server that is allowed, the sources that may go to it, and what they are told there."""

    def __init__(self, server: Loopback, site: Told) -> None:
        self.server, self.site = server, site
        self.base = f"http://{ALLOWED}:{server.port}"
        self.tricks = [trick.replace("{port}", str(server.port)) for trick in TRICKS]
        self.fitting = [trick for trick in self.tricks if len(trick) <= MAX_URL]
        """A playlist with a longer one is refused whole."""
        self.guard = AddressGuard(
            allow_private_hosts=[f"{ALLOWED}:{server.port}"],
            ports=(80, 443, 8080, 8443),
            deny_hosts=["denied.example"],
            resolve=resolve,
        )
        self.http = HttpSource(guard=self.guard, max_bytes=64 << 20, timeout_s=120, retries=0, patience_s=0, ssl_context=NO_TLS)
        playlists = Playlists(PlaylistLimits())
        social = SocialSource(
            SocialOptions(extractors=[]),
            playlists=playlists,
            limiter=LocalSiteLimiter(per_minute=100_000),
            extra=[LocalSiteIE],
        )
        self.urls = UrlSource(http=self.http, playlists=playlists, social=social)

    def says(self, text: str) -> str:
        return self.base + self.site.path(reply(text.encode()))

    def leads_to(self, url: str) -> str:
        return self.base + self.site.path(redirect(url))

    def shows(self, **page: Any) -> str:
        """A post."""
        return self.base + self.site.path(reply(json.dumps(page).encode()), "post")


def redirect(url: str) -> Answer:
    def answer(request: BaseHTTPRequestHandler, _: Loopback) -> None:
        """Byte by byte what it is: the library of the server would refuse some of them."""
        request.wfile.write(b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: ")
        request.wfile.write(url.encode("utf-8").replace(b"\t", b"%09") + b"\r\n\r\n")

    return answer


@contextmanager
def placed(spy: Spy) -> Iterator[Place]:
    """At the end it is looked at where packets went."""
    site = Told()
    with serve(site) as server:
        spy.allow(server.at)
        yield Place(server, site)
    assert set(spy.connections) <= {server.at}, "by whatever way, nothing but the allowed host was connected to"
    assert spy.lookups == []
    assert {headers["host"] for _, headers in server.requests} <= {f"{ALLOWED}:{server.port}"}, "nor by another name"


def refused(do: Callable[[], object], trick: str, *, leads_nowhere: tuple[type[VeriframeError], ...] = ()) -> None:
    """``leads_nowhere``: for ways that read an address as relative to another, so that it leads to the allowed host, in vain."""
    try:
        do()
    except (FetchRefused, *leads_nowhere):
        return
    except FetchGone:
        assert "none.example" in trick, trick
        return
    pytest.fail(f"not refused: {trick!r}")
