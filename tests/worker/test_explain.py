"""Occlusion maps: they point at what a classifier looks at (that backends agree: tests/worker/backends/test_contract.py)."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from tests.worker.pages.reports import report, track
from worker.evidence import encoded
from worker.explain import GRID, MOST_MAPS, WEAK_LOGIT, drawn, explained, hidden, occlusion_map
from worker.report import Evidence
from worker.types import Float32, UInt8

SIDE = 112
CELL = SIDE // GRID


def crop(row: int, column: int) -> UInt8:
    """Dark, with a bright spot in one part."""
    made = np.full((SIDE, SIDE, 3), 40, np.uint8)
    made[row * CELL : (row + 1) * CELL, column * CELL : (column + 1) * CELL] = 250
    return made


def brightest(crops_FHWC: UInt8) -> Float32:
    """A classifier that finds bright spots suspicious."""
    return np.asarray(crops_FHWC.max((1, 2, 3)) / 25.0 - 5.0, np.float32)


def darkest(crops_FHWC: UInt8) -> Float32:
    return -brightest(crops_FHWC)


@pytest.mark.parametrize(("row", "column"), [(0, 0), (3, 3), (1, 5), (6, 2)])
def test_a_map_points_at_what_the_classifier_looks_at(row: int, column: int) -> None:
    fall_GG = occlusion_map(crop(row, column), brightest)
    assert fall_GG.shape == (GRID, GRID)
    assert np.unravel_index(int(fall_GG.argmax()), fall_GG.shape) == (row, column)
    far_GG = np.hypot(*np.meshgrid(np.arange(GRID) - row, np.arange(GRID) - column, indexing="ij")) > 2
    assert fall_GG[row, column] > 3
    assert np.abs(fall_GG[far_GG]).max() < 0.1


def test_what_speaks_for_a_real_face_lies_below_zero_and_is_not_drawn() -> None:
    fall_GG = occlusion_map(crop(3, 3), darkest)
    assert fall_GG.min() < -3
    grey_HWC = drawn(crop(3, 3), fall_GG)
    assert np.ptp(grey_HWC.astype(int), axis=2).max() == 0


def test_hiding_changes_one_part_softly_and_leaves_the_rest() -> None:
    picture = np.random.default_rng(5).integers(0, 256, (SIDE, SIDE, 3)).astype(np.uint8)
    parts_PHWC = hidden(picture)
    assert parts_PHWC.shape == (GRID * GRID, SIDE, SIDE, 3)
    middle = parts_PHWC[GRID * 3 + 3].astype(int)
    changed_HW = np.abs(middle - picture).max(2) > 0
    assert changed_HW[3 * CELL : 4 * CELL, 3 * CELL : 4 * CELL].mean() > 0.95
    assert not changed_HW[: CELL * 2].any()
    assert middle[3 * CELL : 4 * CELL, 3 * CELL : 4 * CELL].std() < 0.3 * picture.std()


def test_the_strongest_part_is_yellow_and_outlined_the_rest_grey() -> None:
    fall_GG = np.zeros((GRID, GRID), np.float32)
    fall_GG[3, 3] = 4.0
    picture = drawn(np.full((SIDE, SIDE, 3), 128, np.uint8), fall_GG).astype(int)
    red, green, blue = picture[SIDE // 2, SIDE // 2]
    assert min(red, green) > blue + 40
    assert np.ptp(picture[4, 4]) == 0
    row_C = picture[SIDE // 2].min(1)
    assert row_C.min() == 0  # the outline's black edge


def test_a_weak_influence_is_drawn_pale() -> None:
    fall_GG = np.zeros((GRID, GRID), np.float32)
    fall_GG[3, 3] = WEAK_LOGIT / 5
    weak = drawn(np.full((SIDE, SIDE, 3), 128, np.uint8), fall_GG)[SIDE // 2, SIDE // 2]
    strong = drawn(np.full((SIDE, SIDE, 3), 128, np.uint8), fall_GG * 50)[SIDE // 2, SIDE // 2]
    assert np.ptp(weak.astype(int)) < np.ptp(strong.astype(int)) / 2


def test_the_most_suspicious_tracks_get_a_map_of_their_first_crop() -> None:
    tracks = tuple(track(i, i / 10) for i in range(MOST_MAPS + 2))
    bare = [one.model_copy(update={"evidence": (one.evidence[0].model_copy(update={"explanation": None}),)}) for one in tracks]
    pictures = {str(one.evidence[0].crop): encoded(crop(2, 4), 92) for one in bare}
    asked: list[int] = []

    def score(crops_FHWC: UInt8) -> Float32:
        asked.append(len(crops_FHWC))
        return brightest(crops_FHWC)

    made, found = explained(report(tracks=tuple(bare)), pictures, score)
    assert asked == [GRID * GRID + 1] * MOST_MAPS
    assert [one.evidence[0].explanation is not None for one in made.tracks] == [False, False, True, True, True, True]
    assert found.keys() - pictures.keys() == {f"track{i:03d}_000002000ms_map.jpg" for i in range(2, MOST_MAPS + 2)}
    drawn_HWC = cv2.imdecode(np.frombuffer(found["track003_000002000ms_map.jpg"], np.uint8), cv2.IMREAD_COLOR)
    assert drawn_HWC is not None
    assert drawn_HWC.shape == (SIDE, SIDE, 3)


def test_short_tracks_that_decide_together_get_their_maps_first() -> None:
    judged = [track(i, 0.1, evidence=(_evidence(i, 0.99),)) for i in range(MOST_MAPS)]
    short = [track(i, None, votes=1, evidence=(_evidence(i, i / 10),)) for i in range(MOST_MAPS, MOST_MAPS + 2)]
    pictures = {str(one.evidence[0].crop): encoded(crop(2, 4), 92) for one in (*judged, *short)}
    made, _ = explained(report(score=0.7, tracks=(*judged, *short)), pictures, brightest)
    assert [one.id for one in made.tracks if one.evidence[0].explanation is not None] == [0, 1, MOST_MAPS, MOST_MAPS + 1]


def _evidence(number: int, score: float) -> Evidence:
    return track(number).evidence[0].model_copy(update={"explanation": None, "score": score})


def test_without_crops_nothing_is_asked() -> None:
    def never(crops_FHWC: UInt8) -> Float32:
        raise AssertionError

    assert explained(report(), {}, never) == (report(), {})
