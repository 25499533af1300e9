"""The drill: a queue with real workers, couriers, Redis and HTTP on loopback; scans go in, faults strike, the auditor judges."""

from __future__ import annotations

import contextlib
import json
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from redis import Redis

from tests.chaos.audit import unowned_shm
from tests.chaos.crew import REPOSITORY, SUPERVISORS, Crew, beside
from tests.chaos.faults import Saboteur, delete_rq_keys
from tests.chaos.ledger import Ledger, RunFolder, read_lines
from tests.chaos.outcome import told_faults, told_recovery
from tests.chaos.parts import Parts
from tests.chaos.plan import Plan
from tests.chaos.recovery import Hit, Watch, sent_again
from tests.chaos.scans import KILL_THEIR_PROCESS, OWNERS, Mix, real_verdicts
from tests.chaos.spectator import watching
from tests.chaos.submit import Submitter
from tests.chaos.victims import Eyes
from worker.queue.connection import connect
from worker.queue.desk import Desk
from worker.queue.doorbell import Doorbells
from worker.queue.embedded import EmbeddedRedis
from worker.queue.front import build_records
from worker.queue.webhooks import Secrets
from worker.settings import Settings

BOOT_S = 120.0
PACE_S = 15.0
END_S = 600.0


def drive(plan: Plan, keep_in: Path | None) -> int:
    """Run it and print what came of it; the exit code."""
    with contextlib.ExitStack() as stack:
        root = keep_in or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="chaos-")))
        folder = RunFolder(root.resolve())
        folder.make()
        server = stack.enter_context(EmbeddedRedis(folder.root / "redis", appendonly=True))
        redis = stack.enter_context(connect(url=server.url, timeout_s=5, patience_s=60))
        settings = plan.settings(folder, server.url)
        facts = {"redis": server.url, "namespace": settings.redis.namespace, "shm_before": sorted(unowned_shm())}
        folder.facts.write_text(json.dumps(facts))
        return run(plan, folder, server, redis, settings, stack)


def run(
    plan: Plan, folder: RunFolder, server: EmbeddedRedis, redis: Redis, settings: Settings, stack: contextlib.ExitStack
) -> int:
    """Join the parts, break what runs, and have it audited."""
    namespace = settings.redis.namespace
    secrets = {owner: Secrets(redis, namespace).current(owner) for owner in OWNERS}
    told = {"secrets": secrets, "hold_s": settings.queue.hold_s, "moods": {"error": 0.1, "hang": 0.03}}
    receiver = stack.enter_context(beside("receive", str(folder.root), order=told))
    mix = Mix(
        random=random.Random(plan.seed),
        media_port=stack.enter_context(beside("serve")),
        receiver_port=receiver,
        media=folder.media,
        verdicts={} if plan.short else real_verdicts(),
        left_out=KILL_THEIR_PROCESS if plan.watched else (),
    )
    watch = Watch(redis=redis, namespace=namespace, ends=Ledger(folder.ends))
    submitter = Submitter(
        desk=Desk(build_records(settings, redis), Doorbells(redis, namespace)),
        mix=iter(mix),
        ledger=Ledger(folder.submissions),
        watch=watch,
        scans=plan.scans,
        window=plan.open_scans,
    )
    crew = Crew(folder=folder, settings=settings, workers=plan.workers)
    eyes = Eyes(redis=redis, namespace=namespace, receiver_port=receiver, supervisors=crew.pids, may_be_hit=submitter.may_be_hit)
    saboteur = Saboteur(
        server=server,
        eyes=eyes,
        watch=watch,
        times=plan.times,
        is_real=submitter.is_real,
        is_sent_again=lambda hit: was_received_after(folder, hit),
    )
    crew.keep()
    wait_for_workers(redis, namespace, SUPERVISORS * plan.workers)
    with contextlib.ExitStack() as until_all_has_ended, in_the_background(watch, submitter):
        try:
            if plan.watched:
                spectator = until_all_has_ended.enter_context(watching(crew, folder, settings))
                workers = SUPERVISORS * plan.workers
                parts = Parts(spectator=spectator, saboteur=saboteur, crew=crew, workers=workers, was_hit=submitter.was_hit)
                lacking = parts.kill_each()
            else:
                lacking = strike_all(plan, saboteur, crew, submitter, folder)
            submitter.finish()
            ended = wait_for_the_end(saboteur, crew, submitter, redis, namespace)
        finally:
            saboteur.let_go(all_of_them=True)
            crew.end()
    sent_again(watch.hits, folder.received)
    return conclude(plan, folder, watch, lacking, ended)


@contextlib.contextmanager
def in_the_background(*parts: Watch | Submitter) -> Iterator[None]:
    stop = threading.Event()
    threads = [threading.Thread(target=part.run, args=(stop,)) for part in parts]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def was_received_after(folder: RunFolder, hit: Hit) -> bool:
    return any(line["id"] == f"evt_{hit.scan}" and line["time"] > hit.at_s for line in read_lines(folder.received))


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
    print(plan.told())
    if not plan.watched:
        print("\n".join(told_faults(watch.hits)))
    latest = told_recovery(watch)
    if not ended:
        print(f"not everything had ended within {END_S:g} s")
    sys.stdout.flush()
    audited = subprocess.run([sys.executable, "-m", "tests.chaos", "audit", str(folder.root)], cwd=REPOSITORY, check=False)
    is_good = not lacking and ended and audited.returncode == 0 and latest <= plan.latest_s and len(watch.hits) >= plan.least_hits
    print("chaos: green" if is_good else "chaos: RED")
    return 0 if is_good else 1
