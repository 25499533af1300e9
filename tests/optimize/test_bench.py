from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from optimize.bench import Comparison, SideSummary, find_clips, summarise, time_clip
from optimize.side import Run

TIMES_S = (0.5, 1.5)


@dataclass
class FakeSide:
    """Gives the seconds of its script in turn, and notes who was asked for what."""

    name: str
    asked: list[tuple[str, tuple[float, ...]]]
    script: list[float] = field(default_factory=list)

    def scan(self, path: Path, times_s: Sequence[float] = ()) -> Run:
        self.asked.append((self.name, tuple(times_s)))
        return a_run(self.script.pop(0))


def a_run(total_s: float, faces: int = 4) -> Run:
    return Run(
        total_s=total_s, decode_s=total_s / 2, detect_s=total_s / 4, infer_s=total_s / 8, faces=faces, frames=2, times_s=TIMES_S
    )


def a_summary(total_s: float, faces: int) -> SideSummary:
    return SideSummary(total_s=total_s, stages_s={}, median_clip_s=total_s, faces=faces, frames=2, start_up_s=0, peak_bytes=0)


def test_sides_take_turns_over_the_frames_that_ours_looked_at() -> None:
    asked: list[tuple[str, tuple[float, ...]]] = []
    ours, reference = FakeSide("ours", asked, [9.0, 1.0, 2.0, 3.0]), FakeSide("reference", asked, [4.0, 5.0, 6.0])
    timed = time_clip(Path("clip.mp4"), ours, reference, rounds=3)
    assert [name for name, _ in asked] == ["ours", "ours", "reference", "reference", "ours", "ours", "reference"]
    assert {times for name, times in asked if name == "reference"} == {TIMES_S}
    assert [run.total_s for run in timed.ours] == [1.0, 2.0, 3.0], "the first scan is not timed"
    assert [run.total_s for run in timed.reference] == [4.0, 5.0, 6.0]


def test_summary_adds_up_medians_of_clips() -> None:
    summary = summarise([[a_run(1), a_run(8), a_run(2)], [a_run(4), a_run(4), a_run(5)]], start_up_s=7, peak_bytes=1)
    assert summary.total_s == 2 + 4
    assert summary.median_clip_s == 3
    assert summary.stages_s == {"decode": 3.0, "detect": 1.5, "infer": 0.75}
    assert (summary.faces, summary.frames) == (8, 4)


@pytest.mark.parametrize(("faces", "agree"), [(100, True), (98, True), (102, True), (97, False), (103, False), (0, False)])
def test_times_compare_only_if_both_sides_found_the_same_faces(faces: int, agree: bool) -> None:
    result = Comparison(
        clips=1, rounds=1, threads=2, ours=a_summary(3, faces), reference=a_summary(6, 100), median_clip_ratio=0.5
    )
    assert result.ratio == 0.5
    assert result.faces_agree is agree
    assert result.as_json()["faces_agree"] is agree


def test_clips_are_chosen_evenly_and_always_the_same(tmp_path: Path) -> None:
    for number in range(10):
        (tmp_path / f"{number}.mp4").touch()
    (tmp_path / "notes.txt").touch()
    assert [path.name for path in find_clips(tmp_path, 3)] == ["1.mp4", "5.mp4", "8.mp4"]
    assert len(find_clips(tmp_path, 50)) == len(find_clips(tmp_path)) == 10
