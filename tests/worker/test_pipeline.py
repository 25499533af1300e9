"""The pipeline with the tests' own frames, faces and scores behind its ports."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.worker.grey_media import SIZE, ByGrey, Clip, OneFace, TwoFaces, grey_engine, scanner
from worker.content import Content
from worker.engine import Engine, EngineFailed, EngineOpening
from worker.errors import CorruptMedia, DecodeCrash, ModelError, VeriframeError
from worker.report import Report
from worker.run import max_gap_s
from worker.types import Detections, Frame, Glance, Label, MediaInfo, MediaKind, Reason, SamplingRequest, Scores, Strategy


class Draws(ByGrey):
    """Three draws about each logit."""

    def scores(self, crops_FHWC: np.ndarray) -> Scores:
        logit_F = super().scores(crops_FHWC).logit_F
        return Scores(logit_F=logit_F, draws_FN=logit_F[:, None] + np.array([-1.0, 0.0, 1.0], np.float32))


def test_a_real_clip_is_real_and_its_report_survives_json(file: Path) -> None:
    result = scanner(Clip(starts_s=4.0214), exhaustive=True).scan(file)
    report = result.report
    assert (report.status, report.verdict, report.calibrated, report.reasons) == ("completed", Label.REAL, True, ())
    assert report.score is not None
    assert report.score < 0.1
    assert report.sampling is not None
    assert (report.sampling.requested, report.sampling.decoded, report.sampling.with_face) == (32, 32, 32)
    assert Report.model_validate_json(report.model_dump_json()) == report
    assert report.source.path == str(file)
    assert report.media is not None
    assert report.media.sha256 == hashlib.sha256(b"some bytes").hexdigest()
    assert report.media.starts_s == 4.021


def test_a_head_that_draws_tells_its_doubt_and_no_other_does(file: Path) -> None:
    report = scanner(Clip(), exhaustive=True, classifier=Draws()).scan(file).report
    low, high = np.percentile(1 / (1 + np.exp(-np.array([-4.0, -3.0, -2.0]))), [2.5, 97.5])
    assert report.uncertainty.piw == pytest.approx(high - low)
    assert report.uncertainty.n_samples == 3
    assert report.uncertainty.ttest_p is not None
    assert 0 < report.uncertainty.ttest_p < 0.01
    assert [face.piw for frame in report.frames for face in frame.faces] == [pytest.approx(high - low)] * 32
    plain = scanner(Clip(), exhaustive=True).scan(file).report
    assert (plain.uncertainty.piw, plain.uncertainty.ttest_p, plain.uncertainty.n_samples) == (None, None, None)
    assert {face.piw for frame in plain.frames for face in frame.faces} == {None}
    assert report.score == plain.score


def test_faces_are_found_while_the_classifier_is_still_opening(file: Path) -> None:
    found = threading.Event()

    class TellsFaces(OneFace):
        def detect_small(
            self, small_BHWC: np.ndarray | Sequence[np.ndarray], divisor: int, glances: Sequence[Glance] | None = None
        ) -> Detections:
            try:
                return super().detect_small(small_BHWC, divisor, glances)
            finally:
                found.set()

    def engine() -> Engine:
        assert found.wait(timeout=60.0), "the scan waits for its classifier before it looks"
        return grey_engine(ByGrey())

    report = scanner(Clip(), detector=TellsFaces(), engine=EngineOpening(engine)).scan(file).report
    assert report.verdict is Label.REAL
    assert report.model == grey_engine(ByGrey()).model


@pytest.mark.parametrize("clip", [Clip(), Clip(fails_after=0)], ids=["sound", "broken"])
def test_a_classifier_that_cannot_be_opened_ends_the_run_not_the_item(file: Path, clip: Clip) -> None:
    def fail() -> Engine:
        raise ModelError("it is the export of another checkpoint")

    with pytest.raises(EngineFailed) as raised:
        scanner(clip, engine=EngineOpening(fail)).scan(file)
    assert isinstance(raised.value.__cause__, ModelError)


def test_frames_are_copied_before_the_next_is_decoded(file: Path) -> None:
    """The source reuses its memory: without a copy every face would be scored on the last frame."""
    report = scanner(Clip(swap_s=(0.0, 2.0))).scan(file).report
    scores = [face.score for frame in report.frames for face in frame.faces]
    assert sum(score is not None and score > 0.9 for score in scores) == 16
    assert sum(score is not None and score < 0.1 for score in scores) == 16


def test_batches_are_bounded_by_bytes(file: Path) -> None:
    detector = OneFace()
    scanner(Clip(), detector=detector, exhaustive=True).scan(file)
    assert sum(detector.batches) == 32
    assert max(detector.batches) == 6


def test_no_face_is_not_applicable_and_has_no_score(file: Path) -> None:
    report = scanner(Clip(empty_s=(0.0, 9.0))).scan(file).report
    assert (report.verdict, report.score, [reason.code for reason in report.reasons]) == (
        Label.NOT_APPLICABLE,
        None,
        [Reason.NO_FACE],
    )


def test_a_short_splice_in_a_long_video_is_looked_at_again_and_found(file: Path) -> None:
    clip = Clip(duration_s=600.0, swap_s=(300.0, 310.0))
    report = scanner(clip).scan(file).report
    assert len(clip.passes) == 2
    assert clip.passes[1].times_s is not None
    assert sum(300 <= time < 310 for time in clip.passes[1].times_s) >= 6
    assert report.verdict is Label.FAKE
    assert any(part.start_ms < 310_000 and part.end_ms > 300_000 for part in report.segments)
    assert len(report.frames) <= 256


def test_nothing_outside_the_users_window_is_looked_at_or_reported(file: Path) -> None:
    """A swap from 302 s on lies within reach of the last moment of the window, and beyond the window."""
    clip = Clip(duration_s=600.0, swap_s=(302.0, 320.0))
    report = scanner(clip, window_s=(100.0, 302.0)).scan(file).report
    assert len(clip.passes) == 2
    assert clip.passes[1].times_s is not None
    assert 300 < max(clip.passes[1].times_s) < 302
    assert all(100_000 <= frame.t_ms < 302_000 for frame in report.frames)
    assert report.verdict is Label.REAL
    assert report.sampling is not None
    assert report.sampling.max_gap_s < 5

    within = scanner(Clip(duration_s=600.0, swap_s=(290.0, 320.0)), window_s=(100.0, 302.0)).scan(file).report
    (segment,) = within.segments
    assert 301_000 < segment.end_ms <= 302_000


def test_32_frames_of_a_long_video_are_never_real(file: Path) -> None:
    report = scanner(Clip(duration_s=1200.0), max_frames=32).scan(file).report
    assert report.verdict is Label.UNCERTAIN
    assert Reason.SPARSE_COVERAGE in [reason.code for reason in report.reasons]
    assert report.sampling is not None
    assert report.sampling.decoded <= 32


class Slides(Clip):
    """Six frames of 12 s."""

    @property
    def info(self) -> MediaInfo:
        return replace(super().info, n_frames=6, fps=1 / 12)


def test_slides_that_were_all_looked_at_leave_nothing_unseen(file: Path) -> None:
    report = scanner(Slides(duration_s=72.0), exhaustive=True).scan(file).report
    assert (report.verdict, report.reasons) == (Label.REAL, ())
    assert report.sampling is not None
    assert (report.sampling.requested, report.sampling.decoded, report.sampling.max_gap_s) == (6, 6, 0.0)


@pytest.mark.parametrize("few", [{"max_frames": 5}, {"window_s": (0.0, 71.0)}, {"window_s": (1.0, None)}])
def test_slides_that_were_not_all_looked_at_do(file: Path, few: dict[str, Any]) -> None:
    report = scanner(Slides(duration_s=72.0), exhaustive=True, **few).scan(file).report
    assert Reason.SPARSE_COVERAGE in [reason.code for reason in report.reasons]
    assert report.sampling is not None
    assert report.sampling.max_gap_s > 10


@pytest.mark.parametrize("strategy", [Strategy.UNIFORM, Strategy.FPS, Strategy.KEYFRAMES])
def test_only_auto_takes_a_second_pass(file: Path, strategy: Strategy) -> None:
    clip = Clip(duration_s=600.0, swap_s=(300.0, 310.0))
    report = scanner(clip, strategy=strategy).scan(file).report
    assert len(clip.passes) == 1
    assert not report.calibrated


def test_what_cannot_change_any_more_is_not_looked_at(file: Path) -> None:
    """All real: every third frame settles it, so that nothing can hide between. All fake: one in six does."""
    for clip, label, looked_at in ((Clip(), Label.REAL, 11), (Clip(swap_s=(0.0, 9.0)), Label.FAKE, 6)):
        detector = OneFace()
        report = scanner(clip, detector=detector, threads=1).scan(file).report
        assert (report.verdict, report.calibrated) == (label, True)
        assert report.sampling is not None
        assert (report.sampling.stopped_early, report.sampling.stopped_by) == (True, "verdict")
        assert (report.sampling.requested, report.sampling.decoded) == (32, looked_at)
        assert sum(detector.batches) == len(report.frames) == looked_at
        assert report.sampling.max_gap_s <= 9 / 8, "nine of the 32 places at most"
        assert len(clip.passes) == 1


def test_a_verdict_that_could_change_takes_all_frames(file: Path) -> None:
    """A third of the frames are fake: the mean lies at -1, next to the threshold."""
    report = scanner(Clip(swap_s=(1.0, 2.4))).scan(file).report
    assert report.sampling is not None
    assert (report.sampling.decoded, report.sampling.stopped_early, report.sampling.stopped_by) == (32, False, None)
    exhaustive = scanner(Clip(swap_s=(1.0, 2.4)), exhaustive=True).scan(file).report
    for key in ("verdict", "score", "segments", "frames", "sampling"):
        assert getattr(report, key) == getattr(exhaustive, key)


def test_a_long_video_is_real_only_after_all_was_seen_but_fake_early(file: Path) -> None:
    real = scanner(Clip(duration_s=150.0)).scan(file).report
    fake = scanner(Clip(duration_s=150.0, swap_s=(0.0, 150.0))).scan(file).report
    assert (real.verdict, fake.verdict) == (Label.REAL, Label.FAKE)
    assert real.sampling is not None
    assert fake.sampling is not None
    assert not real.sampling.stopped_early
    assert real.sampling.decoded > 32, "the second pass too"
    assert (fake.sampling.stopped_by, fake.sampling.decoded) == ("verdict", 6)


def test_frames_of_a_second_pass_are_still_to_be_seen_too(file: Path) -> None:
    """Three quarters are fake: of the first pass alone enough would be seen after 27 frames, of both passes it never is."""
    report = scanner(Clip(duration_s=150.0, swap_s=(0.0, 111.0))).scan(file).report
    assert report.sampling is not None
    assert not report.sampling.stopped_early
    assert report.sampling.decoded > 32


def test_frames_that_do_not_fit_into_memory_are_looked_at_as_they_come(file: Path) -> None:
    seen = scanner(Clip(duration_s=2000.0, swap_s=(0.0, 2000.0))).scan(file).report.sampling
    assert seen is not None
    assert seen.decoded >= seen.requested == 400
    assert not seen.stopped_early


def test_media_that_break_off_are_judged_by_what_decoded(file: Path) -> None:
    report = scanner(Clip(fails_after=20)).scan(file).report
    assert report.status == "completed"
    assert report.sampling is not None
    assert (report.sampling.stopped_early, report.sampling.stopped_by) == (True, "media")
    assert report.sampling.decoded == 20
    assert report.sampling.max_gap_s == pytest.approx(4.0 - 19.5 / 8, abs=1e-3)


def test_of_media_that_were_cut_off_all_there_is_is_looked_at(file: Path) -> None:
    """Though fewer would settle it; so are the moments of a second pass."""
    short = scanner(Clip(swap_s=(0.0, 9.0), missing_s=1.0)).scan(file).report.sampling
    assert short is not None
    assert (short.decoded, short.stopped_by, short.max_gap_s) == (24, "media", pytest.approx(4.0 - 23.5 / 8, abs=1e-3))
    clip = Clip(duration_s=600.0, swap_s=(300.0, 310.0), missing_s=5.0)
    assert scanner(clip).scan(file).report.sampling is not None
    assert len(clip.passes) == 2


@pytest.mark.parametrize(
    ("error", "code", "retryable"),
    [(CorruptMedia("nothing decodes"), "corrupt", False), (DecodeCrash("SIGSEGV"), "decode_crash", True)],
)
def test_errors_become_codes(file: Path, error: VeriframeError, code: str, retryable: bool) -> None:
    report = scanner(Clip(fails_after=0, error=error)).scan(file).report
    assert report.status == "failed"
    assert report.verdict is None
    assert report.error is not None
    assert (report.error.code, report.error.retryable) == (code, retryable)
    assert report.error.sha256 == report.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()


def test_a_child_that_dies_in_mid_file_fails_the_item(file: Path) -> None:
    report = scanner(Clip(fails_after=20, error=DecodeCrash("SIGKILL"))).scan(file).report
    assert report.error is not None
    assert report.error.code == "decode_crash"


@pytest.mark.parametrize(
    ("window", "message"),
    [
        ({"start_s": 100.0}, "no frame from 100 s on: the video is 21.0 s long"),
        ({"start_s": 100.0, "strategy": Strategy.KEYFRAMES}, "no frame from 100 s on: the video is 21.0 s long"),
        ({"start_s": 1.0, "end_s": 8.0, "strategy": Strategy.KEYFRAMES}, "no key frame from 1 s to 8 s; use another strategy"),
    ],
)
def test_a_window_without_frames_says_why(file: Path, window: dict[str, Any], message: str) -> None:
    class Nothing(Clip):
        def frames(self, request: SamplingRequest) -> Iterator[Frame]:
            return iter(())

    report = scanner(Nothing(duration_s=21.0)).scan(file, request=SamplingRequest(**window)).report
    assert report.error is not None
    assert (report.error.code, report.error.message) == ("empty", message)


def test_a_bug_costs_one_item_and_says_internal(file: Path) -> None:
    class Broken(OneFace):
        def detect_small(
            self, small_BHWC: Sequence[np.ndarray] | np.ndarray, divisor: int, glances: Sequence[Glance] | None = None
        ) -> Detections:
            raise ZeroDivisionError("\x1b[31mred")

    report = scanner(Clip(), detector=Broken()).scan(file).report
    assert report.error is not None
    assert report.error.code == "internal"
    assert "\x1b" not in report.error.message


def test_missing_files_and_folders_are_reported(tmp_path: Path) -> None:
    for path in (tmp_path / "missing", tmp_path):
        report = scanner(Clip()).scan(path).report
        assert report.error is not None
        assert report.error.code == "unsupported"


def test_a_file_beyond_the_limit_is_refused_unread(file: Path) -> None:
    with file.open("wb") as media:
        media.truncate(1 << 40)
    clip = Clip()
    report = scanner(clip).scan(file).report
    assert report.error is not None
    assert report.error.code == "too_large"
    assert clip.passes == []


def test_bytes_that_were_hashed_just_before_are_not_hashed_again(file: Path) -> None:
    report = scanner(Clip()).scan(file, content=Content(sha256="a" * 64, size_bytes=10)).report
    assert report.media is not None
    assert report.media.sha256 == "a" * 64


def test_a_picture_needs_one_face(file: Path) -> None:
    report = scanner(Clip(kind=MediaKind.PICTURE, duration_s=0.0)).scan(file).report
    assert report.verdict is Label.REAL
    assert not report.calibrated
    assert report.sampling is not None
    assert (report.sampling.requested, report.sampling.max_gap_s) == (1, 0.0)


def test_evidence_names_crops_that_are_handed_over(file: Path) -> None:
    result = scanner(Clip(swap_s=(1.0, 2.0))).scan(file)
    evidence = [item for track in result.report.tracks for item in track.evidence]
    assert {name for item in evidence for name in (item.crop, item.frame) if name} == set(result.crops)
    assert all(item.explanation is None for item in evidence)
    assert all(data[:2] == b"\xff\xd8" for data in result.crops.values())
    assert evidence[0].score > 0.9
    assert 1000 <= evidence[0].t_ms < 2000


def test_every_person_has_evidence_however_fake_another_is(file: Path) -> None:
    clip = Clip(duration_s=600.0, swap_s=(0.0, 600.0), bystander=True)
    result = scanner(clip, strategy=Strategy.UNIFORM, max_frames=300, detector=TwoFaces()).scan(file)
    swapped, bystander = result.report.tracks
    assert swapped.score is not None
    assert bystander.score is not None
    assert swapped.score > 0.9 > 0.1 > bystander.score
    for track in (swapped, bystander):
        assert len(track.evidence) == 2
        assert all(item.crop in result.crops for item in track.evidence)


def test_the_same_file_gives_the_same_report_twice(file: Path) -> None:
    def outcome() -> str:
        kept = scanner(Clip(swap_s=(1.0, 2.0))).scan(file).report.model_dump(mode="json")
        return json.dumps({key: kept[key] for key in ("verdict", "score", "tracks", "segments", "frames", "sampling")})

    assert outcome() == outcome()


def test_the_longest_gap_lies_in_the_window_also_where_a_frame_began_before_it() -> None:
    assert max_gap_s([5.0], 6.0, 7.0) == 1.0
    assert max_gap_s([5.0, 6.25], 6.0, 7.0) == 0.75


def test_the_longest_gap_counts_both_ends() -> None:
    assert max_gap_s([1.0, 2.0], 0.0, 10.0) == 8.0
    assert max_gap_s([9.0, 5.0], 0.0, 10.0) == 5.0
    assert max_gap_s([], 2.0, 10.0) == 8.0


def test_a_file_is_looked_through_without_a_verdict(file: Path) -> None:
    clip = Clip(swap_s=(1.0, 2.0))
    looks = list(scanner(clip).look_through(file, lambda info: SamplingRequest(strategy=Strategy.FPS, fps=4, max_frames=16)))
    assert {info.width for info, _ in looks} == {SIZE}
    assert list(scanner(clip).look_through(file, lambda info: None)) == []
    frames = [frame for _, look in looks for frame in look.frames]
    times_s = [frame.sighting.pts_s for frame in frames]
    assert times_s == sorted(times_s)
    assert len(times_s) == 16
    assert [frame.faces[0].logit for frame in frames] == [3.0 if 1 <= time_s < 2 else -3.0 for time_s in times_s]
    assert {frame.small_HWC is None for frame in frames} == {True}, "the memory of the frames is not free for the next file"


def test_what_breaks_while_it_is_looked_through_gives_what_came_before_or_its_error(file: Path) -> None:
    request = SamplingRequest(strategy=Strategy.FPS, fps=4, max_frames=16)
    looks = list(scanner(Clip(fails_after=5)).look_through(file, lambda info: request))
    assert sum(len(look.frames) for _, look in looks) == 5
    with pytest.raises(CorruptMedia):
        list(scanner(Clip(fails_after=0)).look_through(file, lambda info: request))
