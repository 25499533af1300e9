"""Builds a scanner from settings: the one place that knows every implementation."""

from __future__ import annotations

import hashlib
import json
from contextlib import ExitStack, closing

import cv2

from worker import __version__
from worker import report as wire
from worker.backends.choose import is_at_hand, open_from, opening_of
from worker.backends.kept import user_cache
from worker.cores import scan_threads
from worker.engine import Engine, EngineOpened, EngineOpening
from worker.faces.carry import CarryingDetector
from worker.faces.detect import MtcnnDetector
from worker.faces.nets import load_nets, packaged_nets
from worker.frame_source import MIB, build_frames, request_of
from worker.frames.ahead import FramesAhead
from worker.frames.sandbox import SandboxedFrames
from worker.look import FaceRules
from worker.model.checkpoint import load_spec
from worker.model.spec import ModelSpec
from worker.overlap import Crew
from worker.pipeline import Scanner
from worker.ports import FaceNets
from worker.run import ScanOptions
from worker.settings import Settings
from worker.telemetry.catalogue import FALLBACKS, MODEL, UNAVAILABLE
from worker.telemetry.measured import MeasuredClassifier, MeasuredDetector
from worker.telemetry.port import SILENT, Telemetry
from worker.verdict.aggregate import Windows
from worker.verdict.calibrate import Calibration
from worker.verdict.decide import Policy

RESULTS_VERSION = 10
"""Counts up when a scan of the same bytes with the same model and options gives another verdict or score, or other evidence, than
the version before: in decoding, sampling, faces, crops, tracks or the verdict, or in what a report tells of them. Results that
the queue or a folder keeps are then made anew; ``__version__`` counts releases, and says nothing of that."""
OwnedFrames = SandboxedFrames | FramesAhead
DETECTS_BY_DEFAULT = "onnxruntime"
WITHOUT_INFLUENCE = {
    "decode": {"threads", "timeout_s", "cpu_s", "memory_mib", "shared_mib"},
    "faces": {"backend"},
    "model": {"threads", "batch", "cache_dir", "checkpoint", "backend"},
}
"""Settings that cannot change a result (the checkpoint counts by its hash, backends by the names of those that run)."""
SERVICE = {"redis", "queue", "source", "artifacts", "callbacks", "api", "watch", "telemetry"}
"""Sections of what is around the scans."""


def build_scanner(settings: Settings, telemetry: Telemetry = SILENT) -> Scanner:
    """Load the networks and start the sandbox. Raises ConfigError or ModelError; the scanner owns all it opened."""
    return _build(settings, telemetry)


def begin_scanner(settings: Settings, frames: OwnedFrames) -> Scanner:
    """As ``build_scanner``, but a classifier that is at hand may still be opening: the first frames of the first item do not wait
    for it. What goes wrong there is raised by the scanner instead (EngineFailed). ``frames`` was started before, and is the
    scanner's from here on."""
    return _build(settings, SILENT, frames, wait=False)


def _build(settings: Settings, telemetry: Telemetry, begun: OwnedFrames | None = None, *, wait: bool = True) -> Scanner:
    with ExitStack() as stack:
        # First the frames: decoders are imported there while the networks are loaded here.
        frames: OwnedFrames = build_frames(settings, telemetry) if begun is None else begun
        stack.enter_context(frames)
        threads = settings.model.threads or scan_threads()
        backend = settings.model.backend
        opening = opening_of(
            settings.model.checkpoint,
            threads=1,
            parallel=threads,
            max_batch=settings.model.batch,
            cache_dir=settings.model.cache_dir,
        )
        spec = load_spec(opening.checkpoint)
        policy = build_policy(settings, spec, opening.digest)
        ran, nets = _face_nets(settings, opening.digest, threads, telemetry)
        detector = stack.enter_context(MtcnnDetector(nets, min_face_px=settings.faces.min_face_px, threads=1))
        crew = stack.enter_context(Crew(threads))
        cv2.setNumThreads(1)  # the crew's threads share the cores already, and OpenCV's burn time waiting for one another

        def open_engine() -> Engine:
            classifier = open_from(opening, backend, lambda wanted: _fell_back(telemetry, wanted))
            model = describe_model(spec, opening.digest, classifier.name)
            telemetry.set(MODEL, 1, model.name, model.version, model.sha256, model.backend)
            return Engine(
                classifier=MeasuredClassifier(classifier, telemetry),
                model=model,
                fingerprint=fingerprint(settings, opening.digest, classifier.name, ran),
            )

        if wait or not is_at_hand(opening, backend):
            engine: EngineOpened | EngineOpening = EngineOpened(open_engine())
        else:
            engine = stack.enter_context(closing(EngineOpening(open_engine)))
        owned = stack.pop_all()
    return Scanner(
        frames=frames,
        new_detector=lambda: MeasuredDetector(CarryingDetector(detector) if settings.faces.carry else detector, telemetry),
        engine=engine,
        crew=crew,
        rules=FaceRules(
            margin=spec.crop.margin,
            size=spec.crop.size,
            min_vote_px=settings.faces.min_vote_px,
            min_vote_quality=settings.faces.min_vote_quality,
            batch=settings.model.batch,
        ),
        policy=policy,
        options=_options(settings),
        owned=owned,
    )


def _face_nets(settings: Settings, digest: str, parallel: int, telemetry: Telemetry) -> tuple[str, FaceNets]:
    """What runs the face detector's networks, and those."""
    folder = packaged_nets()
    packaged = load_nets(folder)
    if settings.faces.backend == DETECTS_BY_DEFAULT:
        return DETECTS_BY_DEFAULT, packaged
    from worker.backends.face_nets import Wanted, open_face_nets

    cache_dir = settings.model.cache_dir or user_cache()
    wanted = Wanted(backend=settings.faces.backend, folder=folder, cache_dir=cache_dir, digest=digest, parallel=parallel)
    return open_face_nets(wanted, packaged, lambda name: _fell_back(telemetry, name))


def _fell_back(telemetry: Telemetry, wanted: str) -> None:
    """From now on this process runs a model on another backend than that."""
    telemetry.count(FALLBACKS, wanted)
    telemetry.set(UNAVAILABLE, 1, wanted)


def build_policy(settings: Settings, spec: ModelSpec, digest: str) -> Policy:
    """The verdict's rules: the checkpoint's calibrations under the user's settings.

    Raises ConfigError where those hold a calibration on own footage that was fitted with another checkpoint than ``digest``.
    """
    verdict = settings.verdict
    calibrations = tuple(
        Calibration(
            kind=entry.media,
            rule=entry.rule,
            strategies=frozenset(entry.strategies),
            frames=(entry.min_frames, entry.max_frames),
            a=entry.a,
            b=entry.b,
            c_tracks=entry.c_tracks,
            c_windows=entry.c_windows,
            t_real=entry.t_real,
            t_fake=entry.t_fake,
            quality_full=entry.quality_full,
            quality_slope=entry.quality_slope,
        )
        for entry in spec.calibrations
    )
    return Policy(
        rule=verdict.rule,
        windows=Windows() if verdict.windows else None,
        calibrations=calibrations,
        are_inherited=spec.calibration_is_inherited,
        offsets=settings.calibration.offsets(digest),
        default_thresholds=(spec.thresholds.real, spec.thresholds.fake),
        t_real=verdict.real_below,
        t_fake=verdict.fake_above,
        min_votes_video=verdict.min_votes,
        max_gap_s=verdict.max_gap_s,
        min_quality=verdict.min_quality,
        max_std=verdict.max_std,
    )


def describe_model(spec: ModelSpec, digest: str, backend: str) -> wire.Model:
    """The report's ``model`` part."""
    return wire.Model(
        name=spec.name,
        version=spec.version,
        sha256=digest,
        licence=spec.licence.name,
        backend=backend,
        calibration=f"{spec.name} {spec.version}" if spec.calibrations and not spec.calibration_is_inherited else None,
        split_sha256=spec.training.split_sha256,
    )


def fingerprint(
    settings: Settings, digest: str, backend: str, faces: str = DETECTS_BY_DEFAULT, *, results: int = RESULTS_VERSION
) -> str:
    """Hash of veriframe's version and that of its results, the model, the backends that run and every setting that can change a
    result."""
    options = settings.model_dump(mode="json", exclude=SERVICE)
    for section, keys in WITHOUT_INFLUENCE.items():
        for key in keys:
            del options[section][key]
    ran = {"backend": backend} | ({} if faces == DETECTS_BY_DEFAULT else {"faces": faces})
    versions = {"version": __version__, "results": results}
    told = json.dumps(versions | {"model": digest, "options": options} | ran, sort_keys=True)
    return hashlib.sha256(told.encode()).hexdigest()


def _options(settings: Settings) -> ScanOptions:
    return ScanOptions(
        request=request_of(settings),
        second_pass_frames=settings.sampling.second_pass_frames,
        batch_frames=settings.faces.frames_together,
        batch_bytes=settings.faces.batch_mib * MIB,
        hold_bytes=settings.sampling.hold_mib * MIB,
        evidence_per_track=settings.output.evidence_per_track,
        max_bytes=settings.decode.max_bytes,
        explain=settings.output.explain,
    )
