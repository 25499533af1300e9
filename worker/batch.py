"""Many items to many reports: refusals, resumption, this process or several, output as it comes."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from worker.cores import scan_threads
from worker.errors import UnsupportedMedia
from worker.flight import Flight, most_in_flight
from worker.interrupts import Interrupts, cursor_given_back
from worker.jobs import BuildScanner, Outcome, Task, do, failed, sourced
from worker.output.folder import ReportFolder
from worker.output.sink import Sink
from worker.progress import Bar
from worker.report import Report
from worker.settings import Settings
from worker.slots import Slots
from worker.source.files import Item
from worker.types import Label

_KINDS = (*(label.value for label in Label), "failed", "cancelled")
Outcomes = Generator[Outcome, None, None]


@dataclass(slots=True)
class Tally:
    """What became of the items. ``counts`` by verdict, or ``failed``; ``exit_code`` non-zero where a signal stopped the run."""

    total: int
    counts: Counter[str] = field(default_factory=Counter)
    unchanged: int = 0
    seconds: float = 0.0
    stopped: int = 0

    def add(self, report: Report) -> None:
        self.counts[report.verdict.value if report.verdict else report.status] += 1

    @property
    def done(self) -> int:
        return self.counts.total()

    def __str__(self) -> str:
        kinds = ", ".join(f"{self.counts[kind]} {kind.replace('_', ' ')}" for kind in _KINDS if self.counts[kind])
        parts = [f"{self.done} {'item' if self.done == 1 else 'items'}" + (f": {kinds}" if kinds else "")]
        if self.unchanged:
            parts.append(f"{self.unchanged} unchanged since an earlier run")
        if self.done < self.total:
            parts.append(f"{self.total - self.done} not scanned")
        return "; ".join(parts) + f" in {self.seconds:.1f} s"


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """How a run of items is scanned and where its reports go."""

    build: BuildScanner
    settings: Settings
    workers: int
    resume: bool
    folder: ReportFolder | None
    sink: Sink
    bar: Bar
    _earlier: dict[Path, Report] = field(default_factory=dict, init=False)
    """Stored reports of items under way: another run over the same folder may clear what is compared meanwhile."""

    def run(self, items: Sequence[Item]) -> Tally:
        """Report on every item. A signal ends it early. Raises ConfigError, ModelError, StorageError; what is done is written."""
        tally = Tally(total=len(items))
        started = time.monotonic()
        slots = Slots(
            build=self.build,
            settings=self.settings,
            count=min(self.workers, max(1, len(items))),
            on_start=lambda item: self.bar.begin(item.path.name),
        )
        late: list[Outcome] = []
        with Interrupts(on_kill=slots.kill) as interrupts, contextlib.closing(self._outcomes(items, slots, late)) as outcomes:
            slots.held = interrupts.held
            try:
                self._deliver_all(outcomes, late, tally, interrupts)
            except BaseException:
                self.sink.close()
                raise
            with interrupts.held(), _whoever_hears(tally):
                self.sink.close()
        tally.seconds = time.monotonic() - started
        return tally

    def _deliver_all(self, outcomes: Outcomes, late: Sequence[Outcome], tally: Tally, interrupts: Interrupts) -> None:
        delivered: Outcome | None = None
        try:
            with cursor_given_back(), self.bar:
                for outcome in outcomes:
                    with interrupts.held():
                        self._deliver(outcome, tally)
                        delivered = outcome
        except KeyboardInterrupt:
            tally.stopped = interrupts.exit_code
            outcomes.close()
            for outcome in late:
                if outcome is not delivered:
                    with _whoever_hears(tally):
                        self._deliver(outcome, tally)

    def _deliver(self, outcome: Outcome, tally: Tally) -> None:
        item = outcome.task.item
        report = sourced(self._earlier[item.path] if outcome.report is None else outcome.report, item)
        self._earlier.pop(item.path, None)
        tally.unchanged += outcome.report is None
        try:
            if outcome.report is not None and self.folder is not None:
                self.folder.save(item.path, report, outcome.crops, outcome.content, outcome.fingerprint)
        finally:
            self.sink.write(report)
            tally.add(report)
            self.bar.advance()

    def _outcomes(self, items: Sequence[Item], slots: Slots, late: list[Outcome]) -> Outcomes:
        """Outcomes in turn; ``late`` gets what was finished, and not given, when the run was cut."""
        for item in items:
            if item.refusal is not None:
                yield Outcome(task=Task(item=item), report=failed(item.path, UnsupportedMedia(item.refusal)))
        tasks = (self._task(item) for item in items if item.refusal is None)
        if all(item.refusal is not None for item in items):
            return
        here = self.workers == 1
        found = self._here(tasks, self._at_once(items), late) if here else self._apart(tasks, slots, late)
        with contextlib.closing(found) as outcomes:
            yield from outcomes

    def _at_once(self, items: Sequence[Item]) -> int:
        """Items in flight in this process: one of addresses, which are fetched one by one."""
        threads = self.settings.model.threads or scan_threads()
        if any(item.url for item in items):
            return 1
        return most_in_flight(threads, exhaustive=self.settings.sampling.exhaustive)

    def _task(self, item: Item) -> Task:
        old = self.folder.load(item.path) if self.folder is not None and self.resume else None
        if old is not None:
            self._earlier[item.path] = old.report
        return Task(item=item, keep_state=self.folder is not None, state=old.state if old else None)

    def _here(self, tasks: Iterable[Task], most: int, late: list[Outcome]) -> Outcomes:
        with self.build(self.settings) as scanner:
            flight = Flight[Task, Outcome](
                lambda task, tell: do(task, scanner, tell),
                most=most,
                on_first=lambda task: self.bar.begin(task.item.path.name),
                on_progress=self.bar.within,
            )
            try:
                with contextlib.closing(flight.run(tasks)) as outcomes:
                    yield from outcomes
            finally:
                late.extend(flight.finished())

    def _apart(self, tasks: Iterable[Task], slots: Slots, late: list[Outcome]) -> Outcomes:
        with slots:
            try:
                yield from slots.run(tasks)
            finally:
                late.extend(slots.finished())


@contextlib.contextmanager
def _whoever_hears(tally: Tally) -> Iterator[None]:
    """Standard output that takes nothing any more does not end what a signal has stopped already: the terminal is gone, say."""
    try:
        yield
    except SystemExit:
        if not tally.stopped:
            raise
