from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from worker.backends.openvino import bf16_lacking
from worker.backends.openvino_bf16 import best_scale, ready_for_bfloat16, to_bfloat16
from worker.extras import missing
from worker.openvino_runtime import load_runtime, operators

needs_openvino = pytest.mark.skipif(bool(missing(("openvino",))), reason="needs openvino: make setup")
SHIFT = 1.0 + 2**-12
"""Not a number of bfloat16, which has 8 bits."""


@pytest.fixture
def norm_after_convolution() -> Any:
    """``x`` [1, 1, 4, 4] through a convolution by 1 and a batch norm that adds ``SHIFT``."""
    if missing(("openvino",)):
        pytest.skip("needs openvino: make setup")
    ov = load_runtime()
    op = operators()
    x = op.parameter([1, 1, 4, 4], np.float32)
    summed = op.convolution(x, op.constant(np.ones((1, 1, 1, 1), np.float32)), [1, 1], [0, 0], [0, 0], [1, 1])
    one = np.ones(1, np.float32)
    normed = op.batch_norm_inference(summed, *(op.constant(v) for v in (one, one * SHIFT, one * 0, one)), 1e-12)
    return ov.Model([normed], [x], "norm")


def shift(model: Any, precision: str) -> float:
    compiled = load_runtime().Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": precision})
    return float(compiled(np.zeros((1, 1, 4, 4), np.float32))[0].max())


def test_a_norm_that_is_kept_apart_computes_the_same(norm_after_convolution: Any) -> None:
    assert ready_for_bfloat16(norm_after_convolution) == 1
    assert shift(norm_after_convolution, "f32") == pytest.approx(SHIFT, abs=1e-7)


def test_a_norm_that_is_kept_apart_is_not_rounded_in_bfloat16(norm_after_convolution: Any) -> None:
    if lacking := bf16_lacking():
        pytest.skip(lacking)
    assert shift(norm_after_convolution, "bf16") == 1.0, "folded, its shift is rounded: else there was nothing to keep apart"
    ready_for_bfloat16(norm_after_convolution)
    assert shift(norm_after_convolution, "bf16") == pytest.approx(SHIFT, abs=1e-7)


def test_weights_are_divided_by_what_they_round_best_with() -> None:
    rng = np.random.default_rng(0)
    weights_OK = rng.normal(size=(64, 27)).astype(np.float32)
    scale_O = best_scale(weights_OK)
    assert scale_O.dtype == np.float32
    assert ((scale_O >= 1) & (scale_O < 2)).all()

    def error(scale_O: Any) -> Any:
        return np.abs((to_bfloat16(weights_OK / scale_O[:, None]) * scale_O[:, None] - weights_OK).sum(axis=1))

    assert error(scale_O).mean() < error(np.ones(64, np.float32)).mean() / 2


def test_numbers_are_rounded_to_the_nearest_of_bfloat16() -> None:
    given = np.array([1.0, 1 + 2**-8, 1 + 3 * 2**-8, 1 + 2**-9, -1 - 2**-7, 0.0], np.float32)
    np.testing.assert_array_equal(to_bfloat16(given), np.array([1.0, 1.0, 1 + 2**-6, 1.0, -1 - 2**-7, 0.0], np.float32))


@needs_openvino
def test_in_float32_a_ready_network_computes_the_same() -> None:
    """Convolutions with a bias, in groups, and without a norm."""
    ov = load_runtime()
    op = operators()
    rng = np.random.default_rng(0)

    def normal(*shape: int) -> Any:
        return op.constant(rng.normal(size=shape).astype(np.float32))

    def norm(x: Any, channels: int) -> Any:
        variance = op.constant(rng.uniform(0.5, 2, channels).astype(np.float32))
        return op.batch_norm_inference(x, normal(channels), normal(channels), normal(channels), variance, 1e-3)

    where = ([1, 1], [1, 1], [1, 1], [1, 1])
    x = op.parameter([2, 3, 8, 8], np.float32)
    y = op.add(op.convolution(x, normal(8, 3, 3, 3), *where), normal(1, 8, 1, 1))
    y = op.relu(norm(y, 8))
    y = op.relu(norm(op.group_convolution(y, normal(4, 2, 2, 3, 3), *where), 8))
    model = ov.Model([op.convolution(y, normal(4, 8, 3, 3), *where)], [x], "random")
    pixels = rng.normal(size=(2, 3, 8, 8)).astype(np.float32)

    def computed() -> Any:
        return ov.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(pixels)[0]

    before = computed()
    assert ready_for_bfloat16(model) == 2
    np.testing.assert_allclose(computed(), before, atol=1e-5 * np.abs(before).max())


def test_channels_of_zeros_and_of_tiny_weights_keep_a_scale_in_range() -> None:
    weights_OK = np.array([[0.0, 0.0], [1e-40, -1e-42]], np.float32)
    scale_O = best_scale(weights_OK)
    assert ((scale_O >= 1) & (scale_O < 2)).all()
