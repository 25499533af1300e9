from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.faces.crop import crop_faces, crop_squares
from worker.pixels import RgbPixels, YuvPixels
from worker.types import Float32, UInt8

HEIGHT, WIDTH = 90, 160


def box(*xyxy: float) -> Float32:
    return np.array([xyxy], np.float32)


@pytest.fixture
def frame_HWC() -> UInt8:
    return np.random.default_rng(1).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)


def test_square_has_the_margin_and_the_centre_of_the_box() -> None:
    square = crop_squares(box(60, 30, 80, 60), height=HEIGHT, width=WIDTH, margin=1.5)
    np.testing.assert_allclose(square, [[70 - 22.5, 45 - 22.5, 70 + 22.5, 45 + 22.5]])


@pytest.mark.parametrize(
    ("face", "square"),
    [
        ((-10, 30, 10, 50), (0, 30, 20, 50)),
        ((150, 30, 170, 50), (140, 30, 160, 50)),
        ((60, -10, 80, 10), (60, 0, 80, 20)),
        ((60, 80, 80, 100), (60, 70, 80, 90)),
        ((-300, -300, -280, -280), (0, 0, 20, 20)),
        ((500, 500, 520, 520), (140, 70, 160, 90)),
    ],
)
def test_square_beyond_a_border_is_shifted_inside(face: tuple[float, ...], square: tuple[float, ...]) -> None:
    np.testing.assert_allclose(crop_squares(box(*face), height=HEIGHT, width=WIDTH, margin=1.0), [square])


def test_square_larger_than_the_frame_is_shrunk_to_its_shorter_side() -> None:
    np.testing.assert_allclose(crop_squares(box(0, -200, 400, 200), height=HEIGHT, width=WIDTH), [[WIDTH - 90, 0, WIDTH, 90]])


def test_crop_of_the_networks_size_is_the_frames_own_pixels() -> None:
    frame = np.random.default_rng(2).integers(0, 256, (300, 400, 3), np.uint8)
    crop = crop_faces(frame, box(100, 50, 324, 274), margin=1.0, size=224)
    np.testing.assert_array_equal(crop[0], frame[50:274, 100:324])


def test_shrinking_averages_areas() -> None:
    stripes = np.zeros((300, 300, 3), np.uint8)
    stripes[::4] = 200  # a linear interpolation would look at the two rows in the middle of four
    assert np.unique(crop_faces(stripes, box(48, 48, 248, 248), margin=1.0, size=50)).tolist() == [50]


def test_enlarging_interpolates(frame_HWC: UInt8) -> None:
    crop = crop_faces(frame_HWC, box(40, 40, 50, 50), margin=1.0, size=100)
    expected = cv2.resize(frame_HWC[40:50, 40:50], (100, 100), interpolation=cv2.INTER_LINEAR)
    np.testing.assert_array_equal(crop[0], expected)


def test_views_and_copies_give_the_same_crop(frame_HWC: UInt8) -> None:
    boxes = np.array([[10, 5, 60, 70], [120, 40, 170, 95]], np.float32)
    for view in (frame_HWC[:, ::-1], frame_HWC[::-1], frame_HWC[..., ::-1]):
        np.testing.assert_array_equal(crop_faces(view, boxes), crop_faces(np.ascontiguousarray(view), boxes))


@pytest.mark.parametrize("side", [40, 56])
def test_mirrored_frame_gives_the_mirrored_crop(frame_HWC: UInt8, side: int) -> None:
    crop = crop_faces(frame_HWC, box(30, 20, 30 + side, 20 + side), margin=1.0, size=28)
    mirrored = crop_faces(frame_HWC[:, ::-1], box(WIDTH - 30 - side, 20, WIDTH - 30, 20 + side), margin=1.0, size=28)
    assert np.abs(mirrored[0, :, ::-1].astype(int) - crop[0]).max() <= 1


def test_crop_of_a_turned_face_is_turned_upright(frame_HWC: UInt8) -> None:
    boxes = np.array([[10, 5, 60, 70]] * 4, np.float32)
    for crop, turn in zip(crop_faces(frame_HWC, boxes, turn_N=np.arange(4)), range(4), strict=True):
        np.testing.assert_array_equal(crop, np.rot90(crop_faces(frame_HWC, boxes[:1])[0], turn))


def test_each_crop_is_independent_of_the_others(frame_HWC: UInt8) -> None:
    boxes = np.array([[10, 5, 60, 70], [120, 40, 170, 95], [0, 0, 3, 3]], np.float32)
    together = crop_faces(frame_HWC, boxes)
    for i, crop in enumerate(together):
        np.testing.assert_array_equal(crop_faces(frame_HWC, boxes[i : i + 1])[0], crop)


def test_no_boxes(frame_HWC: UInt8) -> None:
    assert crop_faces(frame_HWC, np.empty((0, 4), np.float32)).shape == (0, 224, 224, 3)


coordinate = st.floats(-500, 500, width=32)


@settings(max_examples=80)
@given(
    height=st.integers(1, 120),
    width=st.integers(1, 120),
    corners=st.lists(st.tuples(coordinate, coordinate, coordinate, coordinate), min_size=1, max_size=3),
    margin=st.floats(0.5, 3),
    size=st.integers(1, 64),
)
def test_shows_no_pixel_from_outside(height: int, width: int, corners: list[tuple[float, ...]], margin: float, size: int) -> None:
    """The frame is a window on a canvas of 0 and 255 around values 100 to 150, which is all that a crop may show."""
    canvas = np.random.default_rng(0).choice(np.array([0, 255], np.uint8), (height + 40, width + 40, 3))
    frame = canvas[20 : 20 + height, 20 : 20 + width]
    frame[...] = np.random.default_rng(1).integers(100, 151, frame.shape, np.uint8)
    boxes = np.array(corners, np.float32)
    crops = crop_faces(frame, boxes, margin=margin, size=size)
    assert crops.shape == (len(boxes), size, size, 3)
    assert crops.dtype == np.uint8
    assert crops.min() >= 100
    assert crops.max() <= 150
    squares = crop_squares(boxes, height=height, width=width, margin=margin)
    assert (squares >= 0).all()
    assert (squares[:, 2:] <= np.array([width, height]) + 1e-3).all()
    np.testing.assert_allclose(squares[:, 2] - squares[:, 0], squares[:, 3] - squares[:, 1], atol=1e-3)


def test_crops_of_planes_are_those_of_the_same_picture_in_rgb() -> None:
    y_HW, u_HW, v_HW = np.random.default_rng(3).integers(0, 256, (3, HEIGHT, WIDTH), np.uint8)
    pixels = YuvPixels(y_HW=y_HW, u_HW=u_HW, v_HW=v_HW, matrix=1, full_range=True)
    boxes = np.array([[10, 5, 60, 70], [120, 40, 170, 95], [0, 0, 3, 3]], np.float32)
    rgb_HWC = pixels.region(0, 0, HEIGHT, WIDTH)
    for picture in (pixels, RgbPixels(rgb_HWC=rgb_HWC)):
        np.testing.assert_array_equal(crop_faces(picture, boxes, size=40), crop_faces(rgb_HWC, boxes, size=40))
