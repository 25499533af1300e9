"""MtcnnDetector against facenet-pytorch's own ``detect`` on the same pixels, and alone on odd frames.

Tolerances: with all weights in float32 boxes, landmarks and probabilities are equal up to rounding (0.01 pixels). The packaged
O-Net has float16 weights, which moved boxes and landmarks by up to 0.05 pixels on 213 real faces, and probabilities by up to
0.001; we allow 0.25 pixels and 0.01. A face may be missing or extra only where its probability lies within 0.02 of the last
threshold.
"""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest

from worker.errors import ModelError
from worker.faces.detect import MtcnnDetector
from worker.faces.nets import load_nets, packaged_nets
from worker.model import mtcnn
from worker.types import Detections, UInt8

THRESHOLD, THRESHOLD_BAND = 0.7, 0.02


@pytest.fixture(scope="module")
def detector() -> Iterator[MtcnnDetector]:
    with MtcnnDetector() as detector:
        yield detector


@pytest.fixture(scope="module")
def exact_detector(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MtcnnDetector]:
    folder = tmp_path_factory.mktemp("nets")
    builders = {"pnet": mtcnn.build_pnet, "rnet": mtcnn.build_rnet, "onet": mtcnn.build_onet}
    for net, build in builders.items():
        (folder / mtcnn.FILE_NAMES[net]).write_bytes(build(mtcnn.read_weights(net), np.float32))
    with MtcnnDetector(load_nets(folder)) as detector:
        yield detector


@pytest.fixture(scope="module")
def reference() -> Iterator[Any]:
    import torch
    from facenet_pytorch import MTCNN

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # its many small operations only get slower on a busy machine's second core
    yield MTCNN(keep_all=True, min_face_size=40)
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def synthetic(reference: Any, pair_HWC: UInt8) -> tuple[UInt8, Any]:
    """Frames and the reference's faces in them."""
    frames = synthetic_frames(pair_HWC)
    return frames, reference.detect(frames, landmarks=True)


def synthetic_frames(pair_HWC: UInt8) -> UInt8:
    """Two people, moved, dimmed, softened, turned gray, and an empty frame."""
    moved = np.roll(pair_HWC, 37, axis=1)
    dim = pair_HWC // 3
    soft = cv2.GaussianBlur(pair_HWC, (0, 0), 2)
    gray = cv2.cvtColor(cv2.cvtColor(pair_HWC, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    return np.stack([pair_HWC, moved, np.full_like(pair_HWC, 128), dim, soft, gray])


def clip_frames(path: Path, count: int, step: int) -> UInt8:
    """Every ``step``-th frame of a clip, halved."""
    frames: list[UInt8] = []
    with av.open(str(path)) as container:
        for number, frame in enumerate(container.decode(video=0)):
            if number % step == 0:
                rgb = frame.to_ndarray(format="rgb24")
                halved = cv2.resize(rgb, (rgb.shape[1] // 2, rgb.shape[0] // 2), interpolation=cv2.INTER_AREA)
                frames.append(halved.astype(np.uint8))
            if len(frames) == count:
                break
    return np.stack(frames)


def check_parity(found: Detections, expected: Any, tolerance_px: float, tolerance_prob: float) -> int:
    """Match faces one to one; returns how many there were."""
    matched = 0
    all_boxes, all_probs, all_points = expected
    for place, faces in enumerate(zip(all_boxes, all_probs, all_points, strict=True)):
        ours = np.flatnonzero(found.frame_N == place).tolist()
        for box, prob, marks in [] if faces[0] is None else zip(*(np.asarray(v, np.float32) for v in faces), strict=True):
            distance = [float(np.abs(found.boxes_N4[i] - box).max()) for i in ours]
            if not distance or min(distance) > tolerance_px:
                assert abs(prob - THRESHOLD) < THRESHOLD_BAND, f"frame {place}: {box} (p {prob}) is missing"
                continue
            mine = ours.pop(int(np.argmin(distance)))
            np.testing.assert_allclose(found.landmarks_NK2[mine], marks, atol=tolerance_px)
            assert found.prob_N[mine] == pytest.approx(prob, abs=tolerance_prob)
            matched += 1
        for extra in ours:
            assert abs(found.prob_N[extra] - THRESHOLD) < THRESHOLD_BAND, f"frame {place}: {found.boxes_N4[extra]} is extra"
    return matched


def test_float32_nets_equal_facenet_pytorch(exact_detector: MtcnnDetector, synthetic: tuple[UInt8, Any]) -> None:
    frames, expected = synthetic
    assert check_parity(exact_detector.detect_at(frames, 1), expected, 0.01, 1e-4) >= 8


def test_packaged_nets_equal_facenet_pytorch(detector: MtcnnDetector, synthetic: tuple[UInt8, Any]) -> None:
    frames, expected = synthetic
    assert check_parity(detector.detect_at(frames, 1), expected, 0.25, 0.01) >= 8


@pytest.mark.parametrize(
    ("clip", "least"),
    [
        ("videos/ffpp/real/youtube_004.mp4", 3),
        ("videos/ffpp/real/youtube_175.mp4", 3),
        ("videos/ffpp/fake/deepfakes_994_986.mp4", 3),
        ("odd_media/facenet_pytorch/examples__video.mp4", 12),
    ],
)
def test_real_frames_equal_facenet_pytorch(
    detector: MtcnnDetector, reference: Any, shared_data: Path, clip: str, least: int
) -> None:
    frames = clip_frames(shared_data / clip, count=3, step=20)
    assert check_parity(detector.detect_at(frames, 1), reference.detect(frames, landmarks=True), 0.25, 0.01) >= least


def test_full_resolution_boxes_from_reduced_frames(detector: MtcnnDetector, pair_HWC: UInt8) -> None:
    small = detector.detect_at(pair_HWC[None], 1)
    large_HWC = np.repeat(np.repeat(pair_HWC, 2, axis=0), 2, axis=1)
    large = detector.detect(np.stack([large_HWC]))
    np.testing.assert_allclose(large.boxes_N4, small.boxes_N4 * 2, atol=1e-3)
    np.testing.assert_allclose(large.landmarks_NK2, small.landmarks_NK2 * 2, atol=1e-3)
    odd = detector.detect(np.pad(large_HWC, ((0, 1), (0, 1), (0, 0)))[None])
    np.testing.assert_array_equal(odd.boxes_N4, large.boxes_N4)


def test_frames_shrunk_before_give_the_same_boxes(detector: MtcnnDetector, pair_HWC: UInt8) -> None:
    large_HWC = np.repeat(np.repeat(pair_HWC, 2, axis=0), 2, axis=1)
    whole, small = detector.detect([large_HWC]), detector.detect_small([pair_HWC], 2)
    assert len(whole) == 2
    np.testing.assert_array_equal(small.boxes_N4, whole.boxes_N4)
    np.testing.assert_array_equal(small.landmarks_NK2, whole.landmarks_NK2)


def test_finds_the_face_where_it_is(detector: MtcnnDetector, astronaut_HWC: UInt8) -> None:
    found = detector.detect([astronaut_HWC])
    assert len(found) == 1
    left_eye, right_eye, nose, left_mouth, right_mouth = found.landmarks_NK2[0]
    assert left_eye[0] < nose[0] < right_eye[0]
    assert left_eye[1] < nose[1] < left_mouth[1]
    assert left_mouth[0] < right_mouth[0]
    np.testing.assert_allclose((found.boxes_N4[0, :2] + found.boxes_N4[0, 2:]) / 2, [224, 117], atol=15)


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_finds_faces_that_are_shown_turned(detector: MtcnnDetector, pair_HWC: UInt8, turns: int) -> None:
    """Their eyes lie some 40 and 20 pixels apart."""
    expected_NK2 = detector.detect([pair_HWC]).landmarks_NK2
    for turn in range(turns):
        expected_NK2 = np.stack([expected_NK2[..., 1], pair_HWC.shape[1 - turn % 2] - expected_NK2[..., 0]], axis=-1)
    found = detector.detect([np.rot90(pair_HWC, turns)])
    assert found.turn_N.tolist() == [4 - turns] * 2
    nearest = [np.abs(found.landmarks_NK2 - face_K2).max((1, 2)).min() for face_K2 in expected_NK2]
    assert max(nearest) < 10


@pytest.mark.parametrize("degrees", [60, -60])
def test_a_face_between_quarter_turns_is_left_as_it_is(detector: MtcnnDetector, astronaut_HWC: UInt8, degrees: int) -> None:
    about_the_face = cv2.getRotationMatrix2D((224, 117), degrees, 1)
    leaning_HWC = cv2.warpAffine(astronaut_HWC, about_the_face, (512, 512), borderValue=(90, 90, 90))
    assert detector.detect([np.asarray(leaning_HWC, np.uint8)]).turn_N.tolist() == [0]


def test_no_face_is_turned_beside_one_that_is_surely_upright(detector: MtcnnDetector, pair_HWC: UInt8) -> None:
    both_HWC = np.hstack([pair_HWC, np.rot90(pair_HWC, 2)])
    assert detector.detect([both_HWC[:, 640:]]).turn_N.tolist() == [2, 2]
    assert not detector.detect([both_HWC]).turn_N.any()


def test_memory_of_a_long_picture_is_bounded(detector: MtcnnDetector) -> None:
    """At full size the summed-area table alone would take 256 MB."""
    long_HWC = np.full((400, 40_000, 3), 77, np.uint8)
    tracemalloc.start()
    assert len(detector.detect([long_HWC])) == 0
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak_bytes < 200e6


def test_batch_does_not_change_a_frames_faces(detector: MtcnnDetector, pair_HWC: UInt8) -> None:
    frames = synthetic_frames(pair_HWC)
    together = detector.detect(frames)
    assert (np.diff(together.frame_N) >= 0).all()
    with MtcnnDetector(threads=1) as alone:
        for place, frame in enumerate(frames):
            single = alone.detect([frame])
            mine = together.frame_N == place
            np.testing.assert_allclose(together.boxes_N4[mine], single.boxes_N4, atol=1e-3)
            np.testing.assert_allclose(together.prob_N[mine], single.prob_N, atol=1e-5)


@pytest.mark.parametrize("size", [(1, 1), (16, 16), (39, 400), (40, 40), (41, 57), (400, 12)])
@pytest.mark.parametrize("count", [0, 1, 3])
def test_tiny_frames_have_no_faces(detector: MtcnnDetector, count: int, size: tuple[int, int]) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (count, *size, 3), np.uint8)
    assert len(detector.detect(frames)) == 0


def test_no_frames_and_faceless_frames(detector: MtcnnDetector) -> None:
    assert len(detector.detect([])) == 0
    assert len(detector.detect(np.full((5, 300, 400, 3), 77, np.uint8))) == 0


def test_faces_cut_by_every_border(detector: MtcnnDetector, astronaut_HWC: UInt8) -> None:
    """Candidates reach beyond the frame; one face, found or not, and no crash."""
    face = astronaut_HWC[40:200, 150:300]
    for rows, columns in [(slice(40, None), slice(None)), (slice(None, 110), slice(None)), (slice(None), slice(50, None))]:
        assert len(detector.detect(np.ascontiguousarray(face[rows, columns])[None])) <= 1
    assert len(detector.detect(face[None])) == 1


def test_frames_of_different_sizes_are_refused(detector: MtcnnDetector) -> None:
    with pytest.raises(ValueError, match="one size"):
        detector.detect([np.zeros((50, 50, 3), np.uint8), np.zeros((50, 51, 3), np.uint8)])


def test_memory_does_not_grow_with_the_batch(pair_HWC: UInt8) -> None:
    def peak_bytes(count: int) -> int:
        frames = [pair_HWC] * count
        tracemalloc.start()
        found = single.detect(frames)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert len(found) == 2 * count
        return peak

    with MtcnnDetector(threads=1) as single:
        assert peak_bytes(32) < 1.2 * peak_bytes(8)


def test_missing_and_damaged_nets(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="mtcnn_pnet"):
        load_nets(tmp_path)
    for file in packaged_nets().glob("mtcnn_*.onnx"):
        (tmp_path / file.name).write_bytes(file.read_bytes()[:1000])
    with pytest.raises(ModelError, match="mtcnn_pnet"):
        load_nets(tmp_path)


@pytest.mark.parametrize("side", [46, 47, 94])
def test_frames_as_small_as_the_smallest_face_are_looked_at(side: int) -> None:
    with MtcnnDetector(min_face_px=side, threads=1) as detector:
        assert len(detector.detect_at([np.zeros((side, 80 + side, 3), np.uint8)], 1)) == 0


def test_faces_smaller_than_a_window_are_refused() -> None:
    with pytest.raises(ValueError, match="min_face_px"):
        MtcnnDetector(min_face_px=8)
