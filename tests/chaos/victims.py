"""Who holds what: the worker that has a scan in a certain stage, the courier that is sending a callback."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import psutil
from redis import Redis

SCAN_STAGES = ("fetch", "decode", "infer", "store")
CALLBACK = "callback"
STAGES = (*SCAN_STAGES, CALLBACK)
LOOK_S = 0.005


@dataclass(frozen=True, slots=True, kw_only=True)
class Victim:
    """``child`` does the work and ``parent`` keeps it: scanning process and worker, or courier and supervisor."""

    stage: str
    scan: str
    attempt: int
    parent: int
    child: int
    callback_port: int = 0

    @property
    def event(self) -> str:
        return f"evt_{self.scan}"


@dataclass(slots=True, kw_only=True)
class Eyes:
    """What the driver sees. ``may_be_hit`` says whether a scan may be a victim (for its scan or for its callback)."""

    redis: Redis
    namespace: str
    receiver_port: int
    supervisors: Callable[[], list[int]]
    may_be_hit: Callable[[str, str], bool]

    def find(self, stage: str, timeout_s: float) -> Victim | None:
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            found = self._sending() if stage == CALLBACK else self._scanning(stage)
            if found is not None:
                return found
            time.sleep(LOOK_S)
        return None

    def still(self, victim: Victim) -> bool:
        """Whether the victim, frozen by now, is where it was seen."""
        if victim.stage != CALLBACK:
            told = self._stand(victim.scan)
            return told[:3] == ("running", victim.stage, victim.attempt)
        state: Any = self.redis.hget(f"{self.namespace}:callback:{victim.event}", "state")
        is_open = any(one["port"] == victim.callback_port and one["event"] == victim.event for one in self._open())
        return state == b"sending" and is_open

    def _stand(self, scan: str) -> tuple[str, str, int, str]:
        told: Any = self.redis.hmget(f"{self.namespace}:scan:{scan}", "state", "stage", "attempt", "worker")
        state, stage, attempt, worker = told
        return (state or b"").decode(), (stage or b"").decode(), int(attempt or 0), (worker or b"").decode()

    def _scanning(self, stage: str) -> Victim | None:
        leased: Any = self.redis.zrange(f"{self.namespace}:leases", 0, -1)
        for scan in (one.decode() for one in leased):
            state, now_in, attempt, worker = self._stand(scan)
            if (state, now_in) != ("running", stage) or not self.may_be_hit(scan, stage):
                continue
            said: Any = self.redis.get(f"{self.namespace}:worker:{worker}")
            facts = json.loads(said) if said else {}
            if facts and is_child_of(facts["child"], facts["pid"]):
                return Victim(stage=stage, scan=scan, attempt=attempt, parent=facts["pid"], child=facts["child"])
        return None

    def _sending(self) -> Victim | None:
        under_way = {one["port"]: one["event"].removeprefix("evt_") for one in self._open()}
        wanted = {port: scan for port, scan in under_way.items() if self.may_be_hit(scan, CALLBACK)}
        for supervisor, courier in self._couriers() if wanted else ():
            with contextlib.suppress(psutil.Error):
                ports = {connection.laddr.port for connection in psutil.Process(courier).net_connections("tcp4")}
                for port in ports & set(wanted):
                    victim = Victim(
                        stage=CALLBACK, scan=wanted[port], attempt=0, parent=supervisor, child=courier, callback_port=port
                    )
                    tries: Any = self.redis.hget(f"{self.namespace}:callback:{victim.event}", "tries")
                    return replace(victim, attempt=int(tries or 0))
        return None

    def _couriers(self) -> Iterator[tuple[int, int]]:
        for supervisor in self.supervisors():
            with contextlib.suppress(psutil.Error):
                for process in psutil.Process(supervisor).children():
                    if "worker.queue.courier_process" in process.cmdline() and process.status() != psutil.STATUS_STOPPED:
                        yield supervisor, process.pid

    def _open(self) -> list[dict[str, Any]]:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.receiver_port}/open", timeout=5) as answer:
            told: list[dict[str, Any]] = json.loads(answer.read())
            return told


def send(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def is_child_of(pid: int, parent: int) -> bool:
    """Alive, started by it, and neither of them stopped."""
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid)
        dull = (psutil.STATUS_ZOMBIE, psutil.STATUS_STOPPED)
        return process.ppid() == parent and process.status() not in dull and psutil.Process(parent).status() not in dull
    return False
