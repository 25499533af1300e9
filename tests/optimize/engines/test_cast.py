from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import NodeProto, TensorProto, helper, numpy_helper

from optimize.engines.cast import STEM_CONVOLUTIONS, backbone_nodes, cast_graph
from worker.backends.artefact import GATES, Precision, compare
from worker.errors import ModelError
from worker.model.graph import FAMILIES, INPUT, LOGIT
from worker.types import UInt8

HALF = {"fp16": TensorProto.FLOAT16, "bf16": TensorProto.BFLOAT16}


def types_of(model: onnx.ModelProto) -> dict[str, int]:
    """Element type of every tensor that a node makes, by inference."""
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    stored = {tensor.name: tensor.data_type for tensor in inferred.initializer}
    return stored | {value.name: value.type.tensor_type.elem_type for value in (*inferred.value_info, *inferred.output)}


def nodes_of(model: onnx.ModelProto, kind: str) -> list[NodeProto]:
    return [node for node in model.graph.node if node.op_type == kind]


def test_fp32_is_left_as_it_is(tiny_onnx: Path) -> None:
    data = tiny_onnx.read_bytes()
    assert cast_graph(data, "fp32") is data


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_backbone_is_cast_and_stem_head_and_outputs_are_not(precision: Precision, tiny_onnx: Path) -> None:
    model = onnx.load_from_string(cast_graph(tiny_onnx.read_bytes(), precision))
    types, half = types_of(model), HALF[precision]
    convolutions = nodes_of(model, "Conv")
    assert len(convolutions) > STEM_CONVOLUTIONS + 5
    assert {types[node.output[0]] for node in convolutions[:STEM_CONVOLUTIONS]} == {TensorProto.FLOAT}
    assert {types[node.output[0]] for node in convolutions[STEM_CONVOLUTIONS:]} == {half}
    for kind in ("Gemm", "LayerNormalization", "ReduceLogSumExp"):
        assert nodes_of(model, kind)
        assert {types[node.output[0]] for node in nodes_of(model, kind)} == {TensorProto.FLOAT}
    assert types[nodes_of(model, "ReduceMean")[-1].output[0]] == TensorProto.FLOAT, "the pooled features"
    assert [(value.name, value.type.tensor_type.elem_type) for value in model.graph.output] == [
        (LOGIT, TensorProto.FLOAT),
        (FAMILIES, TensorProto.FLOAT),
    ]
    assert model.graph.input[0].type.tensor_type.elem_type == TensorProto.UINT8


def test_batch_norms_are_folded_behind_the_stem(tiny_onnx: Path) -> None:
    before, after = onnx.load(tiny_onnx), onnx.load_from_string(cast_graph(tiny_onnx.read_bytes(), "fp16"))
    assert len(nodes_of(before, "BatchNormalization")) > STEM_CONVOLUTIONS + 5
    assert len(nodes_of(after, "BatchNormalization")) == STEM_CONVOLUTIONS


def test_metadata_and_every_use_of_a_tensor_survive(tiny_onnx: Path) -> None:
    before, after = onnx.load(tiny_onnx), onnx.load_from_string(cast_graph(tiny_onnx.read_bytes(), "fp16"))
    assert list(after.metadata_props) == list(before.metadata_props)
    used = {name for node in after.graph.node for name in node.input}
    made = {name for node in after.graph.node for name in node.output} - {value.name for value in after.graph.output}
    assert {tensor.name for tensor in after.graph.initializer} <= used
    assert made <= used


def test_fp16_scores_stay_within_the_gate(tiny_onnx: Path, make_crops: Callable[[int], UInt8]) -> None:
    crops = make_crops(16)

    def probabilities(data: bytes) -> np.ndarray:
        logits: np.ndarray = ort.InferenceSession(data, providers=["CPUExecutionProvider"]).run([LOGIT], {INPUT: crops})[0]
        return np.asarray(1 / (1 + np.exp(-logits)), np.float32)

    reference, got = (probabilities(cast_graph(tiny_onnx.read_bytes(), precision)) for precision in ("fp32", "fp16"))
    assert reference.std() > 0.1
    parity = compare(got, reference)
    most, mean = GATES["fp16"]
    assert parity.max_dp is not None
    assert parity.mean_dp is not None
    assert 0 < parity.max_dp <= most
    assert parity.mean_dp <= mean


def small_graph(convolutions: int, weight: float = 1.0, *, norm_first: bool = False) -> bytes:
    """float32 maps through convolutions of 1 x 1, each with the weight; ``norm_first``: a batch norm without a convolution."""
    nodes = [helper.make_node("Cast", ["x"], ["m0"], to=TensorProto.FLOAT)]
    for place in range(convolutions):
        nodes.append(helper.make_node("Conv", [f"m{place}", "w"], [f"m{place + 1}"]))
    last = f"m{convolutions}"
    if norm_first:
        nodes.append(helper.make_node("Relu", [last], ["relu"]))
        nodes.append(helper.make_node("BatchNormalization", ["relu", "two", "half", "half", "two"], ["norm"], epsilon=0.0))
        last = "norm"
    nodes.append(helper.make_node("GlobalAveragePool", [last], ["y"]))
    constants = [numpy_helper.from_array(np.full((1, 1, 1, 1), weight, np.float32), "w")]
    constants += [numpy_helper.from_array(np.full(1, value, np.float32), name) for name, value in (("two", 2.0), ("half", 0.5))]
    shape = ["n", 1, 4, 4]
    x = helper.make_tensor_value_info("x", TensorProto.UINT8, shape)
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 1, 1, 1])
    graph = helper.make_graph(nodes, "small", [x], [y], constants if norm_first else constants[:1])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    return bytes(model.SerializeToString())


def test_a_batch_norm_without_a_convolution_becomes_a_product_and_a_sum() -> None:
    data = small_graph(3, norm_first=True)
    cast = cast_graph(data, "fp16")
    pixels = np.arange(32, dtype=np.uint8).reshape(2, 1, 4, 4)
    before, after = (
        ort.InferenceSession(model, providers=["CPUExecutionProvider"]).run(None, {"x": pixels})[0] for model in (data, cast)
    )
    assert not nodes_of(onnx.load_from_string(cast), "BatchNormalization")
    np.testing.assert_allclose(after, before, rtol=2e-3)


def test_weights_beyond_the_range_of_float16_are_refused_and_fit_bfloat16() -> None:
    data = small_graph(3, weight=1e5)
    with pytest.raises(ModelError, match="beyond the range of fp16"):
        cast_graph(data, "fp16")
    cast_graph(data, "bf16")


def test_a_graph_that_is_all_stem_has_nothing_to_cast() -> None:
    data = small_graph(STEM_CONVOLUTIONS)
    assert backbone_nodes(onnx.load_from_string(data)) == set()
    with pytest.raises(ModelError, match="nothing to cast"):
        cast_graph(data, "bf16")
