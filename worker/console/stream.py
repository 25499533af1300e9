"""Server-sent events: whatever a page shows live, drawn anew when it has changed."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Collection

import anyio
from sse_starlette import EventSourceResponse, ServerSentEvent

from worker.console.live import Board
from worker.console.look import Look
from worker.console.sessions import Session
from worker.errors import QueueFull

LIFE_S = 50.0
"""Browsers come again by themselves, and need a session that still stands then: no stream outlives its key for longer."""
COME_AGAIN_MS = 1000
LOOK_UP_S, GRACE_S = 0.5, 3.0
"""How often a stream looks whether the server stops, and how long it may take to end then."""
Draw = Callable[[Look], tuple[str, str] | None]
"""The event's name and HTML; None: this look says nothing of what is watched."""


def streamed(
    board: Board, session: Session, draw: Draw, scan_ids: Collection[str] = (), *, life_s: float = LIFE_S
) -> EventSourceResponse:
    """Raises QueueFull."""
    board.refuse_crowds(session.key.id)
    ending = anyio.Event()
    told = _events(board, session.key.id, draw, scan_ids, life_s, ending)
    return EventSourceResponse(told, shutdown_event=ending, shutdown_grace_period=GRACE_S)


async def _events(
    board: Board, viewer: str, draw: Draw, scan_ids: Collection[str], life_s: float, ending: anyio.Event
) -> AsyncIterator[ServerSentEvent]:
    """Until its time is over or the server is about to stop."""
    until_s, number, last = time.monotonic() + life_s, board.number, None
    yield ServerSentEvent(comment="live", retry=COME_AGAIN_MS)
    try:
        board.refuse_crowds(viewer)
    except QueueFull:  # those who came in the same moment were let in, too; they come again, and are told
        return
    async with board.viewing(viewer, scan_ids):
        while not ending.is_set() and (left_s := until_s - time.monotonic()) > 0:
            drawn = None
            with anyio.move_on_after(min(left_s, LOOK_UP_S)):
                number, look = await board.after(number)
                drawn = draw(look)
            if drawn is not None and drawn != last:
                last = drawn
                yield ServerSentEvent(drawn[1], event=drawn[0])
