from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn.functional import interpolate

from worker.faces.candidates import AreaTable, SingleCuts, windows
from worker.types import Float32, UInt8


def area(picture_HWC: UInt8, height: int, width: int) -> Float32:
    """facenet-pytorch's ``imresample``."""
    planes = torch.from_numpy(np.ascontiguousarray(picture_HWC)).permute(2, 0, 1)[None].float()
    return interpolate(planes, size=(height, width), mode="area")[0].permute(1, 2, 0).numpy()


@pytest.fixture
def frames_BHWC() -> UInt8:
    return np.random.default_rng(3).integers(0, 256, (3, 47, 61, 3), np.uint8)


def test_windows_cover_every_pixel_and_overlap_only_by_one() -> None:
    start, end = windows(10, 4)
    assert start.tolist() == [0, 2, 5, 7]
    assert end.tolist() == [3, 5, 8, 10]


@pytest.mark.parametrize(("height", "width"), [(47, 61), (20, 30), (15, 19), (1, 1), (60, 100)])
def test_level_equals_area_interpolation(frames_BHWC: UInt8, height: int, width: int) -> None:
    level = AreaTable(frames_BHWC).level(height, width)
    expected = np.stack([area(frame, height, width) for frame in frames_BHWC])
    np.testing.assert_allclose(level, expected, atol=1e-4)


@pytest.mark.parametrize("side", [24, 48])
def test_crops_equal_area_interpolation_of_each_box(frames_BHWC: UInt8, side: int) -> None:
    rng = np.random.default_rng(side)
    start = rng.integers(0, [60, 46], (40, 2))
    end = np.minimum(start + rng.integers(1, 60, (40, 2)), [61, 47])
    boxes, frame = np.hstack([start, end]), rng.integers(0, 3, 40)
    boxes[0], boxes[1] = (0, 0, 61, 47), (60, 46, 61, 47)
    crops = AreaTable(frames_BHWC).crops(boxes, frame, side)
    for crop, (x1, y1, x2, y2), b in zip(crops, boxes, frame, strict=True):
        np.testing.assert_allclose(crop, area(frames_BHWC[b, y1:y2, x1:x2], side, side), atol=1e-4)


def test_sums_beyond_32_bits_still_average_right() -> None:
    white = np.full((1, 3000, 3000, 3), 255, np.uint8)
    assert 255 * 3000 * 3000 > 2**31
    table = AreaTable(white)
    np.testing.assert_array_equal(table.level(2, 2), 255)
    np.testing.assert_array_equal(table.crops(np.array([[2900, 2900, 3000, 3000]]), np.array([0]), 24), 255)


def test_single_cuts_are_the_tables(frames_BHWC: UInt8) -> None:
    box_N4, frame_N = np.array([[0, 0, 61, 47], [5, 7, 30, 40], [60, 46, 61, 47]]), np.array([0, 2, 2])
    expected = AreaTable(frames_BHWC).crops(box_N4, frame_N, 24)
    np.testing.assert_allclose(SingleCuts(frames_BHWC).crops(box_N4, frame_N, 24), expected, atol=1e-4)
    assert SingleCuts(frames_BHWC).crops(box_N4[:0], frame_N[:0], 24).shape == (0, 24, 24, 3)
