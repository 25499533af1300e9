"""The Python client against a real Redis."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from redis import Redis

from tests.worker.queue.record_steps import request
from tests.worker.queue.scans import complete, watched
from worker.errors import BadRequest, ConfigError, Conflict, NoSuchScan, QueueFull, RedisDown
from worker.queue import ScanClient
from worker.queue.connection import connect
from worker.queue.desk import Desk
from worker.queue.doorbell import Doorbells
from worker.queue.embedded import EmbeddedRedis
from worker.queue.record import Terms
from worker.queue.records import Records
from worker.settings import Settings


@pytest.fixture
def client(redis: Redis, redis_server: EmbeddedRedis) -> Iterator[ScanClient]:
    with ScanClient(redis_server.url, "acme") as client:
        yield client


@pytest.fixture
def records(redis: Redis) -> Records:
    return Records(redis, "vf")


def url(number: int) -> str:
    return f"https://example.org/{number}.mp4"


def test_from_the_first_call_to_the_result(client: ScanClient, records: Records) -> None:
    scan_id = client.enqueue(url(1), priority="live", external_id="7", options={"max_frames": 8})
    assert client.status(scan_id).state == "queued"
    with pytest.raises(Conflict, match="wait"):
        client.result(scan_id)
    complete(records, scan_id)
    assert client.wait([scan_id], timeout_s=10) == {scan_id: "completed"}
    assert client.result(scan_id).verdict == "fake"
    assert client.status(scan_id).is_final
    stored = records.get(scan_id)
    assert (stored.owner, stored.request.priority, stored.request.options.max_frames) == ("acme", "live", 8)
    assert client.report(client.retry(scan_id)).retry_of == scan_id
    assert client.cancel(client.enqueue(url(2))) == "cancelled"


def test_a_stream_is_watched_and_its_events_are_read(client: ScanClient, redis: Redis, records: Records) -> None:
    scan_id = client.enqueue("https://example.org/live.m3u8", kind="watch", options={"hop_s": 2})
    assert records.get(scan_id).request.queue == "watch"
    assert client.events(scan_id) == ()
    watch = watched(Desk(records, Doorbells(redis)), 3)
    assert [event.number for event in client.events(watch, after=0)] == [1, 2]
    with pytest.raises(Conflict):
        client.events(client.enqueue(url(1)))
    (made,) = client.enqueue_many(["/media/a.ts"], kind="watch")
    assert isinstance(made.refusal, BadRequest)


def test_what_may_be_enqueued(client: ScanClient, records: Records, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "there" / "below").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "there" / "below")
    monkeypatch.chdir(tmp_path)
    items = [url(1), "a.mp4", Path("b.mp4"), "link/../c.mp4", request(url(2)), {"source": {"url": url(3)}, "external_id": "x"}]
    ids = [client.enqueue(item) for item in items]
    sources = [record.request.source for record in records.get_many(ids)]
    assert [source.url or source.path for source in sources] == [
        url(1),
        f"{tmp_path}/a.mp4",
        f"{tmp_path}/b.mp4",
        f"{tmp_path}/there/c.mp4",
        url(2),
        url(3),
    ]


HOSTILE = (
    *("", "ftp://example.org/a", "file:///etc/passwd", "a\x00b", "../a\x00b", "../" + 5000 * "a", "a\udcff.mp4", "https://x y/"),
    *({}, {"source": {}}, {1: 2}, {"source": {"url": "https://example.org/a"}, "options": {"fps": float("nan")}}),
    {"source": {"path": "/a"}, "pickle": "x"},
)


@pytest.mark.parametrize("item", HOSTILE, ids=range(len(HOSTILE)))
def test_what_may_not(client: ScanClient, records: Records, item: object) -> None:
    with pytest.raises(BadRequest):
        client.enqueue(item)  # type: ignore[arg-type]
    assert records.redis.keys("*") == []


def test_answers_to_many_come_in_order_and_refusals_stop_none(client: ScanClient, records: Records) -> None:
    keyed = {"source": {"url": url(0)}, "idempotency_key": "k"}
    other = {"source": {"url": url(1)}, "idempotency_key": "k"}
    answers = list(client.enqueue_many([url(0), keyed, "ftp://x", keyed, other, url(2)]))
    assert [type(answer.refusal) for answer in answers] == [type(None), type(None), BadRequest, type(None), Conflict, type(None)]
    assert [answer.created for answer in answers] == [True, True, False, False, False, True]
    assert answers[1].id == answers[3].id
    queued = [answers[number].id for number in (0, 1, 5)]
    assert [record.request.source.url for record in records.get_many(queued)] == [url(0), url(0), url(2)]
    assert records.redis.zcard("vf:index") == 3


def test_sources_without_end_are_taken_as_they_are_asked_for(client: ScanClient) -> None:
    taken = 0

    def endless() -> Iterator[str]:
        nonlocal taken
        while True:
            taken += 1
            yield url(taken)

    answers = client.enqueue_many(endless())
    first = [next(answers) for _ in range(3)]
    assert all(answer.created for answer in first)
    assert taken <= 500


def test_a_full_queue_may_be_waited_for(redis: Redis, redis_server: EmbeddedRedis) -> None:
    terms = Terms(open_scans=3)
    records = Records(redis, "vf", terms)
    with ScanClient(redis_server.url, "acme", terms=terms) as client:
        answers = list(client.enqueue_many(map(url, range(5))))
        assert [isinstance(answer.refusal, QueueFull) for answer in answers] == [False, False, False, True, True]
        got: list[str] = []
        waiting = threading.Thread(
            target=lambda: got.extend(one.id for one in client.enqueue_many(map(url, range(5, 8)), room_s=60) if one.created)
        )
        waiting.start()
        for answer in answers[:3]:
            records.cancel(answer.id)
        waiting.join(60)
        assert len(set(got)) == 3
        assert [record.state for record in records.get_many(got)] == ["queued"] * 3
        assert redis.hget("vf:open", "acme") == b"3"


def test_one_key_from_fifty_threads_is_one_scan(client: ScanClient, records: Records) -> None:
    ready = threading.Barrier(50)

    def enqueue(number: int) -> str:
        ready.wait(120)
        return client.enqueue(url(0), idempotency_key="once")

    with ThreadPoolExecutor(50) as pool:
        ids = set(pool.map(enqueue, range(50)))
    assert len(ids) == 1
    assert records.redis.zrange("vf:index", 0, -1) == [ids.pop().encode()]
    assert records.redis.hget("vf:open", "acme") == b"1"


def test_waiting_for_many(client: ScanClient, records: Records) -> None:
    ids = [answer.id for answer in client.enqueue_many(map(url, range(4)))]
    for number, scan_id in enumerate(ids[:3]):
        complete(records, scan_id, sha256=f"{number:064x}")
    seen: list[tuple[int, int]] = []
    states = client.wait([*ids, "0" * 32], timeout_s=0.01, on_progress=lambda now: seen.append((now.ended, now.total)))
    assert states == {**dict.fromkeys(ids[:3], "completed"), ids[3]: "queued", "0" * 32: None}
    assert seen[-1] == (4, 5)
    ended = threading.Thread(target=complete, args=(records, ids[3], "f" * 64))
    ended.start()
    assert set(client.wait(ids, timeout_s=60).values()) == {"completed"}
    ended.join()


def test_another_owners_scans_do_not_exist(client: ScanClient, redis_server: EmbeddedRedis) -> None:
    scan_id = client.enqueue(url(1))
    with ScanClient(redis_server.url, "zenith") as other:
        for ask in (other.status, other.report, other.result, other.cancel, other.retry):
            with pytest.raises(NoSuchScan):
                ask(scan_id)
        assert other.wait([scan_id], timeout_s=10) == {scan_id: None}


def test_what_the_client_is_made_of(redis_server: EmbeddedRedis, redis: Redis) -> None:
    settings = Settings.model_validate({"redis": {"url": redis_server.url, "namespace": "other"}, "api": {"open_scans": 1}})
    with ScanClient.from_settings(settings, "acme") as client:
        client.enqueue(url(1))
        with pytest.raises(QueueFull):
            client.enqueue(url(2))
    assert redis.zcard("other:index:acme") == 1
    with pytest.raises(BadRequest):
        ScanClient(redis_server.url, "No Such")
    with pytest.raises(ConfigError) as refused:
        ScanClient("redis://:secret@127.0.0.1/0")
    assert "secret" not in str(refused.value)


def test_a_redis_that_stays_away_is_told() -> None:
    with ScanClient("redis://127.0.0.1:1/0", patience_s=0.1) as client:
        for ask in (
            lambda: client.enqueue(url(1)),
            lambda: list(client.enqueue_many([url(1)])),
            lambda: client.wait(["0" * 32]),
            lambda: client.wait(["0" * 32], timeout_s=0.2),
            lambda: client.status("0" * 32),
        ):
            with pytest.raises(RedisDown):
                ask()


def test_redis_killed_and_restarted_loses_and_doubles_nothing(own_redis: EmbeddedRedis) -> None:
    """Killed over and over in the middle of batches; the client is told of none of it."""
    done = threading.Event()

    def batter() -> None:
        for _ in range(3):
            time.sleep(0.15)
            own_redis.kill()
            own_redis.start()
        done.set()

    answers = []
    with ScanClient(own_redis.url, "acme", patience_s=60) as client:
        threading.Thread(target=batter, daemon=True).start()
        number = 0
        while not done.is_set() or number < 200:
            batch = [{"source": {"url": url(n)}, "external_id": str(n)} for n in range(number, number + 50)]
            answers += client.enqueue_many(batch)
            number += 50
        assert client.wait([answers[0].id], timeout_s=0) == {answers[0].id: "queued"}
    with connect(url=own_redis.url, timeout_s=10, patience_s=10) as redis:
        records = Records(redis, "vf")
        assert all(answer.created for answer in answers)
        stored = records.get_many([answer.id for answer in answers])
        assert [record.request.external_id for record in stored] == [str(n) for n in range(number)]
        assert redis.zcard("vf:index") == redis.zcard("vf:waiting") == number
        assert redis.hget("vf:open", "acme") == str(number).encode()
        rung = {job.decode() for job in redis.lrange("rq:queue:vf-batch", 0, -1)}
        assert rung == {answer.id for answer in answers}
