"""Regions of planes against libswscale, to the last bit where the machine takes its fast path, and the small picture's scale."""

from __future__ import annotations

import platform

import av
import cv2
import numpy as np
import pytest
from av.video.reformatter import ColorRange, Interpolation
from hypothesis import given
from hypothesis import strategies as st

from worker.pixels import FRAME_PX, MATRICES, RgbPixels, YuvPixels, detection_divisor, rgb_frame, shrink
from worker.types import Frame, UInt8

HEIGHT, WIDTH = 66, 118
SWSCALE_SLACK = 0 if platform.machine() in ("x86_64", "AMD64") else 3
"""Elsewhere libswscale has other fast paths for 4:2:0."""


def planes(step: int, matrix: int = 1, full_range: bool = False) -> YuvPixels:
    """Noise over all values of the range. Most of it is no RGB; beyond the video range libswscale's sums overflow."""
    rng = np.random.default_rng(matrix)
    ranges = ((1, 0, 255), (step, 0, 255), (step, 0, 255)) if full_range else ((1, 16, 235), (step, 16, 240), (step, 16, 240))
    y_HW, u_HW, v_HW = (rng.integers(low, high + 1, (HEIGHT // by, WIDTH // by), np.uint8) for by, low, high in ranges)
    return YuvPixels(y_HW=y_HW, u_HW=u_HW, v_HW=v_HW, matrix=matrix, full_range=full_range)


def by_swscale(pixels: YuvPixels) -> UInt8:
    frame = av.VideoFrame(WIDTH, HEIGHT, "yuv420p" if pixels.is_subsampled else "yuv444p")
    for target, source in zip(frame.planes, (pixels.y_HW, pixels.u_HW, pixels.v_HW), strict=True):
        np.frombuffer(memoryview(target), np.uint8).reshape(-1, target.line_size)[: len(source), : source.shape[1]] = source
    converted = frame.reformat(
        format="rgb24",
        src_colorspace=pixels.matrix,
        src_color_range=ColorRange.JPEG if pixels.full_range else ColorRange.MPEG,
        dst_color_range=ColorRange.JPEG,
        interpolation=Interpolation.BILINEAR,
        threads=1,
    )
    return np.asarray(converted.to_ndarray(), np.uint8)


def difference(a: UInt8, b: UInt8) -> int:
    return int(np.abs(a.astype(int) - b).max())


@pytest.mark.parametrize("full_range", [False, True])
@pytest.mark.parametrize("matrix", MATRICES)
@pytest.mark.parametrize("step", [1, 2])
def test_planes_become_the_rgb_that_libswscale_makes(step: int, matrix: int, full_range: bool) -> None:
    pixels = planes(step, matrix, full_range)
    assert difference(pixels.region(0, 0, HEIGHT, WIDTH), by_swscale(pixels)) <= (SWSCALE_SLACK if step == 2 else 0)


@pytest.mark.parametrize("step", [1, 2])
def test_a_region_is_that_part_of_the_whole(step: int) -> None:
    pixels = planes(step)
    whole = pixels.region(0, 0, HEIGHT, WIDTH)
    for top, left, height, width in (
        (0, 0, 1, 1),
        (1, 1, 1, 1),
        (3, 5, 32, 40),
        (4, 7, 61, 111),
        (65, 0, 1, 118),
        (0, 117, 66, 1),
    ):
        part = pixels.region(top, left, height, width)
        np.testing.assert_array_equal(part, whole[top : top + height, left : left + width])


def test_quick_rgb_is_hardly_ever_off_by_more_than_a_grey_level() -> None:
    exact, quick = planes(1).region(0, 0, HEIGHT, WIDTH).astype(int), planes(1).quick_rgb()
    assert difference(quick, exact) <= 1
    assert np.mean(quick != exact) < 0.1


def test_greys_and_primaries() -> None:
    """Black, white and the red of BT.709 in video range."""
    values = np.array([[16, 235, 63], [128, 128, 102], [128, 128, 240]], np.uint8)
    y, u, v = (np.repeat(row[None], 2, axis=0) for row in values)
    rgb = YuvPixels(y_HW=y, u_HW=u, v_HW=v, matrix=1, full_range=False).region(0, 0, 1, 3)[0]
    assert np.abs(rgb.astype(int) - [[0, 0, 0], [255, 255, 255], [255, 0, 0]]).max() <= 2


@pytest.mark.parametrize(
    ("y", "u", "v", "matrix"),
    [((4, 6), (2, 3), (2, 2), 1), ((4, 6), (4, 3), (4, 3), 1), ((5, 6), (3, 3), (3, 3), 1), ((4, 6), (2, 3), (2, 3), 3)],
)
def test_planes_that_do_not_fit_are_refused(y: tuple[int, int], u: tuple[int, int], v: tuple[int, int], matrix: int) -> None:
    with pytest.raises(ValueError, match="planes"):
        YuvPixels(
            y_HW=np.zeros(y, np.uint8), u_HW=np.zeros(u, np.uint8), v_HW=np.zeros(v, np.uint8), matrix=matrix, full_range=False
        )


def test_pixels_that_are_not_rgb_are_refused() -> None:
    for pixels in (np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 3), np.float32)):
        with pytest.raises(ValueError, match="RGB"):
            RgbPixels(rgb_HWC=pixels)


def test_a_frame_carries_its_small_picture() -> None:
    rgb_HWC = np.random.default_rng(1).integers(0, 256, (483, 650, 3), np.uint8)
    frame = rgb_frame(1.5, rgb_HWC)
    assert (frame.divisor, frame.height, frame.width, frame.small_HWC.shape) == (2, 483, 650, (241, 325, 3))
    np.testing.assert_array_equal(frame.small_HWC, cv2.resize(rgb_HWC[:482], (325, 241), interpolation=cv2.INTER_AREA))
    assert np.shares_memory(frame.rgb_HWC, rgb_HWC)
    little = rgb_frame(0.0, rgb_HWC[:100])
    assert np.shares_memory(little.small_HWC, rgb_HWC)


def test_a_small_picture_of_another_size_is_refused() -> None:
    pixels = RgbPixels(rgb_HWC=np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(ValueError, match="small"):
        Frame(pts_s=0.0, pixels=pixels, small_HWC=shrink(pixels.rgb_HWC, 2), divisor=1)


@pytest.mark.parametrize(
    ("height", "width", "divisor"),
    [
        (256, 256, 1),
        (479, 900, 1),
        (480, 640, 2),
        (720, 1280, 2),
        (1280, 720, 2),
        (1080, 1920, 2),
        (1440, 2560, 3),
        (2160, 3840, 4),
        (479, 7000, 1),
        (400, 160_000, 5),
        (1080, 20_000, 3),
        (1, 1, 1),
    ],
)
def test_the_divisor_goes_by_the_shorter_side(height: int, width: int, divisor: int) -> None:
    assert detection_divisor(height, width) == divisor


def test_reduced_frames_stay_large_enough() -> None:
    for side in range(480, 5000):
        assert 240 <= side / detection_divisor(side, 2 * side) <= 675


@given(height=st.integers(1, 64_000_000), share=st.floats(0, 1))
def test_a_reduced_frame_has_bounded_pixels_whatever_its_shape(height: int, share: float) -> None:
    width = max(1, int(share * (64_000_000 // height)))
    assert height * width <= FRAME_PX * detection_divisor(height, width) ** 2
