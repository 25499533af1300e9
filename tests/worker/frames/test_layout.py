"""Frames written into shared memory are read back as they were, whatever their layout."""

from __future__ import annotations

import numpy as np
import pytest

from worker.frames import layout
from worker.pixels import YuvPixels, detection_divisor, rgb_frame
from worker.types import Frame, Layout, UInt8


def noise(*shape: int) -> UInt8:
    return np.random.default_rng(len(shape)).integers(0, 256, shape, np.uint8)


def frame(height: int, width: int, kind: Layout) -> Frame:
    if kind is Layout.RGB:
        return rgb_frame(1.25, noise(height, width, 3))
    step = 2 if kind is Layout.YUV420 else 1
    u_HW, v_HW = noise(2, height // step, width // step)
    divisor = detection_divisor(height, width)
    return Frame(
        pts_s=1.25,
        pixels=YuvPixels(y_HW=noise(height, width), u_HW=u_HW, v_HW=v_HW, matrix=5, full_range=True),
        small_HWC=noise(height // divisor, width // divisor, 3),
        divisor=divisor,
    )


@pytest.mark.parametrize("kind", Layout)
@pytest.mark.parametrize(("height", "width"), [(482, 650), (4, 6), (1450, 1452)])
def test_round_trip(kind: Layout, height: int, width: int) -> None:
    given = frame(height, width, kind)
    memory = np.zeros(layout.bytes_of(height, width, kind), np.uint8)
    layout.write(memory, given, kind)
    seen = layout.read(memory, 1.25, (height, width), kind, 5, True)
    np.testing.assert_array_equal(seen.small_HWC, given.small_HWC)
    np.testing.assert_array_equal(seen.rgb_HWC, given.rgb_HWC)
    assert (seen.pts_s, seen.divisor, seen.height, seen.width) == (1.25, given.divisor, height, width)
    assert np.shares_memory(seen.small_HWC, memory)


@pytest.mark.parametrize(("height", "width", "whole"), [(481, 640, 3.75), (479, 640, 3.0)])
def test_rgb_that_is_not_shrunk_is_written_once(height: int, width: int, whole: float) -> None:
    assert layout.bytes_of(height, width, Layout.RGB) == pytest.approx(whole * height * width, rel=0.002)


def test_subsampled_planes_have_even_sides() -> None:
    assert layout.fits_layout(4, 6, Layout.YUV420)
    assert not layout.fits_layout(5, 6, Layout.YUV420)
    assert not layout.fits_layout(4, 7, Layout.YUV420)
    assert layout.fits_layout(5, 7, Layout.YUV444)
    assert layout.fits_layout(5, 7, Layout.RGB)


def test_of_a_frame_something_is_left_when_it_is_shrunk() -> None:
    """Decoders refuse sides this long; a process that lies may still claim them."""
    assert detection_divisor(1, 30_000_000) > 1
    assert not layout.fits_layout(1, 30_000_000, Layout.RGB)
    assert layout.fits_layout(60, 60_000, Layout.RGB)


@pytest.mark.parametrize(
    ("given", "kind"), [(Layout.RGB, Layout.YUV444), (Layout.YUV420, Layout.YUV444), (Layout.YUV444, Layout.RGB)]
)
def test_a_frame_of_another_layout_is_not_written(given: Layout, kind: Layout) -> None:
    with pytest.raises(ValueError, match="not"):
        layout.write(np.zeros(1 << 16, np.uint8), frame(4, 6, given), kind)
