"""Takes down what was brought up, whatever became of it meanwhile: processes first, then the folder with all that is in it."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from worker.errors import QueueError
from worker.up import REDIS
from worker.up.folder import RunFolder
from worker.up.identity import Identity, end_all, marked

GRACE_S = 15.0
"""A scan that runs is given up: nothing of it is to stay."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Down:
    """How many processes ran, of the parts and beside them; and the names in the folder that are not ours, and stay."""

    ended: int
    stray: int
    left: tuple[str, ...]


def take_down(folder: RunFolder) -> Down | None:
    """None: nothing is up. Raises ConfigError while another command is at work and for a folder that is none of ours, QueueError
    for a process that does not end."""
    if not folder.path.is_dir():
        return None
    with folder.locked():
        folder.refuse_others()
        parts = {name: process for name in folder.names() if (process := folder.running(name)) is not None}
        server = parts.pop(REDIS, None)
        stubborn = [end_all(parts.values(), grace_s=GRACE_S), end_all([server] if server else [], grace_s=GRACE_S)]
        stray = strays(folder)
        stubborn.append(end_all(stray, grace_s=1.0))
        if numbers := [process.pid for process in itertools.chain(*stubborn)]:
            raise QueueError(f"these processes do not end: {', '.join(map(str, numbers))}; {folder.path} is kept")
        left = folder.clear()
    return Down(ended=len(parts) + (server is not None), stray=len(stray), left=tuple(left))


def strays(folder: RunFolder) -> list[Identity]:
    """What parts that were killed have left behind."""
    word = folder.known_mark()
    return [] if word is None else list(marked(word))
