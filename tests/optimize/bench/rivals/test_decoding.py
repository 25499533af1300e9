from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from optimize.bench.rivals.decoding import build_decord, build_floor, build_linear, build_ours, half_frames
from optimize.bench.side import Build
from optimize.bench.soak import loop_clip
from worker.demo import FOLDER

CLIP = FOLDER / "swapped.mp4"


@pytest.fixture(scope="module")
def times_s() -> list[float]:
    """In whole milliseconds, as reports tell them."""
    with build_ours({}, 1) as decode:
        found = decode({"path": str(CLIP), "strategy": "uniform", "max_frames": 7})
    assert found["frames"] == 7
    return [round(time_s, 3) for time_s in found["times_s"]]


@pytest.mark.parametrize("build", [build_floor, build_linear, build_decord])
def test_every_rival_decodes_the_frames_that_ours_gave(build: Build, times_s: list[float]) -> None:
    with build({}, 1) as decode:
        assert decode({"path": str(CLIP), "times_s": times_s})["frames"] == 7


@pytest.mark.parametrize("build", [build_floor, build_linear])
def test_fewer_frames_than_wanted_are_an_error(build: Build, times_s: list[float]) -> None:
    with build({}, 1) as decode, pytest.raises(RuntimeError, match="1 of the 2 frames"):
        decode({"path": str(CLIP), "times_s": [times_s[0], 100.0]})


@pytest.mark.parametrize("build", [build_floor, build_linear])
@pytest.mark.parametrize("name", ["close.mp4", "b-frames.avi"])
def test_frames_close_to_one_another_or_handed_out_of_order_are_each_given_once(build: Build, name: str, tmp_path: Path) -> None:
    """Every fifth is 2 ms behind another; PyAV gives those of an AVI with B-frames times that do not rise."""
    with av.open(str(tmp_path / name), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(1000 if name == "close.mp4" else 30), options={"bf": "2"})
        stream.width = stream.height = 64
        for i in range(60):
            frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 4 * i, np.uint8))
            frame.pts, frame.time_base = i, Fraction(1, 30)
            if name == "close.mp4":
                frame.pts, frame.time_base = i * 33 - (31 if i % 5 == 4 else 0), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with build_ours({}, 1) as decode:
        times_s = decode({"path": str(tmp_path / name), "strategy": "uniform", "max_frames": 32})["times_s"]
    assert len(times_s) == 32
    with build({}, 1) as decode:
        assert decode({"path": str(tmp_path / name), "times_s": times_s})["frames"] == 32


@pytest.mark.parametrize("lasts_s", [1.0, 12.0])
def test_without_an_index_the_floor_gives_every_wanted_frame(tmp_path: Path, lasts_s: float) -> None:
    loop_clip(CLIP, tmp_path / "clip.ts", lasts_s)
    with build_ours({}, 1) as decode:
        found = decode({"path": str(tmp_path / "clip.ts"), "strategy": "uniform", "max_frames": 5})["times_s"]
    assert half_frames(tmp_path / "clip.ts", found, 1) == pytest.approx(found, abs=0.001)


@pytest.mark.parametrize("threads", [1, 2])
def test_the_floor_gives_exactly_the_wanted_frames_of_a_long_clip(tmp_path: Path, threads: int) -> None:
    loop_clip(CLIP, tmp_path / "long.mp4", 12.0)
    with build_ours({}, 1) as decode:
        found = decode({"path": str(tmp_path / "long.mp4"), "strategy": "uniform", "max_frames": 5})["times_s"]
    assert half_frames(tmp_path / "long.mp4", found, threads) == pytest.approx(found, abs=0.001)
