"""The service as an operator runs it: Redis, ``veriframe serve``, ``veriframe worker``, and Prometheus beside them."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import httpx
import psutil
import yaml
from redis import Redis

from tests.chaos.media import CLIPS, MediaServer
from tests.deploy.monitoring.config import set_target, write_config
from tests.deploy.monitoring.prometheus import Prometheus
from tests.deploy.monitoring.props import Answer, Card
from worker.queue.access import ApiKeys
from worker.queue.connection import connect
from worker.queue.embedded import EmbeddedRedis
from worker.queue.records import Records

WAIT_S = 120.0
LOOK_S = 0.2
FINAL = ("completed", "failed", "cancelled")
ADDRESS = re.compile(r"http://127\.0\.0\.1:(\d+)")


def until(condition: Callable[[], Any], what: str, timeout_s: float = WAIT_S) -> Any:
    """The condition's first true value. Fails after ``timeout_s``."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(LOOK_S)
    raise AssertionError(f"not within {timeout_s:g} s: {what}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A process of ours, and the port that it answers on."""

    process: subprocess.Popen[bytes]
    port: int

    def below(self, module: str) -> list[psutil.Process]:
        """Processes that it started, or that those started, by what they run."""
        found = []
        with contextlib.suppress(psutil.Error):
            for one in psutil.Process(self.process.pid).children(recursive=True):
                with contextlib.suppress(psutil.Error):
                    found += [one] if module in " ".join(one.cmdline()) else []
        return found

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@dataclass(slots=True, kw_only=True)
class Stand:
    """``seen``: alerts that have fired so far."""

    folder: Path
    redis_server: EmbeddedRedis
    redis: Redis
    prometheus: Prometheus
    media: int
    receiver: Answer
    card: Card
    stack: contextlib.ExitStack
    client: httpx.Client = field(default_factory=lambda: httpx.Client(timeout=30))
    seen: set[str] = field(default_factory=set)
    _number: int = 0

    # --- processes

    def start(self, name: str, *arguments: str) -> Running:
        """``veriframe`` with these arguments; returns when its log names an address, and gives that to Prometheus as a target."""
        log = self.folder / f"{name}.log"
        settings = ["--config", str(self.folder / "settings.yaml")]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("VERIFRAME_")}
        environment |= {"PATH": f"{self.card.folder}{os.pathsep}{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}
        with log.open("wb") as out:
            process = subprocess.Popen(
                [sys.executable, "-m", "worker.cli", *arguments, *settings], stdout=out, stderr=out, env=environment
            )
        self.stack.callback(Running(process=process, port=0).end)
        until(lambda: ADDRESS.search(log.read_text()) or process.poll() is not None, f"{name} listens")
        found = ADDRESS.search(log.read_text())
        assert found is not None, log.read_text()
        self.target(name, int(found[1]))
        return Running(process=process, port=int(found[1]))

    def change(self, part: str, **values: object) -> None:
        """Settings of those that are started from now on."""
        path = self.folder / "settings.yaml"
        told = yaml.safe_load(path.read_text())
        told[part] |= values
        path.write_text(yaml.safe_dump(told))

    def sign_in(self, api: Running) -> None:
        """From now on the client speaks to this API."""
        token = ApiKeys(self.redis, "vf").create("acme", ["scan", "read"])[1]
        self.client.base_url = httpx.URL(f"http://127.0.0.1:{api.port}")
        self.client.headers["Authorization"] = f"Bearer {token}"

    # --- Prometheus

    def target(self, name: str, *ports: int) -> None:
        """See ``set_target``."""
        set_target(self.folder, name, *ports)

    def await_firing(self, *alerts: str, meanwhile: Callable[[], object] = lambda: None) -> None:
        """Until each of them has fired, now or before."""

        def all_have() -> bool:
            meanwhile()
            self.seen |= self.prometheus.firing()
            return self.seen >= set(alerts)

        try:
            until(all_have, "")
        except AssertionError as exc:
            raise AssertionError(f"{sorted(set(alerts) - self.seen)} did not fire; logs in {self.folder}") from exc

    def await_calm(self) -> None:
        """Until no alert fires."""
        until(lambda: not self.prometheus.firing(), f"all alerts clear; logs in {self.folder}")

    # --- scans

    def clip(self, name: str, **more: str) -> httpx.Response:
        """Post a scan of a demo clip, as bytes that were not there before."""
        self._number += 1
        return self._post({"url": f"http://127.0.0.1:{self.media}/clip/{name}.mp4/{self._number}"}, more)

    def picture(self) -> httpx.Response:
        """Post a scan of a clip's first frame; what follows a PNG's end is not looked at."""
        self._number += 1
        path = self.folder / "pictures" / f"{self._number}.png"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(first_frame(CLIPS / "untouched.mp4") + str(self._number).encode())
        return self._post({"path": str(path)}, {})

    def gone(self) -> httpx.Response:
        """Post a scan of what is not there."""
        self._number += 1
        return self._post({"url": f"http://127.0.0.1:{self.media}/gone/{self._number}"}, {})

    def _post(self, source: dict[str, str], more: dict[str, str]) -> httpx.Response:
        return self.client.post("/v1/scans", json={"source": source, "priority": "live", "options": {"max_frames": 4}, **more})

    def one_at_a_time(self, clip: str) -> Callable[[], None]:
        """To be called again and again: a scan of that clip whenever the one before has ended, or was refused."""
        latest = ""

        def post() -> None:
            nonlocal latest
            if not latest or self.client.get(f"/v1/scans/{latest}").json()["status"] in FINAL:
                latest = self.clip(clip).json().get("id", "")

        return post

    def hook(self, name: str | int) -> str:
        """An address of the receiver's."""
        return f"http://127.0.0.1:{self.receiver.port}/{name}"

    @property
    def records(self) -> Records:
        return Records(self.redis)


def first_frame(path: Path) -> bytes:
    """A clip's, as PNG."""
    clip = cv2.VideoCapture(str(path))
    try:
        is_read, bgr_HWC = clip.read()
    finally:
        clip.release()
    assert is_read, path
    return bytes(cv2.imencode(".png", bgr_HWC)[1])


@contextlib.contextmanager
def media() -> Iterator[int]:
    """The drill's media server, in a thread."""
    with MediaServer() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


def settings(redis_url: str, pictures: Path) -> dict[str, Any]:
    """Of API and worker: one attempt more, a backlog that is soon full, all four verdicts from the demo's clips."""
    return {
        "redis": {"url": redis_url, "timeout_s": 1, "patience_s": 0.2},
        "queue": {"max_attempts": 2, "backoff_s": 0.1, "lease_s": 2, "reconcile_s": 0.5, "grace_s": 2, "max_backlog": 6}
        | {"media_roots": [str(pictures)]},
        "source": {"allow_private_hosts": ["127.0.0.1"]},
        "callbacks": {"backoff_s": 0.3, "backoff_max_s": 0.6, "attempts": 1000},
        "telemetry": {"port": 0},
        "model": {"backend": "tensorrt", "threads": 1},
        "verdict": {"fake_above": 0.5, "real_below": 0.13},
    }


@contextlib.contextmanager
def standing(program: str, folder: Path, receiver: Answer) -> Iterator[Stand]:
    """Redis, media and Prometheus run; API and worker are to be started. ``program``: Prometheus's."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(EmbeddedRedis(folder / "redis", appendonly=True))
        redis = stack.enter_context(connect(url=server.url, timeout_s=5, patience_s=30))
        (folder / "settings.yaml").write_text(yaml.safe_dump(settings(server.url, folder / "pictures")))
        card = Card(folder / "card")
        card.make()
        stand = Stand(
            folder=folder,
            redis_server=server,
            redis=redis,
            prometheus=stack.enter_context(Prometheus(program, folder / "prometheus", write_config(folder))),
            media=stack.enter_context(media()),
            receiver=receiver,
            card=card,
            stack=stack,
        )
        stack.callback(stand.client.close)
        yield stand
