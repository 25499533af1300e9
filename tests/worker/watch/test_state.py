"""What a watch remembers: bounded, and the same after a way through JSON."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from worker.faces.track import FaceSighting, FrameSighting, Linker
from worker.look import FaceLook, FrameLook
from worker.types import Face, Label
from worker.verdict.decide import Policy
from worker.watch.events import TrackResult, WindowResult
from worker.watch.frames import MOST_EVEN, MOST_WORST, KeptFrames
from worker.watch.packed import pack_faces, pack_linker, unpack_faces, unpack_linker, unpack_times
from worker.watch.recent import MOST_FACES, MOST_GAPS, Recent, Rhythm, result_of
from worker.watch.state import WatchState
from worker.watch.stretches import MOST, Stretches
from worker.watch.tracks import MOST_TRACKS, Tracks
from worker.watch.votes import MOST_VOTES, OTHERS, Votes


def face(pts_s: float, track: int = 0, logit: float | None = 1.0) -> Face:
    x = pts_s // 0.25 * 0.25 % 7
    return Face(pts_s=pts_s, box_xyxy=(x, x, x + 50, x + 60), det_prob=0.5, track=track, quality=0.25, logit=logit)


def through_json(data: Any) -> Any:
    return json.loads(json.dumps(data))


def test_faces_are_packed_exactly() -> None:
    faces = [face(0.1, 3, -2.5), face(1e6 + 0.1, -2, None), face(7.25, 0, 0.0)]
    assert unpack_faces(through_json(pack_faces(faces))) == faces
    assert unpack_faces(pack_faces([])) == []


def test_a_linker_goes_on_exactly_as_it_would_have() -> None:
    draw = np.random.default_rng(7)

    def frame(time_s: float) -> FrameSighting:
        box = tuple(float(v) for v in np.float32([10, 10, 60, 60]) + np.float32(draw.uniform(-9, 9)))
        seen = FaceSighting(box_xyxy=box, appearance_A=draw.random(48, np.float32) * 0.05)  # type: ignore[arg-type]
        cut = draw.random((64, 3), np.float32) if draw.random() < 0.2 else np.full((64, 3), 0.5, np.float32)
        return FrameSighting(pts_s=time_s, signature_G3=cut, faces=(seen,))

    frames = [frame(i / 2) for i in range(60)]
    whole = Linker(most_tracks=5)
    for place, one in enumerate(frames):
        restored = Linker(unpack_linker(through_json(pack_linker(whole.state()))), most_tracks=5)
        assert [restored.add(later) for later in frames[place : place + 9]] == [
            copy.add(later) for copy in [Linker(whole.state(), most_tracks=5)] for later in frames[place : place + 9]
        ]
        whole.add(one)
    assert whole.state().n_tracks > 5
    assert len(whole.state().tracks) <= 5


def test_votes_are_all_kept_until_they_are_too_many_and_then_by_stretches() -> None:
    votes = Votes()
    for i in range(MOST_VOTES):
        votes.add(face(i / 2, i % 2, float(i % 4)))
    votes.add(face(1.0, 0, None))
    assert len(votes.faces()) == MOST_VOTES
    assert votes.faces()[5].pts_s == 2.5
    for i in range(MOST_VOTES, 9000):
        votes.add(face(i / 2, i % 2, float(i % 4)))
    kept = votes.faces()
    assert MOST_VOTES / 6 < len(kept) <= MOST_VOTES
    assert {one.track for one in kept} == {0, 1}
    assert np.mean([one.logit for one in kept if one.track == 0]) == pytest.approx(1, abs=0.1)
    assert np.mean([one.logit for one in kept if one.track == 1]) == pytest.approx(2, abs=0.1)
    restored = Votes(through_json(votes.state()))
    for _ in range(2):
        assert restored.faces() == votes.faces()
        for i in range(9000, 9200):
            votes.add(face(i / 2, 0, 1.0))
            restored.add(face(i / 2, 0, 1.0))


def test_votes_of_tracks_that_had_to_go_are_tracks_of_one_face() -> None:
    votes = Votes()
    for i in range(6):
        votes.add(face(float(i), i % 2))
    votes.leave_out(1)
    numbers = [one.track for one in votes.faces()]
    assert numbers.count(0) == 3
    others = [number for number in numbers if number <= OTHERS]
    assert len(set(others)) == len(others) == 3


def test_of_too_many_tracks_that_with_the_fewest_votes_goes() -> None:
    tracks = Tracks(2)
    number = 0
    for track in range(MOST_TRACKS):
        for i in range(5 if track != 7 else 1):
            assert tracks.note(face(track + i / 10, track, float(i)), number) is None
            number += 1
    assert tracks.note(face(99.0, 99), number) == 7
    assert tracks.left_out == 1
    assert tracks.get(7) is None
    kept = tracks.get(3)
    assert kept is not None
    assert (kept.faces, kept.votes, sorted(one[0] for one in kept.worst)) == (5, 5, [3.0, 4.0])
    assert Tracks(2, through_json(tracks.state())).state() == through_json(tracks.state())


def test_frames_are_evenly_spaced_ones_and_the_most_suspicious() -> None:
    frames = KeptFrames()
    for i in range(5000):
        frames.add(i / 2, [face(i / 2, 0, 9.0 if i == 1237 else i % 3), face(i / 2, 1, -1.0), face(i / 2, 2, None)])
    held = frames.held()
    assert len(held) <= MOST_EVEN + MOST_WORST + 1
    assert 1237 in {one.index for one in held}
    assert {len(one.faces) for one in held} == {2}
    even = [one.index for one in held if one.index % 128 == 0]
    assert even == list(range(0, 5000, 128))
    assert KeptFrames(through_json(frames.state())).state() == through_json(frames.state())


def window(start_s: int, verdict: Label, score: float) -> WindowResult:
    track = TrackResult(track=0, verdict=verdict, score=score, votes=9)
    return WindowResult(
        number=start_s,
        start_ms=1000 * start_s,
        end_ms=1000 * start_s + 10_000,
        verdict=verdict,
        tracks=(track,),
        frames=9,
        with_face=9,
    )


def test_fake_windows_that_touch_are_one_stretch_and_gaps_too() -> None:
    stretches = Stretches()
    for start_s, score in ((0, 0.7), (5, 0.9), (10, 0.8), (40, 0.75)):
        stretches.note(window(start_s, Label.FAKE, score))
        stretches.note(window(start_s + 60, Label.REAL, 0.1))
    assert [(one.start_ms, one.end_ms, one.max_score) for one in stretches.fake] == [(0, 20_000, 0.9), (40_000, 50_000, 0.75)]
    stretches.miss(1, 2, "behind")
    stretches.miss(2, 4, "behind")
    stretches.miss(4, 5, "outage")
    assert [(one.start_ms, one.end_ms, one.cause) for one in stretches.missed] == [(1000, 4000, "behind"), (4000, 5000, "outage")]
    for i in range(1, 200):
        stretches.miss(i * 1000, i * 1000 + 2 + i, "outage")
        stretches.note(window(1000 * i, Label.FAKE, 0.8))
    assert (len(stretches.missed), len(stretches.fake)) == (MOST, MOST)
    assert stretches.more_missed + MOST == 201
    assert stretches.missed_ms["behind"] == 3000
    assert Stretches(through_json(stretches.state())).state() == through_json(stretches.state())


@pytest.mark.parametrize(
    ("quality", "swing", "label"), [(0.9, 0, Label.FAKE), (0.12, 0, Label.UNCERTAIN), (0.9, 5, Label.UNCERTAIN)]
)
def test_a_track_of_poor_or_contradictory_faces_is_uncertain_in_its_window_too(
    quality: float, swing: float, label: Label
) -> None:
    recent, stretches = Recent(Rhythm(window_s=10, hop_s=5, fps=2)), Stretches()
    for i in range(20):
        recent.add(i / 2, [replace(face(i / 2, 0, 6.0 + swing * (-1) ** i), quality=quality), face(i / 2, 1, -6.0)])
    window = result_of(0, *recent.judge(0, 10, Policy()), dropped_ms=0, behind_s=0)
    stretches.note(window)
    assert {one.track: one.verdict for one in window.tracks} == {0: label, 1: Label.REAL}
    assert window.verdict is label
    assert bool(stretches.fake) == (label is Label.FAKE)


def test_tracks_seen_too_thinly_are_not_told_real() -> None:
    recent = Recent(Rhythm(window_s=40, hop_s=20, fps=2))
    for time_s in (0.0, 0.5, 1.0, 38.0, 38.5, 39.0):
        recent.add(time_s, [face(time_s, 0, -6.0), face(time_s, 1, 6.0)])
    window = result_of(0, *recent.judge(0, 40, Policy()), dropped_ms=0, behind_s=0)
    assert {one.track: one.verdict for one in window.tracks} == {0: Label.UNCERTAIN, 1: Label.FAKE}


def test_of_too_many_gaps_in_a_window_the_shortest_are_not_held() -> None:
    recent = Recent(Rhythm(window_s=10, hop_s=5, fps=2))
    recent.miss(0, 1)
    for i in range(5000):
        recent.miss(1.001 + i / 1000, 1.0015 + i / 1000)
    assert len(recent.state()["gaps"]) == MOST_GAPS
    assert recent.dropped_ms(0, 10) == pytest.approx(1000 + 0.5 * (MOST_GAPS - 1), abs=1)


def test_a_rhythm_bounds_what_is_held() -> None:
    for window_s, hop_s, fps in ((10, 5, 2), (2, 1, 1), (60, 30, 2), (100, 100, 1)):
        rhythm = Rhythm(window_s=window_s, hop_s=hop_s, fps=fps)
        assert 1 <= rhythm.faces_per_frame <= 8
        assert rhythm.frames_held * rhythm.faces_per_frame <= MOST_FACES
    for window_s, hop_s, fps in ((10, 11, 2), (10, 0, 2), (100, 100, 9), (10, 5, 0)):
        with pytest.raises(ValueError, match=r"hop|frames"):
            Rhythm(window_s=window_s, hop_s=hop_s, fps=fps)


def seen_face(logit: float | None, *, too_small: bool = False) -> FaceLook:
    sighting = FaceSighting(box_xyxy=(0.0, 0.0, 60.0, 60.0), appearance_A=np.zeros(48, np.float32))
    return FaceLook(sighting=sighting, prob=0.9, quality=0.5, too_small=too_small, logit=logit, crop_HWC=None)


@pytest.mark.parametrize(
    ("other", "is_crowded", "is_crowd"),
    [
        (seen_face(-3.0), False, True),
        (seen_face(None), False, False),
        (seen_face(None, too_small=True), False, False),
        (None, True, True),
    ],
    ids=["could vote", "too poor", "too small", "not looked at"],
)
def test_a_crowd_are_faces_beside_the_largest_that_could_vote(other: FaceLook | None, is_crowded: bool, is_crowd: bool) -> None:
    faces = (seen_face(-3.0), *([other] if other else []))
    sighting = FrameSighting(pts_s=0.5, signature_G3=np.zeros((64, 3), np.float32), faces=tuple(one.sighting for one in faces))
    state = WatchState.new(Rhythm(window_s=10, hop_s=5, fps=2), evidence_per_track=1)
    state.note(0.5, FrameLook(sighting=sighting, faces=faces, is_crowded=is_crowded), most=1)
    _, coverage = state.recent.judge(0.0, 10.0, Policy())
    assert (coverage.is_crowded, state.counts.crowded) == (is_crowd, is_crowd)


def test_crowds_are_remembered_no_longer_than_their_frames() -> None:
    recent = Recent(Rhythm(window_s=10, hop_s=5, fps=2))
    for half in range(2000):
        recent.add(half / 2, (), is_crowded=True)
        recent.forget(half / 2 - 10)
    state = through_json(recent.state())
    assert len(unpack_times(state["crowded"])) == 21
    restored = Recent(Rhythm(window_s=10, hop_s=5, fps=2), state)
    restored.forget(2000.0)
    assert "crowded" not in restored.state()
