from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from optimize.bench.side import Answer, Rival, Side, SideFailed, measured
from worker.demo import FOLDER
from worker.types import Json

SCANS = "optimize.bench.rivals.scanner:build"


@contextmanager
def listens(options: Json, threads: int) -> Iterator[Answer]:
    yield lambda request: {"interrupts": signal.getsignal(signal.SIGINT) is not signal.SIG_IGN}


def test_a_side_scans_in_a_process_of_its_own_and_outlives_a_bad_clip(tmp_path: Path) -> None:
    flags = {"sampling": {"strategy": "uniform", "max_frames": 2, "exhaustive": True}}
    with Side(Rival(name="ours", build=SCANS, options={"flags": flags}), threads=1) as side:
        two = side.ask({"path": str(FOLDER / "two_people.mp4")})
        assert (two.reply["frames"], two.reply["faces"], len(two.reply["times_s"])) == (2, 4, 2)
        assert two.wall_s > 0
        assert two.cpu_s > 0
        with pytest.raises(SideFailed, match=r"missing\.mp4"):
            side.ask({"path": str(tmp_path / "missing.mp4")})
        none = side.ask({"path": str(FOLDER / "no_face.mp4")})
        assert (none.reply["frames"], none.reply["faces"]) == (2, 0), "a bad clip does not end the process"
    assert side.start_up_s > 0


def test_ctrl_c_is_the_parents_affair() -> None:
    with Side(Rival(name="listens", build="tests.optimize.bench.test_side:listens"), threads=1) as side:
        assert side.ask({}).reply == {"interrupts": False}


def test_a_side_that_cannot_start_says_why() -> None:
    with (
        pytest.raises(SideFailed, match="there is no such setting"),
        Side(Rival(name="ours", build=SCANS, options={"flags": {"model": {"speed": 3}}}), threads=1),
    ):
        pass


def test_cpu_time_is_measured_beside_wall_time() -> None:
    def busy(request: Json) -> Json:
        return {"sum": sum(range(request["count"]))}

    done = measured(busy, {"count": 1_000_000})
    assert done.reply == {"sum": 499999500000}
    assert done.cpu_s > 0
    assert done.wall_s > 0
