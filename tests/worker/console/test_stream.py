"""Live pages over HTTP: what is sent when, and when a stream ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import anyio
from fastapi import FastAPI

from tests.worker.api.conftest import Service
from tests.worker.console.conftest import SignIn
from tests.worker.queue import scans
from worker.console import stream
from worker.console.live import MOST_OF_ONE, Board
from worker.console.look import Look
from worker.console.sessions import Session
from worker.queue.access import KeyInfo

LIMIT_S = 120
Events = Callable[[], Awaitable[tuple[str, str]]]


@asynccontextmanager
async def opened(app: FastAPI, path: str, cookie: str) -> AsyncIterator[tuple[dict[str, str], Events, asyncio.Task[None]]]:
    """A stream's headers, its next event (name and data), and the task that serves it; leaving is going away."""
    left, arrived = asyncio.Event(), asyncio.Queue[str]()
    headers: dict[str, str] = {}
    begun = asyncio.Event()

    async def receive() -> dict[str, Any]:
        await left.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            headers.update(
                {name.decode(): value.decode() for name, value in message["headers"]} | {":status": str(message["status"])}
            )
            begun.set()
        for block in message.get("body", b"").decode().replace("\r\n", "\n").split("\n\n"):
            if "data:" in block:
                arrived.put_nowait(block)

    async def event() -> tuple[str, str]:
        lines = [line.partition(": ") for line in (await arrived.get()).split("\n")]
        name = next(value for field, _, value in lines if field == "event")
        return name, "\n".join(value for field, _, value in lines if field == "data")

    scope = {"type": "http", "method": "GET", "path": path, "raw_path": path.encode(), "query_string": b"", "root_path": ""}
    scope |= {"headers": [(b"cookie", f"veriframe={cookie}".encode())], "http_version": "1.1", "scheme": "http"}
    with anyio.fail_after(LIMIT_S):
        task: asyncio.Task[None] = asyncio.ensure_future(app(scope, receive, send))  # type: ignore[arg-type]
        await begun.wait()
        try:
            yield headers, event, task
        finally:
            left.set()
            await task


def test_the_overview_is_drawn_again_when_something_has_changed(service: Service, sign_in: SignIn) -> None:
    cookie = sign_in("acme", "read").client.cookies["veriframe"]

    async def main() -> None:
        async with opened(service.app, "/console/live", cookie) as (headers, event, _):
            assert headers[":status"] == "200"
            assert headers["content-type"].startswith("text/event-stream")
            assert headers["cache-control"] == "no-store"
            name, html = await event()
            assert (name, '<dd id="waiting">0</dd>' in html) == ("update", True)
            scans.submit(service.parts.desk, owner="umbrella")
            name, html = await event()
            assert '<dd id="waiting">1</dd>' in html, "nothing came in between, for nothing had changed"
            assert '<dd id="mine">0</dd>' in html
            assert "umbrella" not in html

    asyncio.run(main())


def test_a_scans_progress_until_its_end(service: Service, sign_in: SignIn) -> None:
    scan_id = service.submit()
    cookie = sign_in("acme", "read").client.cookies["veriframe"]
    records = service.parts.desk.records

    async def main() -> None:
        async with opened(service.app, f"/console/scans/{scan_id}/live", cookie) as (_, event, _task):
            assert "Waiting for a worker" in (await event())[1]
            claim = scans.claim(records, scan_id)
            records.enter(claim, "infer", 0.6)
            while True:
                name, html = await event()
                if "60 %" in html:
                    break
            assert name == "update"
            records.finish(claim, scans.report(scan_id))
            assert await event() == ("done", "completed")

    asyncio.run(main())


def session() -> Session:
    key = KeyInfo(
        id="k", owner="acme", scopes=frozenset(), name="", created_at=datetime.now(UTC), expires_at=None, last_used_at=None
    )
    return Session(key=key, form_token="t")


def test_those_who_come_in_the_same_moment_are_no_more_than_others() -> None:
    async def main() -> None:
        board = Board(lambda scan_ids: Look(scans={}), every_s=0.001)
        came = [stream.streamed(board, session(), lambda look: ("update", "x")) for _ in range(MOST_OF_ONE + 5)]
        streams = [aiter(answer.body_iterator) for answer in came]
        with anyio.fail_after(LIMIT_S):
            assert all([(await anext(one)).comment for one in streams])
            told = await asyncio.gather(*(anext(one, None) for one in streams))
        assert [event is not None for event in told] == [True] * MOST_OF_ONE + [False] * 5
        for one in streams:
            await one.aclose()  # type: ignore[attr-defined]

    asyncio.run(main())


def test_a_stream_ends_in_time_to_ask_for_the_session_again() -> None:
    async def main() -> None:
        board = Board(lambda scan_ids: Look(scans={}), every_s=0.001)
        answer = stream.streamed(board, session(), lambda look: ("update", "x"), life_s=0.2)
        with anyio.fail_after(LIMIT_S):
            told = [event async for event in answer.body_iterator]
        assert len([event for event in told if event.data]) <= 1, "many looks, and nothing new in them"

    asyncio.run(main())


def test_who_is_signed_out_has_no_stream(service: Service, sign_in: SignIn) -> None:
    browser = sign_in("acme", "read")
    for key in service.parts.keys.list():
        service.parts.keys.revoke(key.id)
    assert browser.get("/live", headers={"Accept": "text/event-stream"}).status_code == 401
