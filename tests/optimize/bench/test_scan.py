from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from optimize.bench.scan import (
    DECODE_FLOOR,
    FLOORS,
    NETWORKS,
    ONE_BY_ONE,
    ClipRuns,
    Comparison,
    compare_clip,
    compare_lists,
)
from optimize.bench.scan_figures import faces_agree, scan_charts, scan_details, scan_figures
from optimize.bench.side import Answered
from optimize.bench.variants import Variant
from worker.types import Json

TIMES_S = [0.5, 1.5]
FAST, EARLY = Variant(backend="fast"), Variant(backend="fast", early=True)


@dataclass
class FakeSide:
    """Notes who was asked for what."""

    name: str
    asked: list[tuple[str, Json]]
    times_s: list[float] = field(default_factory=lambda: TIMES_S)

    def ask(self, request: Json) -> Answered:
        self.asked.append((self.name, request))
        return answered(1.0, times_s=self.times_s)


def answered(wall_s: float, cpu_s: float = 1.0, **told: Any) -> Answered:
    reply = {
        "decode_s": wall_s / 2,
        "detect_s": wall_s / 4,
        "infer_s": wall_s / 8,
        "faces": 4,
        "frames": 2,
        "verdict": "real",
        "stage_threads": 1,
    }
    return Answered(wall_s=wall_s, cpu_s=cpu_s, reply=reply | {"detect_cpu_s": 0.25, "infer_cpu_s": 0.25} | told)


def listed(wall_s: float) -> Answered:
    return Answered(wall_s=wall_s, cpu_s=2.0, reply={"verdicts": ["real", "fake"]})


def a_comparison(*, faces: int = 4, floor_s: float = 0.5, cpu_s: float = 1.0, threads: int = 2) -> Comparison:
    floors = {one.name: DECODE_FLOOR for one in (FAST, EARLY)}
    clip = ClipRuns(
        path=Path("clip.mp4"),
        answers={
            FAST.name: (answered(1.0, cpu_s), answered(3.0, cpu_s), answered(2.0, cpu_s)),
            EARLY.name: (answered(1.0, frames=1, verdict="fake"),) * 3,
            "reference a": (answered(8.0), answered(9.0), answered(7.0)),
            "reference b": (answered(4.0, faces=faces),) * 3,
            DECODE_FLOOR: (answered(floor_s, cpu_s=floor_s),) * 3,
            NETWORKS + FAST.name: (answered(1.0),) * 3,
            NETWORKS + EARLY.name: (answered(1.0),) * 3,
        },
        floors=floors,
    )
    names = [FAST.name, EARLY.name, "reference a", "reference b"]
    return Comparison(
        clips=(clip, clip),
        variants=(FAST, EARLY),
        references=("reference a", "reference b"),
        start_up_s=dict.fromkeys(names, 1.0),
        pss_bytes=dict.fromkeys(names, 1 << 20),
        with_floor=True,
        threads=threads,
        lists={
            FAST.name: tuple(listed(wall_s) for wall_s in (3.0, 2.0, 4.0)),
            ONE_BY_ONE + FAST.name: tuple(listed(wall_s) for wall_s in (4.0, 4.0, 5.0)),
            FLOORS + FAST.name: tuple(listed(wall_s) for wall_s in (2.0, 1.5, 2.5)),
        },
    )


def test_every_side_looks_at_the_frames_that_ours_looked_at() -> None:
    asked: list[tuple[str, Json]] = []
    names = [FAST.name, EARLY.name, "reference b", DECODE_FLOOR, NETWORKS + FAST.name]
    sides = {name: FakeSide(name, asked, [0.5] if name == EARLY.name else TIMES_S) for name in names}
    timed = compare_clip(Path("clip.mp4"), dict(sides), (FAST, EARLY), rounds=2)
    assert [name for name, _ in asked[:2]] == [FAST.name, EARLY.name], "an untimed scan comes first"
    assert [request["times_s"] for name, request in asked if name == "reference b"] == [TIMES_S, TIMES_S]
    assert sorted(request["times_s"] for name, request in asked if name == DECODE_FLOOR) == [[0.5]] * 2 + [TIMES_S] * 2
    assert len(timed.answers[FAST.name]) == len(timed.answers["reference b"]) == 2
    assert set(timed.floors) == {FAST.name, EARLY.name}


def test_equal_frames_are_decoded_once_for_the_floor() -> None:
    asked: list[tuple[str, Json]] = []
    sides = {name: FakeSide(name, asked) for name in (FAST.name, EARLY.name, DECODE_FLOOR)}
    timed = compare_clip(Path("clip.mp4"), dict(sides), (FAST, EARLY), rounds=1)
    assert [name for name, _ in asked].count(DECODE_FLOOR) == 1
    assert timed.floors[FAST.name] == timed.floors[EARLY.name]


def test_ratios_are_of_sums_of_medians() -> None:
    result = a_comparison()
    assert result.faster_than("reference a", FAST.name).value == 4.0
    assert result.faster_than("reference b", FAST.name).value == 2.0
    # The floor of a clip: 0.5 s of decoding, 0.25 + 0.125 s of networks.
    assert result.distance(FAST.name).value == pytest.approx(2 / 0.875)
    assert result.cpu_distance(FAST.name).value == 1.0


def test_what_takes_most_core_seconds_above_its_floor_holds_a_scan_back() -> None:
    """Two clips: 2 s of decoding, 1 s of detection, 0.5 s of scoring, 4 s of wall time on two cores."""
    assert a_comparison(cpu_s=1.75, floor_s=0.1).held_back_by(FAST.name) == "idle cores"
    assert a_comparison(cpu_s=3.9, floor_s=0.1).held_back_by(FAST.name) == "rest"
    assert a_comparison(cpu_s=2.0, floor_s=0.1, threads=1).held_back_by(FAST.name) == "decode"


@pytest.mark.parametrize(("faces", "agree"), [(100, False), (4, True), (3, False)])
def test_times_compare_only_if_both_sides_found_the_same_faces(faces: int, agree: bool) -> None:
    assert faces_agree(a_comparison(faces=faces)) is agree


@pytest.mark.parametrize(
    "ratio", ["times as fast as reference b", "CPU time, times less than reference b", "as a list: times as fast as reference b"]
)
def test_every_ratio_to_a_reference_tells_whether_it_compares(ratio: str) -> None:
    def note(faces: int) -> str:
        return next(
            one.note for one in scan_figures(a_comparison(faces=faces)) if one.name in (f"fast: {ratio}", f"fast, {ratio}")
        )

    assert note(4) == "faces differ by 0.0%"
    assert note(5) == "faces differ by 20.0%: does not compare"


def test_figures_state_saving_faces_and_what_holds_back() -> None:
    figures = {figure.name: figure for figure in scan_figures(a_comparison())}
    assert figures["fast: times as fast as reference a"].value == 4.0
    assert figures["fast: times as fast as reference b"].note == "faces differ by 0.0%"
    assert "held back by" in figures["fast: time over the floor"].note
    early = figures["fast, early decision: time over every frame's"]
    assert (early.value, early.note) == (0.5, "50% of the frames, 2 of 2 verdicts differ")
    assert figures["reference a: classifier on one thread"].value == pytest.approx(4.0)


def test_a_list_is_compared_with_its_clips_one_by_one() -> None:
    figures = {figure.name: figure for figure in scan_figures(a_comparison())}
    # The list takes 3 s, one by one 4; the reference's clips 16 in all, the floors in turns with the list 2.
    over = figures["fast, as a list: time over one by one"]
    assert (over.value, over.note) == (0.75, "2 clips, 1 verdicts differ")
    assert figures["fast, as a list: times as fast as reference a"].value == pytest.approx(16 / 3)
    assert figures["fast, as a list: time over the floor"].value == 1.5
    assert "fast, early decision, as a list: time over one by one" not in figures


def clips() -> list[ClipRuns]:
    looked_at = {FAST.name: [0.5], EARLY.name: TIMES_S}
    return [ClipRuns(path=Path(name), answers={}, looked_at=looked_at) for name in ("a.mp4", "b.mp4")]


def test_all_clips_are_asked_for_at_once_by_each_variant_in_turn() -> None:
    asked: list[tuple[str, Json]] = []
    sides = {name: FakeSide(name, asked) for name in (FAST.name, EARLY.name)}
    compare_lists(clips(), dict(sides), (FAST, EARLY), rounds=2)
    assert [(name, request.get("in_flight")) for name, request in asked] == [
        (FAST.name, None),
        (FAST.name, 1),
        (EARLY.name, None),
        (EARLY.name, 1),
        (FAST.name, 1),
        (EARLY.name, None),
        (EARLY.name, 1),
        (FAST.name, None),
    ]
    assert all(request["paths"] == ["a.mp4", "b.mp4"] for _, request in asked)


def test_the_floors_of_all_clips_are_measured_in_turns_with_the_list() -> None:
    asked: list[tuple[str, Json]] = []
    sides = {
        name: FakeSide(name, asked) for name in (FAST.name, EARLY.name, DECODE_FLOOR, NETWORKS + FAST.name, NETWORKS + EARLY.name)
    }
    found = compare_lists(clips(), dict(sides), (FAST, EARLY), rounds=3)
    assert [name for name, _ in asked[:6]] == [FAST.name, *[DECODE_FLOOR, NETWORKS + FAST.name] * 2, FAST.name]
    decoded = [request["times_s"] for name, request in asked if name == DECODE_FLOOR]
    assert (decoded.count([0.5]), decoded.count(TIMES_S)) == (6, 6)
    (one, *others) = found[FLOORS + FAST.name]
    assert len(others) == 2
    # Of two clips: 1 s of decoding and 3/8 of networks by the clock, 1 and 0.5 of processor time.
    assert (one.wall_s, one.cpu_s) == (2.75, 3.0)


def test_charts_and_details_tell_every_side() -> None:
    result = a_comparison()
    stages, speeds = scan_charts(result)
    assert stages.labels == [
        "fast",
        "fast, early decision",
        "reference a",
        "reference b",
        "floor of fast",
        "floor of fast, early decision",
    ]
    assert len(speeds.labels) == 4
    assert len(scan_details(result)["clips"][0]["runs"]["reference a"]) == 3
