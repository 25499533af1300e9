"""The drill: a queue with real workers, couriers, Redis and HTTP on loopback; scans go in, faults strike, the auditor judges."""

from __future__ import annotations

import contextlib
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from redis import Redis

from tests.chaos.audit import unowned_shm
from tests.chaos.faults import KILLS, KINDS, Saboteur, Times, delete_rq_keys
from tests.chaos.ledger import Ledger, RunFolder, read_lines
from tests.chaos.recovery import Hit, Watch, distribution, sent_again
from tests.chaos.scans import OWNERS, Mix, real_verdicts
from tests.chaos.submit import Submitter
from tests.chaos.victims import CALLBACK, SCAN_STAGES, STAGES, Eyes
from worker.queue.assemble import build_records, told_settings
from worker.queue.connection import connect
from worker.queue.desk import Desk
from worker.queue.doorbell import Doorbells
from worker.queue.embedded import EmbeddedRedis
from worker.queue.webhooks import Secrets
from worker.settings import Settings

REPOSITORY = Path(__file__).parents[2]
SUPERVISORS = 2
BOOT_S = 120.0
PACE_S = 15.0
END_S = 600.0
LATEST_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """``short``: short leases and no real scanner; each kind and each stage once, not each pair."""

    scans: int = 200
    faults: int = 30
    seed: int = 1
    workers: int = 2
    short: bool = False

    def pairs(self) -> list[tuple[str, str]]:
        """In the order in which they strike; those beyond the first of each are drawn."""
        draw = random.Random(self.seed)
        if self.short:
            wanted = [(kind, STAGES[n % len(STAGES)]) for n, kind in enumerate(KINDS)]
        else:
            wanted = [(kind, stage) for kind in KINDS for stage in STAGES]
        more = [(draw.choice(KINDS), draw.choice(STAGES)) for _ in range(max(0, self.faults - len(wanted)))]
        both = wanted + more
        draw.shuffle(both)
        return both

    @property
    def times(self) -> Times:
        if self.short:
            return Times(redis_down_s=0.5, redis_pause_s=2.5, stop_s=8, find_s=30)
        return Times(redis_down_s=2, redis_pause_s=10, stop_s=40, find_s=120)

    def settings(self, folder: RunFolder, redis_url: str) -> Settings:
        """Leases, reconciler and back-off are the defaults of ``configs/worker.yaml``, but for the short form."""
        queue: dict[str, Any] = {"hold_s": 0.8, "max_attempts": 5, "grace_s": 5, "media_roots": [str(folder.media)]}
        callbacks: dict[str, Any] = {"backoff_s": 1, "backoff_max_s": 4, "timeout_s": 6, "lease_s": 10}
        if self.short:
            queue |= {
                "hold_s": 0.25,
                "lease_s": 1.5,
                "reconcile_s": 0.4,
                "ring_again_s": 1.5,
                "backoff_s": 0.1,
                "grace_s": 2,
                "max_attempts": 3,
            }
            callbacks |= {"backoff_s": 0.2, "backoff_max_s": 1, "timeout_s": 2, "lease_s": 3}
        return Settings.model_validate(
            {
                "redis": {"url": redis_url, "timeout_s": 2 if self.short else 10},
                "queue": queue,
                "callbacks": callbacks,
                "fetch": {"temp_dir": str(folder.scratch), "allow_private_hosts": ["127.0.0.1"], "stall_s": 1.5, "timeout_s": 30},
                "model": {"threads": 1},
            }
        )


@dataclass(slots=True, kw_only=True)
class Crew:
    """The supervisors, started again when one was killed, as an init system would. From one thread: they end with it."""

    folder: RunFolder
    settings: Settings
    workers: int
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)
    started: int = 0

    def keep(self) -> None:
        self.processes = [process for process in self.processes if process.poll() is None]
        while len(self.processes) < SUPERVISORS:
            self._start()

    def pids(self) -> list[int]:
        return [process.pid for process in self.processes]

    def _start(self) -> None:
        self.started += 1
        environment = {**os.environ, "TMPDIR": str(self.folder.temp), "OMP_NUM_THREADS": "1"}
        with (self.folder.logs / f"supervisor-{self.started}.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.chaos", "supervise"],
                cwd=REPOSITORY,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
            )
        order = {"settings": told_settings(self.settings), "workers": self.workers, "driver": os.getpid()}
        assert process.stdin is not None
        with process.stdin as pipe:
            pipe.write(json.dumps(order).encode() + b"\n")
        self.processes.append(process)

    def end(self) -> None:
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            process.wait(60)


@contextlib.contextmanager
def beside(*arguments: str, order: dict[str, Any] | None = None) -> Iterator[int]:
    """A server of the drill's, which is not under test; yields its port."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.chaos", *arguments], cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdin is not None
    assert process.stdout is not None
    with process:
        if order is not None:
            process.stdin.write(json.dumps(order).encode() + b"\n")
            process.stdin.flush()
        yield int(process.stdout.readline())


def drive(plan: Plan, keep_in: Path | None) -> int:
    """Run it and print what came of it; the exit code."""
    with contextlib.ExitStack() as stack:
        root = keep_in or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="chaos-")))
        folder = RunFolder(root.resolve())
        folder.make()
        server = stack.enter_context(EmbeddedRedis(folder.root / "redis", appendonly=True, appendfsync="always"))
        redis = stack.enter_context(connect(url=server.url, timeout_s=5, patience_s=60))
        settings = plan.settings(folder, server.url)
        facts = {"redis": server.url, "namespace": settings.redis.namespace, "shm_before": sorted(unowned_shm())}
        folder.facts.write_text(json.dumps(facts))
        return run(plan, folder, server, redis, settings, stack)


def run(
    plan: Plan, folder: RunFolder, server: EmbeddedRedis, redis: Redis, settings: Settings, stack: contextlib.ExitStack
) -> int:
    namespace = settings.redis.namespace
    secrets = {owner: Secrets(redis, namespace).current(owner) for owner in OWNERS}
    told = {"secrets": secrets, "hold_s": settings.queue.hold_s, "moods": {"error": 0.1, "hang": 0.03}}
    receiver = stack.enter_context(beside("receive", str(folder.root), order=told))
    media = stack.enter_context(beside("serve"))
    watch = Watch(redis=redis, namespace=namespace, ends=Ledger(folder.ends))
    desk = Desk(build_records(settings, redis), Doorbells(redis, namespace))
    mix = Mix(
        random=random.Random(plan.seed),
        media_port=media,
        receiver_port=receiver,
        media=folder.media,
        verdicts={} if plan.short else real_verdicts(),
    )
    submitter = Submitter(
        desk=desk, mix=iter(mix), ledger=Ledger(folder.submissions), watch=watch, scans=plan.scans, window=3 * plan.workers + 2
    )
    crew = Crew(folder=folder, settings=settings, workers=plan.workers)
    eyes = Eyes(redis=redis, namespace=namespace, receiver_port=receiver, supervisors=crew.pids, may_be_hit=submitter.may_be_hit)
    saboteur = Saboteur(
        server=server,
        eyes=eyes,
        watch=watch,
        times=plan.times,
        is_real=submitter.is_real,
        is_sent_again=lambda hit: any(
            line["id"] == f"evt_{hit.scan}" and line["time"] > hit.at_s for line in read_lines(folder.received)
        ),
    )
    stop = threading.Event()
    threads = [threading.Thread(target=part.run, args=(stop,)) for part in (watch, submitter)]
    crew.keep()
    wait_for_workers(redis, namespace, SUPERVISORS * plan.workers)
    for thread in threads:
        thread.start()
    try:
        lacking = strike_all(plan, saboteur, crew, submitter, folder)
        submitter.finish()
        ended = wait_for_the_end(saboteur, crew, submitter, redis, namespace)
    finally:
        saboteur.let_go(all_of_them=True)
        crew.end()
        stop.set()
        for thread in threads:
            thread.join()
    sent_again(watch.hits, folder.received)
    return conclude(plan, folder, watch, lacking, ended)


def wait_for_workers(redis: Redis, namespace: str, count: int) -> None:
    deadline = time.monotonic() + BOOT_S
    while int(redis.zcard(f"{namespace}:workers")) < count:
        if time.monotonic() > deadline:
            raise TimeoutError(f"fewer than {count} workers after {BOOT_S:g} s: see the logs")
        time.sleep(0.1)


def strike_all(plan: Plan, saboteur: Saboteur, crew: Crew, submitter: Submitter, folder: RunFolder) -> list[tuple[str, str]]:
    """Every pair of the plan, and RQ's keys deleted in mid-way; returns the pairs for which no victim was found."""
    pairs, ledger, started = plan.pairs(), Ledger(folder.faults), time.monotonic()
    lacking = []
    for number, (kind, stage) in enumerate(pairs, 1):
        if number == len(pairs) // 2 + 1:
            print(f"  RQ's keys deleted: {delete_rq_keys(saboteur.eyes.redis)}", flush=True)
        pace(saboteur, submitter, plan.scans * (number - 1) // len(pairs))
        hit = saboteur.strike(kind, stage)
        crew.keep()
        at = f"{time.monotonic() - started:>5.0f} s  {number:>2}/{len(pairs)}  {kind:<11} in {stage:<8}"
        if hit is None:
            lacking.append((kind, stage))
            print(f"{at}  nobody was found there", flush=True)
            continue
        submitter.was_hit(hit)
        ledger.add({"kind": kind, "stage": stage, "scan": hit.scan, "attempt": hit.attempt, "at": hit.at_s, "back": hit.back_s})
        print(f"{at}  scan {hit.scan[:8]}{', real scanner' if hit.is_real else ''}", flush=True)
    return lacking


def pace(saboteur: Saboteur, submitter: Submitter, scans: int) -> None:
    """Spread the faults over the scans: wait until so many were accepted, for a while."""
    deadline = time.monotonic() + PACE_S
    while submitter.accepted < scans and time.monotonic() < deadline:
        saboteur.let_go()
        time.sleep(0.05)


def wait_for_the_end(saboteur: Saboteur, crew: Crew, submitter: Submitter, redis: Redis, namespace: str) -> bool:
    """Until every scan has ended and every callback was delivered."""
    deadline = time.monotonic() + END_S
    while time.monotonic() < deadline:
        saboteur.let_go()
        crew.keep()
        if submitter.is_done and not saboteur.watch.open and not redis.zcard(f"{namespace}:callbacks"):
            return True
        time.sleep(0.1)
    return False


def conclude(plan: Plan, folder: RunFolder, watch: Watch, lacking: list[tuple[str, str]], ended: bool) -> int:
    print("\n".join(told_faults(watch.hits)))
    latest = told_recovery(watch)
    if not ended:
        print(f"not everything had ended within {END_S:g} s")
    sys.stdout.flush()
    audited = subprocess.run([sys.executable, "-m", "tests.chaos", "audit", str(folder.root)], cwd=REPOSITORY, check=False)
    is_good = not lacking and ended and audited.returncode == 0 and latest <= LATEST_S and len(watch.hits) >= plan.faults
    print("chaos: green" if is_good else "chaos: RED")
    return 0 if is_good else 1


def told_faults(hits: list[Hit]) -> list[str]:
    count = Counter((hit.kind, hit.stage) for hit in hits)
    real = sum(hit.is_real for hit in hits)
    rows = [f"  {kind:<12}" + "".join(f"{count[kind, stage]:>10}" for stage in STAGES) for kind in KINDS]
    head = f"faults: {len(hits)}, of them {real} on scans of the real scanner; all of RQ's keys deleted once"
    return [head, "  " + " " * 12 + "".join(f"{stage:>10}" for stage in STAGES), *rows]


def told_recovery(watch: Watch) -> float:
    """Print it; the longest of a killed or stopped worker's scan, infinite for one that never went on."""
    print("recovery in seconds, from the later of the fault and Redis's return")
    print("  " + " " * 34 + "    n     min  median     p95     max")
    groups = {
        "scan of a killed worker or child": [h for h in watch.hits if h.kind in KILLS and h.stage in SCAN_STAGES],
        "scan of a stopped worker": [h for h in watch.hits if h.kind == "stop" and h.stage in SCAN_STAGES],
        "scan when Redis was away": [h for h in watch.hits if h.kind.startswith("redis") and h.stage in SCAN_STAGES],
        "callback of a killed, stopped courier": [
            h for h in watch.hits if not h.kind.startswith("redis") and h.stage == CALLBACK
        ],
    }
    latest = 0.0
    for name, hits in groups.items():
        delays = [watch.delay_s(hit) for hit in hits]
        known = [delay for delay in delays if delay is not None]
        print(f"  {name:<38}"[:36] + (distribution(known) if known else "    0"))
        if name.startswith("scan of"):
            latest = max([latest, *(float("inf") if delay is None else delay for delay in delays)])
    return latest
