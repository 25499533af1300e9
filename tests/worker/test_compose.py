"""Settings and a checkpoint's spec become plain values."""

from __future__ import annotations

import time
from pathlib import Path
from threading import Event
from typing import NoReturn

import cv2
import pytest

from tests.worker.telemetry.recorded import Recorded
from tests.worker.verdict.test_decide import clip, coverage
from worker.compose import RESULTS_VERSION, begin_scanner, build_policy, build_scanner, describe_model, fingerprint
from worker.demo import demo_files
from worker.engine import EngineOpening
from worker.errors import ConfigError, DecodeTimeout, ModelError
from worker.frame_source import build_frames, request_of
from worker.frames.ahead import FramesAhead
from worker.frames.boot import boot
from worker.jobs import Task, do
from worker.model.spec import Calibration, ModelSpec, Thresholds
from worker.settings import load_settings
from worker.source.files import Item
from worker.types import MediaKind, Strategy, Verdict
from worker.verdict.calibrate import probability
from worker.verdict.decide import decide

SHA = "a" * 64
ENTRY = Calibration(
    media=MediaKind.VIDEO,
    rule="mean_logit",
    strategies=(Strategy.AUTO,),
    min_frames=1,
    max_frames=9,
    a=1.0,
    b=0.0,
    t_real=0.3,
    t_fake=0.7,
    quality_full=0.8,
    quality_slope=2.0,
)


def test_the_checkpoints_thresholds_are_for_scores_that_no_calibration_covers(tiny_spec: ModelSpec) -> None:
    spec = tiny_spec.model_copy(update={"thresholds": Thresholds(real=0.2, fake=0.9)})
    assert build_policy(load_settings(), spec, SHA).default_thresholds == (0.2, 0.9)


def test_quality_reaches_the_verdict(tiny_spec: ModelSpec) -> None:
    (found,) = build_policy(load_settings(), tiny_spec.model_copy(update={"calibrations": (ENTRY,)}), SHA).calibrations
    assert (found.quality_full, found.quality_slope) == (0.8, 2.0)


@pytest.mark.parametrize(("is_inherited", "told"), [(False, "tiny 0"), (True, None)])
def test_a_calibration_of_the_parents_scores_stands_in_and_does_not_hold(
    is_inherited: bool, told: str | None, tiny_spec: ModelSpec
) -> None:
    spec = tiny_spec.model_copy(update={"calibrations": (ENTRY,), "calibration_is_inherited": is_inherited})
    found = decide(clip(4.0), coverage(requested=9), build_policy(load_settings(), spec, SHA))
    assert isinstance(found, Verdict)
    assert found.calibrated is not is_inherited
    assert (found.thresholds, found.score) == ((ENTRY.t_real, ENTRY.t_fake), pytest.approx(probability(4.0)))
    assert describe_model(spec, SHA, "onnxruntime").calibration == told


def test_own_offsets_hold_for_their_model_only(tiny_spec: ModelSpec) -> None:
    settings = load_settings(flags={"calibration": {"model_sha256": SHA, "offset_video": -0.5}})
    assert build_policy(settings, tiny_spec, SHA).offsets == {MediaKind.VIDEO: -0.5}
    assert build_policy(load_settings(), tiny_spec, SHA).offsets == {}
    with pytest.raises(ConfigError, match=r"another model .* run veriframe calibrate again"):
        build_policy(settings, tiny_spec, "b" * 64)


def test_a_scan_refuses_the_offsets_of_another_model() -> None:
    settings = load_settings(flags={"calibration": {"model_sha256": SHA, "offset_picture": 0.1}})
    with pytest.raises(ConfigError, match="another model"):
        build_scanner(settings)


def test_an_offset_makes_resumed_reports_stale() -> None:
    own = load_settings(flags={"calibration": {"model_sha256": SHA, "offset_video": -0.5}})
    assert fingerprint(own, SHA, "onnxruntime") != fingerprint(load_settings(), SHA, "onnxruntime")


def test_the_backend_that_runs_makes_resumed_reports_stale_and_how_it_was_chosen_does_not() -> None:
    auto, named = (load_settings(flags={"model": {"backend": name}}) for name in ("auto", "openvino-bf16"))
    assert fingerprint(auto, SHA, "openvino-bf16") == fingerprint(named, SHA, "openvino-bf16")
    assert fingerprint(auto, SHA, "openvino-bf16") != fingerprint(auto, SHA, "onnxruntime")
    assert fingerprint(auto, SHA, "onnxruntime", "openvino") != fingerprint(auto, SHA, "onnxruntime")


def test_results_of_another_version_are_stale() -> None:
    now, later = (fingerprint(load_settings(), SHA, "onnxruntime", results=RESULTS_VERSION + more) for more in (0, 1))
    assert fingerprint(load_settings(), SHA, "onnxruntime") == now != later


def test_a_scan_tells_its_batches_faces_model_and_a_backend_that_was_not_to_be_had(tmp_path: Path) -> None:
    told = Recorded()
    wanted = {"backend": "tensorrt", "threads": 1, "cache_dir": str(tmp_path)}
    flags = {"sampling": {"max_frames": 4}}
    settings = load_settings(flags=flags | {"model": wanted, "faces": {"backend": "tensorrt"}})
    with build_scanner(settings, told) as scanner:
        report = scanner.scan(demo_files()[0].path).report
        assert report.error is None
        assert report.sampling is not None
        model = scanner.model
        assert scanner.fingerprint == fingerprint(load_settings(flags=flags), model.sha256, "onnxruntime"), "it tells what ran"
    loaded = ("model_info", model.name, model.version, model.sha256, "onnxruntime")
    assert told.shown == {loaded: 1, ("backend_unavailable", "tensorrt"): 1}
    assert len(told.seen["faces_per_frame",]) == report.sampling.decoded
    assert sum(told.seen["batch_crops",]) == sum(track.votes for track in report.tracks) > 0
    assert told.counts == {("backend_fallbacks_total", "tensorrt"): 2}, "classifier and faces; and no decoder was lost"


def test_a_decoder_that_is_lost_is_told() -> None:
    told = Recorded()
    settings = load_settings(flags={"decode": {"timeout_s": 1e-6}})
    with build_frames(settings, told) as frames, pytest.raises(DecodeTimeout), frames.open(demo_files()[0].path):
        pass
    assert told.counts == {("decoder_restarts_total", "timeout"): 1}


def test_opencv_starts_no_threads_beside_the_crews() -> None:
    cv2.setNumThreads(2)
    with build_scanner(load_settings(flags={"model": {"backend": "onnxruntime"}})):
        assert cv2.getNumThreads() == 1


def test_a_scanner_that_is_begun_becomes_the_one_that_is_built(tmp_path: Path) -> None:
    settings = load_settings(flags={"sampling": {"max_frames": 4}, "model": {"backend": "onnxruntime", "threads": 1}})
    decoders = boot()
    with begin_scanner(settings, build_frames(settings, decoders=decoders)) as begun:
        assert begun.scan(demo_files()[0].path).report.error is None
        told = (begun.model, begun.fingerprint)
    assert decoders.process.poll() is not None, "it was the scanner's"
    with build_scanner(settings) as built:
        assert (built.model, built.fingerprint) == told


def test_a_file_that_was_begun_before_the_scanner_gives_the_same_report() -> None:
    settings = load_settings(flags={"model": {"backend": "onnxruntime", "threads": 1}})
    path = demo_files()[0].path
    frames = FramesAhead(build_frames(settings), path, request_of(settings))
    frames.begin()
    with begin_scanner(settings, frames) as begun:
        ahead, again = begun.scan(path).report, begun.scan(path).report
    with build_scanner(settings) as built:
        plain = built.scan(path).report
    for key in ("verdict", "score", "frames", "tracks", "segments", "sampling", "media"):
        assert getattr(ahead, key) == getattr(plain, key) == getattr(again, key)


@pytest.mark.parametrize("kind", [ModelError, RuntimeError])
def test_what_goes_wrong_while_the_classifier_opens_is_raised_as_if_at_once(
    monkeypatch: pytest.MonkeyPatch, kind: type[Exception]
) -> None:
    """An export that was at hand may have gone, or be damaged."""

    def fail(*_: object) -> NoReturn:
        raise kind("it just went away")

    monkeypatch.setattr("worker.compose.open_from", fail)
    settings = load_settings(flags={"model": {"backend": "onnxruntime", "threads": 1}})
    with pytest.raises(kind, match="just went away"):
        build_scanner(settings)
    with begin_scanner(settings, build_frames(settings)) as begun, pytest.raises(kind, match="just went away"):
        do(Task(item=Item(path=demo_files()[0].path)), begun)


def test_a_scanner_that_cannot_be_begun_leaves_no_process(tmp_path: Path) -> None:
    decoders = boot()
    settings = load_settings(flags={"model": {"checkpoint": tmp_path / "none.safetensors"}})
    with pytest.raises(ModelError):
        begin_scanner(settings, build_frames(settings, decoders=decoders))
    assert decoders.process.poll() is not None


def test_an_opening_under_way_holds_up_no_end() -> None:
    release, started = Event(), Event()

    def slow() -> NoReturn:
        started.set()
        release.wait(60.0)
        raise ModelError("too late")

    opening = EngineOpening(slow)
    assert started.wait(60.0)
    before = time.monotonic()
    opening.close()
    assert time.monotonic() - before < 30.0
    release.set()
