"""The demo's clips through the whole service on this machine: a Redis, a worker, signed callbacks."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import yaml

from worker.demo import FOLDER, DemoFile, demo_files
from worker.errors import BadSignature
from worker.queue.client import ScanClient
from worker.queue.embedded import EmbeddedRedis
from worker.queue.front import build_redis
from worker.queue.lifeline import ending_with
from worker.queue.webhooks import Secrets, verify
from worker.report import Report
from worker.settings import Settings

OWNER = "demo"
MAX_BODY_BYTES = 1 << 20
WAIT_S = 180.0


@dataclass(slots=True)
class Callbacks:
    """What was called back: bodies whose signature holds, by scan id, and how many came without a good one."""

    secrets: tuple[str, ...] = ()
    verified: dict[str, dict[str, object]] = field(default_factory=dict)
    refused: int = 0
    arrived: threading.Condition = field(default_factory=threading.Condition)

    def take(self, headers: dict[str, str], body: bytes) -> bool:
        try:
            verify(headers, body, self.secrets)
        except BadSignature:
            self.refused += 1
            return False
        data = json.loads(body)["data"]
        with self.arrived:
            self.verified[data["id"]] = data
            self.arrived.notify_all()
        return True

    def wait_for(self, number: int, timeout_s: float) -> None:
        with self.arrived:
            self.arrived.wait_for(lambda: len(self.verified) >= number, timeout_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """One clip's way: what was expected, the stored report, and the verdict that was called back (None: nothing came)."""

    file: DemoFile
    report: Report
    called_back: str | None


def run_queue_demo(tell: Callable[[str], None] = print) -> list[Shown]:
    """Everything is started, used and ended here. Raises VeriframeError."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="veriframe-demo-")))
        tell("starting a Redis")
        server = stack.enter_context(EmbeddedRedis(folder / "redis", appendonly=True))
        callbacks = Callbacks()
        port = stack.enter_context(receiver(callbacks))
        settings = demo_settings(server.url, port)
        client = stack.enter_context(ScanClient.from_settings(settings, OWNER))
        with contextlib.closing(build_redis(settings)) as redis:
            callbacks.secrets = tuple(Secrets(redis).current(OWNER))
        tell("starting a worker (veriframe worker)")
        stack.enter_context(worker_process(settings, folder))
        files = demo_files()
        ids = [client.enqueue(file.path, callback_url=f"http://127.0.0.1:{port}/verdicts") for file in files]
        tell(f"{len(ids)} scans are queued; waiting for verdicts and callbacks")
        client.wait(ids, timeout_s=WAIT_S)
        callbacks.wait_for(len(ids), 30)
        reports = [client.report(scan_id) for scan_id in ids]
        tell(f"{len(callbacks.verified)} callbacks came with a good signature, {callbacks.refused} without")
    return [
        Shown(file=file, report=report, called_back=_word(callbacks.verified.get(report.id)))
        for file, report in zip(files, reports, strict=True)
    ]


def demo_settings(url: str, receiver_port: int) -> Settings:
    """Paths below the demo's folder may be scanned, and callbacks go to this machine: neither is so by default."""
    return Settings.model_validate(
        {
            "redis": {"url": url},
            "queue": {"media_roots": [str(FOLDER)]},
            "source": {"allow_private_hosts": [f"127.0.0.1:{receiver_port}"]},
            "telemetry": {"port": None},
        }
    )


@contextlib.contextmanager
def receiver(callbacks: Callbacks) -> Iterator[int]:
    """What a moderation system would run; gives its port."""

    class Handler(BaseHTTPRequestHandler):
        timeout = 10

        def do_POST(self) -> None:
            length = self.headers.get("Content-Length", "")
            body = self.rfile.read(min(int(length), MAX_BODY_BYTES)) if length.isdigit() else b""
            good = callbacks.take({name.lower(): value for name, value in self.headers.items()}, body)
            self.send_response(200 if good else 400)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """The table says what came."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)
        thread.start()
        try:
            yield int(server.server_address[1])
        finally:
            server.shutdown()
            thread.join(5)


@contextlib.contextmanager
def worker_process(settings: Settings, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """``veriframe worker`` with these settings; its log is a file in ``folder``. It ends with this process, however that ends."""
    config = folder / "worker.yaml"
    config.write_text(yaml.safe_dump(settings.model_dump(mode="json")), encoding="utf-8")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("VERIFRAME_")}
    with (folder / "worker.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "worker.cli", "worker", "--config", str(config)],
            env=environment,
            stdout=log,
            stderr=log,
            preexec_fn=ending_with(os.getpid(), signal.SIGTERM),
        )
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _word(data: dict[str, object] | None) -> str | None:
    return None if data is None else str(data["verdict"] or data["status"])
