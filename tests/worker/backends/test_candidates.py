"""What runs is told by its name, precision and all."""

from __future__ import annotations

from typing import get_args

import pytest

from worker.backends.artefact import Precision
from worker.backends.candidates import ARTEFACTS, NAMES, is_of, precision_of


@pytest.mark.parametrize(
    ("ran", "precision"),
    [
        ("onnxruntime", "fp32"),
        ("onnxruntime-cuda", "fp32"),
        ("openvino-bf16", "bf16"),
        ("tensorrt", "fp32"),
        ("tensorrt-fp16", "fp16"),
        ("tensorrt-rtx", "fp32"),
        ("tensorrt-rtx-bf16", "bf16"),
        ("torch-tensorrt-fp16", "fp16"),
    ],
)
def test_a_name_tells_the_precision_whose_gate_counts(ran: str, precision: str) -> None:
    assert precision_of(ran) == precision


def test_each_backend_is_its_own_and_an_artefact_at_any_precision() -> None:
    for backend in NAMES:
        told = [backend] + ([f"{backend}-{p}" for p in get_args(Precision) if p != "fp32"] if backend in ARTEFACTS else [])
        for ran in told:
            assert [name for name in NAMES if is_of(ran, name)] == [backend]
    assert not is_of("onnxruntime", "tensorrt")
    assert not is_of("openvino-bf16", "openvino")
