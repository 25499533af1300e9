"""Tracks of poor faces, or whose votes contradict each other: what they cannot say they do not unsay either."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.worker.verdict.test_decide import CALIBRATION, clip, coverage, face, judged
from worker.types import Face, Label, Reason


def votes(logits: list[float], quality: float = 0.9) -> list[Face]:
    return [face(0.5 * k, logit, 9, quality) for k, logit in enumerate(logits)]


def swinging(mean: float, swing: float, n: int = 8) -> list[float]:
    return [mean + swing * (-1) ** k for k in range(n)]


POOR = st.builds(votes, st.lists(st.floats(-8, 20), min_size=3, max_size=8), st.floats(0, 0.149))
CONTRADICTORY = st.builds(votes, st.builds(swinging, st.floats(-8, 20), st.floats(4.1, 10), st.integers(3, 8)), st.floats(0, 1))
OTHERS = st.lists(st.tuples(st.floats(-4, 6), st.floats(0.1, 1), st.floats(0, 5)), min_size=1, max_size=4)


@given(others=OTHERS, held_back=POOR | CONTRADICTORY)
def test_a_track_that_is_held_back_makes_nothing_fake_and_takes_nothings_fake_away(
    others: list[tuple[float, float, float]], held_back: list[Face]
) -> None:
    """As one in its place that clearly looks real; it does not make anything real, either."""
    faces = [
        face(0.5 * k, logit, track, quality)
        for track, (mean, quality, swing) in enumerate(others)
        for k, logit in enumerate(swinging(mean, swing))
    ]
    looks_real = [replace(one, logit=-9.0, quality=0.9) for one in held_back]
    found, plain = (judged([*faces, *more], coverage()) for more in (held_back, looks_real))
    assert (found.label is Label.FAKE) == (plain.label is Label.FAKE)
    assert plain.label is Label.REAL or found.label is not Label.REAL


@pytest.mark.parametrize("higher", [votes([5.0] * 3, quality=0.12), votes(swinging(3.9, 5.0)), votes(swinging(5.0, 5.0))])
def test_a_clear_fake_decides_below_a_higher_track_that_is_held_back(higher: list[Face]) -> None:
    found = judged([*clip(4.0), *higher], coverage())
    assert (found.label, found.reasons) == (Label.FAKE, ())
    assert found.score == pytest.approx(CALIBRATION.apply(4.0, 2)) == max(found.track_scores.values())
    assert found.frame_std == 0.0, "the sharp track's"


@pytest.mark.parametrize(
    ("higher", "reason"),
    [(votes([2.0] * 3, quality=0.12), Reason.LOW_QUALITY), (votes(swinging(2.0, 5.0)), Reason.HIGH_UNCERTAINTY)],
)
def test_what_is_no_fake_without_it_is_uncertain_below_a_higher_track_that_is_held_back(
    higher: list[Face], reason: Reason
) -> None:
    for logit in (-4.0, 0.5):
        found = judged([*clip(logit), *higher], coverage())
        assert (found.label, found.reasons) == (Label.UNCERTAIN, (reason,))
        assert found.score == pytest.approx(CALIBRATION.apply(2.0, 2))


def test_scores_below_the_deciding_one_are_probabilities_however_sure_it_is() -> None:
    found = judged([*clip(-90.0, track=0), *clip(-95.0, track=1)], coverage())
    assert found.track_scores == {0: 0.0, 1: 0.0}


@pytest.mark.parametrize("other", [0, 10])
def test_of_equals_one_that_is_held_back_decides_whatever_its_number(other: int) -> None:
    found = judged([*clip(-4.0, track=other), *votes(swinging(-4.0, 5.0))], coverage())
    assert (found.label, found.reasons) == (Label.UNCERTAIN, (Reason.HIGH_UNCERTAINTY,))
    assert found.track_scores[9] == found.score > found.track_scores[other]
