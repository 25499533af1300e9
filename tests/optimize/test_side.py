from __future__ import annotations

from pathlib import Path

import pytest

from optimize.side import Side, SideFailed
from worker.demo import FOLDER


@pytest.mark.timeout(400)  # imports torch, timm and facenet-pytorch in a new process
def test_reference_finds_the_faces_of_the_demo_clips_in_a_process_of_its_own(tmp_path: Path) -> None:
    with Side("reference", threads=1, max_frames=None) as side:
        two = side.scan(FOLDER / "two_people.mp4", [0.5, 1.5])
        none = side.scan(FOLDER / "no_face.mp4", [0.5])
        assert (two.frames, two.faces) == (2, 4)
        assert (none.frames, none.faces) == (1, 0)
        assert two.total_s >= two.decode_s + two.detect_s + two.infer_s > 0
        with pytest.raises(SideFailed, match=r"missing\.mp4"):
            side.scan(tmp_path / "missing.mp4", [0.0])
        assert side.scan(FOLDER / "no_face.mp4", [0.5]).frames == 1, "a bad clip does not end the process"
    assert side.start_up_s > 0
