"""Server-sent events: whatever a page shows live, drawn anew when it has changed."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Collection

import anyio
from sse_starlette import EventSourceResponse, ServerSentEvent

from worker.console.live import Board
from worker.console.look import Look
from worker.console.sessions import Session

LIFE_S = 50.0
"""Browsers come again by themselves, and need a session that still stands then: no stream outlives its key for longer."""
COME_AGAIN_MS = 1000
Draw = Callable[[Look], tuple[str, str] | None]
"""The event's name and HTML; None: this look says nothing of what is watched."""


def streamed(
    board: Board, session: Session, draw: Draw, scan_ids: Collection[str] = (), *, life_s: float = LIFE_S
) -> EventSourceResponse:
    """Raises QueueFull."""
    board.refuse_crowds(session.key.id)
    return EventSourceResponse(_events(board, session.key.id, draw, scan_ids, life_s))


async def _events(
    board: Board, viewer: str, draw: Draw, scan_ids: Collection[str], life_s: float
) -> AsyncIterator[ServerSentEvent]:
    until_s, number, last = time.monotonic() + life_s, board.number, None
    yield ServerSentEvent(comment="live", retry=COME_AGAIN_MS)
    async with board.viewing(viewer, scan_ids):
        while (left_s := until_s - time.monotonic()) > 0:
            drawn = None
            with anyio.move_on_after(left_s):
                number, look = await board.after(number)
                drawn = draw(look)
            if drawn is not None and drawn != last:
                last = drawn
                yield ServerSentEvent(drawn[1], event=drawn[0])
