"""What no verdict may ever break, by property; then each reason by example."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.types import Coverage, Face, Label, MediaKind, NoVerdict, Reason, Strategy, Verdict
from worker.verdict.aggregate import Windows, track_evidence
from worker.verdict.calibrate import Calibration, probability
from worker.verdict.decide import POOLED_TRACK, Policy, decide

CALIBRATION = Calibration(
    kind=MediaKind.VIDEO,
    rule="mean_logit",
    strategies=frozenset({Strategy.AUTO}),
    frames=(1, 640),
    a=0.9,
    b=0.2,
    c_tracks=0.6,
    c_windows=0.1,
)
POLICY = Policy(calibrations=(CALIBRATION, replace(CALIBRATION, kind=MediaKind.PICTURE)))


def face(time_s: float, logit: float | None, track: int = 0, quality: float = 0.9, too_small: bool = False) -> Face:
    return Face(
        pts_s=time_s, box_xyxy=(0, 0, 90, 90), det_prob=0.99, track=track, quality=quality, logit=logit, too_small=too_small
    )


def coverage(max_gap_s: float = 1.0, kind: MediaKind = MediaKind.VIDEO, requested: int = 32, end_s: float = 30.0) -> Coverage:
    return Coverage(
        kind=kind,
        strategy=Strategy.AUTO,
        requested=requested,
        decoded=requested,
        with_face=requested,
        max_gap_s=max_gap_s,
        apart_s=max_gap_s or 1.0,
        end_s=end_s,
    )


def clip(logit: float, n: int = 8, track: int = 0, quality: float = 0.9) -> list[Face]:
    return [face(0.5 * k, logit, track, quality) for k in range(n)]


def judged(faces: list[Face], looked: Coverage, policy: Policy = POLICY) -> Verdict:
    found = decide(faces, looked, policy)
    assert isinstance(found, Verdict)
    return found


FACES = st.lists(
    st.builds(
        face,
        st.floats(0, 100),
        st.none() | st.floats(-8, 8, width=32),
        st.integers(0, 3),
        st.floats(0, 1),
        st.booleans(),
    ),
    max_size=40,
)
COVERAGES = st.builds(coverage, st.floats(0, 60), st.sampled_from(MediaKind), st.integers(1, 700))


@given(faces=FACES, looked=COVERAGES)
def test_laws_of_every_verdict(faces: list[Face], looked: Coverage) -> None:
    found = decide(faces, looked, POLICY)
    if isinstance(found, NoVerdict):
        return
    assert any(f.votes for f in faces), "a score without votes"
    assert found.score == max(found.track_scores.values()) == pytest.approx(probability(found.log_odds))
    assert found.calibrated == (looked.kind is MediaKind.PICTURE or looked.requested <= 640)
    if found.label is Label.REAL:
        assert looked.kind is MediaKind.PICTURE or looked.max_gap_s <= POLICY.max_gap_s
        assert found.score < CALIBRATION.t_real
    if found.label is Label.FAKE:
        assert found.score > CALIBRATION.t_fake
    in_band = CALIBRATION.t_real <= found.score <= CALIBRATION.t_fake
    assert (Reason.NEAR_THRESHOLD in found.reasons) == in_band


@given(faces=FACES, looked=COVERAGES, seed=st.integers(0, 99))
def test_order_of_faces_and_numbers_of_tracks_do_not_matter(faces: list[Face], looked: Coverage, seed: int) -> None:
    rng = np.random.default_rng(seed)
    renamed = rng.permutation(4) + 10
    shuffled = [replace(faces[i], track=int(renamed[faces[i].track])) for i in rng.permutation(len(faces))]
    first, second = decide(faces, looked, POLICY), decide(shuffled, looked, POLICY)
    assert type(first) is type(second)
    if isinstance(first, Verdict) and isinstance(second, Verdict):
        assert second.score == first.score
        if len(set(first.track_scores.values())) == len(first.track_scores):
            assert (second.label, second.reasons) == (first.label, first.reasons)


@given(faces=FACES, looked=COVERAGES, place=st.integers(0, 39), rise=st.floats(0, 5))
def test_without_windows_the_score_rises_with_every_vote(faces: list[Face], looked: Coverage, place: int, rise: float) -> None:
    policy = replace(POLICY, windows=None, max_std=math.inf)
    voting = [i for i, f in enumerate(faces) if f.logit is not None]
    if not voting:
        return
    chosen = voting[place % len(voting)]
    higher = [replace(f, logit=(f.logit or 0.0) + rise) if i == chosen else f for i, f in enumerate(faces)]
    first, second = decide(faces, looked, policy), decide(higher, looked, policy)
    if isinstance(first, Verdict) and isinstance(second, Verdict):
        assert second.score >= first.score - 1e-12 or decides_instead(first, second)


def decides_instead(before: Verdict, now: Verdict) -> bool:
    """Whether a fake has come up to decide instead of a higher track that is held back."""
    return (before.label, now.label) == (Label.UNCERTAIN, Label.FAKE) and Reason.LOW_QUALITY in before.reasons


@given(faces=FACES, looked=COVERAGES, place=st.integers(0, 39), rise=st.floats(0, 5))
def test_where_quality_counts_a_score_above_undecided_rises_too(
    faces: list[Face], looked: Coverage, place: int, rise: float
) -> None:
    """Below, a poor track that decides is pulled up to undecided."""
    sloped = replace(CALIBRATION, quality_full=0.9, quality_slope=2.5, c_tracks=1.2)
    policy = replace(POLICY, windows=None, max_std=math.inf, calibrations=(sloped, replace(sloped, kind=MediaKind.PICTURE)))
    voting = [i for i, f in enumerate(faces) if f.logit is not None]
    first = decide(faces, looked, policy)
    if isinstance(first, NoVerdict) or first.score <= 0.5:
        return
    chosen = voting[place % len(voting)]
    higher = [replace(f, logit=(f.logit or 0.0) + rise) if i == chosen else f for i, f in enumerate(faces)]
    second = decide(higher, looked, policy)
    assert isinstance(second, Verdict)
    assert second.score >= first.score - 1e-12 or decides_instead(first, second)


def test_a_good_track_that_passes_a_poor_one_loses_nothing() -> None:
    sloped = replace(CALIBRATION, a=1.0, b=0.0, c_tracks=1.0, quality_full=1.0, quality_slope=1.0)
    policy = replace(POLICY, calibrations=(sloped,))
    poor = [f for t in range(1, 4) for f in clip(3.0, n=3, track=t, quality=0.3)]
    below, above = (judged([*clip(logit, n=3, quality=1.0), *poor], coverage(), policy) for logit in (2.9, 3.1))
    assert above.score >= below.score > 0.5


def test_among_very_many_tracks_not_every_number_of_them_is_asked_for() -> None:
    crowd = [face(0.5 * k, -4.0 + 0.01 * t, track=t) for t in range(700) for k in range(3)]
    fakes = [face(0.5 * k, 4.0, track=700 + t) for t in range(300) for k in range(3)]
    alone = CALIBRATION.apply(4.0, 1000 / 300)
    assert judged([*crowd, *fakes], coverage()).score == pytest.approx(alone, abs=0.01)


@given(logit=st.floats(-5, 5), n=st.integers(1, 6))
def test_more_tracks_at_equal_logit_never_raise_p(logit: float, n: int) -> None:
    scores = []
    for tracks in (n, n + 1):
        found = decide([f for t in range(tracks) for f in clip(logit, track=t)], coverage(), POLICY)
        assert isinstance(found, Verdict)
        scores.append(found.score)
    assert scores[1] <= scores[0]


@pytest.mark.parametrize("kind", MediaKind)
@pytest.mark.parametrize("n", [1, 2, 5, 16, 25, 100])
def test_a_clip_of_nothing_but_fakes_is_fake_however_many_they_are(n: int, kind: MediaKind) -> None:
    found = judged([f for t in range(n) for f in clip(2.0, n=3, track=t)], coverage(kind=kind))
    assert found.label is Label.FAKE
    assert set(found.track_scores.values()) == {found.score}
    assert found.score == judged(clip(2.0, n=3), coverage(kind=kind)).score


@pytest.mark.parametrize("n", [2, 5, 16, 25, 100])
def test_one_fake_among_many_who_look_real_is_held_against_their_number_but_never_real(n: int) -> None:
    crowd = [f for t in range(1, n) for f in clip(-4.0 - 0.01 * t, n=3, track=t)]
    found = judged([*clip(3.0, n=3), *crowd], coverage())
    assert found.label is (Label.FAKE if n <= 25 else Label.UNCERTAIN)
    assert found.score < judged(clip(3.0, n=3), coverage()).score
    assert found.score == max(found.track_scores.values()) == found.track_scores[0]
    assert [*found.segments] == ([0] if found.label is Label.FAKE else []), "nor is its time suspicious where it is not fake"
    assert judged(crowd, coverage()).label is Label.REAL


def test_tracks_below_the_decisive_one_are_high_together_too() -> None:
    found = judged([*clip(4.0), *(f for t in (1, 2, 3) for f in clip(2.0, track=t))], coverage())
    together = CALIBRATION.apply(2.0)
    assert found.track_scores == pytest.approx({0: CALIBRATION.apply(4.0, 4), 1: together, 2: together, 3: together})


def test_faces_too_poor_to_decide_lend_others_no_weight() -> None:
    poor = [f for t in range(1, 9) for f in clip(1.0, n=3, track=t, quality=0.1)]
    found, alone = (judged([*faces, *poor], coverage()) for faces in (clip(1.0, n=3), []))
    chance = CALIBRATION.apply(1.0, 9)
    assert found.track_scores == {n: pytest.approx(chance) for n in range(9)}
    assert alone.score == pytest.approx(CALIBRATION.apply(1.0, 8))
    sound = [replace(f, quality=0.9) for f in poor]
    assert judged([*clip(1.0, n=3), *sound], coverage()).score == pytest.approx(CALIBRATION.apply(1.0))


@pytest.mark.parametrize(
    ("faces", "reason"),
    [
        ([], Reason.NO_FACE),
        ([face(0.0, None, too_small=True)] * 5, Reason.FACE_TOO_SMALL),
        (clip(3.0, n=2), Reason.TOO_FEW_FRAMES),
        ([face(0.0, 3.0, track=t) for t in range(5)], Reason.TOO_FEW_FRAMES),
        ([face(0.0, 3.0)] * 3, Reason.TOO_FEW_FRAMES),
    ],
)
def test_no_verdict_says_why(faces: list[Face], reason: Reason) -> None:
    assert decide(faces, coverage(), POLICY) == NoVerdict(reasons=(reason,))


def test_a_picture_needs_one_face() -> None:
    found = decide([face(0.0, -4.0)], coverage(0.0, MediaKind.PICTURE, 1), POLICY)
    assert isinstance(found, Verdict)
    assert (found.label, found.frame_std) == (Label.REAL, None)


@pytest.mark.parametrize(
    ("faces", "gap_s", "label", "reasons"),
    [
        (clip(4.0), 1.0, Label.FAKE, ()),
        (clip(-4.0), 1.0, Label.REAL, ()),
        (clip(0.0), 1.0, Label.UNCERTAIN, (Reason.NEAR_THRESHOLD,)),
        (clip(-4.0), 10.0, Label.REAL, ()),
        (clip(-4.0), 10.5, Label.UNCERTAIN, (Reason.SPARSE_COVERAGE,)),
        (clip(0.0), 10.5, Label.UNCERTAIN, (Reason.NEAR_THRESHOLD, Reason.SPARSE_COVERAGE)),
        (clip(4.0), 10.5, Label.FAKE, ()),
        (clip(4.0, quality=0.15), 1.0, Label.FAKE, ()),
        (clip(4.0, quality=0.14), 1.0, Label.UNCERTAIN, (Reason.LOW_QUALITY,)),
        (clip(-4.0, quality=0.14), 1.0, Label.UNCERTAIN, (Reason.LOW_QUALITY,)),
        ([face(k, 9.0 if k % 3 else -9.0) for k in range(12)], 1.0, Label.UNCERTAIN, (Reason.HIGH_UNCERTAINTY,)),
        ([face(k, logit) for k, logit in enumerate((4.0, 8.0, 12.0))], 1.0, Label.FAKE, ()),
        ([face(k, logit) for k, logit in enumerate((4.0, 8.0, 12.1))], 1.0, Label.UNCERTAIN, (Reason.HIGH_UNCERTAINTY,)),
        ([*clip(-4.0, track=1), *clip(4.0, track=2)], 1.0, Label.FAKE, ()),
    ],
)
def test_labels_and_reasons(faces: list[Face], gap_s: float, label: Label, reasons: tuple[Reason, ...]) -> None:
    found = decide(faces, coverage(gap_s), POLICY)
    assert isinstance(found, Verdict)
    assert (found.label, found.reasons) == (label, reasons)


def test_faces_of_short_tracks_are_judged_together() -> None:
    faces = clip(-4.0) + [face(100.0 + k, 5.0, track=10 + k) for k in range(4)]
    found = decide(faces, coverage(), POLICY)
    assert isinstance(found, Verdict)
    assert found.label is Label.FAKE
    assert [(t.track, t.votes) for t in found.tracks] == [(0, 8), (POOLED_TRACK, 4)]


def test_the_pool_of_short_tracks_needs_as_many_moments_as_a_track() -> None:
    faces = [face(float(k), 5.0, track=k) for k in range(3)]
    assert judged(faces, coverage()).tracks[0].track == POOLED_TRACK
    assert decide(faces[1:], coverage(), POLICY) == NoVerdict(reasons=(Reason.TOO_FEW_FRAMES,))


def test_the_pool_of_short_tracks_is_not_searched_for_a_splice() -> None:
    """Its votes are of many faces: one that stands out there is no splice."""
    looked = coverage(5.0, requested=240, end_s=1200.0)
    faces = [face(5.0 * k, 4.0 if 100 <= k < 108 else -4.0) for k in range(240)]
    strangers = [replace(f, track=k) for k, f in enumerate(faces)]
    plain = replace(POLICY, windows=None)
    assert judged(faces, looked).score > judged(faces, looked, plain).score, "one face's is"
    assert judged(strangers, looked).score == judged(strangers, looked, plain).score


def test_a_splice_turns_a_long_real_video_fake() -> None:
    rng = np.random.default_rng(5)
    times = np.sort(np.concatenate([np.arange(240) * 5.0 + 2.5, np.arange(8) + 601.2, np.arange(8) + 201.2]))
    logits = rng.normal(-2.0, 0.6, len(times))
    real = [face(float(t), float(x)) for t, x in zip(times, logits, strict=True)]
    spliced = [replace(f, logit=(f.logit or 0.0) + 4.0) if 600 <= f.pts_s < 610 else f for f in real]
    looked = coverage(5.0, requested=240, end_s=1200.0)
    before, after = decide(real, looked, POLICY), decide(spliced, looked, POLICY)
    assert isinstance(before, Verdict)
    assert isinstance(after, Verdict)
    assert (before.label, after.label) == (Label.REAL, Label.FAKE)
    assert any(s.start_s < 610 and s.end_s > 600 for s in after.segments[0])


@pytest.mark.parametrize(("usual", "spliced", "n_votes"), [(-5.0, -0.5, 8), (2.0, 6.0, 240)], ids=["real host", "fake host"])
def test_segments_of_a_track_with_a_splice_are_what_is_high_for_it_or_fake(usual: float, spliced: float, n_votes: int) -> None:
    """Votes that stand out count though alone they are not called fake; of a host that is fake itself all count."""
    votes = [face(5.0 * k, spliced if 100 <= k < 108 else usual) for k in range(240)]
    found = judged(votes, coverage(5.0, requested=240, end_s=1200.0))
    assert found.label is Label.FAKE
    (segment,) = found.segments[0]
    assert sum(segment.start_s <= vote.pts_s <= segment.end_s for vote in votes) == n_votes


def test_what_sticks_out_of_a_track_that_is_real_all_the_same_is_not_suspicious() -> None:
    votes = [face(5.0 * k, -7.5 if 100 <= k < 108 else -9.0) for k in range(240)]
    looked = coverage(5.0, requested=240, end_s=1200.0)
    times_n, logits_n = (np.array([getattr(vote, name) for vote in votes]) for name in ("pts_s", "logit"))
    evidence = track_evidence(times_n, logits_n, windows=Windows())
    assert evidence.level is not None, "a window sticks out"
    found = judged(votes, looked)
    assert (found.label, found.segments) == (Label.REAL, {})


def test_a_fake_clip_is_one_segment() -> None:
    (segment,) = judged(clip(4.0), coverage(end_s=4.0)).segments[0]
    assert (segment.start_s, segment.end_s) == (0.0, 3.75)
    assert judged(clip(-4.0), coverage()).segments == {}
    assert judged([face(0.0, 4.0)], coverage(0.0, MediaKind.PICTURE)).segments == {}


def test_faces_that_are_seen_once_each_are_suspicious_where_they_are_seen() -> None:
    guests = [face(time_s, 6.0, track) for track, time_s in enumerate((5.0, 61.0, 115.0))]
    found = judged(guests, coverage(2.0, end_s=120.0)).segments[POOLED_TRACK]
    assert [(one.start_s, one.end_s) for one in found] == [(4.0, 6.0), (60.0, 62.0), (114.0, 116.0)]
    every_frame = coverage(0.0, end_s=120.0)
    (slides,) = judged(guests, replace(every_frame, apart_s=56.0)).segments[POOLED_TRACK]
    assert (slides.start_s, slides.end_s) == (0.0, 120.0), "each slide was looked at, and is shown until the next"
    assert len(judged(guests, replace(every_frame, apart_s=0.2)).segments[POOLED_TRACK]) == 3


def test_the_thresholds_that_decided_are_told() -> None:
    assert judged(clip(4.0), coverage()).thresholds == (CALIBRATION.t_real, CALIBRATION.t_fake)
    assert judged(clip(4.0), coverage(), replace(POLICY, t_real=0.1)).thresholds == (0.1, CALIBRATION.t_fake)


def test_without_a_calibration_the_policys_own_thresholds_decide() -> None:
    policy = Policy(default_thresholds=(0.05, 0.6))
    found = judged(clip(-2.0), coverage(), policy)
    assert (found.calibrated, found.thresholds) == (False, (0.05, 0.6))
    assert (found.label, found.reasons) == (Label.UNCERTAIN, (Reason.NEAR_THRESHOLD,))
    assert judged(clip(0.5), coverage(), policy).label is Label.FAKE
    standing_in = replace(policy, calibrations=POLICY.calibrations)
    assert judged(clip(-2.0), coverage(requested=700), standing_in).thresholds == (CALIBRATION.t_real, CALIBRATION.t_fake)


@pytest.mark.parametrize("thresholds", [(0.2, 0.5), (0.5, 0.5), (0.5, 0.8)])
def test_a_score_at_a_threshold_is_neither_real_nor_fake(thresholds: tuple[float, float]) -> None:
    found = judged(clip(0.0), coverage(), Policy(default_thresholds=thresholds))
    assert (found.score, found.label, found.reasons) == (0.5, Label.UNCERTAIN, (Reason.NEAR_THRESHOLD,))


def test_overrides_of_thresholds_do_not_cross() -> None:
    assert Policy(t_fake=0.2).thresholds(CALIBRATION) == (0.2, 0.2)
    assert Policy(t_real=0.9).thresholds(CALIBRATION) == (0.9, 0.9)
    assert Policy(t_real=0.5, t_fake=0.5).thresholds(CALIBRATION) == (0.5, 0.5)
    with pytest.raises(ValueError, match="above"):
        Policy(t_real=0.9, t_fake=0.5)


def test_unknown_rules_are_refused() -> None:
    with pytest.raises(ValueError, match="mean_logit"):
        Policy(rule="median")


@pytest.mark.parametrize("limits", [{"min_votes_video": 0}, {"min_votes_picture": 0}])
def test_a_verdict_without_votes_is_refused(limits: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="at least one vote"):
        Policy(**limits)  # type: ignore[arg-type]


def test_an_offset_moves_its_own_kind_only_and_is_told() -> None:
    own = replace(POLICY, offsets={MediaKind.VIDEO: -0.7})
    plain, moved = judged(clip(1.0), coverage()), judged(clip(1.0), coverage(), own)
    assert (plain.offset, moved.offset) == (0.0, -0.7)
    assert moved.log_odds == pytest.approx(plain.log_odds)
    assert moved.score == pytest.approx(probability(plain.log_odds - 0.7))
    assert moved.track_scores == {0: moved.score}
    picture = coverage(0.0, MediaKind.PICTURE, 1)
    assert judged(clip(1.0), picture, own).score == judged(clip(1.0), picture).score


def test_an_offset_holds_without_a_calibration_and_moves_segments_along() -> None:
    bare = Policy(default_thresholds=(0.3, 0.7))
    moved = replace(bare, offsets={MediaKind.VIDEO: -1.0})
    assert judged(clip(1.0), coverage(), bare).segments
    found = judged(clip(1.0), coverage(), moved)
    assert found.score == pytest.approx(0.5)
    assert not found.segments


TEMPERED = replace(POLICY, calibrations=(replace(CALIBRATION, a=1.0, b=0.0, c_tracks=0.0, quality_full=0.8, quality_slope=5.0),))


def test_poor_faces_are_uncertain_either_way() -> None:
    for logit, label in ((-3.0, Label.REAL), (3.0, Label.FAKE)):
        assert judged(clip(logit), coverage(), TEMPERED).label is label
        poor = judged(clip(logit, quality=0.3), coverage(), TEMPERED)
        assert poor.label is Label.UNCERTAIN
        assert poor.temperature == pytest.approx(np.exp(2.5))
        assert poor.score == pytest.approx(probability(logit / poor.temperature))
        assert not poor.segments


def test_a_poor_track_in_the_background_takes_away_no_verdict() -> None:
    """It may not outvote a good one by being undecided; where it looks most fake, it decides and is uncertain."""
    real = judged(clip(-2.0) + clip(-3.0, track=1, quality=0.3), coverage(), TEMPERED)
    assert (real.label, real.score) == (Label.REAL, real.track_scores[0])
    fake = judged(clip(2.0) + clip(4.0, track=1, quality=0.3), coverage(), TEMPERED)
    assert (fake.label, fake.score) == (Label.FAKE, fake.track_scores[0])
    unsure = judged(clip(-3.0) + clip(-2.0, track=1, quality=0.3), coverage(), TEMPERED)
    assert unsure.label is Label.UNCERTAIN
    assert unsure.score == max(unsure.track_scores.values())
