"""Finds the first node of an exported graph whose output is wrong in a runtime: halving, by one exposed tensor at a time.

The right values come from a fresh export of the checkpoint on ONNX Runtime without optimisations. An export of an unchanged
checkpoint has the same names, so a graph that was changed is found as well as a runtime that computes wrongly.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort

from worker.backends.candidates import Opening
from worker.backends.choose import Exporter, export_in_process
from worker.backends.trial import probe_crops
from worker.errors import ModelError
from worker.model.checkpoint import load_spec
from worker.model.graph import INPUT
from worker.onnx_errors import LOAD_ERRORS
from worker.openvino_runtime import load_runtime
from worker.types import Float32, UInt8

CROPS = 4
TOLERANCES = {"fp32": 1e-3, "bf16": 0.1}
"""Most that a tensor may differ, over its greatest magnitude."""

Tensor = Callable[[str], Float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspect:
    """The first tensor beyond the tolerance, the kind of node that makes it, how far off it is. No tensor: it all adds up."""

    tensor: str | None
    op: str
    off_by: float

    def __str__(self) -> str:
        if self.tensor is None:
            return f"no single node stands out (the outputs are off by {self.off_by:.2g} of their range)"
        return f"first at {self.tensor} ({self.op}), off by {self.off_by:.2g} of its range"


def bisect(backend: str, opening: Opening, export: Exporter = export_in_process) -> Suspect | None:
    """Where a backend's values leave those of the checkpoint's own graph; None for one that hides its inside."""
    if backend not in ("onnxruntime", "openvino", "openvino-bf16"):
        return None
    crops_FHWC = probe_crops(load_spec(opening.checkpoint).crop.size)[:CROPS]
    with tempfile.TemporaryDirectory(prefix="veriframe-parity-") as scratch:
        fresh = Path(scratch) / "fresh.onnx"
        export(opening.checkpoint, fresh)
        right = onnx_tensor(fresh.read_bytes(), crops_FHWC, optimised=False)
        nodes = float_outputs(fresh.read_bytes())
    used = opening.onnx()
    if backend == "onnxruntime":
        return first_beyond(nodes, right, onnx_tensor(used.read_bytes(), crops_FHWC, optimised=True), TOLERANCES["fp32"])
    precision = "bf16" if backend == "openvino-bf16" else "fp32"
    return first_beyond(nodes, right, openvino_tensor(used, crops_FHWC, precision), TOLERANCES[precision])


def first_beyond(nodes: Sequence[tuple[str, str]], right: Tensor, seen: Tensor, tolerance: float) -> Suspect:
    """By halving: the first of ``nodes`` (tensor, op; in topological order) that is off, while the one before it is not."""

    def off_by(place: int) -> float:
        name = nodes[place][0]
        expected, got = right(name), seen(name)
        if expected.shape != got.shape or not np.isfinite(got).all():
            return float("inf")
        return float(np.abs(got - expected).max(initial=0) / max(float(np.abs(expected).max(initial=0)), 1e-12))

    low, high = -1, len(nodes) - 1
    if (last := off_by(high)) <= tolerance:
        return Suspect(tensor=None, op="", off_by=last)
    while high - low > 1:
        middle = (low + high) // 2
        if (off := off_by(middle)) > tolerance:
            high, last = middle, off
        else:
            low = middle
    return Suspect(tensor=nodes[high][0], op=nodes[high][1], off_by=last)


def float_outputs(graph: bytes) -> list[tuple[str, str]]:
    """(name, op) of every float32 tensor that depends on the input, in the order of the graph."""
    model = onnx.shape_inference.infer_shapes(onnx.load_from_string(graph))
    about = (*model.graph.value_info, *model.graph.output)
    floats = {value.name for value in about if value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT}
    reached = {INPUT}
    found: list[tuple[str, str]] = []
    for node in model.graph.node:
        if reached.intersection(node.input):
            reached.update(node.output)
            found += [(name, node.op_type) for name in node.output if name in floats]
    return found


def onnx_tensor(graph: bytes, crops_FHWC: UInt8, *, optimised: bool) -> Tensor:
    """One tensor at a time, on ONNX Runtime; an optimised graph keeps all fusions but those across the exposed tensor."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    if not optimised:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL

    def tensor(name: str) -> Float32:
        model = onnx.load_from_string(graph)
        del model.graph.output[:]
        model.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
        try:
            session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
            value: Float32 = session.run([name], {INPUT: crops_FHWC})[0]
        except LOAD_ERRORS as exc:
            raise ModelError(f"cannot look at tensor {name}: {exc}") from exc
        return value

    return tensor


def openvino_tensor(onnx_path: Path, crops_FHWC: UInt8, precision: str) -> Tensor:
    """One tensor at a time, on OpenVINO."""
    ov = load_runtime()
    core = ov.Core()
    hint = {"INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32"}

    def tensor(name: str) -> Float32:
        try:
            model = core.read_model(onnx_path)
            exposed = model.add_outputs([name])[0]
            lone = ov.Model([exposed.get_node().input_value(0)], model.get_parameters(), name)
            value: Float32 = np.asarray(core.compile_model(lone, "CPU", hint)(crops_FHWC)[0], np.float32)
        except RuntimeError as exc:
            raise ModelError(f"cannot look at tensor {name}: {exc}") from exc
        return value

    return tensor
