"""A real Prometheus as a child process, on a free port and a folder of its own; asked over its HTTP API."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
import urllib.parse
import urllib.request
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from worker.queue.lifeline import end_with_parent

START_S = 60.0
ANSWER_S = 30.0
LISTENS = re.compile(r'msg="Listening on" address=127\.0\.0\.1:(\d+)')
FIRING = 'ALERTS{alertname=~"Veriframe.+", alertstate="firing"}'


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """``values``: of an instant one, of a range many."""

    labels: dict[str, str]
    values: tuple[float, ...]


class Prometheus:
    """Runs while the context lasts, begun from the main thread. It may be killed and started again, over the same folder, at
    another port."""

    def __init__(self, program: str, folder: Path, config: Path) -> None:
        self._program, self._folder, self._config = program, folder, config
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0

    def __enter__(self) -> Self:
        self._folder.mkdir(parents=True)
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.kill()

    @property
    def log(self) -> Path:
        return self._folder / "prometheus.log"

    def start(self) -> None:
        """Returns when it answers."""
        command = [
            self._program,
            f"--config.file={self._config}",
            f"--storage.tsdb.path={self._folder / 'data'}",
            "--web.listen-address=127.0.0.1:0",
            "--log.level=info",
        ]
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                command,
                stdout=log,
                stderr=log,
                env={**os.environ, "GOMAXPROCS": "1"},
                preexec_fn=partial(end_with_parent, os.getpid()),
            )
        deadline = time.monotonic() + START_S
        while not self._is_ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise AssertionError(self.log.read_text()[-4000:])
            time.sleep(0.05)

    def _is_ready(self) -> bool:
        found = LISTENS.search(self.log.read_text())
        if found is None:
            return False
        self.port = int(found[1])
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/-/ready", timeout=ANSWER_S) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def kill(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
            self._process = None

    def ask(self, expr: str) -> list[Sample]:
        """What it is now."""
        found = self._get("query", query=expr)
        return [Sample(labels=one["metric"], values=(float(one["value"][1]),)) for one in found["result"]]

    def value(self, expr: str) -> float | None:
        """Of an expression with one sample; None: there is none."""
        found = self.ask(expr)
        return found[0].values[0] if found else None

    def ask_range(self, expr: str, start_s: float, end_s: float, step_s: float = 0.5) -> list[Sample]:
        """What it was from then to then, in seconds since 1970."""
        found = self._get("query_range", query=expr, start=start_s, end=end_s, step=step_s)
        return [Sample(labels=one["metric"], values=tuple(float(value) for _, value in one["values"])) for one in found["result"]]

    def firing(self) -> set[str]:
        """Names of alerts."""
        return {sample.labels["alertname"] for sample in self.ask(FIRING)}

    def _get(self, what: str, **query: Any) -> dict[str, Any]:
        address = f"http://127.0.0.1:{self.port}/api/v1/{what}?{urllib.parse.urlencode(query)}"
        with urllib.request.urlopen(address, timeout=ANSWER_S) as answer:
            data: dict[str, Any] = json.loads(answer.read())["data"]
            return data
