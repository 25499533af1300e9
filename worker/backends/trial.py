"""Tries backends on a few packaged faces: how fast each is here, and whether its scores stay within the gates."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from importlib.resources import files

import cv2
import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from worker.backends.artefact import GATES, compare, probabilities
from worker.backends.candidates import ARTEFACTS, REFERENCE, precision_of
from worker.errors import ConfigError, ModelError
from worker.ports import Classifier
from worker.types import Float32, UInt8

FACES = "probe_faces.jpg"
"""A square of GRID x GRID crops, SIDE pixels each, of the demo clips' faces; made by ``optimize.probe_faces``."""
ON_CARD = frozenset({"onnxruntime-cuda", *ARTEFACTS})
GRID, SIDE = 4, 224
BATCH = 8
ROUNDS = 3
PATIENCE_S = 30.0
"""After so long no further backend is tried."""
UNTRIED = "not tried: "
MARGIN = 1.1
"""So many times faster than the reference a backend must be, or the reference it is: noise decides nothing."""


class Trial(BaseModel):
    """One backend: milliseconds a crop (CPU time; with a card in play, wall time; the best of several rounds), and how far its
    probabilities lie from the reference's.

    ``reason`` says why it is not to be used; None for one that may be.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    name: str = Field(max_length=40)
    ms: float | None = Field(default=None, gt=0)
    max_dp: float | None = Field(default=None, ge=0)
    mean_dp: float | None = Field(default=None, ge=0)
    reason: str | None = Field(default=None, max_length=2000)

    @property
    def is_untried(self) -> bool:
        """No time was left for it: nothing is known of it."""
        return self.reason is not None and self.reason.startswith(UNTRIED)


def probe_crops(size: int) -> UInt8:
    """The packaged faces, uint8 RGB [16, size, size, 3]."""
    data = np.frombuffer((files("worker") / "backends" / FACES).read_bytes(), np.uint8)
    sheet = cv2.imdecode(data, cv2.IMREAD_COLOR)
    if sheet is None:
        raise ModelError(f"the packaged {FACES} is damaged: install veriframe anew")
    faces = cv2.cvtColor(sheet, cv2.COLOR_BGR2RGB).reshape(GRID, SIDE, GRID, SIDE, 3).swapaxes(1, 2).reshape(-1, SIDE, SIDE, 3)
    return np.stack([np.asarray(cv2.resize(face, (size, size), interpolation=cv2.INTER_AREA), np.uint8) for face in faces])


def try_all(names: Sequence[str], open_backend: Callable[[str], Classifier], crops_FHWC: UInt8) -> list[Trial]:
    """Open and compare the backends in turn, then time all that passed, in alternation. The reference is tried first."""
    reference = open_backend(REFERENCE)
    expected_F = probabilities(reference.scores(crops_FHWC).logit_F)
    passed: dict[str, Classifier] = {REFERENCE: reference}
    trials = {REFERENCE: Trial(name=REFERENCE, max_dp=0.0, mean_dp=0.0)}
    deadline = time.monotonic() + PATIENCE_S
    for name in names:
        if name in trials:
            continue
        if time.monotonic() > deadline:
            trials[name] = Trial(name=name, reason=f"{UNTRIED}the others took {PATIENCE_S:g} s")
            continue
        classifier, trials[name] = _compared(name, partial(open_backend, name), crops_FHWC, expected_F)
        if classifier is not None:
            passed[name] = classifier
    best_ms = _timed(passed, crops_FHWC[:BATCH])
    return [trial.model_copy(update={"ms": best_ms.get(name)}) for name, trial in trials.items()]


def fastest(trials: Sequence[Trial]) -> Trial:
    """The fastest one that may be used; the reference, unless another is clearly faster."""
    usable = [trial for trial in trials if trial.reason is None and trial.ms is not None]
    reference = next(trial for trial in trials if trial.name == REFERENCE)
    best = min(usable, key=lambda trial: trial.ms or 0, default=reference)
    if reference.ms is None or best.ms is None or reference.ms < MARGIN * best.ms:
        return reference
    return best


def _compared(
    name: str, opened: Callable[[], Classifier], crops_FHWC: UInt8, expected_F: Float32
) -> tuple[Classifier | None, Trial]:
    try:
        classifier = opened()
        got_F = probabilities(classifier.scores(crops_FHWC).logit_F)
    except (ConfigError, ModelError) as exc:
        return None, Trial(name=name, reason=str(exc)[:2000])
    parity = compare(got_F, expected_F, REFERENCE)
    most, mean = GATES[precision_of(classifier.name)]
    if parity.max_dp is None or parity.mean_dp is None:
        return None, Trial(name=name, reason=parity.reason)
    trial = Trial(name=name, max_dp=parity.max_dp, mean_dp=parity.mean_dp)
    if parity.max_dp > most or parity.mean_dp > mean:
        reason = f"scores differ by up to {parity.max_dp:.4f} (mean {parity.mean_dp:.5f}); allowed: {most:g} (mean {mean:g})"
        return None, trial.model_copy(update={"reason": reason})
    return classifier, trial


def _timed(passed: dict[str, Classifier], crops_FHWC: UInt8) -> dict[str, float]:
    """Best milliseconds a crop of several rounds, in each of which every backend has its turn. All have run before."""
    if len(passed) < 2:
        return {}
    best: dict[str, float] = {}
    # On a busy machine the wall clock tells who else was running, and the choice is remembered; but a card's work is no CPU time.
    clock = time.perf_counter if ON_CARD.intersection(passed) else time.process_time
    for _ in range(ROUNDS):
        for name, classifier in passed.items():
            started = clock()
            classifier.scores(crops_FHWC)
            ms = 1000 * (clock() - started) / len(crops_FHWC)
            best[name] = min(best.get(name, ms), ms)
    return best
