"""The console over a real Redis, beside the real API; a browser without scripts that signs in and keeps cookies."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any

import pytest
from httpx import Response
from starlette.testclient import TestClient

from tests.worker.api.conftest import MAX_UPLOAD, Serve, Service, serve
from worker.console.app import LIMITS, mount_console

__all__ = ["serve"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Browser:
    """Signed in, or not. Redirects are shown, not followed."""

    service: Service
    client: TestClient
    _tokens: dict[str, str] = field(default_factory=dict)

    def get(self, path: str = "/", **more: Any) -> Response:
        answer: Response = self.client.get(f"/console{path}", **more)
        return answer

    def page(self, path: str = "/") -> str:
        answer = self.get(path)
        assert answer.status_code == 200, answer.text
        return answer.text

    def post(self, path: str, *, token: str | None = None, headers: dict[str, str] | None = None, **fields: Any) -> Response:
        """A form; ``token`` None: that of the session."""
        sent = {"token": self.token if token is None else token, **fields}
        answer: Response = self.client.post(f"/console{path}", data=sent, headers=headers)
        return answer

    def submit(self, *, file: tuple[str, bytes] = ("", b""), **fields: str) -> Response:
        answer: Response = self.client.post(
            "/console/submit", data={"token": self.token, **fields}, files={"file": (*file, "video/mp4")}
        )
        return answer

    @property
    def token(self) -> str:
        """The session's, from a form of its first page."""
        cookie = self.client.cookies["veriframe"]
        if cookie not in self._tokens:
            found = re.search(r'name="token" value="([0-9a-f]{64})"', self.page())
            assert found is not None
            self._tokens[cookie] = found[1]
        return self._tokens[cookie]


SignIn = Callable[..., Browser]


@pytest.fixture
def service(serve: Serve) -> Service:
    """The API with the console."""
    return with_console(serve(limits=LIMITS))


def with_console(service: Service, *, secure: bool = False) -> Service:
    mount_console(service.app, service.parts, secure=secure, session_s=3600, max_upload_bytes=MAX_UPLOAD)
    return service


@pytest.fixture
def open_browser() -> Iterator[Callable[[Service], Browser]]:
    """Browsers of nobody yet."""
    opened: list[TestClient] = []

    def opening(service: Service) -> Browser:
        client = TestClient(service.app, follow_redirects=False)
        opened.append(client)
        return Browser(service=service, client=client)

    yield opening
    for client in opened:
        client.close()


@pytest.fixture
def sign_in(service: Service, open_browser: Callable[[Service], Browser]) -> SignIn:
    def signing_in(owner: str = "acme", *scopes: str, service: Service = service) -> Browser:
        browser = open_browser(service)
        answer = browser.client.post("/console/sign-in", data={"key": service.token(owner, *scopes)})
        assert (answer.status_code, answer.headers["location"]) == (303, "/console/")
        return browser

    return signing_in


class _Markup(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


@dataclass(frozen=True, slots=True)
class Page:
    """A page as a browser would read it."""

    tags: list[tuple[str, dict[str, str | None]]]
    text: str

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]

    def by_id(self, name: str) -> dict[str, str | None] | None:
        return next((attributes for _, attributes in self.tags if attributes.get("id") == name), None)

    def verdict(self) -> tuple[str | None, str | None]:
        """Of a scan's page: what it says, and whether the model said it or a human."""
        result = self.by_id("result")
        assert result is not None
        return result["data-verdict"], result["data-decided-by"]


def read(html: str) -> Page:
    markup = _Markup()
    markup.feed(html)
    markup.close()
    return Page(markup.found, re.sub(r"\s+", " ", " ".join(markup.texts)))
