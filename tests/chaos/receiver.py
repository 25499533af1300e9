"""The receiver of callbacks: it writes down every request before it answers, and sometimes answers late, with 500 or not at all.

``POST /hook/OWNER`` takes callbacks; ``GET /open`` tells which are under way now, with the sender's port. The first line of
standard input: ``secrets`` by owner, ``hold_s`` (how long every answer is held back) and ``moods``, the shares of 500s and hangs.
"""

from __future__ import annotations

import hashlib
import json
import sys
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from standardwebhooks import Webhook
from standardwebhooks.webhooks import WebhookVerificationError

from tests.chaos.ledger import Ledger, RunFolder

HANG_S = 30.0


class Receiver(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, folder: RunFolder, order: dict[str, Any]) -> None:
        super().__init__(("127.0.0.1", 0), Hook)
        self.ledger = Ledger(folder.received)
        self.secrets: dict[str, list[str]] = order["secrets"]
        self.hold_s, self.moods = float(order["hold_s"]), dict(order["moods"])
        self.open: dict[int, dict[str, Any]] = {}
        self.tries: Counter[str] = Counter()
        self.lock = threading.Lock()

    def mood(self, event: str) -> int:
        """The status for the next try of an event; 0: none, ever. The same events are in a mood in every run of the same ids."""
        with self.lock:
            self.tries[event] += 1
            if self.tries[event] > 1:
                return 200
        draw = int(hashlib.sha256(event.encode()).hexdigest()[:8], 16) / 0xFFFFFFFF
        if draw < self.moods["error"]:
            return 500
        return 0 if draw < self.moods["error"] + self.moods["hang"] else 200

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A sender that was killed hangs up: no news here."""


class Hook(BaseHTTPRequestHandler):
    server: Receiver
    protocol_version = "HTTP/1.0"
    timeout = 60

    def do_GET(self) -> None:
        with self.server.lock:
            told = list(self.server.open.values())
        self._answer(200, json.dumps(told).encode())

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        event, owner = self.headers.get("webhook-id", ""), self.path.rpartition("/")[2]
        status = self.server.mood(event)
        line = {
            "time": time.time(),
            "id": event,
            "timestamp": self.headers.get("webhook-timestamp", ""),
            "signature": self.headers.get("webhook-signature", ""),
            "body": body.decode(),
            "verified": self._is_verified(body, self.server.secrets.get(owner, [])),
            "answered": status,
        }
        port = int(self.client_address[1])
        with self.server.lock:
            self.server.open[port] = {"event": event, "port": port, "since": time.time()}
        try:
            self.server.ledger.add(line)
            time.sleep(self.server.hold_s if status else HANG_S)
            if status:
                self._answer(status, b"")
        finally:
            with self.server.lock:
                self.server.open.pop(port, None)

    def _is_verified(self, body: bytes, secrets: list[str]) -> bool:
        headers = {name.lower(): value for name, value in self.headers.items()}
        for secret in secrets:
            try:
                Webhook(secret).verify(body.decode(), headers)
            except WebhookVerificationError:
                continue
            return True
        return False

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *told: Any) -> None:
        """The ledger is the log."""


def receive(folder: Path) -> int:
    order = json.loads(sys.stdin.readline())
    with Receiver(RunFolder(folder), order) as server:
        print(server.server_port, flush=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        sys.stdin.read()  # until the driver hangs up
        server.shutdown()
    return 0
