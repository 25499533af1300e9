"""Cold start: from the shell to a verdict in a process of its own, with warm caches, and whether torch was imported."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from optimize.bench.document import Figure
from worker.errors import ConfigError

RUN_S = 600.0
SCANNED = (0, 3)
"""Exit codes of a scan that came to its end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    wall_s: float
    cpu_s: float


def measure(clip: Path, *, rounds: int, on_round: Callable[[Start], None] = lambda _: None) -> tuple[list[Start], bool]:
    """Timed runs after one that is not, and whether a scan imported torch. Raises ConfigError where one fails.

    Python's compiled modules are among the warm caches, also where the environment says to keep none.
    """
    if not clip.is_file():
        raise ConfigError(f"{clip}: there is no such file")
    with tempfile.TemporaryDirectory(prefix="veriframe-bench-") as compiled:
        imports = _run(clip, ["-X", "importtime"], compiled).stderr
        runs = []
        for _ in range(rounds):
            before, started = _children_s(), time.perf_counter()
            _run(clip, [], compiled)
            runs.append(Start(wall_s=time.perf_counter() - started, cpu_s=_children_s() - before))
            on_round(runs[-1])
    return runs, any(line.rpartition("|")[2].strip() == "torch" for line in imports.splitlines())


def _run(clip: Path, options: list[str], compiled: str) -> subprocess.CompletedProcess[str]:
    """``compiled``: the folder of compiled modules."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment["PYTHONPYCACHEPREFIX"] = compiled
    command = [sys.executable, *options, "-m", "worker.start", "scan", str(clip), "--format", "jsonl"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=RUN_S, check=False)
    report = json.loads(done.stdout) if done.returncode in SCANNED else None
    if report is None or report["status"] != "completed":
        said = "\n".join(line for line in done.stderr.splitlines() if not line.startswith("import time:"))
        raise ConfigError(f"{clip} was not scanned: {said[-500:] if report is None else report['error']['message']}")
    return done


def _children_s() -> float:
    """CPU time of processes that have ended and been waited for, and of those that they had waited for."""
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    return spent.ru_utime + spent.ru_stime


def start_figures(runs: list[Start], *, torch: bool, media_s: float) -> list[Figure]:
    walls = [run.wall_s for run in runs]
    note = f"a clip of {media_s:.0f} s, {len(runs)} rounds, {min(walls):.2f} to {max(walls):.2f} s"
    return [
        Figure(name="from shell to verdict, warm caches", value=float(np.median(walls)), unit="s", note=note),
        Figure(name="from shell to verdict: CPU time", value=float(np.median([run.cpu_s for run in runs])), unit="s"),
        Figure(name="torch imported", value=float(torch), unit="", note="yes" if torch else "no"),
    ]
