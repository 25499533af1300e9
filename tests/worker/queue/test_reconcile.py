"""Passes of the reconciler on a real Redis: who is elected, what is taken, what is rung."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
from redis import Redis
from rq.worker.base import WorkerStatus

from tests.worker.queue.harness import until
from tests.worker.telemetry.recorded import Recorded
from worker.artifacts import open_store
from worker.queue.assemble import build_sweeper
from worker.queue.backlog import read_backlog
from worker.queue.connection import connect
from worker.queue.doorbell import Doorbells
from worker.queue.embedded import EmbeddedRedis
from worker.queue.reconcile import AT_ONCE, SWEEP_S, Reconciler, Sweeper
from worker.queue.record import Claim, Ended, Submission, Terms
from worker.queue.records import Records
from worker.queue.requests import QUEUES, RequestSource, ScanRequest
from worker.queue.scan_worker import RqFace
from worker.settings import Settings
from worker.telemetry.port import SILENT, Telemetry


@pytest.fixture
def records(redis: Redis) -> Records:
    return Records(redis, "vf", Terms(lease_s=0.05, ring_again_s=0.0))


def reconciler(records: Records, name: str = "a", telemetry: Telemetry = SILENT) -> Reconciler:
    return Reconciler(records=records, bells=Doorbells(records.redis), worker=name, every_s=5, telemetry=telemetry)


def submitted(records: Records, priority: str = "batch", kind: str = "scan") -> str:
    request = ScanRequest(source=RequestSource(url="https://example.org/a.mp4"), priority=priority, kind=kind)  # type: ignore[arg-type]
    return records.submit([Submission(request=request, owner="acme")])[0].id


def wait_ms(records: Records, ms: int) -> None:
    until = records.now_ms() + ms
    while records.now_ms() < until:
        pass


def test_one_of_two_is_elected_until_it_is_silent(records: Records) -> None:
    first, second = reconciler(records, "a"), reconciler(records, "b")
    assert first.run_once().elected
    assert not second.run_once().elected
    assert first.run_once().elected
    records.redis.delete("vf:reconciler")
    assert second.run_once().elected
    assert not first.run_once().elected


def test_a_scan_without_a_doorbell_is_rung_for_in_its_queue(records: Records) -> None:
    scan_id = submitted(records, "live")
    assert reconciler(records).run_once().rung == (scan_id,)
    assert records.redis.lrange("rq:queue:vf-live", 0, -1) == [scan_id.encode()]
    wait_ms(records, 2)
    assert reconciler(records).run_once().rung == ()


def test_what_was_begun_is_rung_first_but_not_what_could_not_be_read(records: Records) -> None:
    unread, fresh, lost = submitted(records), submitted(records), submitted(records)
    claim = records.claim(unread, "w")
    assert isinstance(claim, Claim)
    records.pass_on(claim, "")
    assert isinstance(records.claim(lost, "gone"), Claim)
    one = reconciler(records)
    wait_ms(records, 60)
    one.run_once()
    records.redis.zadd("vf:waiting", {unread: 0})
    records.redis.delete("rq:queue:vf-batch")
    assert set(one.run_once().rung) == {unread, fresh, lost}
    assert records.redis.lrange("rq:queue:vf-batch", 0, 0) == [lost.encode()]
    assert records.begun([unread, fresh, lost]) == {lost}


def test_a_lease_is_taken_at_the_second_sight_only(records: Records) -> None:
    scan_id = submitted(records)
    assert isinstance(records.claim(scan_id, "gone"), Claim)
    one = reconciler(records)
    wait_ms(records, 60)
    assert one.run_once().expired == ()
    assert one.run_once().expired == (scan_id,)
    assert records.get(scan_id).state == "queued"


def test_a_pass_ends_though_what_it_looked_at_first_is_due_again(redis: Redis) -> None:
    records = Records(redis, "vf", Terms(ring_again_s=0.001))
    one = reconciler(records)
    redis.zadd("vf:waiting", {f"{n:032x}": 0 for n in range(2 * AT_ONCE)})
    looked_at = threading.Event()

    def pass_once() -> None:
        one.run_once()
        looked_at.set()

    threading.Thread(target=pass_once, daemon=True).start()
    has_ended = looked_at.wait(10)
    redis.delete("vf:waiting")  # or it would go on beside the next test
    assert has_ended


def test_a_long_pass_keeps_its_worker_elected(records: Records) -> None:
    """Of two workers that take turns, neither would see a lease a second time."""

    class SlowDoorbells(Doorbells):
        def waiting(self) -> set[str]:
            records.redis.pexpire("vf:reconciler", 200)
            return super().waiting()

    records.redis.zadd("vf:waiting", {f"{n:032x}": 0 for n in range(AT_ONCE)})
    one = Reconciler(records=records, bells=SlowDoorbells(records.redis), worker="a", every_s=5)
    assert one.run_once().elected
    assert records.redis.pttl("vf:reconciler") > 5_000


def test_queues_that_another_version_let_drift_are_put_right(records: Records) -> None:
    """Of a scan that it took, or accepted, ``queued:QUEUE`` was told nothing."""
    accepted, taken, ended = submitted(records, "live"), submitted(records), submitted(records)
    for scan_id, queue in ((taken, "batch"), (ended, "low")):
        claim = records.claim(scan_id, f"w {queue}")
        assert isinstance(claim, Claim)
        records.redis.zadd(f"vf:queued:{queue}", {scan_id: 1})
    records.redis.delete("vf:queued:live", f"vf:scan:{ended}")
    records.redis.zrem("vf:leases", ended)
    wait_ms(records, 2)
    reconciler(records).run_once()
    backlog = read_backlog(records)
    assert {queue: n for queue, n in backlog.waiting.items() if n} == {"live": 1}
    assert records.redis.zscore("vf:queued:live", accepted) == records.get(accepted).created_ms
    assert backlog.running["batch"] == 1


def test_lists_lose_what_is_forgotten_and_keep_what_is_open(records: Records) -> None:
    """However old: ``keep_s`` counts from a scan's end."""
    waiting, forgotten = submitted(records), submitted(records)
    records.redis.delete(f"vf:scan:{forgotten}")
    lists = ("vf:index", "vf:index:acme")
    for name in lists:
        records.redis.zadd(name, {waiting: 1000, forgotten: 2000})
    reconciler(records).run_once()
    assert [records.redis.zrange(name, 0, -1) for name in lists] == [[waiting.encode()]] * 2


def test_rq_s_sets_of_workers_lose_those_that_are_gone(records: Records) -> None:
    """A killed worker says no farewell, and no other has its name; RQ itself forgets only its key."""
    redis, one = records.redis, reconciler(records)
    faces = [RqFace(list(one.bells.queues.values()), name=name, connection=redis) for name in ("killed", "lives")]
    for face in faces:
        face.show(WorkerStatus.IDLE)
    sets = ("rq:workers", *(f"rq:workers:vf-{queue}" for queue in QUEUES))
    both = {b"rq:worker:killed", b"rq:worker:lives"}
    one.run_once()
    assert [redis.smembers(name) for name in sets] == [both] * 5
    redis.delete("rq:worker:killed")
    one.run_once()
    assert redis.smembers("rq:workers") == both, "not at every pass"
    reconciler(records).run_once()
    assert [redis.smembers(name) for name in sets] == [{b"rq:worker:lives"}] * 5
    faces[0].show(WorkerStatus.IDLE)
    assert [redis.smembers(name) for name in sets] == [both] * 5, "it had only stood still"


def test_what_a_pass_does_is_counted(redis: Redis) -> None:
    told = Recorded()
    records = Records(redis, "vf", Terms(lease_s=0.05, ring_again_s=0.0, max_attempts=2), told)
    one = reconciler(records, telemetry=told)
    lost, unwanted, silent = submitted(records), submitted(records), submitted(records)
    for _ in range(2):  # attempts, which both end with their worker
        assert isinstance(records.claim(lost, "gone"), Claim)
        wait_ms(records, 60)
        one.run_once()
        one.run_once()
    assert isinstance(records.claim(unwanted, "gone"), Claim)
    records.cancel(unwanted)
    wait_ms(records, 60)
    one.run_once()
    one.run_once()
    assert records.get(lost).dead
    assert records.get(silent).state == "queued"
    actions = {labels[0]: n for (name, *labels), n in told.counts.items() if name == "reconciler_actions_total"}
    assert actions == {"requeued": 1, "dead": 1, "cancelled": 1, "rung": actions["rung"]}
    assert actions["rung"] >= 2, "those that wait had no doorbell"
    ended = {key: n for key, n in told.counts.items() if key[0] != "reconciler_actions_total"}
    assert ended == {
        ("scan_retries_total", "lease_lost"): 1,
        ("dead_letters_total", "lease_lost"): 1,
        ("scans_total", "none", "lease_lost"): 1,
        ("scans_total", "none", "none"): 1,
    }
    assert abs(told.shown["reconciler_last_pass_timestamp_seconds",] - time.time()) < 60


def test_the_last_pass_is_told_by_redis_s_clock_whatever_the_machine_s(redis: Redis) -> None:
    """A worker whose own clock is ahead would hide for so long that nobody passes any more."""

    class Behind(Records):
        def now_ms(self) -> int:
            return super().now_ms() - 3_600_000

    told = Recorded()
    reconciler(Behind(redis), telemetry=told).run_once()
    assert abs(told.shown["reconciler_last_pass_timestamp_seconds",] - (time.time() - 3600)) < 60


def test_who_is_not_elected_says_nothing(records: Records) -> None:
    told = Recorded()
    reconciler(records, "a").run_once()
    reconciler(records, "b", told).run_once()
    assert (told.counts, told.shown) == ({}, {})


def test_a_lease_renewed_between_the_sights_is_kept(records: Records) -> None:
    scan_id = submitted(records)
    claim = records.claim(scan_id, "slow")
    assert isinstance(claim, Claim)
    one = reconciler(records)
    wait_ms(records, 60)
    one.run_once()
    records.renew(claim)
    wait_ms(records, 60)
    assert one.run_once().expired == ()
    assert records.get(scan_id).attempt == 1


def test_all_due_scans_are_rung_for_in_one_pass(records: Records) -> None:
    request = ScanRequest(source=RequestSource(url="https://example.org/a.mp4"))
    records.submit([Submission(request=request, owner="acme") for _ in range(2300)])
    slow = Records(records.redis, "vf", Terms(ring_again_s=60))
    assert len(reconciler(slow).run_once().rung) == 2300


def test_a_redis_that_takes_no_writes_ends_no_reconciler(own_redis: EmbeddedRedis, caplog: pytest.LogCaptureFixture) -> None:
    with connect(url=own_redis.url, timeout_s=5, patience_s=5) as redis:
        records = Records(redis, "vf", Terms(lease_s=0.05, ring_again_s=0.0))
        scan_id = submitted(records)
        stop = threading.Event()
        one = Reconciler(records=records, bells=Doorbells(redis), worker="a", every_s=0.05)
        redis.config_set("maxmemory", 1)
        thread = threading.Thread(target=one.run, args=(stop,), daemon=True)
        thread.start()
        until(lambda: "reconciler: Redis is full: raise its maxmemory" in caplog.messages, 30, caplog.text)
        assert thread.is_alive()
        redis.config_set("maxmemory", 0)
        until(lambda: redis.llen("rq:queue:vf-batch") == 1, 60, scan_id)
        stop.set()
        thread.join(60)
        assert not thread.is_alive()


def test_one_worker_sweeps_a_store_at_a_time(records: Records) -> None:
    swept: list[str] = []
    told = Recorded()
    for url in ("s3://one:hush@a/b", "s3://one:hush@a/b", "s3://c"):
        Sweeper(records=records, url=url, sweep=lambda _, url=url: swept.append(url), telemetry=told).run_once()  # type: ignore[misc]
    assert swept == ["s3://one:hush@a/b", "s3://c"]
    assert told.counts == {("reconciler_actions_total", "swept"): 2}
    assert not [key for key in records.redis.keys("*") if b"hush" in key]


def test_a_store_is_swept_before_it_is_waited_for(records: Records) -> None:
    done: list[object] = []

    class Stop(threading.Event):
        """Is set by the first wait."""

        def wait(self, timeout: float | None = None) -> bool:
            done.append(timeout)
            self.set()
            return True

    Sweeper(records=records, url="here", sweep=lambda _: done.append("swept")).run(Stop())
    assert done == ["swept", SWEEP_S]


def test_a_machine_whose_clock_is_ahead_sweeps_by_that_of_redis(records: Records, tmp_path: Path) -> None:
    ahead = open_store(str(tmp_path), clock=lambda: time.time() + 2 * 86400)
    now_s = records.now_ms() / 1000
    for key, expires_at in (("uploads/kept", now_s + 86400), ("uploads/over", now_s - 1)):
        with ahead.writer(key, expires_at=expires_at) as writing:
            writing.write(b"x")
    assert Sweeper(records=records, url="here", sweep=ahead.sweep).run_once()
    assert [path.parent.name for path in tmp_path.rglob("@*")] == ["kept"]


def test_a_worker_without_a_store_keeps_no_other_from_sweeping(records: Records, tmp_path: Path) -> None:
    stores = (None, " ", str(tmp_path / "a"), str(tmp_path / "b"))
    settings = [Settings.model_validate({"artifacts": {"url": url}}) for url in stores]
    sweepers = [build_sweeper(one, records) for one in settings]
    assert sweepers[:2] == [None, None]
    assert [sweeper.run_once() for sweeper in sweepers if sweeper is not None] == [True, True]


@pytest.mark.parametrize("queue", ["weird", b"\xff", ""])
def test_a_record_that_names_no_queue_is_rung_for_in_that_of_its_request(records: Records, queue: str | bytes) -> None:
    odd, watched, good = submitted(records, "live"), submitted(records, kind="watch"), submitted(records)
    for scan_id in (odd, watched):
        records.redis.hset(f"vf:scan:{scan_id}", "priority", queue)
    records.redis.delete("vf:queued:live", "vf:queued:watch")
    assert set(reconciler(records).run_once().rung) == {odd, watched, good}
    assert [records.redis.lrange(f"rq:queue:vf-{name}", 0, -1) for name in QUEUES] == [
        [odd.encode()], [good.encode()], [], [watched.encode()],
    ]  # fmt: skip
    assert [read_backlog(records).waiting[name] for name in QUEUES] == [1, 1, 0, 1]
    claim = records.claim(watched, "w")
    assert isinstance(claim, Claim)
    assert claim.is_watch
    assert read_backlog(records).running["watch"] == 1
    records.redis.set(f"vf:cursor:{watched}", "{}")
    records.fail(claim, code="corrupt", message="", retryable=False)
    records.cancel(odd)
    assert not records.redis.exists(f"vf:cursor:{watched}")
    assert [read_backlog(records).waiting[name] for name in QUEUES] == [0, 1, 0, 0]


def test_a_record_that_nobody_can_read_is_rung_for_too_and_ends_when_it_is_claimed(records: Records) -> None:
    odd = submitted(records)
    records.redis.hset(f"vf:scan:{odd}", mapping={"priority": "weird", "request": "[1]", "tries": "x"})
    reconciler(records).run_once()
    assert records.redis.lrange("rq:queue:vf-low", 0, -1) == [odd.encode()]
    ended = records.claim(odd, "w")
    assert isinstance(ended, Ended)
    assert ended.how == "dead"


def test_a_record_without_a_count_of_tries_costs_no_other_scan_its_end(records: Records) -> None:
    scans = [submitted(records) for _ in range(3)]
    for scan_id in scans:
        assert isinstance(records.claim(scan_id, scan_id), Claim)
    odd = min(scans)
    records.redis.hset(f"vf:scan:{odd}", "tries", "x")
    one = reconciler(records)
    wait_ms(records, 60)
    one.run_once()
    assert set(one.run_once().expired) == set(scans)
    assert [records.redis.hget(f"vf:scan:{scan_id}", "state") for scan_id in scans if scan_id != odd] == [b"queued"] * 2
    assert records.redis.hmget(f"vf:scan:{odd}", "state", "dead") == [b"failed", b"1"]


def test_a_record_without_a_time_costs_no_other_scan_its_doorbell(records: Records) -> None:
    odd, good = submitted(records), submitted(records)
    records.redis.hset(f"vf:scan:{odd}", "created_ms", "nan")
    records.redis.delete("vf:queued:batch")
    assert set(reconciler(records).run_once().rung) == {odd, good}
