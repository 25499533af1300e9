"""A receiver of callbacks on loopback that behaves as the path asks, and keeps what came."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True, slots=True)
class Came:
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass(slots=True)
class Receiver:
    """``/NAME`` answers by ``ANSWERS[NAME]``; /hang and /drip end when ``release`` is set."""

    url: str = ""
    came: list[Came] = field(default_factory=list)
    release: threading.Event = field(default_factory=threading.Event)

    def at(self, path: str) -> list[Came]:
        return [came for came in self.came if came.path == path]


def _drip(handler: Any, receiver: Receiver) -> None:
    """A byte of a header now and then, without an end."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
    while not receiver.release.wait(0.05):
        handler.wfile.write(b"a")


def _huge(handler: Any, receiver: Receiver) -> None:
    _answer(handler, 200, {"Content-Length": str(1 << 40)})
    while not receiver.release.is_set():
        handler.wfile.write(b"x" * 65536)


def _hang(handler: Any, receiver: Receiver) -> None:
    receiver.release.wait(60)
    _answer(handler, 200)


def _flaky(handler: Any, receiver: Receiver) -> None:
    _answer(handler, 500 if len(receiver.at(handler.path)) == 1 else 204)


def _answer(handler: Any, status: int, headers: dict[str, str] | None = None) -> None:
    handler.send_response(status)
    for name, value in ({"Content-Length": "0"} | (headers or {})).items():
        handler.send_header(name, value)
    handler.end_headers()


ANSWERS: dict[str, Callable[[Any, Receiver], None]] = {
    "ok": lambda handler, _: _answer(handler, 200, {"Set-Cookie": "receiver=1"}),
    "bad": lambda handler, _: _answer(handler, 400),
    "gone": lambda handler, _: _answer(handler, 410),
    "moved": lambda handler, _: _answer(handler, 307, {"Location": "/ok"}),
    "away": lambda handler, _: _answer(handler, 307, {"Location": "http://169.254.169.254/latest/meta-data"}),
    "busy": lambda handler, _: _answer(handler, 503, {"Retry-After": "40"}),
    "forever": lambda handler, _: _answer(handler, 429, {"Retry-After": "999999999"}),
    "nothing": lambda handler, _: handler.wfile.write(b"junk\r\n\r\n"),
    "cut": lambda handler, _: None,
    "drip": _drip,
    "huge": _huge,
    "hang": _hang,
    "flaky": _flaky,
}


@contextmanager
def receiving() -> Iterator[Receiver]:
    receiver = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            receiver.came.append(Came(self.path, {name.lower(): value for name, value in self.headers.items()}, body))
            try:
                ANSWERS[self.path.split("?")[0].strip("/")](self, receiver)
            except ConnectionError:
                self.close_connection = True

        def log_message(self, format: str, *args: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        def handle_error(self, request: Any, client_address: Any) -> None:
            """A courier that cut the connection; the tests look at what came."""

    server = Server(("127.0.0.1", 0), Handler)
    receiver.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield receiver
    finally:
        receiver.release.set()
        server.shutdown()
        server.server_close()
        thread.join()


def soon(holds: Callable[[], Any], *, within_s: float = 60) -> bool:
    """Whether it holds before the time is over."""
    deadline_s = time.monotonic() + within_s
    while not holds():
        if time.monotonic() > deadline_s:
            return False
        time.sleep(0.01)
    return True
