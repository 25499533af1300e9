"""Liveness and readiness of a supervisor over HTTP, for orchestrators: GET /livez and /readyz answer 200 or 503."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@contextlib.contextmanager
def probes(host: str, port: int, answers: Mapping[str, Callable[[], bool]]) -> Iterator[int]:
    """Serve ``answers`` by path; gives the port. Raises OSError where the address is taken."""

    class Handler(BaseHTTPRequestHandler):
        timeout = 5

        def do_GET(self) -> None:
            answer = answers.get(self.path)
            good = answer is not None and answer()
            body = b"ok\n" if good else b"no\n"
            self.send_response(404 if answer is None else 200 if good else 503)
            self.send_header("Content-Type", "text/plain")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Probes come every few seconds: not logged."""

    with ThreadingHTTPServer((host, port), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, name="probes", daemon=True)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join(5)
