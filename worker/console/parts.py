"""What the console's handlers work with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from worker.api.parts import Parts
from worker.console.assets import Assets
from worker.console.live import Board
from worker.console.look import Lookout
from worker.console.render import Pages
from worker.console.sessions import Sessions
from worker.queue.callbacks import Callbacks
from worker.queue.quotas import Quotas

ROOT = "/console"


@dataclass(frozen=True, slots=True, kw_only=True)
class Console:
    """``api``: the parts of the API that it stands on. ``secure``: cookies go over https only."""

    api: Parts
    sessions: Sessions
    attempts: Quotas
    callbacks: Callbacks
    look: Lookout
    pages: Pages
    board: Board
    assets: Assets
    secure: bool
    max_upload_bytes: int

    @property
    def cookie(self) -> str:
        """The cookie's name; browsers take ``__Host-`` from the very host over https only."""
        return "__Host-veriframe" if self.secure else "veriframe"


async def _console(request: Request) -> Console:
    console: Console = request.app.state.console
    return console


TheConsole = Annotated[Console, Depends(_console)]
