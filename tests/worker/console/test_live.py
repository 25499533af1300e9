"""One poller for all viewers."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Collection

import anyio
import pytest

from worker.console import live
from worker.console.live import Board
from worker.console.look import Look, Scan
from worker.errors import QueueFull

LIMIT_S = 120


class Looks:
    """A looker that counts how often it was asked, and for what."""

    def __init__(self) -> None:
        self.asked: list[frozenset[str]] = []

    def __call__(self, scan_ids: Collection[str]) -> Look:
        self.asked.append(frozenset(scan_ids))
        return Look(scans={scan_id: scan(scan_id, len(self.asked)) for scan_id in scan_ids})


def scan(scan_id: str, attempt: int) -> Scan:
    return Scan(id=scan_id, state="running", progress=0.5, stage="infer", attempt=attempt, is_final=False, cancel=False)


async def sees(board: Board, scan_id: str) -> Look:
    """The first look that has it."""
    number = 0
    while True:
        number, look = await board.after(number)
        if scan_id in look.scans:
            return look


def test_many_viewers_cost_one_poller_and_none_costs_nothing() -> None:
    looks = Looks()
    board = Board(looks, every_s=0.001)

    async def view(scan_id: str, seen: asyncio.Event, enough: asyncio.Event) -> None:
        async with board.viewing("key", [scan_id]):
            await sees(board, scan_id)
            seen.set()
            await enough.wait()

    async def main() -> None:
        seen, enough = [asyncio.Event() for _ in range(20)], asyncio.Event()
        with anyio.fail_after(LIMIT_S):
            async with anyio.create_task_group() as tasks:
                for n, event in enumerate(seen):
                    tasks.start_soon(view, f"scan {n % 10}", event, enough)
                for event in seen:
                    await event.wait()
                while len(looks.asked[-1]) < 10:
                    await asyncio.sleep(0)
                assert looks.asked[-1] == {f"scan {n}" for n in range(10)}, "each once, all in one look"
                assert len([task for task in asyncio.all_tasks() if "Board._poll" in repr(task.get_coro())]) == 1
                enough.set()
            while [task for task in asyncio.all_tasks() if "Board._poll" in repr(task.get_coro())]:
                await asyncio.sleep(0)
            asked = len(looks.asked)
            await asyncio.sleep(0.01)
            assert len(looks.asked) == asked, "nobody looks any more"
            async with board.viewing("key", ["another"]):
                assert set((await sees(board, "another")).scans) == {"another"}

    asyncio.run(main())


def test_a_viewer_that_breaks_off_is_forgotten() -> None:
    looks = Looks()
    board = Board(looks, every_s=0.001)

    async def main() -> None:
        with anyio.fail_after(LIMIT_S):
            async with board.viewing("key", ["kept"]):
                with anyio.CancelScope() as scope:
                    async with board.viewing("key", ["left"]):
                        await sees(board, "left")
                        scope.cancel()
                        await anyio.sleep_forever()
                while looks.asked[-1] != {"kept"}:
                    await asyncio.sleep(0)

    asyncio.run(main())


def test_a_poller_that_failed_is_begun_anew() -> None:
    def broken(scan_ids: Collection[str]) -> Look:
        raise RuntimeError("a bug")

    async def main() -> None:
        board = Board(broken, every_s=0.001)
        with anyio.fail_after(LIMIT_S):
            async with board.viewing("key"):
                first = next(task for task in asyncio.all_tasks() if "Board._poll" in repr(task.get_coro()))
                with pytest.raises(RuntimeError):
                    await first
                async with board.viewing("key"):
                    second = next(task for task in asyncio.all_tasks() if "Board._poll" in repr(task.get_coro()))
                    with pytest.raises(RuntimeError):
                        await second

    asyncio.run(main())


@contextlib.asynccontextmanager
async def viewed_by(board: Board, viewers: Collection[str]) -> AsyncIterator[None]:
    async with contextlib.AsyncExitStack() as stack:
        for viewer in viewers:
            await stack.enter_async_context(board.viewing(viewer))
        yield


def test_crowds_are_refused() -> None:
    board = Board(Looks(), every_s=0.001)

    async def main() -> None:
        async with viewed_by(board, ["one"] * live.MOST_OF_ONE):
            board.refuse_crowds("two")
            with pytest.raises(QueueFull):
                board.refuse_crowds("one")
        board.refuse_crowds("one")
        async with viewed_by(board, [f"key {n}" for n in range(live.MOST_VIEWERS)]):
            with pytest.raises(QueueFull):
                board.refuse_crowds("another")

    asyncio.run(main())
