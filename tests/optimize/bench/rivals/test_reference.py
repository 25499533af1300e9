from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from optimize.bench.rivals.crops import build as cutting
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


def test_its_crops_are_as_large_as_those_of_the_scans_beside_it(tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    request = {"path": str(FOLDER / "two_people.mp4"), "times_s": [0.5]}
    for checkpoint, size in ((None, 224), (tiny_checkpoint, 64)):
        if checkpoint is not None:
            monkeypatch.setenv("VERIFRAME_MODEL__CHECKPOINT", str(checkpoint))
        with build({"mode": "b"}, 1) as scan:
            assert scan(request)["crop_px"] == size


def test_crops_for_the_classifiers_are_as_large_as_is_wanted(tmp_path: Path) -> None:
    out = tmp_path / "crops.npy"
    with cutting({"margin": 1.3, "size": 64}, 1) as cut:
        assert cut({"paths": [str(FOLDER / "two_people.mp4")], "count": 3, "out": str(out)}) == {"found": 3}
    assert np.load(out).shape == (3, 64, 64, 3)


def test_mode_a_looks_at_full_size_for_small_faces() -> None:
    a, b = load_detector("a", 1), load_detector("b", 1)
    assert (a.mtcnn.min_face_size, a.divisor) == (20, 1)
    assert (b.mtcnn.min_face_size, b.divisor) == (40, 2)
    assert [len(boxes) for boxes in b.boxes(np.zeros((2, 96, 96, 3), np.uint8))] == [0, 0]
