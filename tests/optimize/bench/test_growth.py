from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import av
import pytest

from optimize.bench.clips import lasts_s
from optimize.bench.growth import SIZES, TILE_PX, TILES, growth_charts, growth_figures, make_crowd, measure, requests_of
from optimize.bench.rivals.scanner import build
from optimize.bench.side import Answered
from worker.types import Json


@dataclass
class FakeScanner:
    def ask(self, request: Json) -> Answered:
        frames = request["max_frames"]
        return Answered(wall_s=1.0 + frames, cpu_s=2.0 * frames, reply={"frames": frames, "faces": frames})


@pytest.mark.parametrize(("name", "power"), [("videos", 1.0), ("frames", 1.0), ("length", 0.0)])
def test_cost_is_told_by_size(tmp_path: Path, name: str, power: float) -> None:
    requests = requests_of(name, (1, 2, 4), tmp_path)
    assert [len(asked) for asked in requests.values()] == ([1, 2, 4] if name == "videos" else [1, 1, 1])
    found = measure(name, FakeScanner(), requests, rounds=2)
    figures = {figure.name: figure.value for figure in growth_figures([found])}
    assert figures[f"{name}: CPU time grows with the power"] == pytest.approx(power, abs=1e-9)
    assert figures[f"{name}: CPU time at 4 over 1"] == pytest.approx(4**power)
    (chart,) = growth_charts([found])
    assert [size for size, _ in chart.series["time"]] == [1, 2, 4]


def test_a_clip_of_a_size_lasts_so_many_times_what_one_lasts(tmp_path: Path) -> None:
    for size, asked in requests_of("length", SIZES, tmp_path).items():
        assert lasts_s(Path(asked[0]["path"])) == pytest.approx(2.4 * size, rel=0.01)


def test_a_crowd_shows_as_many_faces_as_asked_for(tmp_path: Path) -> None:
    make_crowd(tmp_path / "crowd.mp4", 10, frames=2)
    with av.open(str(tmp_path / "crowd.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.width, stream.height) == (TILES * TILE_PX, TILES * TILE_PX)
    flags = {"sampling": {"strategy": "uniform", "max_frames": 2, "exhaustive": True}, "model": {"backend": "onnxruntime"}}
    with build({"flags": flags}, 1) as scan:
        reply = scan({"path": str(tmp_path / "crowd.mp4"), "max_frames": 1})
    assert (reply["frames"], reply["faces"]) == (1, 10)
