from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from optimize.bench.rivals.classifier import build
from worker.types import Json


@pytest.fixture
def crops(tmp_path: Path) -> Path:
    shade = np.linspace(0, 255, 3 * 224, dtype=np.uint8).reshape(3, 224, 1, 1)
    np.save(tmp_path / "crops.npy", np.broadcast_to(shade, (3, 224, 224, 3)))
    return tmp_path / "crops.npy"


def scores(kind: str, crops: Path, threads: int, request: Json) -> Json:
    with build({"kind": kind, "device": "cpu", "crops": str(crops)}, threads) as answer:
        return answer(request | {"scores": True})


def test_the_runtime_alone_gives_the_backends_logits_in_order_on_any_number_of_threads(crops: Path) -> None:
    whole = scores("onnxruntime", crops, 1, {"batch": 5, "count": 5})
    apart = scores("onnxruntime alone", crops, 2, {"batch": 1, "count": 5})
    assert (whole["crops"], whole["memory_bytes"]) == (5, None)
    assert apart["logits"] == pytest.approx(whole["logits"], abs=1e-3)
    assert whole["logits"][3:] == pytest.approx(whole["logits"][:2], abs=1e-3), "three crops are repeated"


def test_openvino_alone_gives_the_same_in_float32(crops: Path) -> None:
    pytest.importorskip("openvino", reason="needs openvino: make setup")
    asked = {"batch": 2, "count": 3}
    assert scores("openvino fp32 alone", crops, 2, asked)["logits"] == pytest.approx(
        scores("onnxruntime", crops, 1, asked)["logits"], abs=1e-2
    )


def test_a_backend_that_would_be_replaced_is_not_measured_in_its_name(crops: Path) -> None:
    pytest.importorskip("torch", reason="needs torch: make setup")
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU, on which nothing would be replaced")
    with pytest.raises(RuntimeError, match="onnxruntime would run in its place"):
        scores("tensorrt", crops, 1, {"batch": 1, "count": 1})
