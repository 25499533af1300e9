"""What stands around the service in the scenario: a receiver of callbacks, a graphics card, a worker of another version."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

OTHER_WORKER = b"""\
# TYPE veriframe_build_info gauge
veriframe_build_info{version="0.0.1"} 1
# TYPE veriframe_start_timestamp_seconds gauge
veriframe_start_timestamp_seconds 1
# TYPE veriframe_model_info gauge
veriframe_model_info{name="veriframe-b0",version="1",sha256="00",backend="onnxruntime"} 1
"""


@dataclass(slots=True)
class Answer:
    """What a server says to every request, until it is changed."""

    status: int
    body: bytes = b""
    port: int = 0


@contextlib.contextmanager
def answering(answer: Answer) -> Iterator[Answer]:
    """Serve it on a free port."""

    class Handler(BaseHTTPRequestHandler):
        timeout = 30

        def do_GET(self) -> None:
            self._say()

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self._say()

        def _say(self) -> None:
            self.send_response(answer.status)
            self.send_header("Content-Length", str(len(answer.body)))
            self.end_headers()
            self.wfile.write(answer.body)

        def log_message(self, format: str, *args: object) -> None:
            """Nobody reads it."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        answer.port = server.server_port
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield answer
        finally:
            server.shutdown()
            thread.join()


@dataclass(frozen=True, slots=True)
class Card:
    """``nvidia-smi`` by a script of ours, first on the PATH that workers get."""

    folder: Path

    def make(self) -> None:
        self.folder.mkdir()
        program = self.folder / "nvidia-smi"
        program.write_text(f"#!/bin/sh\nexec cat '{self._told}'\n")
        program.chmod(0o755)

    def tell(self, *, used_mib: int, busy_percent: int) -> None:
        fresh = self.folder / "told.new"
        fresh.write_text(f"0, {used_mib}, 40000, {busy_percent}\n")
        fresh.rename(self._told)

    @property
    def _told(self) -> Path:
        return self.folder / "told"
