"""Items in parallel, each slot a process with a scanner of its own.

``concurrent.futures`` gives up on everything when one of its processes dies; here a death costs one try of one item. Slots answer
with JSON and bytes over a pipe, so nothing that a scan read from hostile media is unpickled. A slot ends when this process does,
even if that is killed.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnContext, SpawnProcess
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Self

from worker.content import Content
from worker.errors import BY_CODE, VeriframeError
from worker.exhausted import exhausted
from worker.jobs import BuildScanner, Outcome, Task, do, failed
from worker.output.text import escaped
from worker.report import Report
from worker.settings import Settings
from worker.source.files import Item

log = logging.getLogger(__name__)

TRIES = 2
CLOSE_S = 5.0
POLL_S = 1.0


class SlotsDied(VeriframeError):
    """Scanning processes die before they can start, or twice on one item."""

    retryable = True


@dataclass(slots=True, eq=False)
class _Slot:
    process: SpawnProcess
    pipe: Connection
    ready: bool = False
    task: Task | None = None


@dataclass(slots=True)
class Slots:
    """A context manager over ``count`` processes; leaving it ends them all. ``on_start`` hears of each item that is begun; an
    answer is read whole in ``held``, which may put off what would interrupt it."""

    build: BuildScanner
    settings: Settings
    count: int
    on_start: Callable[[Item], None] = lambda item: None
    held: Callable[[], AbstractContextManager[None]] = contextlib.nullcontext
    _slots: list[_Slot] = field(default_factory=list)
    _tasks: Iterator[Task] = field(default_factory=lambda: iter(()))
    _waiting: deque[Task] = field(default_factory=deque)
    _tries: dict[Path, int] = field(default_factory=dict)
    _done: deque[Outcome] = field(default_factory=deque)
    _failed_starts: int = 0
    _context: SpawnContext = field(default_factory=lambda: multiprocessing.get_context("spawn"))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def run(self, tasks: Iterable[Task]) -> Generator[Outcome]:
        """Outcomes as they come. Raises what ``build`` raised (ConfigError, ModelError), or SlotsDied."""
        self._tasks = iter(tasks)
        while self._has_work() or any(slot.task for slot in self._slots):
            self._fill()
            for ready in wait([slot.pipe for slot in self._slots], timeout=POLL_S):
                slot = next(slot for slot in self._slots if slot.pipe is ready)
                try:
                    with self.held():
                        self._receive(slot)
                except (EOFError, OSError):
                    self._bury(slot)
                    with self.held():  # what was put off while an answer broke off comes now
                        pass
                while self._done:
                    yield self._done[0]
                    self._done.popleft()

    def finished(self) -> list[Outcome]:
        """Where the run was cut, before ``close``: what slots have answered all the same; the first may have been given."""
        for slot in self._slots:
            with contextlib.suppress(EOFError, OSError):  # it died instead, and its item is one of those that were not scanned
                while slot.task is not None and slot.pipe.poll():
                    self._receive(slot)
        return list(self._done)

    def close(self) -> None:
        """Ask all slots to stop, then kill what is left."""
        for slot in self._slots:
            slot.pipe.close()
            slot.process.terminate()
        for slot in self._slots:
            slot.process.join(CLOSE_S)
        self.kill()
        for slot in self._slots:
            slot.process.join(CLOSE_S)
        self._slots.clear()

    def kill(self) -> None:
        """End all slots at once."""
        for slot in self._slots:
            slot.process.kill()

    def _fill(self) -> None:
        """Start slots while there is work for them, and give the idle ones a task each."""
        while len(self._slots) < self.count and self._has_work():
            self._slots.append(self._start())
        for slot in self._slots:
            if slot.ready and slot.task is None and self._has_work():
                task = self._waiting.popleft()
                slot.task = task
                self._tries[task.item.path] = self._tries.get(task.item.path, 0) + 1
                self.on_start(task.item)
                with contextlib.suppress(OSError):  # it just died; reading its pipe will tell
                    slot.pipe.send(task)

    def _has_work(self) -> bool:
        """Whether a task waits for a slot; looks one ahead, so that ``tasks`` may be made while others are done."""
        if not self._waiting:
            self._waiting.extend(itertools.islice(self._tasks, 1))
        return bool(self._waiting)

    def _start(self) -> _Slot:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=_slot_main, args=(theirs, self.build, self.settings), daemon=False)
        resource_tracker.ensure_running()  # which unblocks signals when it starts
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGHUP})
        try:
            process.start()  # it inherits the mask: Ctrl-C and a hang-up are our business, from the slot's first moment
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        theirs.close()
        return _Slot(process=process, pipe=ours)

    def _receive(self, slot: _Slot) -> None:
        message = json.loads(slot.pipe.recv_bytes())
        if message["kind"] == "refused":
            raise BY_CODE.get(message["code"], SlotsDied)(message["message"])
        if message["kind"] == "ready":
            slot.ready = True
            self._failed_starts = 0
            return
        crops = {name: slot.pipe.recv_bytes() for name in message["crops"]}
        task, slot.task = slot.task, None
        if task is None:
            raise OSError("an answer without a task")
        outcome = Outcome(
            task=task,
            report=Report.model_validate(message["report"]) if message["report"] else None,
            crops=crops,
            content=Content(**message["content"]) if message["content"] else None,
            fingerprint=message["fingerprint"],
        )
        self._done.append(outcome)

    def _bury(self, slot: _Slot) -> None:
        """A slot died, or closed its pipe and is made to: its item gets one more try, then a report."""
        self._slots.remove(slot)
        slot.pipe.close()
        slot.process.join(CLOSE_S)
        how = _ending(slot.process.exitcode)
        if slot.process.is_alive():
            slot.process.kill()
            slot.process.join(CLOSE_S)
        if not slot.ready:
            self._failed_starts += 1
            if self._failed_starts > self.count:
                raise SlotsDied(f"scanning processes end before they can start ({how})")
            return
        task = slot.task
        if task is None:
            return
        log.warning("the scanning process of %s ended (%s)", escaped(str(task.item.path)), how)
        if self._tries[task.item.path] < TRIES:
            self._waiting.appendleft(task)
            return
        error = SlotsDied(f"the scanning process ended {TRIES} times on this item ({how})")
        self._done.append(Outcome(task=task, report=failed(task.item.path, error)))


def _ending(exitcode: int | None) -> str:
    if exitcode is None:
        return "it closed its pipe"
    return signal.Signals(-exitcode).name if exitcode < 0 else f"exit code {exitcode}"


def _slot_main(pipe: Connection, build: BuildScanner, settings: Settings) -> None:
    """A slot's life: build a scanner, do tasks until the pipe ends. SIGTERM unwinds."""
    signal.signal(signal.SIGTERM, _unwind)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError), contextlib.ExitStack() as stack:
        try:
            scanner = stack.enter_context(build(settings))
        except VeriframeError as exc:
            more = exhausted(exc)
            error = exc if more is None else SlotsDied(f"a scanning process may not have more {more}: {exc}")
            pipe.send_bytes(_coded({"kind": "refused", "code": error.code, "message": str(error)}))
            return
        stack.callback(signal.signal, signal.SIGTERM, signal.SIG_IGN)  # it ends already
        pipe.send_bytes(_coded({"kind": "ready"}))
        while True:
            _answer(pipe, do(pipe.recv(), scanner))


def _answer(pipe: Connection, outcome: Outcome) -> None:
    content = outcome.content
    message = {
        "kind": "done",
        "report": outcome.report.model_dump(mode="json") if outcome.report else None,
        "crops": list(outcome.crops),
        "content": {"sha256": content.sha256, "size_bytes": content.size_bytes} if content else None,
        "fingerprint": outcome.fingerprint,
    }
    pipe.send_bytes(_coded(message))
    for jpeg in outcome.crops.values():
        pipe.send_bytes(jpeg)


def _coded(message: dict[str, Any]) -> bytes:
    return json.dumps(message).encode("ascii")


def _unwind(number: int, frame: FrameType | None) -> None:
    signal.signal(number, signal.SIG_IGN)
    raise SystemExit(128 + number)


def _end_with_parent() -> None:
    """A scan may be deep in native code when the parent is killed: do not wait for it."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
