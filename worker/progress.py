"""The live progress bar on standard error: items done, rate, time left, and how far the current item is."""

from __future__ import annotations

from types import TracebackType
from typing import Protocol, Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from worker.output.text import escaped

_NAME_LENGTH = 32


class FrameProgress(Protocol):
    """How far one item is (``worker.run.Progress``)."""

    @property
    def decoded(self) -> int: ...

    @property
    def wanted(self) -> int | None: ...


class _Rate(ProgressColumn):
    """Items a second, or a minute where they are slow."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        if not speed:
            return Text("")
        return Text(f"{speed:.1f}/s" if speed >= 1 else f"{60 * speed:.1f}/min", style="progress.data.speed")


class _Done(MofNCompleteColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{int(task.completed + 1e-9)}/{int(task.total or 0)}", style="progress.download")


class Bar:
    """Shown while entered, where ``live``; otherwise every call does nothing."""

    def __init__(self, console: Console, *, total: int, live: bool) -> None:
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            _Done(),
            _Rate(),
            TextColumn("left"),
            TimeRemainingColumn(elapsed_when_finished=True),
            console=console,
            transient=True,
            disable=not live,
            redirect_stdout=False,
            speed_estimate_period=600,
        )
        self._task = self._progress.add_task("scanning", total=total)
        self._done = 0

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._progress.stop()

    def begin(self, name: str) -> None:
        """The item that is scanned now."""
        shown = escaped(name)
        self._progress.update(self._task, description=shown if len(shown) <= _NAME_LENGTH else f"{shown[: _NAME_LENGTH - 1]}…")

    def within(self, progress: FrameProgress) -> None:
        """How far the current item is; it counts as a part of one."""
        if progress.wanted:
            part = min(0.99, progress.decoded / progress.wanted)
            self._progress.update(self._task, completed=self._done + part)

    def advance(self) -> None:
        """One item is finished."""
        self._done += 1
        self._progress.update(self._task, completed=self._done)

    def reach(self, done: float) -> None:
        """So many items are finished; a part of one counts."""
        self._progress.update(self._task, completed=done)
