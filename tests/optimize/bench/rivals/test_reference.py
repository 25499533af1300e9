from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
import pytest
import torch

from optimize.bench.rivals.reference import build, load_detector
from optimize.bench.side import Answer
from worker.demo import FOLDER


@pytest.fixture(autouse=True)
def _same_threads() -> Iterator[None]:
    threads = torch.get_num_threads(), cv2.getNumThreads()
    yield
    torch.set_num_threads(threads[0])
    cv2.setNumThreads(threads[1])


@pytest.fixture
def scan_by_reference() -> Iterator[Answer]:
    with build({"mode": "b"}, 1) as scan:
        yield scan


def test_the_reference_finds_the_faces_of_the_demo_clips(scan_by_reference: Answer) -> None:
    two = scan_by_reference({"path": str(FOLDER / "two_people.mp4"), "times_s": [0.5, 1.5]})
    none = scan_by_reference({"path": str(FOLDER / "no_face.mp4"), "times_s": [0.5]})
    assert (two["frames"], two["faces"], two["times_s"]) == (2, 4, [0.5, 1.5])
    assert (none["frames"], none["faces"]) == (1, 0)
    assert min(two["decode_s"], two["detect_s"], two["infer_s"]) > 0


def test_mode_a_looks_at_full_size_for_small_faces() -> None:
    a, b = load_detector("a", 1), load_detector("b", 1)
    assert (a.mtcnn.min_face_size, a.divisor) == (20, 1)
    assert (b.mtcnn.min_face_size, b.divisor) == (40, 2)
    assert [len(boxes) for boxes in b.boxes(np.zeros((2, 96, 96, 3), np.uint8))] == [0, 0]
