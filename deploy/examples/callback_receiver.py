"""A receiver of callbacks: checks the signature, answers at once, and takes each event one time.

    VERIFRAME_WEBHOOK_SECRETS="whsec_..." python callback_receiver.py --port 9000 --log events.jsonl

The secrets are those that ``veriframe keys webhook OWNER`` shows, with spaces between them while they are rotated. Every new
event becomes a line of the log; one that came before is answered with 200 as well, or it would be sent for hours.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from worker.errors import BadSignature
from worker.queue.webhooks import verify

MAX_BODY_BYTES = 1 << 20
TIMEOUT_S = 10


class Events:
    """The events that came, in a file that is the memory of them too: what was answered with 200 is on the disk."""

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        self._log = path.open("a+b")
        self._log.seek(0)
        whole = self._log.read().rpartition(b"\n")[0].splitlines(keepends=True)
        self._log.truncate(sum(map(len, whole)) + bool(whole))  # a kill may leave half a line
        self._seen = {json.loads(line)["event"] for line in whole}

    def take(self, event_id: str, body: bytes) -> bool:
        """Keep an event; False: it came before."""
        with self._lock:
            if event_id in self._seen:
                return False
            line = json.dumps({"event": event_id, "body": json.loads(body)}) + "\n"
            self._log.write(line.encode())
            self._log.flush()
            os.fsync(self._log.fileno())
            self._seen.add(event_id)
            return True


class Receiver(BaseHTTPRequestHandler):
    secrets: tuple[str, ...]
    events: Events
    timeout = TIMEOUT_S

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length", "")
        if not length.isascii() or not length.isdigit() or int(length) > MAX_BODY_BYTES:
            return self._answer(413)
        body = self.rfile.read(int(length))
        try:
            event_id = verify(dict(self.headers), body, self.secrets)
            is_new = self.events.take(event_id, body)
        except BadSignature:
            return self._answer(401)
        except ValueError:
            return self._answer(400)
        # Real work belongs into a queue of your own: the courier waits for this answer.
        print(f"{event_id} {'taken' if is_new else 'came before'}", flush=True)
        return self._answer(200)

    def _answer(self, status: int) -> None:
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Paths may hold secrets: only event ids are printed."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=9000, help="0: any free one")
    parser.add_argument("--log", type=Path, default=Path("events.jsonl"))
    options = parser.parse_args()
    Receiver.secrets = tuple(os.environ.get("VERIFRAME_WEBHOOK_SECRETS", "").split())
    if not Receiver.secrets:
        sys.exit("VERIFRAME_WEBHOOK_SECRETS is not set: `veriframe keys webhook OWNER` shows what belongs there")
    Receiver.events = Events(options.log)
    with ThreadingHTTPServer((options.host, options.port), Receiver) as server:
        print(f"listening on http://{options.host}:{server.server_port}", flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            return


if __name__ == "__main__":
    main()
