"""A supervisor starts again what was killed: at once if it had worked, later and later if it never did."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.worker.queue.harness import until
from tests.worker.telemetry.recorded import Recorded
from worker.queue.supervisor import Program, Supervisor, back_off_s
from worker.telemetry.port import SILENT, Telemetry


@contextmanager
def supervised(
    starts: Path,
    beat: dict[str, Any],
    silent_s: float = 120,
    telemetry: Telemetry = SILENT,
    grace_s: float = 5,
    clock: Callable[[], float] = time.monotonic,
    **order: Any,
) -> Iterator[Supervisor]:
    starts.touch()
    order |= {"starts": str(starts), "beat": beat}
    program = Program(name="mortal", module="tests.worker.queue.mortal", order=order)
    supervisor = Supervisor(programs=[program], grace_s=grace_s, silent_s=silent_s, telemetry=telemetry, clock=clock)
    thread = threading.Thread(target=supervisor.run)
    thread.start()
    try:
        yield supervisor
    finally:
        supervisor.stop()
        thread.join(60)
    assert not thread.is_alive()


def kill_when_ready(supervisor: Supervisor, starts: Path, number: int) -> None:
    """The ``number``-th one started, once its beat was heard."""
    until(lambda: len(starts.read_text().splitlines()) == number and supervisor.is_ready(), 60, f"start {number}")
    os.kill(int(starts.read_text().splitlines()[-1]), signal.SIGKILL)


@pytest.mark.parametrize(("scans", "waits"), [(1, ["0.0", "0.0"]), (0, ["0.5", "1.0"])], ids=["had worked", "never worked"])
def test_how_long_a_killed_process_waits(tmp_path: Path, caplog: pytest.LogCaptureFixture, scans: int, waits: list[str]) -> None:
    starts, told_of = tmp_path / "starts", Recorded()
    with supervised(starts, {"ready": True, "scans": scans}, telemetry=told_of) as supervisor:
        for number in (1, 2):
            kill_when_ready(supervisor, starts, number)
        until(lambda: len(starts.read_text().splitlines()) == 3, 60, "a third start")
    told = [record.message for record in caplog.records if "SIGKILL" in record.message]
    assert told == [f"mortal ended (SIGKILL), started again in {wait} s" for wait in waits]
    assert told_of.counts == {("child_restarts_total", "died"): 2}


def test_the_wait_stays_bounded_for_ever() -> None:
    assert [back_off_s(failures) for failures in (0, 1, 2, 100_000)] == [0.0, 0.5, 1.0, 30.0]


def test_a_process_that_says_nothing_is_ended_and_started_again(tmp_path: Path) -> None:
    starts = tmp_path / "starts"
    told = Recorded()
    with supervised(starts, {"ready": True, "scans": 1}, silent_s=1.5, telemetry=told):
        until(lambda: len(starts.read_text().splitlines()) >= 2, 60, "a second start")
    assert set(told.counts) == {("child_restarts_total", "hung")}


class Stands:
    """The monotonic clock as one sees it who was stopped for ``for_s`` in between."""

    def __init__(self) -> None:
        self.for_s, self.looks = 0.0, 0

    def __call__(self) -> float:
        self.looks += 1
        return time.monotonic() + self.for_s


def test_time_for_which_all_stood_still_is_no_silence(tmp_path: Path) -> None:
    starts, clock = tmp_path / "starts", Stands()
    with supervised(starts, {"ready": True, "scans": 1}, clock=clock) as supervisor:
        until(supervisor.is_ready, 60, "its beat")
        clock.for_s, before = 3600.0, clock.looks
        until(lambda: clock.looks >= before + 6, 60, "some looks at it")
        assert supervisor.is_live()
    assert len(starts.read_text().splitlines()) == 1, "it was not started again"
    clock.for_s *= 2
    assert not supervisor.is_live(), "nobody looks any more"


def test_what_is_told_to_end_is_heard_until_it_has(tmp_path: Path) -> None:
    starts, leave = tmp_path / "starts", tmp_path / "leave"
    beats = (100, {"ready": True, "padding": "x" * 1024})  # more than a pipe holds
    with supervised(starts, {"ready": False}, grace_s=60, last_beats=beats, leave=str(leave)) as supervisor:
        until(starts.read_text, 60, "a start")
        supervisor.stop()
        until(supervisor.is_ready, 60, "one of the last beats")
        leave.touch()
    assert starts.read_text().splitlines()[1:] == ["left"], "it was not killed"


def test_a_setting_that_cannot_be_used_ends_it_before_it_was_ever_ready(tmp_path: Path) -> None:
    program = Program(name="refused", module="worker.queue.parent", order={"settings": {"redis": {"url": "nonsense"}}})
    supervisor = Supervisor(programs=[program], grace_s=5, silent_s=60)
    assert supervisor.run() == 2
