"""Casts the backbone of an exported graph to float16 or bfloat16; normalisation and head stay in float32.

TensorRT 11 has no flags for precision: a network computes in the types of its graph. What is cast are the feature maps from the
first convolution to the last map before the global pool; the pooled features, the diffusion head and all outputs are float32.
A batch norm is folded into its convolution in float32 first: unfolded, its input may lie outside float16's range.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from worker.backends.artefact import Precision
from worker.errors import ModelError

Array = npt.NDArray[Any]

STEM_CONVOLUTIONS = 2
"""They see the pixels: with them in bfloat16 too, the largest |dp| was three times as great (docs/export.md)."""
BF16_OPSET = 22
"""The first with bfloat16 convolutions; for the operators used here it changes nothing else."""
_TYPES = {"fp16": (TensorProto.FLOAT16, np.dtype(np.float16)), "bf16": (TensorProto.BFLOAT16, np.dtype(ml_dtypes.bfloat16))}


def cast_graph(model_bytes: bytes, precision: Precision) -> bytes:
    """The exported classifier with its backbone in ``precision``; ``fp32`` leaves the bytes as they are.

    Raises ModelError where the graph has no backbone of maps, or holds weights beyond the range of float16.
    """
    if precision == "fp32":
        return model_bytes
    model = onnx.load_from_string(model_bytes)
    cast = _Cast(model, precision).graph()
    del model.graph.node[:], model.graph.initializer[:], model.graph.value_info[:]
    model.graph.node.extend(cast.nodes)
    model.graph.initializer.extend(cast.initializers)
    if precision == "bf16":
        model.opset_import[0].version = max(BF16_OPSET, model.opset_import[0].version)
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString(deterministic=True))


def backbone_nodes(model: onnx.ModelProto) -> set[int]:
    """Places of the nodes to cast: from the convolution after the stem to what follows the last one, up to its pool."""
    nodes = list(model.graph.node)
    dims = {value.name: _dims(value) for value in onnx.shape_inference.infer_shapes(model).graph.value_info}
    after: set[str] = set()
    reached: list[int] = []
    for place, node in enumerate(nodes):
        if node.op_type == "Conv" or after.intersection(node.input):
            after.update(node.output)
            reached.append(place)
    before: set[str] = set()
    found: set[int] = set()
    for place in reversed(reached):
        node = nodes[place]
        if node.op_type == "Conv" or before.intersection(node.output) or _is_map(dims.get(node.output[0], ())):
            found.add(place)
            before.update(node.input)
    convolutions = [place for place in sorted(found) if nodes[place].op_type == "Conv"]
    return {place for place in found if place >= convolutions[STEM_CONVOLUTIONS]} if convolutions[STEM_CONVOLUTIONS:] else set()


def _dims(value: onnx.ValueInfoProto) -> tuple[int, ...]:
    return tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)


def _is_map(dims: tuple[int, ...]) -> bool:
    """Whether a tensor still has places; one pooled to 1 x 1 or flattened has not."""
    return len(dims) == 4 and dims[2] * dims[3] > 1


class _Cast:
    """The new graph while it grows; a tensor's cast copy has the name of the tensor and the precision."""

    def __init__(self, model: onnx.ModelProto, precision: Precision) -> None:
        self.old = list(model.graph.node)
        self.half = backbone_nodes(model)
        if not self.half:
            raise ModelError("the graph has no backbone of convolutions: there is nothing to cast")
        self.precision = precision
        self.type, self.dtype = _TYPES[precision]
        self.stored = {tensor.name: tensor for tensor in model.graph.initializer}
        self.constants = _constants(self.old, self.stored)
        self.uses = Counter(name for node in self.old for name in node.input)
        self.made_half: set[str] = set()
        self.nodes: list[NodeProto] = []
        self.initializers: list[TensorProto] = []
        self._done: set[str] = set()

    def graph(self) -> _Cast:
        norms = {node.input[0]: place for place, node in enumerate(self.old) if node.op_type == "BatchNormalization"}
        folded: set[int] = set()
        for place, node in enumerate(self.old):
            if node.output[0] in self.constants or place in folded:
                continue
            if place not in self.half:
                self._keep(node)
                continue
            norm = norms.get(node.output[0])
            self.made_half.update(node.output)
            if node.op_type == "Conv" and norm is not None and self.uses[node.output[0]] == 1:
                folded.add(norm)
                self.made_half.update(self.old[norm].output)
                self._convolve(node, self.old[norm])
            elif node.op_type == "BatchNormalization":
                self._scale(node)
            else:
                self._add(node, [self._in_half(name) for name in node.input], list(node.output))
        return self

    def _keep(self, node: NodeProto) -> None:
        """A node of normalisation or head: constants as they were stored, maps cast back."""
        inputs = [self._in_float(name) for name in node.input]
        self._add(node, inputs, list(node.output))

    def _convolve(self, node: NodeProto, norm: NodeProto) -> None:
        """A convolution that does its batch norm's work."""
        scale, shift = self._affine(norm)
        weight = self.constants[node.input[1]]
        bias = self.constants[node.input[2]] if len(node.input) > 2 else np.zeros(len(weight), np.float32)
        names = [f"{norm.output[0]}_weight", f"{norm.output[0]}_bias"]
        self._store(names[0], weight * scale.reshape(-1, *[1] * (weight.ndim - 1)))
        self._store(names[1], bias * scale + shift)
        self._add(node, [self._in_half(node.input[0]), *names], [norm.output[0]])

    def _scale(self, norm: NodeProto) -> None:
        """A batch norm that follows no convolution of its own."""
        scale, shift = self._affine(norm)
        out = norm.output[0]
        self._store(f"{out}_scale", scale[:, None, None])
        self._store(f"{out}_shift", shift[:, None, None])
        self.nodes.append(helper.make_node("Mul", [self._in_half(norm.input[0]), f"{out}_scale"], [f"{out}_scaled"]))
        self.nodes.append(helper.make_node("Add", [f"{out}_scaled", f"{out}_shift"], [out]))

    def _affine(self, norm: NodeProto) -> tuple[Array, Array]:
        gamma, beta, mean, variance = (self.constants[name].astype(np.float64) for name in norm.input[1:5])
        epsilon = next((attribute.f for attribute in norm.attribute if attribute.name == "epsilon"), 1e-5)
        scale = gamma / np.sqrt(variance + epsilon)
        return scale, beta - mean * scale

    def _in_half(self, name: str) -> str:
        """The tensor in the lower precision; whole numbers (axes, shapes) as they are."""
        if not name or name in self.made_half:
            return name
        copy = f"{name}_{self.precision}"
        constant = self.constants.get(name)
        if constant is not None and constant.dtype != np.float32:
            return self._stored_again(name)
        if copy not in self._done:
            self._done.add(copy)
            if constant is not None:
                self._store(copy, constant)
            else:
                self.nodes.append(helper.make_node("Cast", [name], [copy], to=self.type))
        return copy

    def _in_float(self, name: str) -> str:
        if name in self.constants:
            return self._stored_again(name)
        if name not in self.made_half:
            return name
        copy = f"{name}_fp32"
        if copy not in self._done:
            self._done.add(copy)
            self.nodes.append(helper.make_node("Cast", [name], [copy], to=TensorProto.FLOAT))
        return copy

    def _stored_again(self, name: str) -> str:
        """A constant in the types in which it was stored, with the cast that it had."""
        if name not in self._done:
            self._done.add(name)
            if name in self.stored:
                self.initializers.append(self.stored[name])
            else:
                cast = next(node for node in self.old if node.output[0] == name)
                self.initializers.append(self.stored[cast.input[0]])
                self.nodes.append(cast)
        return name

    def _store(self, name: str, value: Array) -> None:
        with np.errstate(over="ignore"):
            half = np.ascontiguousarray(value.astype(np.float32).astype(self.dtype))
        if not np.isfinite(half.astype(np.float32)).all():
            raise ModelError(f"weights beyond the range of {self.precision}: export with --precision bf16 or fp32")
        self.initializers.append(numpy_helper.from_array(half, name))

    def _add(self, node: NodeProto, inputs: list[str], outputs: list[str]) -> None:
        fresh = helper.make_node(node.op_type, inputs, outputs, domain=node.domain)
        fresh.attribute.extend(node.attribute)
        self.nodes.append(fresh)


def _constants(nodes: list[NodeProto], stored: Mapping[str, TensorProto]) -> dict[str, Array]:
    """Values by name, those that are stored in float16 and cast when the graph is loaded included."""
    constants = {name: numpy_helper.to_array(tensor) for name, tensor in stored.items()}
    for node in nodes:
        if node.op_type == "Cast" and node.input[0] in constants:
            constants[node.output[0]] = constants[node.input[0]].astype(np.float32)
    return constants
