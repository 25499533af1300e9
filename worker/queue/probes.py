"""Liveness, readiness and metrics over HTTP, for orchestrators: /livez and /readyz answer 200 or 503, /metrics with text."""

from __future__ import annotations

import contextlib
import logging
import socket
import socketserver
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from worker.errors import ConfigError

log = logging.getLogger(__name__)

AT_ONCE = 32
"""Requests, a thread each. Probes and a Prometheus or two need a few; what comes beyond is turned away."""
ASK_S = 5.0
"""Whoever has not asked by then, however steadily, is heard no longer; the answer may take its time."""
PLAIN = "text/plain"
EXPOSITION = "text/plain; version=1.0.0; charset=utf-8"


@contextlib.contextmanager
def probes(
    host: str,
    port: int,
    answers: Mapping[str, Callable[[], bool]],
    metrics: Callable[[], bytes] | None = None,
    *,
    setting: str,
    ask_s: float = ASK_S,
) -> Iterator[int]:
    """Serve ``answers`` by path, and ``metrics``; gives the port. Raises ConfigError where the address cannot be listened on: it
    names the ``setting`` that says so."""

    class Handler(BaseHTTPRequestHandler):
        timeout = ask_s

        def do_GET(self) -> None:
            if self.path == "/metrics" and metrics is not None:
                self._answer(*_exposed(metrics), EXPOSITION)
                return
            answer = answers.get(self.path)
            good = answer is not None and answer()
            self._answer(404 if answer is None else 200 if good else 503, b"ok\n" if good else b"no\n", PLAIN)

        do_HEAD = do_GET

        def _answer(self, status: int, body: bytes, kind: str) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                with contextlib.suppress(OSError):  # who asked has gone
                    self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Probes come every few seconds: not logged."""

    with _listening(host, port, Handler, setting) as server:
        server.ask_s = ask_s
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, name="probes", daemon=True)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join(5)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    ask_s = ASK_S

    def __init__(self, *args: Any, **named: Any) -> None:
        self._began: dict[Any, float] = {}
        super().__init__(*args, **named)

    def process_request(self, request: Any, client_address: Any) -> None:
        if len(self._began) >= AT_ONCE:
            self.shutdown_request(request)
            return
        self._began[request] = time.monotonic()
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._began.pop(request, None)
        super().shutdown_request(request)

    def service_actions(self) -> None:
        """Several times a second."""
        late = time.monotonic() - self.ask_s
        for request, began in list(self._began.items()):
            if began < late:
                with contextlib.suppress(OSError):  # it has just ended
                    request.shutdown(socket.SHUT_RD)

    def server_bind(self) -> None:
        """Without a name server being asked for our name, which may take long and is of no use."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]


def _listening(host: str, port: int, handler: type[BaseHTTPRequestHandler], setting: str) -> _Server:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0][0]
        server = type("_Server", (_Server,), {"address_family": family})
        made: _Server = server((host, port), handler)
        return made
    except (OSError, UnicodeError) as exc:
        raise ConfigError(f"cannot listen on {host} port {port}: {exc}; {setting} says so") from exc


def _exposed(metrics: Callable[[], bytes]) -> tuple[int, bytes]:
    try:
        return 200, metrics()
    except Exception:  # the request's outermost boundary: a scrape that fails must not look like an empty one
        log.exception("the metrics cannot be told")
        return 500, b"no\n"
