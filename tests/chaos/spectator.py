"""Who watches a drill: a Prometheus, the API that it asks about the queue, and the expressions of the dashboards."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from tests.chaos.crew import REPOSITORY, Crew
from tests.chaos.ledger import RunFolder
from tests.deploy.monitoring.config import set_target, write_config
from tests.deploy.monitoring.expressions import DASHBOARDS, RATE_INTERVAL, panels
from tests.deploy.monitoring.prometheus import Prometheus
from tests.deploy.monitoring.tools import find_tool
from worker.queue.assemble import told_settings
from worker.settings import Settings

RANGE = "5s"
START_S = 60.0
LISTENS = re.compile(r"listening on http://127\.0\.0\.1:(\d+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """What some panel is to show: a value for which ``holds`` is true, of a series with these labels; ``words`` say so to people.

    ``before_s``: not since it is looked for, but in so long a time before that.
    """

    board: str
    panel: str
    holds: Callable[[float], bool]
    words: str
    labels: Mapping[str, str] = field(default_factory=dict)
    before_s: float = 0.0

    @property
    def expressions(self) -> list[str]:
        """As Prometheus is asked."""
        board = json.loads(next(path for path in DASHBOARDS if path.stem == f"veriframe-{self.board}").read_text())
        (panel,) = (one for one in panels(board) if one["title"] == self.panel)
        return [target["expr"].replace(RATE_INTERVAL, RANGE) for target in panel["targets"]]

    def is_of(self, labels: Mapping[str, str]) -> bool:
        return self.labels.items() <= labels.items()


@dataclass(slots=True, kw_only=True)
class Spectator:
    """``look`` is to be called often: it tells Prometheus of supervisors that were started again."""

    folder: Path
    settings: Settings
    crew: Crew
    prometheus: Prometheus
    temp: Path
    api: subprocess.Popen[bytes] | None = None
    started: int = 0

    def look(self) -> None:
        set_target(self.folder, "worker", *self.crew.ports())

    def start_api(self) -> None:
        """Returns when it listens, at a port of which Prometheus is told."""
        self.started += 1
        log = self.folder / f"api-{self.started}.log"
        told = self.folder / "settings.yaml"
        told.write_text(yaml.safe_dump(told_settings(self.settings)))
        with log.open("wb") as out:
            self.api = subprocess.Popen(
                [sys.executable, "-m", "worker.cli", "serve", "--port", "0", "--config", str(told)],
                cwd=REPOSITORY,
                env={**os.environ, "TMPDIR": str(self.temp)},
                stdout=out,
                stderr=out,
            )
        deadline = time.monotonic() + START_S
        while (found := LISTENS.search(log.read_text())) is None:
            if self.api.poll() is not None or time.monotonic() > deadline:
                raise TimeoutError(f"the API does not start: {log.read_text()[-2000:]}")
            time.sleep(0.05)
        set_target(self.folder, "api", int(found[1]))

    def kill_api(self) -> None:
        if self.api is not None:
            self.api.kill()
            self.api.wait()
            self.api = None

    def shows(self, sight: Sight) -> bool:
        """Now."""
        return any(
            sight.holds(sample.values[0])
            for expression in sight.expressions
            for sample in self.prometheus.ask(expression)
            if sight.is_of(sample.labels)
        )

    def has_shown(self, sight: Sight, since_s: float) -> bool:
        """At some time since then, in seconds since 1970."""
        start_s, end_s = (since_s - sight.before_s, since_s) if sight.before_s else (since_s, time.time())
        return any(
            sight.holds(value)
            for expression in sight.expressions
            for sample in self.prometheus.ask_range(expression, start_s, end_s, 1)
            if sight.is_of(sample.labels)
            for value in sample.values
        )


@contextlib.contextmanager
def watching(crew: Crew, folder: RunFolder, settings: Settings) -> Iterator[Spectator]:
    """An API of little patience, since it is asked every second, and Prometheus. Raises FileNotFoundError where there is none."""
    own = folder.root / "watching"
    own.mkdir()
    quick = settings.redis.model_copy(update={"timeout_s": 1.0, "patience_s": 0.2})
    with Prometheus(find_tool("prometheus"), own / "prometheus", write_config(own)) as prometheus:
        spectator = Spectator(
            folder=own,
            settings=settings.model_copy(update={"redis": quick}),
            crew=crew,
            prometheus=prometheus,
            temp=folder.temp,
        )
        spectator.start_api()
        try:
            yield spectator
        finally:
            spectator.kill_api()
