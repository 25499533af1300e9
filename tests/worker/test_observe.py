"""Batches noted down in any order give one account in rising time."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from worker import observe
from worker.faces.track import describe_face, describe_frame
from worker.look import FaceLook, FrameLook, Look
from worker.observe import Observer

GREY = np.full((32, 32, 3), 120, np.uint8)


def batch(*times_s: float) -> Look:
    """One face at one place in each frame; its logit is the time."""
    frames = []
    for time_s in times_s:
        sighting = describe_face(np.array([0, 0, 20, 20], np.float32), GREY)
        face = FaceLook(sighting=sighting, prob=0.9, quality=0.8, too_small=False, logit=time_s, crop_HWC=GREY)
        frames.append(FrameLook(sighting=describe_frame(time_s, GREY, [sighting]), faces=(face,), small_HWC=GREY))
    return Look(frames=tuple(frames), detect_s=0.0, infer_s=0.0)


def test_strides_are_put_together_in_rising_time_and_are_one_track() -> None:
    observer = Observer(evidence_per_track=2)
    for look in (batch(0.0, 3.0, 6.0), batch(1.0, 4.0), batch(2.0, 5.0)):
        observer.note(look)
    seen = observer.result()
    assert observer.n_frames == seen.frames_with_face == 7
    assert [frame.pts_s for frame in seen.frames] == [float(i) for i in range(7)]
    assert [seen.faces[frame.faces[0]].logit for frame in seen.frames] == [float(i) for i in range(7)]
    assert {face.track for face in seen.faces} == {0}


def test_frames_that_came_in_rising_time_are_linked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    linked: list[int] = []
    link = observe.link
    monkeypatch.setattr(observe, "link", lambda frames: linked.append(len(frames)) or link(frames))
    observer = Observer(evidence_per_track=1)
    observer.note(batch(0.0, 1.0))
    observer.note(batch(2.0, 5.0))
    assert [face.track for face in observer.result().faces] == [0] * 4
    assert linked == []
    observer.note(batch(3.0, 6.0))
    assert [face.track for face in observer.result().faces] == [0] * 6
    assert linked == [6]


def test_the_worst_faces_evidence_is_there_whichever_stride_they_came_in() -> None:
    observer = Observer(evidence_per_track=1)
    for look in (batch(0.0, 3.0), batch(1.0, 6.0), batch(2.0, 5.0)):
        observer.note(look)
    seen = observer.result()
    worst = max(range(len(seen.faces)), key=lambda number: seen.faces[number].logit or 0.0)
    assert seen.faces[worst].pts_s == 6.0
    assert seen.evidence.jpeg(worst) is not None


def test_each_part_of_a_track_that_a_later_stride_parts_has_its_worst_face() -> None:
    observer = Observer(evidence_per_track=1)
    observer.note(batch(0.0, 1.0, 3.0, 4.0))
    elsewhere = FrameLook(sighting=describe_frame(2.0, np.full_like(GREY, 255), []), faces=(), small_HWC=None)
    observer.note(Look(frames=(elsewhere,), detect_s=0.0, infer_s=0.0))
    seen = observer.result()
    assert [face.track for face in seen.faces] == [0, 0, 1, 1]
    assert [seen.evidence.jpeg(number) is not None for number in (1, 3)] == [True, True]


def test_a_crowd_of_which_faces_were_left_out_is_told_whichever_frame_showed_it() -> None:
    observer = Observer(evidence_per_track=1)
    for time_s, is_crowded in enumerate((False, True, False)):
        looks = tuple(replace(frame, is_crowded=is_crowded) for frame in batch(float(time_s)).frames)
        observer.note(Look(frames=looks, detect_s=0.0, infer_s=0.0))
        assert observer.result().is_crowded is (time_s > 0)


def test_nothing_noted_is_nothing_seen() -> None:
    seen = Observer(evidence_per_track=1).result()
    assert (seen.frames, seen.faces, seen.frames_with_face) == ((), (), 0)


def test_the_frame_of_the_worst_face_is_kept_unless_no_evidence_is_wanted() -> None:
    def kept(per_track: int) -> list[float]:
        observer = Observer(evidence_per_track=per_track)
        for look in (batch(0.0, 3.0), batch(1.0, 6.0), batch(2.0, 5.0)):
            observer.note(look)
        seen = observer.result()
        return [frame.pts_s for frame in seen.frames if seen.key_frames.jpeg(frame.pts_s) is not None]

    assert 6.0 in kept(1)
    assert len(kept(1)) < 6
    assert kept(0) == []
