"""Made-up cases and reports, through the real models: what a scan would have said."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from training.evaluation.cases import Case
from training.evaluation.judged import Judged, judge
from worker.report import (
    ErrorItem,
    FaceItem,
    FrameItem,
    Media,
    Model,
    ReasonItem,
    Report,
    Sampling,
    Source,
    Thresholds,
    new_id,
    now,
)
from worker.types import Label, MediaKind, Reason, Strategy

MODEL = Model(name="made-up", version="1", sha256="a" * 64, licence="none", backend="onnxruntime")


def make_case(label: str, name: str, group: str = "", **other: str) -> Case:
    source = other.pop("source", "one")
    return Case(name=name, path=Path("/media") / name, label=label, source=source, group=group or name, **other)


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def make_report(path: Path, logits: Sequence[float], kind: MediaKind = MediaKind.VIDEO, **changes: object) -> Report:
    """Faces of one track, a frame each; the score is their mean logit's, thresholds 0.3 and 0.7. No logits: no face."""
    frames = tuple(
        FrameItem(
            index=i,
            t_ms=125 * i,
            faces=(FaceItem(box=(0, 0, 99, 99), det_conf=0.99, score=sigmoid(logit), track=0, quality=0.8),),
        )
        for i, logit in enumerate(logits)
    )
    score = sigmoid(sum(logits) / len(logits)) if logits else None
    undecided = score is not None and 0.3 <= score <= 0.7
    verdict = (
        Label.NOT_APPLICABLE if score is None else Label.UNCERTAIN if undecided else Label.FAKE if score > 0.7 else Label.REAL
    )
    reason = Reason.NO_FACE if score is None else Reason.NEAR_THRESHOLD
    count = len(logits)
    values: dict[str, object] = {
        "id": new_id(),
        "source": Source.of(path),
        "created_at": now(),
        "status": "completed",
        "media": Media(kind=kind, duration_s=4, fps=25, width=640, height=480, codec="h264", container="mp4", decoder="pyav"),
        "verdict": verdict,
        "reasons": (ReasonItem(code=reason),) if score is None or undecided else (),
        "score": score,
        "calibrated": True,
        "thresholds": None if score is None else Thresholds(real_below=0.3, fake_above=0.7),
        "frames": frames,
        "sampling": Sampling(
            requested=count, decoded=count, with_face=count, strategy=Strategy.AUTO, max_gap_s=0.2, stopped_early=False
        ),
        "model": MODEL,
    }
    return Report(**(values | changes))  # type: ignore[arg-type]


def make_failed(path: Path) -> Report:
    return Report(
        id=new_id(),
        source=Source.of(path),
        created_at=now(),
        status="failed",
        model=MODEL,
        error=ErrorItem(code="corrupt", message="torn", retryable=False),
    )


@pytest.fixture(scope="session")
def case() -> Callable[..., Case]:
    return make_case


@pytest.fixture(scope="session")
def report() -> Callable[..., Report]:
    return make_report


@pytest.fixture(scope="session")
def failed() -> Callable[[Path], Report]:
    return make_failed


@pytest.fixture(scope="session")
def judged() -> Callable[..., Judged]:
    """(label, logit, name, group="", kind=video, **case) -> a judged case with three faces of that logit; None: no face."""

    def make(
        label: str, logit: float | None, name: str, group: str = "", kind: MediaKind = MediaKind.VIDEO, **other: str
    ) -> Judged:
        found = make_case(label, name, group, **other)
        return judge(found, make_report(found.path, [] if logit is None else [logit] * 3, kind))

    return make
