"""Cuts an OpenVINO graph where one tensor alone carries everything on: stem, trunk and head, each at its own precision."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from worker.types import Float32

STEM_CONVOLUTIONS = 4
"""The first ones, which stay in float32: to round early costs most (measured: docs/backends.md)."""
CONVOLUTIONS = ("Convolution", "GroupConvolution")
WIDEST = 1e30
"""No activation comes near it, and bfloat16 holds it."""
SCALES = 16
"""Tried for each channel: more take longer when a graph is first opened, and find little."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CutPoint:
    """After ``op``, its only output is all that the rest of the graph needs. ``convolutions``: those at or before it."""

    op: str
    rank: int
    convolutions: int


def cut_points(ov: Any, model: Any) -> list[CutPoint]:
    """Every float32 cut of a graph of one input, from there to the first output: no cut behind one could reach it."""
    ops = _from_input(model)
    place = {op.friendly_name: i for i, op in enumerate(ops)}
    last_use: dict[str, int] = {}
    for i, op in enumerate(ops):
        for source in _sources(op):
            if source in place:
                last_use[source] = i
    found: list[CutPoint] = []
    live: set[str] = set()
    convolutions = 0
    for i, op in enumerate(ops):
        if op.get_type_name() == "Result":
            break
        name = op.friendly_name
        convolutions += op.get_type_name() in CONVOLUTIONS
        live = {other for other in live if last_use[other] > i} | ({name} if name in last_use else set())
        if live == {name} and op.get_output_size() == 1 and op.get_type_name() != "Parameter":
            output = op.output(0)
            if output.element_type == ov.Type.f32 and output.partial_shape.rank.is_static:
                found.append(CutPoint(op=name, rank=output.partial_shape.rank.get_length(), convolutions=convolutions))
    return found


def where_to_cut(points: Sequence[CutPoint]) -> list[str]:
    """The ops after which stem and trunk end: the last cut within the first convolutions, and the pooled features behind all.

    Where the graph's beginning has no such cut, the stem belongs to the trunk. Raises ValueError where the head cannot be told.
    """
    total = points[-1].convolutions if points else 0
    features = [point.op for point in points if point.rank == 2 and point.convolutions == total and total > 0]
    if not features:
        raise ValueError("no tensor of pooled features stands between the convolutions and the head")
    stem = [point.op for point in points if 0 < point.convolutions <= STEM_CONVOLUTIONS and point.rank == 4]
    return [*stem[-1:], features[0]]


def cut(ov: Any, model: Any, ends: Sequence[str]) -> list[Any]:
    """The graph in ``len(ends) + 1`` parts of one input each; takes ``model`` apart."""
    by_name = {op.friendly_name: op for op in model.get_ordered_ops()}
    inputs, results = model.get_parameters(), model.get_results()
    parts: list[Any] = []
    for end in ends:
        carried = by_name[end].output(0)
        readers = list(carried.get_target_inputs())
        parts.append(ov.Model([carried], inputs, f"until {end}"))
        received = ov.opset13.parameter(carried.partial_shape, carried.element_type, name=f"from {end}")
        for reader in readers:
            reader.replace_source_output(received.output(0))
        inputs = [received]
    parts.append(ov.Model(results, inputs, "head"))
    return parts


def ready_for_bfloat16(ov: Any, part: Any) -> int:
    """Convolutions with a batch norm lose as little as they can when ``part`` computes in bfloat16; how many. Changes ``part``.

    OpenVINO folds a batch norm into weights and bias of the convolution before it, and rounds both; rounded biases cost
    most (docs/backends.md). A bound that nothing reaches stands between the two, so that the norm stays scale and shift in
    float32. One scale more costs nothing there: each output channel's weights are divided by that with which they round best.
    """
    op = ov.opset13
    ready = 0
    for norm in [node for node in part.get_ordered_ops() if node.get_type_name() == "BatchNormInference"]:
        if (convolution := _summed_by(norm.input_value(0).get_node())) is None:
            continue
        if (weights := _values(convolution.input_value(1).get_node())) is None:
            continue
        readers = list(convolution.output(0).get_target_inputs())
        channels = weights.shape[:-3]  # (groups,) outputs; then inputs, rows and columns
        scale_O = best_scale(weights.reshape(math.prod(channels), -1))
        scaled = weights / scale_O.reshape(*channels, 1, 1, 1)
        convolution.input(1).replace_source_output(op.constant(scaled).output(0))
        bounded = op.clamp(convolution.output(0), -WIDEST, WIDEST)
        rescaled = op.multiply(bounded, op.constant(scale_O.reshape(1, -1, 1, 1)))
        for reader in readers:
            reader.replace_source_output(rescaled.output(0))
        ready += 1
    return ready


def best_scale(weights_OK: Float32) -> Float32:
    """For each channel O the scale in [1, 2) by which its K weights are divided before they are rounded to bfloat16.

    The least of the sum of squared errors and the square of the errors' sum: activations are mostly positive, so errors of one
    sign add up. Powers of two would change nothing.
    """
    best_O, least_O = np.ones(len(weights_OK), np.float32), np.full(len(weights_OK), np.inf)
    for scale in np.linspace(1, 2, SCALES, endpoint=False, dtype=np.float32):
        error_OK = to_bfloat16(weights_OK / scale) * scale - weights_OK
        loss_O = np.square(error_OK).sum(axis=1) + np.square(error_OK.sum(axis=1))
        is_less_O = loss_O < least_O
        best_O[is_less_O], least_O[is_less_O] = scale, loss_O[is_less_O]
    return best_O


def to_bfloat16(values: Float32) -> Float32:
    """The nearest numbers of bfloat16, ties to even, as float32."""
    bits = np.ascontiguousarray(values).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) & np.uint32(0xFFFF0000)).view(np.float32)


def _summed_by(node: Any) -> Any | None:
    """The convolution whose sum this is, a bias added or not; None where it is none."""
    nodes = [node] if node.get_type_name() != "Add" else [node.input_value(i).get_node() for i in range(2)]
    return next((one for one in nodes if one.get_type_name() in CONVOLUTIONS), None)


def _values(node: Any) -> Float32 | None:
    """Weights as float32, stored in whatever precision and shape; None where they are no constant."""
    if node.get_type_name() == "Constant":
        return np.asarray(node.data, np.float32)
    if node.get_type_name() in ("Convert", "Reshape") and (values := _values(node.input_value(0).get_node())) is not None:
        return values.reshape(node.output(0).shape)
    return None


def _from_input(model: Any) -> list[Any]:
    """The ops that depend on the input, in order; the others are constants."""
    reached = {parameter.friendly_name for parameter in model.get_parameters()}
    ordered: list[Any] = []
    for op in model.get_ordered_ops():
        if op.friendly_name in reached or reached.intersection(_sources(op)):
            reached.add(op.friendly_name)
            ordered.append(op)
    return ordered


def _sources(op: Any) -> list[str]:
    return [op.input_value(i).get_node().friendly_name for i in range(op.get_input_size())]
