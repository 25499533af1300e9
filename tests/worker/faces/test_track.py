"""Two people are two painted faces in front of a painted background; shots are backgrounds."""

from __future__ import annotations

import random
import tracemalloc
from dataclasses import replace
from functools import cache

import cv2
import numpy as np
import pytest

from worker.faces.crop import crop_faces
from worker.faces.track import FaceSighting, FrameSighting, Linker, describe_face, describe_frame, is_cut, link
from worker.types import UInt8

Place = tuple[str, float, float]
"""Who, and the centre of the face in pixels."""

PEOPLE = {"ann": ((230, 190, 170), (40, 30, 20)), "bob": ((120, 80, 60), (200, 40, 40)), "cid": ((200, 170, 150), (60, 90, 200))}
"""Colours of skin and of what surrounds it."""
SIDE = 60
ROOM, STREET = (90, 110, 130), (190, 200, 120)


@cache
def background(colour: tuple[int, int, int]) -> UInt8:
    shade = np.linspace(0.6, 1.3, 640)[None, :, None] * np.linspace(1.1, 0.8, 360)[:, None, None]
    return np.clip(shade * np.array(colour), 0, 255).astype(np.uint8)


def look(
    pts_s: float, *people: Place, colour: tuple[int, int, int] = ROOM, light: float = 1.0, side: int = SIDE
) -> FrameSighting:
    """A looked-at frame with these people, painted in order."""
    picture = background(colour).copy()
    boxes = []
    for who, x, y in people:
        skin, hair = PEOPLE[who]
        left, top = int(x - side / 2), int(y - side / 2)
        picture[max(0, top - side // 3) : top + 2 * side, max(0, left - side // 4) : left + side + side // 4] = hair
        picture[top : top + side, left : left + side] = skin
        boxes.append((left, top, left + side, top + side))
    picture = np.clip(picture * light, 0, 255).astype(np.uint8)
    boxes_N4 = np.array(boxes, np.float32).reshape(-1, 4)
    crops = crop_faces(picture, boxes_N4)
    return describe_frame(pts_s, picture, [describe_face(b, c) for b, c in zip(boxes_N4, crops, strict=True)])


@pytest.mark.parametrize(
    ("rgb", "lab"),
    [
        ((255, 255, 255), (100, 0, 0)),
        ((0, 0, 0), (0, 0, 0)),
        ((255, 0, 0), (53.24, 80.09, 67.20)),
        ((0, 0, 255), (32.30, 79.19, -107.86)),
        ((119, 119, 119), (50.03, 0, 0)),
        ((5, 5, 5), (1.37, 0, 0)),
    ],
)
def test_colours_are_those_of_cie_lab(rgb: tuple[int, int, int], lab: tuple[float, float, float]) -> None:
    """Published values of sRGB's primaries under D65."""
    seen = describe_frame(0.0, np.full((16, 24, 3), rgb, np.uint8), ())
    np.testing.assert_allclose(100 * seen.signature_G3, np.tile(lab, (64, 1)), atol=0.05)


@pytest.mark.parametrize(
    ("height", "width"), [(360, 640), (540, 960), (241, 427), (64, 71), (63, 71), (15, 15), (5, 300), (1, 1)]
)
def test_mean_colours_are_those_of_whole_cells(height: int, width: int) -> None:
    """Rows and columns that make up no whole cell are left out, so that these pictures look alike; of small ones nothing is."""
    rgb = cv2.GaussianBlur(np.random.default_rng(height).integers(0, 256, (height, width, 3), np.uint8), (9, 9), 0)
    rows, columns = (side // 8 * 8 if min(height, width) >= 64 else side for side in (height, width))
    small = cv2.resize(rgb[:rows, :columns], (8, 8), interpolation=cv2.INTER_AREA)
    expected = describe_frame(0.0, small, ()).signature_G3
    np.testing.assert_array_equal(describe_frame(0.0, rgb, ()).signature_G3, expected)


def test_a_face_that_moves_a_little_is_one_track() -> None:
    frames = [look(t, ("ann", 200 + 5 * t, 150 - 3 * t), light=1 - 0.01 * t) for t in range(10)]
    assert link(frames) == [(0,)] * 10


def test_two_people_who_cross_keep_their_tracks() -> None:
    """Sampled seconds apart, each stands where the other stood before."""
    frames = [
        look(0, ("ann", 150, 150), ("bob", 350, 150)),
        look(4, ("ann", 240, 150), ("bob", 330, 150)),
        look(8, ("bob", 235, 150), ("ann", 335, 150)),
        look(12, ("bob", 150, 150), ("ann", 350, 150)),
    ]
    assert link(frames) == [(0, 1), (0, 1), (1, 0), (1, 0)]


def test_the_order_of_faces_in_a_frame_does_not_matter() -> None:
    people: list[Place] = [("ann", 120, 150), ("bob", 300, 160), ("cid", 480, 140)]
    shuffle = random.Random(4)
    frames = [look(0, *people)]
    expected: list[tuple[int, ...]] = [(0, 1, 2)]
    for t in range(1, 8):
        order = shuffle.sample(range(3), 3)
        frames.append(look(t, *(people[i] for i in order)))
        expected.append(tuple(order))
    assert link(frames) == expected


def test_a_cut_ends_tracks() -> None:
    room, street = look(0, ("ann", 200, 150)), look(1, ("ann", 200, 150), colour=STREET)
    assert is_cut(room, street)
    assert link([room, street, look(2, ("ann", 205, 150), colour=STREET)]) == [(0,), (1,), (1,)]
    assert link([room, street, look(2, ("ann", 200, 150))]) == [(0,), (1,), (2,)]


def test_a_cut_is_seen_on_frames_without_a_face() -> None:
    assert link([look(0, ("ann", 200, 150)), look(1, colour=STREET), look(2, ("ann", 200, 150))]) == [(0,), (), (1,)]


def test_light_and_movement_are_no_cut() -> None:
    before = look(0, ("ann", 200, 150))
    assert not is_cut(before, look(1, ("ann", 330, 200)))
    assert not is_cut(before, look(1, ("ann", 200, 150), light=0.9))
    assert not is_cut(before, look(1, ("ann", 200, 150), ("bob", 400, 150)))


def test_a_face_that_returns_after_a_gap_joins_its_track() -> None:
    frames = [
        look(0, ("ann", 200, 150), ("bob", 400, 150)),
        look(5, ("bob", 402, 150)),
        look(10),
        look(30, ("bob", 398, 152), ("ann", 215, 155)),
    ]
    assert link(frames) == [(0, 1), (1,), (), (1, 0)]


def test_another_face_in_the_same_place_is_another_track() -> None:
    assert link([look(0, ("ann", 200, 150)), look(5, ("bob", 200, 150))]) == [(0,), (1,)]


def sighted(pts_s: float, *faces: tuple[float, float]) -> FrameSighting:
    """Faces of 100 pixels in a row by where each begins and the one number that is all its colours."""
    sightings = [
        FaceSighting(box_xyxy=(x, 200, x + 100, 300), appearance_A=np.full(48, colour, np.float32)) for x, colour in faces
    ]
    return FrameSighting(pts_s=pts_s, signature_G3=np.zeros((64, 3), np.float32), faces=tuple(sightings))


def test_of_two_whom_a_face_may_be_place_and_looks_are_weighed_together() -> None:
    """A step from full overlap to none weighs as much as 0.04 of colour; three sides of way as much as another step."""
    assert link([sighted(0, (300, 0.0), (350, 0.05)), sighted(4, (300, 0.05), (350, 0.0))]) == [(0, 1), (1, 0)]
    assert link([sighted(0, (300, 0.0), (350, 0.02)), sighted(4, (300, 0.02), (350, 0.0))]) == [(0, 1), (0, 1)]
    assert link([sighted(0, (410, 0.05), (60, 0.0)), sighted(4, (300, 0.0))]) == [(0, 1), (1,)]
    assert link([sighted(0, (410, 0.01), (60, 0.0)), sighted(4, (300, 0.0))]) == [(0, 1), (0,)]


def test_a_look_alike_far_away_or_of_another_size_is_another_track() -> None:
    near = look(0, ("ann", 100, 150))
    assert link([near, look(5, ("ann", 500, 150))]) == [(0,), (1,)]
    assert link([near, look(5, ("ann", 190, 150))]) == [(0,), (0,)]
    assert link([near, look(5, ("ann", 230, 150), side=140)]) == [(0,), (1,)]


def test_two_look_alikes_are_one_to_one() -> None:
    frames = [look(t, ("ann", 200 + t, 150), ("ann", 330 + t, 150)) for t in range(4)]
    assert link(frames) == [(0, 1)] * 4


def test_frames_of_a_second_pass_are_linked_in_time_order() -> None:
    """Too far a way for one step, not with the steps between."""
    first = [look(0, ("ann", 100, 150)), look(10, ("ann", 420, 150))]
    second = [look(4, ("ann", 210, 150)), look(7, ("ann", 320, 150))]
    assert link(first) == [(0,), (1,)]
    assert link(sorted(first + second, key=lambda frame: frame.pts_s)) == [(0,)] * 4


def strangers(pts_s: float, seed: int, count: int = 64) -> FrameSighting:
    """A frame of a crowd of which nobody is seen twice."""
    rng = np.random.default_rng(seed)
    corners = rng.uniform(0, 2000, (count, 2))
    faces = [
        FaceSighting(box_xyxy=(x, y, x + 50, y + 50), appearance_A=rng.random(48).astype(np.float32)) for x, y in corners.tolist()
    ]
    return FrameSighting(pts_s=pts_s, signature_G3=np.zeros((64, 3), np.float32), faces=tuple(faces))


def test_a_crowd_costs_bounded_memory() -> None:
    """With all 20,480 tracks remembered, the last frames alone would take more than 50 MiB."""
    frames = [strangers(float(t), seed=t) for t in range(320)]
    tracemalloc.start()
    tracks = link(frames)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len({number for frame in tracks for number in frame}) > 20_000
    assert peak_bytes < 16 * 2**20


@pytest.mark.parametrize(("between", "joins"), [(1, True), (3, True), (5, False)])
def test_the_tracks_seen_last_are_remembered(between: int, joins: bool) -> None:
    one = strangers(0.0, seed=1, count=1)
    frames = [one, *(strangers(1.0 + t, seed=10 + t) for t in range(between)), replace(one, pts_s=100.0)]
    first, *_, last = link(frames)
    assert (last == first) == joins


def test_a_step_back_in_time_ends_tracks_of_a_linker() -> None:
    linker = Linker()
    assert [linker.add(look(t, ("ann", 200, 150))) for t in (0, 5, 2, 3)] == [(0,), (0,), (1,), (1,)]


def test_a_linker_made_from_the_state_of_another_goes_on_as_that_would() -> None:
    frames = [look(t, ("ann", 200 + 9 * t, 150), ("bob", 450, 150)) for t in range(4)]
    frames += [look(4 + t, ("cid", 300, 150), colour=STREET) for t in range(3)]
    whole = Linker()
    for place, frame in enumerate(frames):
        assert [Linker(whole.state()).add(frame)] == link(frames)[place : place + 1]
        whole.add(frame)
    few = Linker(most_tracks=1)
    few.add(frames[0])
    assert len(few.state().tracks) == 1


def test_times_that_fall_are_refused() -> None:
    with pytest.raises(ValueError, match="rising"):
        link([look(1), look(0)])


def test_nothing_seen() -> None:
    assert link([]) == []
    assert link([look(0), look(1)]) == [(), ()]


def test_what_is_remembered_is_small_whatever_the_frame() -> None:
    for size in [(1, 1), (7, 300), (1080, 1920)]:
        rgb = np.zeros((*size, 3), np.uint8)
        frame = describe_frame(0.0, rgb, [describe_face(np.array([0, 0, 9, 9], np.float32), rgb)])
        assert frame.signature_G3.nbytes <= 1024
        assert frame.faces[0].appearance_A.nbytes <= 256
        assert frame.faces[0].appearance_A.base is None or frame.faces[0].appearance_A.base.nbytes <= 256
