"""Clips joined to videos of several tracks: what they hold, and that c_tracks holds on other people."""

from __future__ import annotations

import numpy as np
import pytest

from training.calibration import Target, fit_chances
from training.composites import TrackVotes, composite_clips, crossfit_alarms, votes_left
from training.longtracks import Layout


def track(fake: bool, group: str, seed: int, *, spread: float = 1.0, n: int = 32) -> TrackVotes:
    rng = np.random.default_rng(seed)
    offset = rng.normal(0.8 if fake else -0.8, spread)
    return TrackVotes(times_n=np.arange(n) / 8, logits_n=rng.normal(offset, 0.8, n), fake=fake, group=group)


@pytest.fixture(scope="module")
def clips() -> list[TrackVotes]:
    return [track(k % 2 == 1, f"g{k // 2}", k) for k in range(60)]


def test_a_scan_shares_its_frames_among_clips_that_follow_each_other() -> None:
    clip = track(False, "g", 0)
    assert [votes_left(clip, size, Layout()) for size in (1, 2, 5)] == [32, 16, 6]
    long = TrackVotes(times_n=np.arange(32) * 5.0, logits_n=np.zeros(32), fake=False, group="g")
    assert votes_left(long, 5, Layout()) == 31
    hours = TrackVotes(times_n=np.arange(32) * 500.0, logits_n=np.zeros(32), fake=False, group="g")
    assert votes_left(hours, 2, Layout()) == Layout().max_first // 2
    assert clip.logit(16) != clip.logit()
    assert clip.logit(99) == pytest.approx(clip.logits_n.mean())


def test_composites_hold_the_greatest_track_of_different_people(clips: list[TrackVotes]) -> None:
    found = composite_clips(clips, sizes=(1, 4), per_size=80)
    assert found.labels_n.mean() == 0.5
    assert sorted(set(found.counts_n.tolist())) == [1, 4]
    real = found.labels_n == 0
    assert found.logits_n[real & (found.counts_n == 4)].mean() > found.logits_n[real & (found.counts_n == 1)].mean() + 0.4
    whole = [clip.logit() for clip in clips if not clip.fake]
    side_by_side = real & (np.arange(160) % 4 == 2)
    assert np.isin(found.logits_n[side_by_side], whole).all()
    assert not np.isin(found.logits_n[real & ~side_by_side & (found.counts_n == 4)], whole).any()
    assert (composite_clips(clips, sizes=(1, 4), per_size=80).logits_n == found.logits_n).all()


def flat(fake: bool, group: str, logit: float) -> TrackVotes:
    return TrackVotes(times_n=np.arange(8) / 8, logits_n=np.full(8, logit), fake=fake, group=group)


def test_a_fake_is_joined_with_other_people_only_and_of_each_any_clip_may_be_taken() -> None:
    found = composite_clips(
        [flat(True, "a", 1.0), flat(False, "a", 9.0), flat(False, "b", 0.0), flat(False, "b", 2.0)], sizes=(2,), per_size=40
    )
    assert set(found.logits_n[found.labels_n == 0]) == {9.0}
    assert set(found.logits_n[found.labels_n == 1]) == {1.0, 2.0}


def test_they_need_as_many_people_as_tracks(clips: list[TrackVotes]) -> None:
    with pytest.raises(ValueError, match="as many groups"):
        composite_clips(clips[:6])
    with pytest.raises(ValueError, match="a fake clip"):
        composite_clips([clip for clip in clips if not clip.fake])


def test_c_tracks_takes_back_what_chance_gives_on_other_people(clips: list[TrackVotes]) -> None:
    assert fit_chances(composite_clips(clips, per_size=200), 1.0, 0.0) > 0.3
    rows = {row.size: row for row in crossfit_alarms(clips, Target(fpr=0.2, coverage=0.0), n_folds=2, per_size=200)}
    assert list(rows) == [1, 2, 3, 4, 5]
    assert rows[1].real == rows[1].uncorrected
    assert rows[5].uncorrected > rows[1].real + 0.2
    assert rows[5].real < rows[1].real + 0.15
    assert all(row.real <= row.uncorrected and row.fake > row.real for row in rows.values())


def test_nobody_is_judged_by_a_threshold_that_they_helped_to_choose() -> None:
    """No real clip that was fitted on may be an alarm here; the odd one is, as its own group was left out, and no other.

    Sizes are those that the two people of a fold allow.
    """
    clips = [flat(fake, f"g{k}", logit) for k in range(4) for fake, logit in ((False, -1), (False, 1.5), (True, 1), (True, 2))]
    odd = [*clips, flat(False, "g0", 9.0)]
    rows = crossfit_alarms(odd, Target(fpr=0.0, fnr=0.0, coverage=0.0), n_folds=2, per_size=100)
    assert [row.size for row in rows] == [1, 2]
    assert 0.0 < rows[0].uncorrected < 0.2
