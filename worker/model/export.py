"""Exports a checkpoint to ONNX for every backend that is not PyTorch (needs the extra ``train``).

    python -m worker.model.export CHECKPOINT OUT.onnx
    python -m worker.model.export --mtcnn FOLDER

Names and shapes of input and outputs: ``worker.model.graph``. Weights that float16 holds exactly, as a checkpoint's do, are
stored so and cast to float32 in the graph; the runtime folds the casts when it loads, and computes with the very weights of the
checkpoint. For the same reason batch norms stay apart: folded weights would have to be rounded again. The same checkpoint gives
the same bytes.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir
import onnx_ir.passes.common as passes
import onnxscript.optimizer
import torch
from onnx import TensorProto, helper, numpy_helper
from onnxscript.rewriter import rewrite
from onnxscript.rewriter.rules import common as rules
from torch import Tensor, nn

from worker.content import write_atomically
from worker.errors import VeriframeError
from worker.model.card import CardHead
from worker.model.checkpoint import sha256
from worker.model.graph import CHECKPOINT_KEY, DRAWS, EXPORT_KEY, EXPORT_VERSION, FAMILIES, INPUT, LOGIT
from worker.model.mtcnn import write_mtcnn
from worker.model.network import DeepfakeNet, score_logit
from worker.model.restore import load_network

OPSET = 18
IR_VERSION = 10
MAX_BATCH = 4096
EXAMPLE_BATCH = 2
"""Strictly inside the range: torch.export would take a batch of 1 for a constant."""
MIN_HALF_ELEMENTS = 256
"""Smaller tensors stay float32: nothing is saved."""


class _Scorer(nn.Module):
    """The network with all outputs of the exported graph, in the order of ``names``."""

    def __init__(self, network: DeepfakeNet) -> None:
        super().__init__()
        self.network = network
        self.names = [LOGIT, FAMILIES, DRAWS] if isinstance(network.head, CardHead) else [LOGIT, FAMILIES]

    def forward(self, crops: Tensor) -> tuple[Tensor, ...]:
        head = self.network.head
        if isinstance(head, CardHead):
            families_FK, draws_FN = head.outputs(self.network.backbone(self.network.normalise(crops)))
            return score_logit(families_FK), families_FK, draws_FN
        families_FK = self.network(crops)
        return score_logit(families_FK), families_FK


class _GlobalMean(nn.Module):
    """Global average pooling that exports as one node; torch's adaptive pooling becomes a gather over a dynamic range."""

    def forward(self, x_FCHW: Tensor) -> Tensor:
        return x_FCHW.mean((2, 3), keepdim=True)


def export_network(network: DeepfakeNet, *, size: int, metadata: dict[str, str]) -> bytes:
    """The ONNX model of a network for crops of ``size`` x ``size`` pixels; its pooling modules are replaced in place."""
    for name, module in list(network.named_modules()):
        if isinstance(module, nn.AdaptiveAvgPool2d) and module.output_size in (1, (1, 1)):
            network.set_submodule(name, _GlobalMean())
    scorer = _Scorer(network).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's exporter warns of its own future
        program = torch.onnx.export(
            scorer,
            (torch.zeros(EXAMPLE_BATCH, size, size, 3, dtype=torch.uint8),),
            dynamo=True,
            external_data=False,
            opset_version=OPSET,
            input_names=[INPUT],
            output_names=scorer.names,
            dynamic_shapes=({0: torch.export.Dim("faces", min=1, max=MAX_BATCH)},),
            optimize=False,
            verbose=False,
        )
    if program is None:
        raise RuntimeError("torch.onnx.export returned nothing")
    return bytes(_canonical(_simplified(program.model), metadata).SerializeToString(deterministic=True))


def export_checkpoint(checkpoint: Path, out: Path) -> None:
    """Export a checkpoint to ``out``, whole or not at all. Raises ModelError where the checkpoint cannot be used."""
    digest = sha256(checkpoint)
    spec, network = load_network(checkpoint)
    metadata = {CHECKPOINT_KEY: digest, EXPORT_KEY: str(EXPORT_VERSION)}
    write_atomically(out, export_network(network, size=spec.crop.size, metadata=metadata))


def _simplified(model: onnx_ir.Model) -> onnx.ModelProto:
    """Fold constants and padding, without torch's default rules: they would fold batch norms into the weights."""
    passes.InlinePass()(model)
    onnxscript.optimizer.fold_constants(model)
    kept = [rules.normalize_pad_format_conv_rule, rules.fuse_pad_into_conv_rule, rules.materialize_reshape_shape_rule]
    rewrite(model, pattern_rewrite_rules=kept)
    for step in (
        passes.RemoveUnusedNodesPass(),
        passes.RemoveUnusedFunctionsPass(),  # type: ignore[no-untyped-call]
        passes.RemoveUnusedOpsetsPass(),
        passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        passes.DeduplicateInitializersPass(),
        passes.CommonSubexpressionEliminationPass(),
    ):
        step(model)
    proto: onnx.ModelProto = onnx_ir.to_proto(model)
    return proto


def _canonical(model: onnx.ModelProto, metadata: dict[str, str]) -> onnx.ModelProto:
    """The same graph with names by position, initialisers in order of use, no trace of the exporter: equal for equal networks."""
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    names: dict[str, str] = {value.name: value.name for value in (*model.graph.input, *model.graph.output)}
    initialisers: list[onnx.TensorProto] = []
    nodes: list[onnx.NodeProto] = []

    def renamed_input(name: str) -> str:
        if not name or name in names:
            return names.get(name, "")
        names[name] = f"c{len(initialisers)}"
        _add_constant(names[name], stored[name], initialisers, nodes)
        return names[name]

    for node in model.graph.node:
        inputs = [renamed_input(name) for name in node.input]
        for name in node.output:
            names.setdefault(name, f"t{len(names)}" if name else "")
        outputs = [names[name] for name in node.output]
        fresh = helper.make_node(node.op_type, inputs, outputs, domain=node.domain)
        fresh.attribute.extend(sorted(node.attribute, key=lambda attribute: attribute.name))
        nodes.append(fresh)
    infos = [_value_info(value) for value in (*model.graph.input, *model.graph.output)]
    graph = helper.make_graph(nodes, "veriframe", infos[:1], infos[1:], initialisers)
    opsets = [helper.make_opsetid("", OPSET)]
    fresh_model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="veriframe")
    helper.set_model_props(fresh_model, dict(sorted(metadata.items())))
    onnx.checker.check_model(fresh_model, full_check=True)
    return fresh_model


def _add_constant(name: str, value: Any, initialisers: list[onnx.TensorProto], nodes: list[onnx.NodeProto]) -> None:
    """Store a constant under ``name``: a large float32 one that float16 holds exactly as float16, with a cast."""
    if value.dtype == np.float32 and value.size >= MIN_HALF_ELEMENTS:
        with np.errstate(over="ignore"):
            half = value.astype(np.float16)
        if np.array_equal(half.astype(np.float32), value):
            initialisers.append(numpy_helper.from_array(half, f"{name}h"))
            nodes.append(helper.make_node("Cast", [f"{name}h"], [name], to=TensorProto.FLOAT))
            return
    initialisers.append(numpy_helper.from_array(value, name))


def _value_info(value: onnx.ValueInfoProto) -> onnx.ValueInfoProto:
    tensor = value.type.tensor_type
    shape = [dim.dim_param or dim.dim_value for dim in tensor.shape.dim]
    return helper.make_tensor_value_info(value.name, tensor.elem_type, shape)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line above: 0 done, 1 a checkpoint that cannot be exported (the reason goes to standard error)."""
    parser = argparse.ArgumentParser(prog="python -m worker.model.export", description="Export weights to ONNX.")
    parser.add_argument("--mtcnn", type=Path, metavar="FOLDER", help="build MTCNN's three networks into FOLDER")
    parser.add_argument("checkpoint", type=Path, nargs="?")
    parser.add_argument("out", type=Path, nargs="?")
    given = parser.parse_args(arguments)
    if (given.mtcnn is None) == (given.checkpoint is None) or (given.checkpoint is None) != (given.out is None):
        parser.error("give CHECKPOINT and OUT.onnx, or --mtcnn FOLDER")
    try:
        if given.mtcnn is not None:
            write_mtcnn(given.mtcnn)
        else:
            export_checkpoint(given.checkpoint, given.out)
    except VeriframeError as exc:
        print(exc, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
