from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from worker.backends.openvino import bf16_lacking
from worker.backends.openvino_parts import CutPoint, best_scale, cut, cut_points, ready_for_bfloat16, to_bfloat16, where_to_cut
from worker.extras import missing
from worker.openvino_runtime import load_runtime


def point(op: str, rank: int, convolutions: int) -> CutPoint:
    return CutPoint(op=op, rank=rank, convolutions=convolutions)


def test_the_stem_ends_late_within_the_first_convolutions_and_the_trunk_at_the_features() -> None:
    points = [
        point("pixels", 4, 0),
        point("first", 4, 1),
        point("third", 4, 3),
        point("fourth", 4, 4),
        point("fifth", 4, 5),
        point("map", 4, 9),
        point("features", 2, 9),
        point("hidden", 2, 9),
        point("logit", 1, 9),
    ]
    assert where_to_cut(points) == ["fourth", "features"]


def test_a_stem_without_a_cut_belongs_to_the_trunk() -> None:
    assert where_to_cut([point("late", 4, 5), point("features", 2, 9)]) == ["features"]


@pytest.mark.parametrize("points", [[], [point("features", 2, 0)], [point("map", 4, 9), point("logit", 1, 9)]])
def test_a_graph_whose_head_cannot_be_told_is_refused(points: list[CutPoint]) -> None:
    with pytest.raises(ValueError, match="pooled features"):
        where_to_cut(points)


def test_the_parts_of_a_real_graph_meet(tiny_onnx: Path) -> None:
    if missing(("openvino",)):
        pytest.skip("needs openvino: make setup")
    ov = load_runtime()
    model = ov.Core().read_model(tiny_onnx)
    points = cut_points(ov, model)
    assert [p.convolutions for p in points] == sorted(p.convolutions for p in points)
    stem, trunk, head = cut(ov, model, where_to_cut(points))
    assert stem.output(0).partial_shape == trunk.input(0).partial_shape
    assert trunk.output(0).partial_shape == head.input(0).partial_shape
    assert {name for output in head.outputs for name in output.get_names()} >= {"logit", "families"}

    def convolutions(part: object) -> int:
        return sum("Convolution" in op.get_type_name() for op in part.get_ordered_ops())  # type: ignore[attr-defined]

    assert convolutions(head) == 0
    assert 2 <= convolutions(stem) < convolutions(trunk)


SHIFT = 1.0 + 2**-12
"""Not a number of bfloat16, which has 8 bits."""


@pytest.fixture
def norm_after_convolution() -> Any:
    """``x`` [1, 1, 4, 4] through a convolution by 1 and a batch norm that adds ``SHIFT``."""
    if missing(("openvino",)):
        pytest.skip("needs openvino: make setup")
    ov = load_runtime()
    op = ov.opset13
    x = op.parameter([1, 1, 4, 4], np.float32)
    summed = op.convolution(x, op.constant(np.ones((1, 1, 1, 1), np.float32)), [1, 1], [0, 0], [0, 0], [1, 1])
    one = np.ones(1, np.float32)
    normed = op.batch_norm_inference(summed, *(op.constant(v) for v in (one, one * SHIFT, one * 0, one)), 1e-12)
    return ov.Model([normed], [x], "norm")


def shift(model: Any, precision: str) -> float:
    compiled = load_runtime().Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": precision})
    return float(compiled(np.zeros((1, 1, 4, 4), np.float32))[0].max())


def test_a_norm_that_is_kept_apart_computes_the_same(norm_after_convolution: Any) -> None:
    assert ready_for_bfloat16(load_runtime(), norm_after_convolution) == 1
    assert shift(norm_after_convolution, "f32") == pytest.approx(SHIFT, abs=1e-7)


def test_a_norm_that_is_kept_apart_is_not_rounded_in_bfloat16(norm_after_convolution: Any) -> None:
    if lacking := bf16_lacking():
        pytest.skip(lacking)
    assert shift(norm_after_convolution, "bf16") == 1.0, "folded, its shift is rounded: else there was nothing to keep apart"
    ready_for_bfloat16(load_runtime(), norm_after_convolution)
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
