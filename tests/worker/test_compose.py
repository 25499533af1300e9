"""Settings and a checkpoint's spec become plain values."""

from __future__ import annotations

from worker.compose import build_policy
from worker.model.spec import ModelSpec, Thresholds
from worker.settings import load_settings

SHA = "a" * 64


def test_the_checkpoints_thresholds_are_for_scores_that_no_calibration_covers(tiny_spec: ModelSpec) -> None:
    spec = tiny_spec.model_copy(update={"thresholds": Thresholds(real=0.2, fake=0.9)})
    assert build_policy(load_settings(), spec, SHA).default_thresholds == (0.2, 0.9)
