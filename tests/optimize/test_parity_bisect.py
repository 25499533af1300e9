from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from optimize.parity_bisect import Suspect, first_beyond, float_outputs, onnx_tensor, openvino_tensor
from worker.extras import missing
from worker.types import Float32, UInt8

NODES = [(f"t{i}", "Conv") for i in range(100)]


def tensors(off: Callable[[int], float]) -> Callable[[str], Float32]:
    return lambda name: np.full((2, 3), 1 + off(int(name[1:])), np.float32)


@pytest.mark.parametrize("first", [0, 1, 50, 99])
def test_the_first_tensor_that_is_off_is_found_in_few_looks(first: int) -> None:
    looks: list[str] = []

    def seen(name: str) -> Float32:
        looks.append(name)
        return tensors(lambda i: 0.5 if i >= first else 0.0)(name)

    assert first_beyond(NODES, tensors(lambda _: 0), seen, 1e-3) == Suspect(tensor=f"t{first}", op="Conv", off_by=0.5)
    assert len(looks) <= 8


def test_differences_that_add_up_are_told_as_such() -> None:
    suspect = first_beyond(NODES, tensors(lambda _: 0), tensors(lambda i: 1e-5 * i), 1e-2)
    assert suspect.tensor is None
    assert "no single node" in str(suspect)


def test_no_numbers_and_other_shapes_are_off() -> None:
    right = tensors(lambda _: 0)
    assert first_beyond(NODES, right, tensors(lambda i: np.nan if i > 7 else 0), 0.1).tensor == "t8"
    assert first_beyond(NODES, right, lambda name: np.ones(3, np.float32), 0.1).tensor == "t0"


def test_any_tensor_of_a_real_graph_can_be_looked_at(tiny_onnx: Path, make_crops: Callable[[int], UInt8]) -> None:
    nodes = float_outputs(tiny_onnx.read_bytes())
    assert nodes[-1][0] in ("logit", "families")
    crops = make_crops(2)
    plain = onnx_tensor(tiny_onnx.read_bytes(), crops, optimised=False)
    fused = onnx_tensor(tiny_onnx.read_bytes(), crops, optimised=True)
    assert first_beyond(nodes, plain, fused, 1e-3).tensor is None
    if missing(("openvino",)):
        pytest.skip("needs openvino: make setup")
    assert first_beyond(nodes, plain, openvino_tensor(tiny_onnx, crops, "fp32"), 1e-3).tensor is None
    middle = nodes[len(nodes) // 2][0]
    np.testing.assert_allclose(openvino_tensor(tiny_onnx, crops, "fp32")(middle), plain(middle), rtol=1e-3, atol=1e-3)
