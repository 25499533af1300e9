"""The media server: what a path says is what comes, at once, slowly, at the second try only, or never.

``/text/WORDS`` ``/slow/WORDS`` ``/flaky/WORDS`` are a drill's text for ``tests.chaos.scanner``; ``/clip/NAME/N`` is a clip of the
demo, made unique by an MP4 box that players skip; ``/noise/N`` is no media, ``/gone/N`` a 404, ``/stall/N`` a silence.
"""

from __future__ import annotations

import hashlib
import random
import struct
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

DRILL = b"drill "
CLIPS = Path(__file__).parents[2] / "worker" / "demo"
STALL_S = 30.0


def drill_bytes(words: str) -> bytes:
    return DRILL + words.encode()


def clip_bytes(name: str, number: int) -> bytes:
    """ISO/IEC 14496-12, 8.1.2: a ``free`` box's contents are irrelevant and may be ignored."""
    return (CLIPS / name).read_bytes() + struct.pack(">I4sQ", 16, b"free", number)


def noise_bytes(number: int) -> bytes:
    return random.Random(number).randbytes(4096)


def sha256_of(path: str) -> str | None:
    """Of what a path brings; None: it brings nothing."""
    kind, _, rest = path.strip("/").partition("/")
    made = bytes_of(kind, unquote(rest))
    return None if made is None else hashlib.sha256(made).hexdigest()


def bytes_of(kind: str, rest: str) -> bytes | None:
    if kind in ("text", "slow", "flaky"):
        return drill_bytes(rest)
    if kind == "clip":
        name, _, number = rest.partition("/")
        return clip_bytes(name, int(number))
    return noise_bytes(int(rest)) if kind == "noise" else None


class MediaServer(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Shelf)
        self.seen: set[str] = set()
        self.lock = threading.Lock()

    def is_first(self, path: str) -> bool:
        with self.lock:
            first = path not in self.seen
            self.seen.add(path)
        return first

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A worker that was killed hangs up: no news here."""


class Shelf(BaseHTTPRequestHandler):
    server: MediaServer
    protocol_version = "HTTP/1.0"
    timeout = 60

    def do_GET(self) -> None:
        kind, _, rest = self.path.strip("/").partition("/")
        made = bytes_of(kind, unquote(rest))
        if kind == "flaky" and self.server.is_first(self.path):
            self.send_error(502)
        elif kind == "stall":
            self._head(1000)
            time.sleep(STALL_S)
        elif made is None:
            self.send_error(404)
        else:
            self._head(len(made))
            for start in range(0, len(made), 16) if kind == "slow" else [0]:
                self.wfile.write(made[start : start + 16] if kind == "slow" else made)
                time.sleep(0.2 if kind == "slow" else 0)

    def _head(self, size_bytes: int) -> None:
        self.send_response(200)
        self.send_header("content-type", "application/octet-stream")
        self.send_header("content-length", str(size_bytes))
        self.end_headers()

    def log_message(self, *told: Any) -> None:
        """Workers log what they fetch."""


def serve() -> int:
    with MediaServer() as server:
        print(server.server_port, flush=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        sys.stdin.read()  # until the driver hangs up
        server.shutdown()
    return 0
