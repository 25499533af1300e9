"""Real worker processes for tests: started as the supervisor starts them, with a fake scanner and short times."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, TypeVar

from prometheus_client.parser import text_string_to_metric_families
from redis import Redis

from worker.queue.assemble import told_settings
from worker.queue.desk import Desk
from worker.queue.doorbell import Doorbells
from worker.queue.front import build_records
from worker.queue.record import Record
from worker.queue.requests import RequestSource, ScanRequest
from worker.queue.roster import Roster
from worker.settings import Settings
from worker.telemetry.exposition import Exposition

REPOSITORY = Path(__file__).parents[3]
BUILD = "tests.worker.queue.fake_scanner:build"
STREAMS = "tests.worker.queue.fake_streams:open_watcher"
QUICK = {"lease_s": 3.0, "reconcile_s": 0.8, "ring_again_s": 1.0, "backoff_s": 0.05, "grace_s": 5.0}
T = TypeVar("T")


def until(condition: Callable[[], T], timeout_s: float = 120.0, what: str = "") -> T:
    """The condition's first true value. Fails after ``timeout_s``."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.01)
    raise AssertionError(f"not within {timeout_s:g} s: {what or condition}")


@contextlib.contextmanager
def later(delay_s: float, act: Callable[[], None]) -> Iterator[None]:
    """Do something in so many seconds, while the block runs."""
    timer = threading.Timer(delay_s, act)
    timer.start()
    try:
        yield
    finally:
        timer.join()


@dataclass(kw_only=True)
class Service:
    """A queue on one Redis, its media folder, and the workers started on it."""

    settings: Settings
    redis: Redis
    media: Path
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)
    metrics: Path | None = None
    """Folder that workers started from now on share their metrics in."""
    log: IO[bytes] | None = None
    """What they log goes here; None: where the test's own does."""

    @property
    def desk(self) -> Desk:
        return Desk(build_records(self.settings, self.redis), Doorbells(self.redis, self.settings.redis.namespace))

    def submit(self, text: str = "ok", **more: Any) -> str:
        """A scan of a file that says what the scanner is to do. Files of the same text are the same bytes."""
        path = self.media / f"{os.urandom(6).hex()}.txt"
        path.write_text(text)
        return self.desk.submit_one(ScanRequest(source=RequestSource(path=str(path)), **more), "acme").id

    def watch(self, url: str, **more: Any) -> str:
        """A watch of what ``fake_streams.address`` names."""
        return self.desk.submit_one(ScanRequest(kind="watch", source=RequestSource(url=url), **more), "acme").id

    def record(self, scan_id: str) -> Record:
        return self.desk.records.get(scan_id)

    def ended(self, scan_id: str, timeout_s: float = 120.0) -> Record:
        until(lambda: self.record(scan_id).is_final, timeout_s, f"end of {scan_id}: {self.record(scan_id)}")
        return self.record(scan_id)

    def staged(self, scan_id: str, stage: str) -> Record:
        until(lambda: self.record(scan_id).stage == stage, 60, f"stage {stage} of {scan_id}")
        return self.record(scan_id)

    def live(self) -> dict[str, dict[str, Any]]:
        return Roster(self.redis, self.settings.redis.namespace).live()

    def start(
        self,
        build: str = BUILD,
        queues: tuple[str, ...] = ("live", "batch", "low"),
        wait: bool = True,
        streams: str = STREAMS,
    ) -> Any:
        """A worker's parent process, ready."""
        read, write = os.pipe()
        worker = subprocess.Popen(
            [sys.executable, "-m", "worker.queue.parent", str(write), str(os.getpid())],
            stdin=subprocess.PIPE,
            stderr=self.log,
            pass_fds=(write,),
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        )
        os.close(write)
        os.close(read)
        order = {"settings": told_settings(self.settings), "queues": queues, "build": build, "streams": streams}
        order["telemetry"] = None if self.metrics is None else str(self.metrics)
        assert worker.stdin is not None
        worker.stdin.write(json.dumps(order).encode() + b"\n")
        worker.stdin.close()
        self.workers.append(worker)
        if wait:
            until(lambda: any(facts["pid"] == worker.pid and facts["ready"] for facts in self.live().values()), 120, "a worker")
        return worker

    def told(self) -> dict[str, float]:
        """The workers' metrics: samples by name, without our prefix, and label values."""
        assert self.metrics is not None
        families = text_string_to_metric_families(Exposition(self.metrics, None)().decode())
        samples = [sample for family in families for sample in family.samples]
        return {" ".join((s.name[len("veriframe_") :], *s.labels.values())): s.value for s in samples}

    def child_of(self, worker: subprocess.Popen[bytes]) -> int:
        return next(int(facts["child"]) for facts in self.live().values() if facts["pid"] == worker.pid)

    def close(self) -> None:
        for worker in self.workers:
            with contextlib.suppress(ProcessLookupError):
                worker.send_signal(18)
            worker.kill()
            worker.wait()


@contextlib.contextmanager
def service(
    url: str,
    redis: Redis,
    folder: Path,
    *,
    silence_s: float = 5,
    patience_s: float = 30,
    others: dict[str, Any] | None = None,
    **queue: Any,
) -> Iterator[Service]:
    """Everything below ``folder``; how long the workers wait for Redis; ``queue`` overrides settings of the queue, ``others`` has
    whole sections besides."""
    media = folder / "media"
    media.mkdir()
    scratch = folder / "scratch"
    scratch.mkdir()
    settings = Settings.model_validate(
        {
            "redis": {"url": url, "timeout_s": silence_s, "patience_s": patience_s},
            "queue": {**QUICK, "media_roots": [str(media)], **queue},
            "source": {"temp_dir": str(scratch), "allow_private_hosts": ["127.0.0.1"]},
            **(others or {}),
        }
    )
    made = Service(settings=settings, redis=redis, media=media)
    try:
        yield made
    finally:
        made.close()


def is_running(pid: int) -> bool:
    """Whether a process is there and not just waiting to be buried."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
