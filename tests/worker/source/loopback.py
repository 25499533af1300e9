"""Real servers on loopback for the tests of fetching: each request is answered by a function, as badly as it likes."""

from __future__ import annotations

import contextlib
import re
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(frozen=True, slots=True, kw_only=True)
class Loopback:
    """A server. ``requests``: the paths and headers that it got, names in lower case; ``stopping`` ends endless answers."""

    port: int
    requests: list[tuple[str, Mapping[str, str]]] = field(default_factory=list)
    stopping: threading.Event = field(default_factory=threading.Event)
    secure: bool = False

    @property
    def at(self) -> str:
        return f"127.0.0.1:{self.port}"

    def url(self, path: str = "/", host: str = "127.0.0.1") -> str:
        return f"{'https' if self.secure else 'http'}://{host}:{self.port}{path}"


Answer = Callable[[BaseHTTPRequestHandler, Loopback], None]


@contextlib.contextmanager
def serve(answer: Answer, *, tls: ssl.SSLContext | None = None, port: int = 0) -> Iterator[Loopback]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            served.requests.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
            self.close_connection = True
            with contextlib.suppress(ConnectionError):  # the client has heard enough
                answer(self, served)

        do_CONNECT = do_GET

        def log_message(self, format: str, *args: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        block_on_close = True
        daemon_threads = False

        def handle_error(self, request: object, client_address: object) -> None:
            pass  # a client that does not trust the certificate

    with Server(("127.0.0.1", port), Handler) as server:
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        served = Loopback(port=server.server_address[1], secure=tls is not None)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield served
        finally:
            served.stopping.set()
            server.shutdown()
            thread.join()


def reply(body: bytes = b"bytes of a video", status: int = 200, /, **headers: str) -> Answer:
    """An answer as it should be; a header's name with ``_`` for ``-``."""

    def answer(request: BaseHTTPRequestHandler, _: Loopback) -> None:
        request.send_response(status)
        for name, value in {"Content_Length": str(len(body)), **headers}.items():
            request.send_header(name.replace("_", "-"), value)
        request.end_headers()
        request.wfile.write(body)

    return answer


def raw(*parts: bytes, every_s: float = 0, forever: bool = False) -> Answer:
    """Bytes as they are, a pause between the parts; ``forever``: the last one again and again."""

    def answer(request: BaseHTTPRequestHandler, served: Loopback) -> None:
        for part in parts:
            request.wfile.write(part)
            served.stopping.wait(every_s)
        while forever and not served.stopping.is_set():
            request.wfile.write(parts[-1])
            served.stopping.wait(every_s)

    return answer


def by_path(**answers: Answer) -> Answer:
    """Another answer for each path, which is one word."""

    def answer(request: BaseHTTPRequestHandler, served: Loopback) -> None:
        answers[request.path.partition("?")[0].strip("/")](request, served)

    return answer


def ranged(body: bytes, *, breaks: Sequence[int] = (), etag: str | None = '"one"', **headers: str) -> Answer:
    """A file server with byte ranges and If-Range. The first answers end after so many bytes each, as if the line were cut."""
    left = list(breaks)

    def answer(request: BaseHTTPRequestHandler, _: Loopback) -> None:
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("range", ""))
        fits = request.headers.get("if-range") in (None, etag or headers.get("Last_Modified"))
        first = int(asked[1]) if asked and fits else 0
        last = min(int(asked[2]), len(body) - 1) if asked and fits and asked[2] else len(body) - 1
        request.send_response(206 if asked and fits else 200)
        if asked and fits:
            request.send_header("Content-Range", f"bytes {first}-{last}/{len(body)}")
        if etag is not None:
            request.send_header("ETag", etag)
        for name, value in {"Content_Length": str(last + 1 - first), **headers}.items():
            request.send_header(name.replace("_", "-"), value)
        request.end_headers()
        piece = body[first : last + 1]
        request.wfile.write(piece[: left.pop(0)] if left else piece)

    return answer


def in_turn(*answers: Answer) -> Answer:
    """Another answer for each request; the last one for all that follow."""
    left = list(answers)

    def answer(request: BaseHTTPRequestHandler, served: Loopback) -> None:
        (left.pop(0) if len(left) > 1 else left[0])(request, served)

    return answer


def files(held: Mapping[str, bytes]) -> Answer:
    """A file server: what is held by path, with byte ranges; all else is not there."""
    missing = reply(b"", 404)

    def answer(request: BaseHTTPRequestHandler, served: Loopback) -> None:
        name = request.path.partition("?")[0].strip("/")
        (ranged(held[name], etag=None) if name in held else missing)(request, served)

    return answer
