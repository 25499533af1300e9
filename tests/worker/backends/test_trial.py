"""Trials with classifiers of our own: fakes at the port ``Classifier``."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from worker.backends.trial import MARGIN, Trial, fastest, probe_crops, try_all
from worker.errors import ConfigError
from worker.ports import Classifier
from worker.types import Scores, UInt8


@dataclass
class Shifted:
    """The mean of a crop as its logit, plus a shift."""

    name: str
    shift: float = 0.0

    def scores(self, crops_FHWC: UInt8) -> Scores:
        return Scores(logit_F=(crops_FHWC.mean(axis=(1, 2, 3)) / 50 - 2 + self.shift).astype(np.float32))


def test_what_is_missing_differs_or_gives_no_numbers_is_told_and_not_timed() -> None:
    crops = probe_crops(32)

    def opened(name: str) -> Classifier:
        if name == "onnxruntime-cuda":
            raise ConfigError("no card")
        shift = {"onnxruntime": 0.0, "openvino": 0.01, "openvino-bf16": 0.01, "tensorrt": float("nan")}[name]
        return Shifted(name, shift)

    trials = {
        t.name: t for t in try_all(["onnxruntime", "onnxruntime-cuda", "openvino", "openvino-bf16", "tensorrt"], opened, crops)
    }
    assert trials["onnxruntime-cuda"].reason == "no card"
    assert "differ by up to" in (trials["openvino"].reason or ""), "float32 has the narrow gate"
    assert trials["openvino-bf16"].reason is None, "bfloat16 has the wide one"
    assert "no numbers" in (trials["tensorrt"].reason or "")
    assert {name for name, trial in trials.items() if trial.ms is not None} == {"onnxruntime", "openvino-bf16"}


def trial(name: str, ms: float | None, reason: str | None = None) -> Trial:
    return Trial(name=name, ms=ms, reason=reason)


def test_the_fastest_must_be_clearly_faster_than_the_reference() -> None:
    slow, fast = trial("onnxruntime", 10.0), trial("openvino-bf16", 5.0)
    assert fastest([slow, trial("openvino", 7.0), fast]) is fast
    assert fastest([slow, trial("openvino", 10.0 / MARGIN + 0.1)]) is slow
    assert fastest([slow, trial("openvino-bf16", 5.0, "beyond the gate")]) is slow
    assert fastest([trial("onnxruntime", None)]).name == "onnxruntime"


@pytest.mark.parametrize("size", [224, 64])
def test_the_packaged_faces_are_pictures_of_different_faces(size: int) -> None:
    crops = probe_crops(size)
    assert crops.shape == (16, size, size, 3)
    assert len({crop.tobytes() for crop in crops}) == 16
    assert crops.std(axis=(1, 2, 3)).min() > 15
