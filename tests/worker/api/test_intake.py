"""Bodies on their way into the store: how many at a time, how slowly, and what is left of one that broke off."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import anyio
import pytest
from redis import Redis

from worker.api.intake import AT_ONCE_OF_ONE, WAITING_OF_ONE, Intake
from worker.api.problems import HttpError
from worker.artifacts import open_store
from worker.errors import EmptyMedia, FetchGone, MediaTooLarge, QueueFull

LIMIT = 1000


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "artifacts"


@pytest.fixture
def intake(redis: Redis, folder: Path) -> Intake:
    return Intake(redis, "vf", open_store(str(folder)), max_bytes=LIMIT, keep_s=3600, stall_s=60)


@pytest.fixture
def hasty(redis: Redis, folder: Path) -> Intake:
    """Gives up a body that does not come on."""
    return Intake(redis, "vf", open_store(str(folder)), max_bytes=LIMIT, keep_s=3600, stall_s=0.2)


async def body(*pieces: bytes) -> AsyncIterator[bytes]:
    for piece in pieces:
        await anyio.sleep(0)
        yield piece


async def silent(first: bytes = b"") -> AsyncIterator[bytes]:
    yield first
    await anyio.sleep_forever()


def taken(intake: Intake, make: Callable[[], AsyncIterator[bytes]], owner: str = "acme") -> tuple[str, int]:
    async def take() -> tuple[str, int]:
        return await intake.take(owner, make())

    return anyio.run(take)


def test_a_body_is_kept_piece_by_piece_for_its_owner(intake: Intake, folder: Path, tmp_path: Path) -> None:
    upload_id, size = taken(intake, lambda: body(b"one ", b"", b"two", b""))
    assert size == 7
    open_store(str(folder)).get(f"uploads/{upload_id}", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == b"one two"
    assert intake.has("acme", upload_id)
    assert not intake.has("umbrella", upload_id)
    assert not intake.has("acme", "0" * 32)


def test_an_upload_ends(redis: Redis, folder: Path) -> None:
    intake = Intake(redis, "vf", open_store(str(folder)), max_bytes=LIMIT, keep_s=600)
    upload_id, _ = taken(intake, lambda: body(b"x"))
    assert intake.has("acme", upload_id)
    (until_s,) = (score for _, score in redis.zrange("vf:uploads:acme", 0, -1, withscores=True))
    assert 0 < until_s - time.time() <= 601
    redis.zadd("vf:uploads:acme", {upload_id: 1})
    assert not intake.has("acme", upload_id)


def test_a_server_whose_clock_is_wrong_keeps_an_upload_by_that_of_redis(
    redis: Redis, intake: Intake, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, _ = taken(intake, lambda: body(b"x"))
    now_s = time.time()
    monkeypatch.setattr(time, "time", lambda: now_s + 2 * 86400)
    second, _ = taken(intake, lambda: body(b"y"))
    assert [intake.has("acme", one) for one in (first, second)] == [True, True]
    assert all(3500 < until_s - now_s < 3700 for _, until_s in redis.zrange("vf:uploads:acme", 0, -1, withscores=True))
    assert all(3500 < int(path.name[1:]) - now_s < 3700 for path in folder.rglob("@*"))


def test_an_upload_that_is_kept_shortly_ends_no_earlier_one(redis: Redis, intake: Intake, folder: Path) -> None:
    brief = Intake(redis, "vf", open_store(str(folder)), max_bytes=LIMIT, keep_s=1)
    for one in (intake, brief):
        taken(one, lambda: body(b"x"))
    assert 3590 < redis.ttl("vf:uploads:acme") <= 3602


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda: body(), EmptyMedia),
        (lambda: body(b""), EmptyMedia),
        (lambda: body(*[b"x" * 100] * 11), MediaTooLarge),
    ],
)
def test_what_cannot_be_taken_leaves_nothing(
    intake: Intake, folder: Path, make: Callable[[], AsyncIterator[bytes]], error: type[Exception]
) -> None:
    with pytest.raises(error):
        taken(intake, make)
    assert [path for path in folder.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("first", [b"", b"x"])
def test_a_body_that_stops_coming_leaves_nothing(hasty: Intake, folder: Path, first: bytes) -> None:
    with pytest.raises(HttpError):
        taken(hasty, lambda: silent(first))
    assert [path for path in folder.rglob("*") if path.is_file()] == []


def test_a_trickle_is_given_up(hasty: Intake) -> None:
    async def trickle() -> AsyncIterator[bytes]:
        while True:
            await anyio.sleep(0.02)
            yield b"x"

    with pytest.raises(HttpError):
        taken(hasty, trickle)


def test_uploads_at_a_time_are_bounded_by_owner_and_in_all(redis: Redis, folder: Path) -> None:
    intake = Intake(redis, "vf", open_store(str(folder)), max_bytes=LIMIT, keep_s=3600)

    async def occupy() -> None:
        arrived, go = [], anyio.Event()

        async def waiting() -> AsyncIterator[bytes]:
            arrived.append(1)
            await go.wait()
            yield b"x"

        async with anyio.create_task_group() as group:
            for number, owner in enumerate(("acme", "umbrella"), 1):
                for _ in range(AT_ONCE_OF_ONE):
                    group.start_soon(intake.take, owner, waiting())
                while len(arrived) < number * AT_ONCE_OF_ONE:
                    await anyio.sleep(0.01)
                with pytest.raises(QueueFull):
                    await intake.take(owner, body(b"x"))
            with pytest.raises(QueueFull):
                await intake.take("hooli", body(b"x"))
            go.set()
        await intake.take("hooli", body(b"x"))

    async def in_time() -> None:
        with anyio.fail_after(20):
            await occupy()

    anyio.run(in_time)


def test_an_owner_keeps_so_many(redis: Redis, intake: Intake) -> None:
    until_s = time.time() + 100
    redis.zadd("vf:uploads:acme", {f"{n:032x}": until_s for n in range(WAITING_OF_ONE)})
    with pytest.raises(QueueFull):
        taken(intake, lambda: body(b"x"))
    redis.zadd("vf:uploads:acme", {f"{0:032x}": 1})
    taken(intake, lambda: body(b"x"))


def test_what_was_swept_is_gone(intake: Intake, folder: Path, tmp_path: Path) -> None:
    upload_id, _ = taken(intake, lambda: body(b"x"))
    store = open_store(str(folder))
    assert store.sweep(time.time() + 7200) == 1
    with pytest.raises(FetchGone):
        store.get(f"uploads/{upload_id}", tmp_path / "back")
