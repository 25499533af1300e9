"""Scans the same clips by every backend and by PyTorch in float32, and holds scores and verdicts against the gates."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from optimize.parity_bisect import Suspect, bisect
from worker.backends.artefact import GATES, compare
from worker.backends.candidates import ARTEFACTS, NAMES, REFERENCE, is_of, open_named, precision_of
from worker.backends.choose import Exporter, export_in_process, opening_of
from worker.compose import build_scanner
from worker.errors import ConfigError, ModelError
from worker.report import Report
from worker.settings import Settings
from worker.types import Float32

EAGER = "torch"
MUST_RUN = (EAGER, REFERENCE)
"""These two may refuse no checkpoint."""
LEAST_SCANNED = 0.9
"""Share of the clips that must have been scanned: where both sides fail on a clip, it shows nothing."""
NO_FACE = "no face was found in any clip, so nothing was compared: give it media that show some"


@dataclass(frozen=True, slots=True, kw_only=True)
class Flip:
    """A clip whose verdict is another one than eager float32's."""

    clip: str
    eager: str
    verdict: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """One backend. ``refusal``: why it did not run, then there are no figures. ``suspect``: where a missed gate comes from."""

    backend: str
    gate_max: float
    gate_mean: float
    crops: int = 0
    clips: int = 0
    """Clips that both scanned."""
    max_dp: float | None = None
    mean_dp: float | None = None
    flips: tuple[Flip, ...] = ()
    refusal: str | None = None
    failure: str | None = None
    suspect: Suspect | None = None

    @property
    def passes(self) -> bool:
        """Within its gates; a refusal passes nothing, but is no failure by itself."""
        return self.refusal is None and self.failure is None

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "passes": self.passes}


def judge(
    settings: Settings,
    clips: Sequence[Path],
    backends: Sequence[str] = NAMES,
    *,
    on_backend: Callable[[Judged], None] = lambda _: None,
    export: Exporter = export_in_process,
) -> list[Judged]:
    """Every backend of ``backends`` against eager float32 on whole scans. Raises ConfigError where PyTorch is not installed."""
    eager = list(_scans(settings, EAGER, clips))
    found: list[Judged] = []
    for name in backends:
        judged = _judged(name, eager, eager) if name == EAGER else _run(settings, name, clips, eager)
        if judged.refusal is None:
            differs = judged.failure is not None and judged.crops > 0
            judged = replace(judged, suspect=_suspect(judged, settings, export)) if differs else _if_enough(judged, len(eager))
        on_backend(judged)
        found.append(judged)
    return found


def judge_decoder(settings: Settings, clips: Sequence[Path], decoder: str) -> Judged:
    """Whole scans whose frames come from ``decoder`` against the same whose frames PyAV decodes in software, on ONNX Runtime.

    Refused where a clip is decoded in software after all.
    """
    gate_max, gate_mean = GATES["fp32"]
    got = list(_scans(_decoded_by(settings, decoder), REFERENCE, clips))
    others = [Path(r.source.path or "").name for r in got if r.media is not None and r.media.decoder != decoder]
    if others:
        told = f"{len(others)} of {len(clips)} clips are not decoded by {decoder} ({others[0]}): see veriframe doctor"
        return Judged(backend=decoder, gate_max=gate_max, gate_mean=gate_mean, refusal=told)
    expected = list(_scans(_decoded_by(settings, "pyav"), REFERENCE, clips))
    judged = replace(_judged(REFERENCE, got, expected), backend=decoder)
    return judged if judged.failure is not None and judged.crops else _if_enough(judged, len(clips))


def _if_enough(judged: Judged, clips: int) -> Judged:
    if judged.clips >= LEAST_SCANNED * clips:
        return judged
    return replace(judged, failure=f"only {judged.clips} of {clips} clips could be scanned: give it media that decode")


def _decoded_by(settings: Settings, decoder: str) -> Settings:
    return settings.model_copy(update={"decode": settings.decode.model_copy(update={"decoder": decoder})})


def has_failed(judged: Judged, *, asked_for: bool) -> bool:
    """Whether the command must say so: a gate missed, or a refusal of one that may not refuse or was named outright."""
    refused = judged.refusal is not None and (asked_for or judged.backend in MUST_RUN)
    return judged.failure is not None or refused


def _run(settings: Settings, name: str, clips: Sequence[Path], eager: list[Report]) -> Judged:
    gate_max, gate_mean = GATES[precision_of(name)]
    try:
        if name in ARTEFACTS:  # a scan would fall back: here the reason is wanted
            open_named(name, opening_of(settings.model.checkpoint, cache_dir=settings.model.cache_dir))
        return _judged(name, list(_scans(settings, name, clips)), eager)
    except (ConfigError, ModelError) as exc:
        return Judged(backend=name, gate_max=gate_max, gate_mean=gate_mean, refusal=str(exc))


def _scans(settings: Settings, name: str, clips: Sequence[Path]) -> Iterator[Report]:
    """Whole reports, every frame scored, by one backend. Raises ConfigError or ModelError."""
    model = settings.model.model_copy(update={"backend": name})
    sampling = settings.sampling.model_copy(update={"exhaustive": True, "second_pass_frames": 0})
    with build_scanner(settings.model_copy(update={"model": model, "sampling": sampling})) as scanner:
        for clip in clips:
            report = scanner.scan(clip).report
            if report.model is None or not is_of(report.model.backend, name):
                raise ModelError(f"{clip.name} was scanned by {report.model and report.model.backend}, not by {name}")
            yield report


def _judged(name: str, reports: Sequence[Report], eager: Sequence[Report]) -> Judged:
    ran = next((report.model.backend for report in reports if report.model is not None), name)
    gate_max, gate_mean = GATES[precision_of(ran)]
    expected_F, got_F = _scores(eager), _scores(reports)
    flips = tuple(
        Flip(clip=Path(e.source.path or "").name, eager=_answer(e), verdict=_answer(r))
        for e, r in zip(eager, reports, strict=True)
        if _answer(e) != _answer(r)
    )
    parity = compare(got_F, expected_F)
    failure = parity.reason if len(expected_F) else NO_FACE
    if parity.max_dp is not None and parity.mean_dp is not None and (parity.max_dp > gate_max or parity.mean_dp > gate_mean):
        failure = f"scores differ by up to {parity.max_dp:.4f} (mean {parity.mean_dp:.5f})"
    elif flips:
        failure = f"{len(flips)} verdicts of {len(eager)} differ"
    return Judged(
        backend=name,
        gate_max=gate_max,
        gate_mean=gate_mean,
        crops=len(expected_F),
        clips=sum("completed" == r.status == e.status for e, r in zip(eager, reports, strict=True)),
        max_dp=parity.max_dp,
        mean_dp=parity.mean_dp,
        flips=flips,
        failure=failure,
    )


def _suspect(judged: Judged, settings: Settings, export: Exporter) -> Suspect | None:
    """The first node of the graph that differs, where the runtime lets one look inside."""
    return bisect(judged.backend, opening_of(settings.model.checkpoint, cache_dir=settings.model.cache_dir), export)


def _scores(reports: Sequence[Report]) -> Float32:
    scores = [face.score for report in reports for frame in report.frames for face in frame.faces if face.score is not None]
    return np.asarray(scores, np.float32)


def _answer(report: Report) -> str:
    return report.verdict.value if report.verdict is not None else report.status
