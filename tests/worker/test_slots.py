"""Slots: what they have finished when a run is cut. What else they do is tested through the command line (``test_cli.py``)."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.worker.fake_scanner import build
from worker.errors import ModelError
from worker.jobs import ItemScanner, Task
from worker.settings import Settings
from worker.slots import Slots, SlotsDied
from worker.source.files import Item

LIMIT_S = 60.0
CLOSED = "TEST_SLOT_CLOSED"


def test_what_is_finished_behind_what_was_given_is_not_lost_when_the_run_is_cut(tmp_path: Path) -> None:
    texts = {"a": f"wait {tmp_path / 'all'}", "b": f"wait {tmp_path / 'all'}", "c": f"wait {tmp_path / 'never'}"}
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    begun: list[str] = []

    def begin(item: Item) -> None:
        begun.append(item.path.name)
        if len(begun) == len(texts):
            (tmp_path / "all").touch()

    held = Held()
    slots = Slots(build=build, settings=Settings(), count=3, on_start=begin, held=held)
    with slots:
        outcomes = slots.run(Task(item=Item(path=tmp_path / name)) for name in texts)
        first = next(outcomes).task.item.path.name
        until = time.monotonic() + LIMIT_S
        while len(found := slots.finished()) < 2:
            assert time.monotonic() < until
            time.sleep(0.02)
        outcomes.close()
    assert [outcome.task.item.path.name for outcome in found] == [first, "b" if first == "a" else "a"], "and nothing of c"
    assert all(outcome.report is not None and len(outcome.crops) == 2 for outcome in found)
    assert held.entered >= 2, "an answer is read without being interrupted"


def test_a_slot_that_ends_is_not_interrupted_by_being_asked_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGTERM comes close behind the end of the pipe: raised where a destructor runs, it was printed and no more."""
    monkeypatch.setenv(CLOSED, str(tmp_path / "closed"))
    slots = Slots(build=build_asked_while_it_closes, settings=Settings(), count=1)
    (tmp_path / "a").write_text("real")
    assert [outcome.task.item.path.name for outcome in slots.run([Task(item=Item(path=tmp_path / "a"))])] == ["a"]
    (slot,) = slots._slots
    slot.pipe.close()
    slot.process.join(LIMIT_S)
    assert (slot.process.exitcode, (tmp_path / "closed").exists()) == (0, True)


@contextmanager
def build_asked_while_it_closes(settings: Settings) -> Iterator[ItemScanner]:
    with build(settings) as scanner:
        try:
            yield scanner
        finally:
            signal.raise_signal(signal.SIGTERM)
            Path(os.environ[CLOSED]).touch()


class Held:
    """Stands for ``Interrupts.held``."""

    def __init__(self) -> None:
        self.entered = 0

    def __call__(self) -> Held:
        return self

    def __enter__(self) -> None:
        self.entered += 1

    def __exit__(self, *exc: object) -> None: ...


def test_a_slot_without_memory_says_so_and_not_that_the_model_is_at_fault(tmp_path: Path) -> None:
    """Exit code 4, as where the command's own process has none, not 2."""
    tasks = [Task(item=Item(path=tmp_path / "a"))]
    with Slots(build=build_without_memory, settings=Settings(), count=1) as slots, pytest.raises(SlotsDied, match="more memory"):
        list(slots.run(tasks))


@contextmanager
def build_without_memory(settings: Settings) -> Iterator[ItemScanner]:
    raise ModelError("cannot load the network") from RuntimeError("std::bad_alloc")
    yield
