"""The auditor is green on a sound run and red for every kind of damage done to it on purpose."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from tests.chaos.audit import SHM, Audit, unowned_shm
from tests.chaos.ledger import Ledger, RunFolder, read_lines
from tests.chaos.recovery import Watch
from worker.queue.callbacks import Callbacks
from worker.queue.record import Claim, Submission
from worker.queue.records import Records
from worker.queue.requests import RequestSource, ScanRequest
from worker.queue.webhooks import Secrets, new_secret, sign
from worker.report import Report, Source, now
from worker.types import Label

SHA256 = hashlib.sha256(b"the bytes").hexdigest()
OWNER = "acme"


@dataclass(kw_only=True)
class Recorded:
    """A small run as the drill leaves one, made by the product's own records and callbacks without any process."""

    folder: RunFolder
    redis: Redis
    ids: dict[str, str] = field(default_factory=dict)

    def audit(self) -> Audit:
        made = Audit(self.folder, self.redis, "vf", shm_before=unowned_shm())
        made.run()
        return made

    def found(self) -> set[str]:
        return {name for name, whats in self.audit().wrong.items() if whats}

    def key(self, name: str) -> str:
        return f"vf:scan:{self.ids[name]}"

    def rewrite(self, change: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]) -> None:
        """What the receiver wrote down, changed."""
        lines = change(read_lines(self.folder.received))
        self.folder.received.write_text("".join(json.dumps(line) + "\n" for line in lines))


@pytest.fixture
def run(tmp_path: Path, redis: Redis) -> Recorded:
    folder = RunFolder(tmp_path / "run")
    folder.make()
    recorded, records = Recorded(folder=folder, redis=redis), Records(redis, "vf")
    watch = Watch(redis=redis, namespace="vf", ends=Ledger(folder.ends))
    for name in ("good", "copy", "bad", "twin", "quiet", "cancelled"):
        scan = recorded.ids[name] = submit(records, Ledger(folder.submissions), name)
        watch.open.add(scan)
        if name == "cancelled":
            records.cancel(scan)
        else:
            perform(records, scan, is_good=name != "bad")
    watch.look()
    deliver(redis, Ledger(folder.received))
    return recorded


def submit(records: Records, ledger: Ledger, name: str) -> str:
    request = ScanRequest(
        source=RequestSource(url="https://media.example.org/a.mp4"),
        idempotency_key="key" if name == "twin" else None,
        callback_url=None if name == "quiet" else "https://receiver.example.org/hook",
    )
    expected: dict[str, Any] = {"states": ["completed"], "codes": [], "verdict": "fake", "score": 0.75, "sha256": SHA256}
    if name == "bad":
        expected |= {"states": ["failed"], "codes": ["decode_crash"]}
    if name == "cancelled":
        expected |= {"states": ["cancelled"]}
    told = {"owner": OWNER, "key": request.idempotency_key, "callback": request.callback_url is not None, **expected}
    scan = ""
    for _ in range(2 if name == "twin" else 1):
        (made,) = records.submit([Submission(request=request, owner=OWNER)])
        ledger.add({"id": made.id, **told})
        scan = made.id
    return scan


def perform(records: Records, scan: str, *, is_good: bool) -> None:
    claim = records.claim(scan, "w1")
    assert isinstance(claim, Claim)
    records.settle(claim, SHA256, "cache" if is_good else "another")
    if is_good:
        records.finish(claim, report(scan))
    else:
        records.fail(claim, code="decode_crash", message="the decoder died", retryable=False)


def report(scan: str) -> Report:
    source = Source(kind="url", url="https://media.example.org/a.mp4")
    return Report(id=scan, source=source, created_at=now(), started_at=now(), status="completed", verdict=Label.FAKE, score=0.75)


def deliver(redis: Redis, ledger: Ledger) -> None:
    """Each callback twice, as it happens when an answer is lost."""
    callbacks, secrets = Callbacks(redis, "vf"), Secrets(redis, "vf").current(OWNER)
    parcels, _ = callbacks.claim(64, lease_s=30, share=64)
    for parcel in parcels:
        for answered in (500, 200):
            ledger.add(line(parcel.id, parcel.body, secrets) | {"answered": answered})
        callbacks.delivered(parcel, keep_s=3600)


def line(event: str, body: str, secrets: Any) -> dict[str, Any]:
    at = int(time.time())
    signature = sign(event, at, body, secrets)["webhook-signature"]
    return {"time": time.time(), "id": event, "timestamp": str(at), "signature": signature, "body": body, "answered": 200}


def test_a_sound_run_is_green(run: Recorded) -> None:
    made = run.audit()
    assert {name: whats for name, whats in made.wrong.items() if whats} == {}
    assert (made.counts["scans"], made.counts["submissions"], made.counts["twins"]) == (6, 7, 1)
    assert (made.counts["callbacks received"], made.counts["callbacks beyond the first"]) == (10, 5)
    assert made.table().endswith("green")


def drop_record(run: Recorded) -> None:
    run.redis.delete(run.key("good"))


def drop_result(run: Recorded) -> None:
    run.redis.hdel(run.key("good"), "report")


def never_end(run: Recorded) -> None:
    run.redis.hset(run.key("good"), "state", "running")


def double_end(run: Recorded) -> None:
    run.redis.hincrby("vf:ended", "completed", 1)


def double_record(run: Recorded) -> None:
    run.redis.zadd("vf:index", {"f" * 32: 1})


def double_twin(run: Recorded) -> None:
    last = read_lines(run.folder.submissions)[3]
    Ledger(run.folder.submissions).add({**last, "id": run.ids["quiet"], "key": "key"})


def overwrite_with_another_scans_result(run: Recorded) -> None:
    run.redis.hset(run.key("quiet"), "report", run.redis.hget(run.key("good"), "report") or b"")


def overwrite_the_verdict(run: Recorded) -> None:
    packed: Any = run.redis.hget(run.key("quiet"), "report")
    stored = json.loads(zlib.decompress(packed))
    run.redis.hset(run.key("quiet"), "report", zlib.compress(json.dumps({**stored, "verdict": "real"}).encode()))


def overwrite_by_a_later_attempt(run: Recorded) -> None:
    run.redis.hincrby(run.key("quiet"), "attempt", 1)


def overwrite_with_other_bytes(run: Recorded) -> None:
    run.redis.hset(run.key("quiet"), "sha256", "0" * 64)


def fail_what_is_good(run: Recorded) -> None:
    run.redis.hset(run.key("quiet"), mapping={"state": "failed", "error": '{"code": "internal"}'})


def fail_for_another_reason(run: Recorded) -> None:
    run.redis.hset(run.key("bad"), "error", '{"code": "too_large"}')


def list_as_dead(run: Recorded) -> None:
    run.redis.zadd("vf:dead", {run.ids["bad"]: 1})


def lease_left(run: Recorded) -> None:
    run.redis.zadd("vf:leases", {run.ids["good"]: 1})


def counted_as_waiting(run: Recorded) -> None:
    run.redis.zadd("vf:queued:batch", {run.ids["good"]: 1})


def follower_left(run: Recorded) -> None:
    run.redis.sadd(f"vf:followers:{run.ids['good']}", "f" * 32)


def open_scan_left(run: Recorded) -> None:
    run.redis.hincrby("vf:open", OWNER, 1)


def callback_waits(run: Recorded) -> None:
    run.redis.zadd("vf:callbacks", {f"evt_{run.ids['good']}": 1})


def callback_missing(run: Recorded) -> None:
    run.rewrite(lambda lines: [line for line in lines if run.ids["good"] not in line["id"]])


def callback_never_accepted(run: Recorded) -> None:
    run.rewrite(lambda lines: [line for line in lines if line["answered"] == 500 or run.ids["good"] not in line["id"]])


def callback_contradicts_itself(run: Recorded) -> None:
    body = json.loads(read_lines(run.folder.received)[0]["body"])
    event, secrets = f"evt_{body['data']['id']}", Secrets(run.redis, "vf").current(OWNER)
    Ledger(run.folder.received).add(line(event, json.dumps({**body, "timestamp": "2026-01-01T00:00:00.000Z"}), secrets))


def callback_contradicts_the_record(run: Recorded) -> None:
    def lie(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
        secrets = Secrets(run.redis, "vf").current(OWNER)
        lied = [one["body"].replace('"fake"', '"real"') for one in lines]
        return [line(one["id"], body, secrets) for one, body in zip(lines, lied, strict=True)]

    run.rewrite(lie)


def callback_unsigned(run: Recorded) -> None:
    run.rewrite(lambda lines: [{**lines[0], "signature": ""}, *lines[1:]])


def callback_signed_by_another(run: Recorded) -> None:
    run.rewrite(lambda lines: [line(lines[0]["id"], lines[0]["body"], [new_secret()]), *lines[1:]])


def callback_tampered_with(run: Recorded) -> None:
    run.rewrite(lambda lines: [{**lines[0], "body": lines[0]["body"] + " "}, *lines[1:]])


def callback_nobody_wanted(run: Recorded) -> None:
    secrets = Secrets(run.redis, "vf").current(OWNER)
    Ledger(run.folder.received).add(line(f"evt_{run.ids['quiet']}", "{}", secrets))


def temporary_file_left(run: Recorded) -> None:
    (run.folder.scratch / "veriframe-scratch-abc").mkdir()


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (drop_record, "lost"),
        (drop_result, "lost"),
        (never_end, "lost"),
        (double_end, "doubled"),
        (double_record, "doubled"),
        (double_twin, "twins"),
        (overwrite_with_another_scans_result, "overwritten"),
        (overwrite_the_verdict, "overwritten"),
        (overwrite_by_a_later_attempt, "overwritten"),
        (overwrite_with_other_bytes, "overwritten"),
        (fail_what_is_good, "unexpected"),
        (fail_for_another_reason, "unexpected"),
        (list_as_dead, "unexpected"),
        (lease_left, "left in Redis"),
        (counted_as_waiting, "left in Redis"),
        (follower_left, "left in Redis"),
        (open_scan_left, "left in Redis"),
        (callback_waits, "left in Redis"),
        (callback_missing, "callbacks"),
        (callback_never_accepted, "callbacks"),
        (callback_contradicts_itself, "callbacks"),
        (callback_contradicts_the_record, "callbacks"),
        (callback_unsigned, "callbacks"),
        (callback_signed_by_another, "callbacks"),
        (callback_tampered_with, "callbacks"),
        (callback_nobody_wanted, "callbacks"),
        (temporary_file_left, "temporary files"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_damage_turns_it_red(run: Recorded, damage: Callable[[Recorded], None], named: str) -> None:
    damage(run)
    made = run.audit()
    assert made.wrong[named]
    assert made.table().endswith("RED")


def test_what_copies_are_found_by_is_no_damage(run: Recorded) -> None:
    run.redis.hset(run.key("good"), "phash", "v1:00")
    assert run.found() == set()


def test_a_process_that_still_runs_is_an_orphan(run: Recorded) -> None:
    environment = {**os.environ, "TMPDIR": str(run.folder.temp)}
    with subprocess.Popen(["sleep", "60"], env=environment) as orphan:
        assert run.found() == {"orphans"}
        orphan.kill()
    assert run.found() == set()


@pytest.mark.skipif(not SHM.is_dir(), reason="no shared memory in the file system here")
def test_a_segment_that_nobody_has_mapped_is_left_over(run: Recorded) -> None:
    segment = SHM / f"chaos-{os.urandom(6).hex()}"
    made = Audit(run.folder, run.redis, "vf", shm_before=unowned_shm())
    try:
        with segment.open("wb"):
            assert segment.name not in unowned_shm(), "it is in use"
        made.run()
    finally:
        segment.unlink()
    assert [what for what in made.wrong["shared memory"] if segment.name in what]


def test_the_command_prints_the_table_and_ends_with_1_for_red(run: Recorded, redis: Redis) -> None:
    address = redis.connection_pool.connection_kwargs
    facts = {"redis": f"redis://127.0.0.1:{address['port']}/0", "namespace": "vf", "shm_before": sorted(unowned_shm())}
    run.folder.facts.write_text(json.dumps(facts))
    drop_record(run)
    done = subprocess.run(
        [sys.executable, "-m", "tests.chaos", "audit", str(run.folder.root)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (1, "")
    assert "lost = 1" in done.stdout
    assert "orphans = 0" in done.stdout


def test_the_auditor_shares_no_code_with_the_worker() -> None:
    program = "import sys, tests.chaos.audit; print([m for m in sys.modules if m.split('.')[0] in ('worker', 'rq')])"
    told = subprocess.run(
        [sys.executable, "-c", program], cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True
    )
    assert told.stdout.strip() == "[]"
