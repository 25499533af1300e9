"""Which tracks decide a report's score, and their order."""

from __future__ import annotations

from tests.worker.pages.reports import report, track
from tests.worker.verdict.test_decide import clip, coverage, judged
from worker.deciding import is_pooled, ranked
from worker.report import Report


def short(number: int, worst: float, votes: int = 1) -> dict[str, object]:
    one = track(number, None, votes=votes)
    faces = tuple(one.evidence[0].model_copy(update={"score": score}) for score in (worst, 0.0))
    return one.model_copy(update={"evidence": faces}).model_dump()


def of(score: float | None) -> Report:
    unseen = track(9, None, votes=0, evidence=())
    return report(score=score, tracks=(track(0, 0.1), track(1, 0.4), short(2, 0.6), short(3, 0.9), short(4, 0.5, 2), unseen))


def test_a_score_above_every_tracks_own_is_that_of_the_short_ones_together() -> None:
    assert is_pooled(of(0.7))
    assert not is_pooled(of(0.4))
    assert not is_pooled(of(None))
    assert is_pooled(report(score=0.7, tracks=(short(2, 0.6),)))


def test_judged_tracks_come_by_score_and_then_those_with_most_faces() -> None:
    assert [one.id for one in ranked(of(0.4))] == [1, 0, 4, 2, 3, 9]


def test_short_tracks_that_decide_come_first_the_worst_face_before_the_others() -> None:
    assert [one.id for one in ranked(of(0.7))] == [3, 2, 4, 1, 0, 9]


def test_a_track_that_is_held_back_has_less_than_the_one_that_decides() -> None:
    """With the same it would come first, by its number, and be taken for that."""
    found = judged([*clip(3.0, track=7), *clip(6.0, track=2, quality=0.05)], coverage())
    assert found.score == found.track_scores[7] > found.track_scores[2]
    shown = report(score=found.score, tracks=tuple(track(number, p) for number, p in found.track_scores.items()))
    assert [one.id for one in ranked(shown)] == [7, 2]
