"""TensorRT is really compiled here: engines for three architectures, by the library that needs no card."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from optimize.artefacts.makers import NET_PROFILES, graph_specs
from optimize.engines.build import Built, Profile, build_engine, supported_targets
from optimize.engines.cast import cast_graph
from worker.backends.artefact import Precision
from worker.errors import ModelError
from worker.model.graph import DRAWS, FAMILIES, INPUT, LOGIT
from worker.model.mtcnn import FILE_NAMES
from worker.model.packaged import default_onnx, weights_folder

TARGETS = ("SM80", "SM89", "SM120")
WITH_WEIGHTS = {"Conv", "Gemm", "MatMul", "LayerNormalization"}
"""An engine names the nodes that it was made of, but for those that move or count only, which its compiler may drop."""
BIT_OF_TARGET = {"SM75": 0, "SM80": 1, "SM86": 2, "SM89": 3, "SM120": 4}


def crops_profile(size: int) -> Profile:
    return Profile(least=(1, size, size, 3), usual=(8, size, size, 3), greatest=(16, size, size, 3))


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """The first 64 bytes of an engine file, as tensorrt-rtx 1.7 writes them (no documented format)."""

    size_bytes: int
    version: str
    targets: frozenset[str]

    @staticmethod
    def of(data: bytes) -> Header:
        magic, size, version, again, targets = struct.unpack_from("<4s12xQ4s4sI", data)
        assert (magic, again) == (b"vtrt", b"vtrt")
        named = frozenset(name for name, bit in BIT_OF_TARGET.items() if targets >> bit & 1)
        assert targets == sum(1 << BIT_OF_TARGET[name] for name in named)
        return Header(size_bytes=size, version=".".join(map(str, version)), targets=named)


def check(rtx: Any, graph: bytes, built: Built, folder: Path, targets: tuple[str, ...] = TARGETS) -> None:
    """The engine file holds every node of the graph, and is for these targets; inputs and outputs are the graph's."""
    path = folder / "net.engine"
    path.write_bytes(built.data)
    data = path.read_bytes()
    header = Header.of(data)
    assert header == Header(size_bytes=len(data), version=rtx.__version__, targets=frozenset(targets))
    assert (built.inputs, built.outputs) == graph_specs(graph)
    nodes = {f"node_of_{node.output[0]}": node.op_type for node in onnx.load_from_string(graph).graph.node}
    assert nodes.keys() <= built.nodes, "layers that the parser did not take"
    weighty = {name for name, kind in nodes.items() if kind in WITH_WEIGHTS}
    assert len(weighty) > 3
    assert not [name for name in weighty if f"[ONNX Layer: {name}]".encode() not in data], "layers that the engine lacks"
    refuse_or_deserialise(rtx, data, built)


def refuse_or_deserialise(rtx: Any, data: bytes, built: Built) -> None:
    """With a card the engine is opened and asked; without one the library refuses, and only for want of a driver."""
    errors: list[str] = []

    class Listener(rtx.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            rtx.ILogger.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            if severity <= rtx.ILogger.Severity.ERROR:
                errors.append(message)

    engine = rtx.Runtime(Listener()).deserialize_cuda_engine(data)
    if not torch.cuda.is_available():
        assert engine is None
        assert any("CUDA driver" in message for message in errors), errors
        return
    assert engine is not None, errors
    shapes = {name: tuple(engine.get_tensor_shape(name)) for name in map(engine.get_tensor_name, range(engine.num_io_tensors))}
    assert shapes == {tensor.name: tensor.shape for tensor in (*built.inputs, *built.outputs)}


def test_the_shipped_classifier(rtx: Any, tmp_path: Path) -> None:
    graph = default_onnx().read_bytes()
    built = build_engine(rtx, graph, crops_profile(224), targets=TARGETS)
    check(rtx, graph, built, tmp_path)
    assert [(tensor.name, tensor.dtype, tensor.shape) for tensor in (*built.inputs, *built.outputs)] == [
        (INPUT, "uint8", (-1, 224, 224, 3)),
        (LOGIT, "float32", (-1,)),
        (FAMILIES, "float32", (-1, 4)),
    ]


def test_the_shipped_classifier_with_its_backbone_in_half(rtx: Any, tmp_path: Path) -> None:
    graph = cast_graph(default_onnx().read_bytes(), "fp16")
    built = build_engine(rtx, graph, crops_profile(224), targets=TARGETS, exact_fp32=False)
    check(rtx, graph, built, tmp_path)
    assert {tensor.dtype for tensor in built.outputs} == {"float32"}
    assert len(built.data) < 0.7 * 29_000_000, "weights of the backbone are stored in half"


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_classifier_with_a_card_head(precision: Precision, rtx: Any, tiny_card: tuple[Path, Path], tmp_path: Path) -> None:
    graph = cast_graph(tiny_card[1].read_bytes(), precision)
    built = build_engine(rtx, graph, crops_profile(64), targets=TARGETS, exact_fp32=precision == "fp32")
    check(rtx, graph, built, tmp_path)
    assert [(tensor.name, tensor.shape) for tensor in built.outputs] == [(LOGIT, (-1,)), (FAMILIES, (-1, 4)), (DRAWS, (-1, 5))]


@pytest.mark.parametrize("net", FILE_NAMES)
def test_mtcnn(net: str, rtx: Any, tmp_path: Path) -> None:
    graph = (weights_folder() / FILE_NAMES[net]).read_bytes()
    built = build_engine(rtx, graph, NET_PROFILES[net], targets=TARGETS)
    check(rtx, graph, built, tmp_path)
    assert built.outputs[0].name == "prob"


@pytest.mark.parametrize("target", TARGETS)
def test_one_architecture_alone(target: str, rtx: Any, tmp_path: Path) -> None:
    graph = (weights_folder() / FILE_NAMES["rnet"]).read_bytes()
    built = build_engine(rtx, graph, NET_PROFILES["rnet"], targets=(target,))
    check(rtx, graph, built, tmp_path, (target,))


def test_known_architectures(rtx: Any) -> None:
    assert set(TARGETS) <= set(supported_targets(rtx))
    assert supported_targets(object()) == ()


def turned(kind: str, dtype: int) -> bytes:
    """A graph that does one thing to its input before it is made float32."""
    attributes: dict[str, Any] = {"perm": [0, 3, 1, 2]} if kind == "Transpose" else {}
    nodes = [
        helper.make_node(kind, ["x"], ["t"], **attributes),
        helper.make_node("Cast", ["t"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["f", "two"], ["y"]),
    ]
    x = helper.make_tensor_value_info("x", dtype, ["n", 4, 4, 3])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "turned", [x], [y], [numpy_helper.from_array(np.array(2, np.float32), "two")])
    return bytes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10).SerializeToString())


@pytest.fixture
def small() -> Profile:
    return Profile(least=(1, 4, 4, 3), usual=(2, 4, 4, 3), greatest=(4, 4, 4, 3))


def test_what_the_library_does_not_take_is_an_error_with_its_words(rtx: Any, small: Profile) -> None:
    """Why crops are cast before they are transposed."""
    with pytest.raises(ModelError, match="UInt8"):
        build_engine(rtx, turned("Transpose", TensorProto.UINT8), small, targets=TARGETS)
    with pytest.raises(ModelError, match="does not take the graph"):
        build_engine(rtx, b"no graph", small, targets=TARGETS)
    with pytest.raises(ModelError, match=r"builds for SM75.*, not SM90"):
        build_engine(rtx, turned("Identity", TensorProto.FLOAT), small, targets=("SM90",))


def test_an_architecture_that_cannot_compute_it_is_an_error(rtx: Any) -> None:
    """Turing has no float32 product there: the head's layers do not build for it."""
    with pytest.raises(ModelError, match="Turing"):
        build_engine(rtx, (weights_folder() / FILE_NAMES["rnet"]).read_bytes(), NET_PROFILES["rnet"], targets=("SM75",))


@pytest.mark.parametrize("shapes", [((0, 4), (1, 4), (2, 4)), ((2, 4), (1, 4), (3, 4)), ((1, 4), (4, 4), (3, 4))])
def test_shapes_out_of_order_are_no_profile(shapes: tuple[tuple[int, ...], ...]) -> None:
    with pytest.raises(ValueError, match="no profile"):
        Profile(least=shapes[0], usual=shapes[1], greatest=shapes[2])
