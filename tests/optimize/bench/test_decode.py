from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from optimize.bench.decode import decode, decode_charts, decode_figures, decode_long, rivals
from optimize.bench.side import Answered
from worker.types import Json


@dataclass
class FakeDecoder:
    took_s: float
    asked: list[Json] = field(default_factory=list)

    def ask(self, request: Json) -> Answered:
        self.asked.append(request)
        return Answered(wall_s=self.took_s, cpu_s=2 * self.took_s, reply={"frames": 4, "times_s": [0.12345, 1.0]})


def test_others_decode_the_frames_that_ours_gave_to_the_millisecond() -> None:
    sides = {one.name: FakeDecoder(1.0) for one in rivals()}
    decode([Path("clip.mp4")], sides, frames=2, rounds=2)
    assert len(sides["ours"].asked) == 3, "one pass is not timed"
    assert sides["floor"].asked == [{"path": "clip.mp4", "times_s": [0.123, 1.0]}] * 2


def test_figures_tell_the_distance_to_the_floor() -> None:
    sides = {"ours": FakeDecoder(2.0), "floor": FakeDecoder(1.0), "decord": FakeDecoder(3.0)}
    found = decode([Path("clip.mp4")], sides, frames=2, rounds=1)
    figures = {figure.name: figure.value for figure in decode_figures(found, [])}
    assert figures["ours: time over the floor"] == 2
    assert figures["ours: times as fast as decord"] == 1.5
    assert figures["floor: CPU time"] == 500
    assert len(decode_charts(found, [])) == 1


def test_a_long_clip_is_compared_by_the_distinct_frame() -> None:
    @dataclass
    class ByLength:
        asked: list[str] = field(default_factory=list)

        def ask(self, request: Json) -> Answered:
            self.asked.append(request["path"])
            is_long = request["path"] == "long.mp4"
            return Answered(wall_s=3.0 if is_long else 1.0, cpu_s=1.0, reply={"frames": 8 if is_long else 4})

    ours = ByLength()
    long = decode_long([(Path("short.mp4"), 60.0), (Path("long.mp4"), 1800.0)], ours, frames=32, rounds=2)
    figures = {figure.name: figure.value for figure in decode_figures([], long)}
    assert figures["clip of 30 min over clip of 1 min: time for a distinct frame"] == pytest.approx(1.5)
    assert figures["clip of 30 min over clip of 1 min: CPU time for a distinct frame"] == pytest.approx(0.5)
    assert ours.asked == ["short.mp4", "long.mp4", "short.mp4", "long.mp4", "long.mp4", "short.mp4"]
    assert len(decode_charts([], long)) == 1
