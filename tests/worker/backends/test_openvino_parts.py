from __future__ import annotations

from pathlib import Path

import pytest

from worker.backends.openvino_bf16 import ready_for_bfloat16
from worker.backends.openvino_parts import CutPoint, cut, cut_points, where_to_cut
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
    norms = sum(op.get_type_name() == "BatchNormInference" for op in trunk.get_ordered_ops())
    assert ready_for_bfloat16(trunk) == norms > 0
