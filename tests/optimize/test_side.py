from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import pytest
import torch

from optimize.side import Request, Scan, Side, SideFailed, _reference
from worker.demo import FOLDER


@pytest.fixture
def scan_by_reference() -> Iterator[Scan]:
    """What the reference's process does with a request, in this one: it has imported torch, timm and facenet-pytorch already."""
    threads = torch.get_num_threads(), cv2.getNumThreads()
    with _reference(threads=1) as scan:
        yield scan
    torch.set_num_threads(threads[0])
    cv2.setNumThreads(threads[1])


def test_the_reference_finds_the_faces_of_the_demo_clips(scan_by_reference: Scan) -> None:
    two = scan_by_reference(Request(path=str(FOLDER / "two_people.mp4"), times_s=(0.5, 1.5)))
    none = scan_by_reference(Request(path=str(FOLDER / "no_face.mp4"), times_s=(0.5,)))
    assert (two.frames, two.faces, two.times_s) == (2, 4, (0.5, 1.5))
    assert (none.frames, none.faces) == (1, 0)
    assert two.total_s >= two.decode_s + two.detect_s + two.infer_s > 0


def test_a_side_scans_in_a_process_of_its_own_and_outlives_a_bad_clip(tmp_path: Path) -> None:
    with Side("veriframe", threads=1, max_frames=2) as side:
        two = side.scan(FOLDER / "two_people.mp4")
        assert (two.frames, two.faces, len(two.times_s)) == (2, 4, 2)
        assert two.total_s >= two.decode_s + two.detect_s + two.infer_s > 0
        with pytest.raises(SideFailed, match=r"missing\.mp4"):
            side.scan(tmp_path / "missing.mp4")
        none = side.scan(FOLDER / "no_face.mp4")
        assert (none.frames, none.faces) == (2, 0), "a bad clip does not end the process"
    assert side.start_up_s > 0
