from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from worker.model.spec import Calibration, ModelSpec, licence_notice
from worker.types import MediaKind, Strategy


def calibration(**changes: Any) -> Calibration:
    values: dict[str, Any] = {
        "media": MediaKind.VIDEO,
        "rule": "mean_logit",
        "strategies": (Strategy.AUTO, Strategy.UNIFORM),
        "min_frames": 32,
        "max_frames": 512,
        "a": 0.8,
        "b": -0.1,
        "c_tracks": 0.3,
        "c_windows": 0.2,
        "t_real": 0.3,
        "t_fake": 0.7,
    }
    return Calibration(**(values | changes))


def test_json_and_back(tiny_spec: ModelSpec) -> None:
    spec = tiny_spec.model_copy(update={"calibrations": (calibration(),)})
    assert ModelSpec.model_validate_json(spec.model_dump_json()) == spec


@pytest.mark.parametrize(
    "change",
    [
        {"a": 0.0},
        {"a": -1.0},
        {"b": float("nan")},
        {"c_tracks": -0.1},
        {"c_windows": -0.1},
        {"min_frames": 600},
        {"min_frames": -1},
        {"t_real": 0.8},
        {"t_fake": 1.1},
        {"media": "audio"},
        {"strategies": ["sometimes"]},
        {"quality_slope": -1.0},
        {"real_log_odds": (1.0, 0.0)},
        {"fake_log_odds": (1.0,)},
    ],
)
def test_senseless_calibrations_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        calibration(**change)


@pytest.mark.parametrize(
    "change",
    [
        {"spec_version": 2},
        {"backbone": "hf-hub:someone/model"},
        {"backbone": "local-dir:/tmp/model"},
        {"backbone": "../x"},
        {"families": ["blend", "real"]},
        {"families": ["real"]},
        {"families": ["real", "fake", "fake"]},
        {"std": [0.2, 0.0, 0.2]},
        {"thresholds": {"real": 0.8, "fake": 0.2}},
        {"head": {"kind": "quantum"}},
        {"head": {"kind": "card", "num_steps": 1}},
        {"head": {"kind": "card", "num_steps": 4, "ddim_stride": 4}},
        {"head": {"num_steps": 100_000}},
        {"crop": {"size": 1_000_000}},
        {"surprise": 1},
    ],
)
def test_senseless_specs_are_refused(tiny_spec: ModelSpec, change: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ModelSpec.model_validate(tiny_spec.model_dump(mode="json") | change)


@pytest.mark.parametrize(
    "change",
    [
        {"families": ["real", "fake"]},
        {"thresholds": {"real": 0.0, "fake": 1.0}},
        {"thresholds": {"real": 0.5, "fake": 0.5}},
        {"head": {"kind": "card", "num_steps": 2, "ddim_stride": 1}},
        {"head": {"kind": "linear", "num_steps": 1}},
    ],
)
def test_specs_at_the_edge_of_sense_are_taken(tiny_spec: ModelSpec, change: dict[str, Any]) -> None:
    ModelSpec.model_validate(tiny_spec.model_dump(mode="json") | change)


@pytest.mark.parametrize(
    "change",
    [
        {"min_frames": 0, "max_frames": 0},
        {"t_real": 0.0, "t_fake": 0.0},
        {"t_real": 1.0, "t_fake": 1.0},
        {"real_log_odds": (1.0, 1.0)},
        {"fake_log_odds": ()},
    ],
)
def test_calibrations_at_the_edge_of_sense_are_taken(change: dict[str, Any]) -> None:
    calibration(**change)


def test_a_spec_cannot_be_changed(tiny_spec: ModelSpec) -> None:
    with pytest.raises(ValidationError, match="frozen"):
        tiny_spec.name = "other"  # type: ignore[misc]


def test_licence_notice(tiny_spec: ModelSpec) -> None:
    assert licence_notice(tiny_spec) == "tiny 0: test (none). For tests."
