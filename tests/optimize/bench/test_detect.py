from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import pytest

from optimize.bench.detect import detect, detect_charts, detect_figures, ious, recall
from optimize.bench.side import Answered
from worker.demo import FOLDER
from worker.errors import ConfigError
from worker.types import Float32, Json

BOX = [10.0, 10.0, 110.0, 110.0]


def boxes(*rows: list[float]) -> Float32:
    return np.array(rows, np.float32).reshape(-1, 4)


@dataclass
class FakeDetector:
    frame_s: float
    box: list[float]

    def ask(self, request: Json) -> Answered:
        frames = len(request["times_s"])
        reply: Json = {"frames": frames, "faces": frames}
        if request.get("boxes"):
            reply["boxes"] = [[self.box]] * frames
        return Answered(wall_s=self.frame_s * frames, cpu_s=self.frame_s * frames, reply=reply)


def test_overlap_of_boxes() -> None:
    found = ious(boxes([0, 0, 2, 2]), boxes([0, 0, 2, 2], [1, 0, 3, 2], [5, 5, 6, 6]))
    assert found.tolist() == [[1.0, pytest.approx(1 / 3), 0.0]]


def test_recall_counts_large_faces_that_are_met() -> None:
    truth = [boxes(BOX, [0, 0, 79, 200]), boxes(BOX), boxes()]
    assert recall([boxes([12, 12, 108, 108]), boxes(), boxes(BOX)], truth) == 0.5
    assert recall([boxes()], [boxes([0, 0, 79, 79])]) is None


def test_a_clip_that_is_none_or_does_not_say_how_long_it_lasts_is_refused(tmp_path: Path) -> None:
    broken, endless = tmp_path / "broken.mp4", tmp_path / "endless.webm"
    broken.write_bytes(b"no video")
    with av.open(str(endless), "w", options={"live": "1"}) as container:  # as a browser's recorder writes it
        stream = container.add_stream("libvpx", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        for _ in range(3):
            container.mux(stream.encode(av.VideoFrame(64, 64, "yuv420p")))
        container.mux(stream.encode(None))
    for path, told in ((broken, "cannot be read: Invalid data"), (endless, "does not say how long it lasts")):
        with pytest.raises(ConfigError, match=told):
            detect([path], {"ours": FakeDetector(0.01, BOX)}, frames=4, rounds=1)


def test_figures_compare_with_both_sizes_of_the_reference() -> None:
    far = [200.0, 200.0, 300.0, 300.0]
    sides = {
        "ours": FakeDetector(0.01, BOX),
        "carrying": FakeDetector(0.005, far),
        "a": FakeDetector(0.2, BOX),
        "b": FakeDetector(0.05, BOX),
    }
    found = detect([FOLDER / "untouched.mp4"], sides, frames=4, rounds=2)
    figures = {figure.name: figure for figure in detect_figures(found)}
    assert figures["ours: time"].value == pytest.approx(10)
    assert figures["ours: times as fast as detect(), half size, min_face 40"].value == pytest.approx(5)
    assert figures["carrying: CPU time, times less than detect(), full size, defaults"].value == pytest.approx(40)
    assert figures["ours: recall of faces of 80 px or more found by detect(), full size, defaults"].value == 1
    assert figures["carrying: recall of faces of 80 px or more found by detect(), half size, min_face 40"].value == 0
    assert [len(chart.labels) for chart in detect_charts(found)] == [4]


@pytest.mark.parametrize("kind", ["ours", "carrying", "b"])
def test_every_side_finds_the_faces_of_the_demo(kind: str) -> None:
    from optimize.bench.rivals.detector import build

    path = str(FOLDER / "two_people.mp4")
    with build({"kind": kind}, 1) as answer:
        first = answer({"path": path, "times_s": [0.3, 0.6, 0.9], "boxes": True})
        again = answer({"path": path, "times_s": [0.3, 0.6, 0.9]})
        none = answer({"path": str(FOLDER / "no_face.mp4"), "times_s": [0.5]})
    assert [len(one) for one in first["boxes"]] == [2, 2, 2]
    assert (again["frames"], again["faces"], "boxes" in again) == (3, 6, False)
    assert none["faces"] == 0


def test_paths_are_kept() -> None:
    found = detect([FOLDER / "untouched.mp4"], {"ours": FakeDetector(1, BOX)}, frames=1, rounds=1)
    assert [clip.path for clip in found] == [Path(FOLDER / "untouched.mp4")]
