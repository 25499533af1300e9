"""Readies an OpenVINO graph for bfloat16: what rounding would cost most stays in float32, at no cost in time."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from worker.backends.openvino_parts import CONVOLUTIONS
from worker.openvino_runtime import operators
from worker.types import Float32

PARTS_VERSION = 5
"""Counts up when the parts for bfloat16 are made otherwise, here or in ``openvino_parts``: graphs kept and choices made
before are not used again."""
SCALES = 16
"""Tried for each channel: more take longer when a graph is first opened, and find little."""


def ready_for_bfloat16(part: Any) -> int:
    """2-D convolutions with a batch norm lose little when ``part`` computes in bfloat16. Changes ``part``; gives their number.

    OpenVINO folds a batch norm into weights and bias of the convolution before it, and rounds both; behind the stem, rounded
    biases cost most (docs/backends.md). The first power stands between the two and changes nothing, so that a scale and a shift
    in float32 stay. One scale more costs nothing there: the weights of each output channel are divided by that with which they
    round best.
    """
    op = operators()
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
        apart = op.power(convolution.output(0), op.constant(np.float32(1)))
        rescaled = op.multiply(apart, op.constant(scale_O.reshape(1, -1, 1, 1)))
        for reader in readers:
            reader.replace_source_output(rescaled.output(0))
        ready += 1
    return ready


def best_scale(weights_OK: Float32) -> Float32:
    """[O, K] finite weights -> [O]: for each channel the scale in [1, 2) by which its K weights are divided before rounding.

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
    """The nearest numbers of bfloat16 to finite ones of any shape, ties to even, as float32."""
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
