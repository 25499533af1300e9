"""The bound over what remains: it holds in simulation, and it never settles what may change."""

from __future__ import annotations

import sys
from dataclasses import replace
from types import FrameType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.types import Coverage, Face, Label, MediaKind, Strategy, Verdict
from worker.verdict.calibrate import Calibration
from worker.verdict.decide import Policy, decide
from worker.verdict.early import RISK, TURNS, Outlook, is_settled, reach, student_quantile, turn

PLAIN = Calibration(kind=MediaKind.VIDEO, rule="mean_logit", strategies=frozenset(Strategy), frames=(1, 512), a=1.0, b=0.0)
POLICY = Policy(calibrations=(replace(PLAIN, c_tracks=0.9),))
SHIPPED = Policy(calibrations=(replace(PLAIN, a=0.505, b=-0.39, c_tracks=0.9, t_real=0.423, t_fake=0.672),))
"""With about the figures of version 2.1's calibration."""
FRAMES = 32
LENGTH_S = 10.0
CLIPS = 100


def coverage(max_gap_s: float = 1.0) -> Coverage:
    return Coverage(
        kind=MediaKind.VIDEO, strategy=Strategy.AUTO, requested=FRAMES, decoded=FRAMES, with_face=FRAMES, max_gap_s=max_gap_s
    )


def faces(logits: list[float], *, track: int = 0, quality: float = 0.8, start: int = 0, step: int = 1) -> list[Face]:
    """Votes at every ``step``-th of the clip's frames, from ``start`` on."""
    return [
        Face(
            pts_s=(start + i * step) * LENGTH_S / FRAMES,
            box_xyxy=(0, 0, 100, 100),
            det_prob=1.0,
            track=track,
            quality=quality,
            logit=logit,
        )
        for i, logit in enumerate(logits)
    ]


def label(found: list[Face], policy: Policy = POLICY) -> Label | None:
    verdict = decide(found, coverage(), policy)
    return verdict.label if isinstance(verdict, Verdict) else None


def scan(clip: list[list[Face]], policy: Policy = POLICY) -> tuple[Label | None, int]:
    """The verdict of a clip, given as the faces of each frame, as the pipeline would find it, and the frames it took."""
    seen: list[int] = []
    for now in range(TURNS):
        seen = sorted([*seen, *(place for place in range(len(clip)) if turn(place) == now)])
        found = [face for place in seen for face in clip[place]]
        hidden = int(np.diff([-1, *seen, len(clip)]).max()) - 1
        if is_settled(found, coverage(), policy, Outlook(share=len(seen) / len(clip), hidden=hidden)):
            break
    return label(found, policy), len(seen)


def test_the_first_two_turns_are_every_third_frame_and_each_turn_is_a_sixth() -> None:
    turns = [turn(place) for place in range(6 * 64)]
    assert {place for place, its in enumerate(turns) if its < 2} == set(range(0, 6 * 64, 3))
    assert [turns.count(now) for now in range(TURNS)] == [64] * TURNS
    assert all(sorted(turns[start : start + 6]) == [0, 1, 2, 3, 4, 5] for start in range(0, len(turns), 6))


@pytest.mark.parametrize("period", range(2, 25))
def test_the_first_turn_meets_each_moment_of_a_loop_about_as_often_as_the_first_two_do(period: int) -> None:
    """Frames at one spacing would show the same few moments of a loop again and again: of an even period only half of them."""
    shares = [
        np.bincount([place % period for place in range(516) if turn(place) < turns], minlength=period) / (86 * turns)
        for turns in (1, 2)
    ]
    assert 0.5 * np.abs(shares[0] - shares[1]).sum() < 0.15


@pytest.mark.parametrize("period", [2, 4, 6, 9, 12])
def test_a_loop_is_not_taken_for_certainty(period: int) -> None:
    """Fake at one moment of the loop, real at all others: 41 looks at that moment alone would say fake."""
    for moment in range(0, period, 3):
        clip = frames_of([5.0 if place % period == moment else -2.0 for place in range(246)])
        assert scan(clip)[0] == label([face for frame in clip for face in frame])


def frames_of(*tracks: list[float]) -> list[list[Face]]:
    return [list(frame) for frame in zip(*(faces(logits, track=n) for n, logits in enumerate(tracks)), strict=True)]


@pytest.mark.parametrize(
    ("p", "freedom", "expected"),
    [(0.95, 4, 2.132), (0.995, 4, 4.604), (0.995, 9, 3.250), (0.975, 30, 2.042), (0.995, 1000, 2.581)],
)
def test_students_quantile_equals_the_tables(p: float, freedom: float, expected: float) -> None:
    assert student_quantile(p, freedom) == pytest.approx(expected, rel=0.015)


@settings(max_examples=100)
@given(st.lists(st.floats(-8, 8), min_size=1, max_size=40), st.floats(0.05, 0.99), st.floats(-9, 9))
def test_reach_is_the_same_anywhere_shrinks_as_more_is_seen_and_ends_at_nothing(
    logits: list[float], share: float, offset: float
) -> None:
    here = reach(logits, share)
    assert here == pytest.approx(reach([x + offset for x in logits], share), rel=1e-6, abs=1e-9)
    assert 0.0 < here < reach(logits, share / 2)
    assert reach(logits, 1.0) == 0.0
    assert reach(logits * 4, share) < here


def test_the_mean_of_all_lies_within_reach_as_often_as_promised() -> None:
    """Votes with a drift and with memory, as one track's are, after one turn and after two: 2000 clips."""
    rng = np.random.default_rng(0)
    outside = {1: 0, 2: 0}
    seen_after = {turns: [place for place in range(FRAMES) if turn(place) < turns] for turns in outside}
    for _ in range(2000):
        noise = rng.normal(0, rng.choice([0.3, 1.0, 2.0]), FRAMES)
        x = np.convolve(noise, [0.5, 0.3, 0.2], "same") + rng.normal(0, 2) + np.linspace(0, rng.normal(0, 1), FRAMES)
        for turns in outside:
            seen = x[seen_after[turns]]
            outside[turns] += abs(seen.mean() - x.mean()) > reach(list(seen), len(seen) / FRAMES)
    assert max(outside.values()) <= 2000 * RISK


@pytest.mark.parametrize(("middle", "least_saved"), [(4.0, 0.5), (-4.0, 0.5), (0.9, 0.0), (0.0, 0.0)])
def test_at_most_one_verdict_in_a_hundred_differs_from_the_full_budgets(middle: float, least_saved: float) -> None:
    """Clips about each middle: sure ones save frames, and those next to a threshold take all."""
    rng = np.random.default_rng(1)
    differ, used = 0, 0
    for _ in range(CLIPS):
        x = rng.normal(middle, 0.7) + rng.normal(0, rng.choice([0.2, 0.5, 1.5]), FRAMES)
        clip = frames_of(x.tolist())
        early, frames = scan(clip)
        used += frames
        differ += early != label([face for frame in clip for face in frame])
    assert differ <= CLIPS / 100
    assert used <= CLIPS * FRAMES * (1.0 - least_saved)


def test_a_sure_fake_takes_one_frame_in_six_and_a_sure_real_clip_every_third() -> None:
    assert scan(frames_of([5.0] * FRAMES)) == (Label.FAKE, 6)
    assert scan(frames_of([-5.0] * FRAMES)) == (Label.REAL, 11)


def test_no_face_can_hide_from_a_real_clips_verdict() -> None:
    """Three frames in a row that show another, fake face, wherever they lie: the full budget calls it fake."""
    for start in range(FRAMES - 2):
        clip = frames_of([-5.0] * FRAMES)
        for place in range(start, start + 3):
            clip[place] = faces([6.0], track=1, start=place)
        assert label([face for frame in clip for face in frame]) is Label.FAKE
        assert scan(clip)[0] is Label.FAKE


def test_a_fake_settled_early_outlasts_the_listeners_that_were_not_seen_yet() -> None:
    """A fake speaker all along, and one to three real listeners of 3 to 5 frames each, who take c_tracks from the fake."""
    rng = np.random.default_rng(1)
    differ = settled = 0
    for _ in range(CLIPS):
        clip = frames_of((rng.uniform(2.5, 5.0) + rng.normal(0, 0.5, FRAMES)).tolist())
        for listener in range(1, rng.integers(2, 5)):
            length = rng.integers(3, 6)
            start = rng.integers(0, FRAMES - length)
            for place in range(start, start + length):
                clip[place] += faces([rng.normal(-1.0, 0.5)], track=listener, start=place)
        early, frames = scan(clip, SHIPPED)
        settled += frames < FRAMES
        differ += early != label([face for frame in clip for face in frame], SHIPPED)
    assert differ <= CLIPS / 100
    assert settled > CLIPS / 5


def test_what_may_hide_elsewhere_keeps_real_open_and_only_a_close_fake() -> None:
    real, fake = faces([-5.0] * 11, step=3), faces([5.0] * 11, step=3)
    close = faces([1.4] * 11, step=3)
    spread = Outlook(share=1 / 3, hidden=2)
    assert is_settled(real, coverage(), POLICY, spread)
    for outlook in (replace(spread, closer_look=True), replace(spread, hidden=3)):
        assert not is_settled(real, coverage(), POLICY, outlook)
        assert is_settled(fake, coverage(), POLICY, outlook)
    assert is_settled(close, coverage(), POLICY, replace(spread, closer_look=True))
    assert not is_settled(close, coverage(), POLICY, replace(spread, hidden=3)), "beside one more face it is fake no more"
    assert not is_settled(real, coverage(max_gap_s=11.0), POLICY, spread), "sparse coverage is never real"


def test_poor_or_contradicting_votes_settle_nothing() -> None:
    spread = Outlook(share=0.5, hidden=1)
    assert is_settled(faces([6.0] * 16, quality=0.21), coverage(), POLICY, spread)
    assert not is_settled(faces([6.0] * 16, quality=0.19), coverage(), POLICY, spread), "min_quality is 0.15"
    strict = replace(POLICY, min_quality=0.9)
    assert is_settled(faces([6.0] * 16, quality=1.0), coverage(), strict, spread), "no quality is better than full"
    swinging = [20.0 + 3.5 * (-1) ** i for i in range(16)]
    assert label(faces(swinging)) is Label.FAKE
    assert not is_settled(faces(swinging), coverage(), POLICY, spread), "a deviation of 3.6, where 4 is too much"


@pytest.mark.parametrize(
    "held_back", [faces([-1.8] * 11, track=1, quality=0.12, step=3), faces([0.0, -8.0] * 5, track=1, step=3)]
)
def test_a_track_that_is_held_back_may_come_to_be_the_highest_and_take_real_away(held_back: list[Face]) -> None:
    spread = Outlook(share=1 / 3, hidden=2)
    sharp = faces([-1.5] * 11, step=3)
    assert label([*sharp, *held_back]) is Label.REAL
    assert not is_settled([*sharp, *held_back], coverage(), POLICY, spread)
    low = [replace(face, logit=(face.logit or 0.0) - 4.0) for face in held_back]
    assert is_settled([*sharp, *low], coverage(), POLICY, spread)


@pytest.mark.parametrize("more", [[], faces([-5.8] * 11, track=1, quality=0.12, step=3)])
def test_nothing_is_decided_twice(more: list[Face]) -> None:
    asked: list[tuple[tuple[float | None, ...], Policy]] = []

    def watch(frame: FrameType, event: str, _: object) -> None:
        if event == "call" and frame.f_code is decide.__code__:
            asked.append((tuple(face.logit for face in frame.f_locals["faces"]), frame.f_locals["policy"]))

    sys.setprofile(watch)
    try:
        assert is_settled([*faces([-1.5] * 11, step=3), *more], coverage(), POLICY, Outlook(share=1 / 3, hidden=2))
    finally:
        sys.setprofile(None)
    assert all(asked.count(one) == 1 for one in asked)
    assert len(asked) > 6


def test_a_face_seen_once_may_come_to_decide() -> None:
    spread = Outlook(share=1 / 3, hidden=2)
    real = faces([-5.0] * 11, step=3)
    assert not is_settled([*real, *faces([1.0], track=1)], coverage(), POLICY, spread)
    assert is_settled([*real, *faces([-8.0], track=1)], coverage(), POLICY, spread), "it looks real itself"


def test_more_tracks_may_make_a_fake_less_sure() -> None:
    """Two faces seen once may become tracks of their own, and take c_tracks ln 3 from the fake one."""
    spread = Outlook(share=0.5, hidden=1)
    fake = faces([1.75] * 16, step=2)
    assert is_settled(fake, coverage(), POLICY, spread)
    others = [*faces([-3.0], track=1), *faces([-3.0], track=2, start=8)]
    assert not is_settled([*fake, *others], coverage(), POLICY, spread)


def test_only_the_mean_has_a_bound_and_a_picture_has_nothing_more() -> None:
    fake, spread = faces([6.0] * 11), Outlook(share=0.5, hidden=1)
    for rule in ("confident", "weighted", "consecutive"):
        assert not is_settled(fake, coverage(), replace(POLICY, rule=rule), spread)
    assert not is_settled(fake, replace(coverage(), kind=MediaKind.PICTURE), POLICY, spread)
    assert not is_settled([], coverage(), POLICY, spread), "no verdict, nothing to settle"


def test_a_window_alone_does_not_settle_a_long_video() -> None:
    """A splice makes it fake, but the mean does not: the second pass may show that it was chance."""
    logits = [-2.0] * 60
    logits[20:28] = [1.5] * 8
    long = [replace(face, pts_s=2.0 * i) for i, face in enumerate(faces(logits))]
    assert label(long) is Label.FAKE
    assert not is_settled(long, coverage(), POLICY, Outlook(share=0.5, hidden=1, closer_look=True))


@pytest.mark.parametrize(("logit", "settled"), [(1.9, False), (2.5, True)])
def test_the_number_of_windows_may_make_a_long_fake_less_sure(logit: float, settled: bool) -> None:
    policy = Policy(calibrations=(replace(PLAIN, c_windows=0.5),))
    long = [replace(face, pts_s=2.0 * i) for i, face in enumerate(faces([logit] * 60))]
    assert label(long, policy) is Label.FAKE
    assert is_settled(long, coverage(), policy, Outlook(share=0.5, hidden=1, closer_look=True)) is settled


@pytest.mark.parametrize(("logits", "quality"), [([-0.05] * 12, 0.17), ([1.7, -4.9] * 6, 0.9)], ids=["poor", "contradictory"])
def test_tracks_that_count_only_under_the_looser_limits_settle_nothing(logits: list[float], quality: float) -> None:
    """Moved up together they would leave real, which tracks that are held back could not do."""
    others = [face for t in range(1, 5) for face in faces(logits, track=t, quality=quality)]
    seen = [*faces([0.5] * 12, quality=0.9), *others]
    moved = [replace(face, logit=(face.logit or 0.0) + reach(logits if face.track else [0.5] * 12, 0.4)) for face in seen]
    assert (label(seen, SHIPPED), label(moved, SHIPPED)) == (Label.REAL, Label.UNCERTAIN)
    assert not is_settled(seen, coverage(), SHIPPED, Outlook(share=0.4, hidden=1))
