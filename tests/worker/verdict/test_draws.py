from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from worker.types import Coverage, Face, MediaKind, Strategy, Verdict
from worker.verdict.calibrate import Calibration, probability
from worker.verdict.decide import Policy, decide
from worker.verdict.draws import by_draw, doubt, interval_width, paired_test, two_sided


def test_the_interval_is_that_of_the_middle_95_percent() -> None:
    p = np.linspace(0.2, 0.6, 101)
    draws = np.log(p / (1 - p))
    assert interval_width(draws[None]) == pytest.approx([0.95 * 0.4])
    assert interval_width(-draws[None]) == pytest.approx([0.95 * 0.4])
    assert interval_width(np.full((2, 9), 3.0)) == pytest.approx([0, 0])


def test_the_test_is_the_paired_one_on_probabilities() -> None:
    draws = np.random.default_rng(0).normal([[0.1], [2.0]], 1.0, (2, 30))
    p = 1 / (1 + np.exp(-draws))
    assert paired_test(draws) == pytest.approx(stats.ttest_rel(p, 1 - p, axis=1).pvalue)
    assert paired_test(draws)[1] < 0.001 < paired_test(draws)[0]
    assert paired_test(np.array([[5.0] * 4, [0.0] * 4])).tolist() == [0, 1]
    with pytest.raises(ValueError, match="two draws"):
        paired_test(np.zeros((3, 1)))


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 9, 10, 49])
def test_students_tails_are_those_of_scipy(freedom: int) -> None:
    for t in (0.0, 0.3, -1.0, 2.5, 40.0):
        assert two_sided(t, freedom) == pytest.approx(2 * stats.t.sf(abs(t), freedom), abs=1e-13)


CALIBRATION = Calibration(
    kind=MediaKind.VIDEO, rule="mean_logit", strategies=frozenset({Strategy.AUTO}), frames=(1, 64), a=0.5, b=1.0, c_tracks=0.6
)
COVERAGE = Coverage(kind=MediaKind.VIDEO, strategy=Strategy.AUTO, requested=8, decoded=8, with_face=8, max_gap_s=1.0)


def track(draws_KN: np.ndarray, number: int = 0) -> list[Face]:
    """Faces of K moments; a face's logit is the mean of its draws."""
    return [
        Face(
            pts_s=float(k),
            box_xyxy=(0, 0, 90, 90),
            det_prob=0.99,
            track=number,
            quality=0.9,
            logit=float(draws_N.mean()),
            draws_N=draws_N.astype(np.float32),
        )
        for k, draws_N in enumerate(draws_KN)
    ]


def judged(faces: list[Face]) -> Verdict:
    found = decide(faces, COVERAGE, Policy(calibrations=(CALIBRATION,)))
    assert isinstance(found, Verdict)
    return found


def test_a_videos_draws_are_scored_like_the_video_one_by_one() -> None:
    draws_KN = np.random.default_rng(0).normal([[0.0], [1.0], [2.0], [3.0]], 1.0, (4, 20))
    decisive, other = track(draws_KN), track(draws_KN - 3, number=1)
    verdict = judged(other + decisive)
    p_N = [probability(0.5 * mean + 1.0 - 0.6 * np.log(2)) for mean in draws_KN.astype(np.float32).mean(0).tolist()]
    low, high = np.percentile(p_N, [2.5, 97.5])
    assert verdict.doubt is not None
    assert verdict.doubt.n_samples == 20
    assert verdict.doubt.piw == pytest.approx(high - low, abs=1e-6)
    assert verdict.doubt.ttest_p == pytest.approx(stats.ttest_1samp(2 * np.array(p_N) - 1, 0).pvalue, rel=1e-3)
    assert low < verdict.score < high


def test_draws_change_no_verdict_and_draws_that_agree_leave_no_doubt() -> None:
    faces = track(np.full((4, 5), 1.5))
    verdict = judged(faces)
    plain = judged([replace(face, draws_N=None) for face in faces])
    assert plain.doubt is None
    assert replace(verdict, doubt=None) == plain
    assert verdict.doubt is not None
    assert (verdict.doubt.piw, verdict.doubt.ttest_p) == (0.0, 0.0)


def test_there_is_no_doubt_without_the_draws_of_every_vote() -> None:
    faces = track(np.ones((3, 4)))
    assert list(by_draw([*faces, replace(faces[0], pts_s=9.0, draws_N=None)])) == []
    assert doubt([]) is None
    one = doubt([0.3])
    assert one is not None
    assert (one.piw, one.ttest_p, one.n_samples) == (0.0, None, 1)
