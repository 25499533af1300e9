"""Builds MTCNN's three networks (Zhang et al. 2016) as ONNX graphs from facenet-pytorch's weights.

A graph takes pictures as float32 pixel values 0..255, NHWC, of any batch (and, for P-Net, any height and width from 12), and
gives ``prob`` (of a face), ``offset`` (of the box corners, in units of the box), and ``points`` (five x, then five y) from O-Net.
The paper: https://arxiv.org/abs/1604.02878.

O-Net's weights are stored as float16 and cast to float32 in the graph; ONNX Runtime folds the casts when it loads. Those of P-Net
and R-Net stay float32: candidates are cut at whole pixels, so that rounding there moved faces by up to 3 pixels, O-Net's by 0.02.

PReLU is the brake in ONNX Runtime: it has no kernel in the blocked layout of the convolutions, so each one costs two reorders and
a scalar loop. It is written here as ``a * x + (1 - a) * relu(x)`` with two depthwise 1x1 convolutions, channels padded to 16.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Weights = Mapping[str, npt.NDArray[np.float32]]

FILE_NAMES = {"pnet": "mtcnn_pnet.onnx", "rnet": "mtcnn_rnet.onnx", "onet": "mtcnn_onet.onnx"}
BLOCK = 16
"""Channels are padded to a multiple of this, ONNX Runtime's block with AVX-512."""


class _Graph:
    """A growing ONNX graph; every method adds nodes and returns the name of the new tensor."""

    def __init__(self, weights: Weights, dtype: npt.DTypeLike) -> None:
        self.weights = weights
        self.dtype = np.dtype(dtype)
        self.nodes: list[Any] = []
        self.initializers: list[Any] = []

    def _name(self, prefix: str) -> str:
        return f"{prefix}{len(self.nodes) + len(self.initializers)}"

    def constant(self, value: npt.ArrayLike, dtype: npt.DTypeLike) -> str:
        from onnx import numpy_helper

        name = self._name("c")
        self.initializers.append(numpy_helper.from_array(np.array(value, dtype, order="C"), name))
        return name

    def weight(self, value: npt.ArrayLike) -> str:
        from onnx import TensorProto

        stored = self.constant(value, self.dtype)
        return stored if self.dtype == np.float32 else self.op("Cast", stored, to=TensorProto.FLOAT)

    def op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        from onnx import helper

        name = self._name("t")
        self.nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def normalised(self, pictures: str) -> str:
        centred = self.op("Sub", pictures, self.constant(127.5, np.float32))
        return self.op("Transpose", self.op("Mul", centred, self.constant(1 / 128, np.float32)), perm=[0, 3, 1, 2])

    def conv(self, x: str, name: str, *, first: bool = False, last: bool = False) -> str:
        weight, bias = self.weights[f"{name}.weight"], self.weights[f"{name}.bias"]
        n_out, n_in = weight.shape[:2]
        pad_out, pad_in = 0 if last else -n_out % BLOCK, 0 if first else -n_in % BLOCK
        padded = np.pad(weight, ((0, pad_out), (0, pad_in), (0, 0), (0, 0)))
        return self.op("Conv", x, self.weight(padded), self.weight(np.pad(bias, (0, pad_out))))

    def prelu(self, x: str, name: str) -> str:
        """PReLU of a map with padded channels."""
        slope = self.weights[f"{name}.weight"]
        slope = np.pad(slope, (0, -len(slope) % BLOCK))
        a = self.weight(slope[:, None, None, None])
        rest = self.op("Sub", self.constant(1, np.float32), a)  # from the rounded slope: the two must add up to 1
        negative = self.op("Conv", x, a, group=len(slope))
        return self.op("Add", negative, self.op("Conv", self.op("Relu", x), rest, group=len(slope)))

    def prelu_flat(self, x: str, name: str) -> str:
        return self.op("PRelu", x, self.weight(self.weights[f"{name}.weight"]))

    def pool(self, x: str, size: int) -> str:
        return self.op("MaxPool", x, kernel_shape=[size, size], strides=[2, 2], ceil_mode=1)

    def dense(self, x: str, name: str, *, map_chw: tuple[int, int, int] | None = None) -> str:
        """Fully connected; the columns for a flattened map lie in (w, h, c) order and are turned to the graph's (c, h, w)."""
        weight = self.weights[f"{name}.weight"]
        if map_chw is not None:
            c, h, w = map_chw
            weight = weight.reshape(-1, w, h, c).transpose(0, 3, 2, 1).reshape(len(weight), -1)
        return self.op("Gemm", x, self.weight(weight), self.weight(self.weights[f"{name}.bias"]), transB=1)

    def face(self, x: str) -> str:
        """The second of two softmax classes."""
        return self.op("Gather", self.op("Softmax", x, axis=1), self.constant(1, np.int64), axis=1)

    def model(self, dims: list[str | int], outputs: dict[str, tuple[str, list[str | int]]]) -> bytes:
        from onnx import TensorProto, checker, helper

        infos = []
        for name, (tensor, shape) in outputs.items():
            self.nodes.append(helper.make_node("Identity", [tensor], [name]))
            infos.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
        pictures = helper.make_tensor_value_info("pictures", TensorProto.FLOAT, dims)
        graph = helper.make_graph(self.nodes, "mtcnn", [pictures], infos, self.initializers)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8, producer_name="veriframe")
        checker.check_model(model)
        return bytes(model.SerializeToString())


def build_pnet(weights: Weights, dtype: npt.DTypeLike = np.float32) -> bytes:
    """The proposal network, fully convolutional: a 12-px window with stride 2."""
    g = _Graph(weights, dtype)
    x = g.pool(g.prelu(g.conv(g.normalised("pictures"), "conv1", first=True), "prelu1"), 2)
    x = g.prelu(g.conv(x, "conv2"), "prelu2")
    x = g.prelu(g.conv(x, "conv3"), "prelu3")
    prob, offset = g.face(g.conv(x, "conv4_1", last=True)), g.conv(x, "conv4_2", last=True)
    return g.model(["n", "h", "w", 3], {"prob": (prob, ["n", "y", "x"]), "offset": (offset, ["n", 4, "y", "x"])})


def build_rnet(weights: Weights, dtype: npt.DTypeLike = np.float32) -> bytes:
    """The refinement network on 24-px candidates."""
    g = _Graph(weights, dtype)
    x = g.pool(g.prelu(g.conv(g.normalised("pictures"), "conv1", first=True), "prelu1"), 3)
    x = g.pool(g.prelu(g.conv(x, "conv2"), "prelu2"), 3)
    x = g.prelu(g.conv(x, "conv3"), "prelu3")
    x = g.prelu_flat(g.dense(g.op("Flatten", x), "dense4", map_chw=(64, 3, 3)), "prelu4")
    prob, offset = g.face(g.dense(x, "dense5_1")), g.dense(x, "dense5_2")
    return g.model(["n", 24, 24, 3], {"prob": (prob, ["n"]), "offset": (offset, ["n", 4])})


def build_onet(weights: Weights, dtype: npt.DTypeLike = np.float16) -> bytes:
    """The output network on 48-px candidates, with landmarks."""
    g = _Graph(weights, dtype)
    x = g.pool(g.prelu(g.conv(g.normalised("pictures"), "conv1", first=True), "prelu1"), 3)
    x = g.pool(g.prelu(g.conv(x, "conv2"), "prelu2"), 3)
    x = g.pool(g.prelu(g.conv(x, "conv3"), "prelu3"), 2)
    x = g.prelu(g.conv(x, "conv4"), "prelu4")
    x = g.prelu_flat(g.dense(g.op("Flatten", x), "dense5", map_chw=(128, 3, 3)), "prelu5")
    prob, offset, points = g.face(g.dense(x, "dense6_1")), g.dense(x, "dense6_2"), g.dense(x, "dense6_3")
    outputs: dict[str, tuple[str, list[str | int]]] = {
        "prob": (prob, ["n"]),
        "offset": (offset, ["n", 4]),
        "points": (points, ["n", 10]),
    }
    return g.model(["n", 48, 48, 3], outputs)


def read_weights(net: str) -> Weights:
    """The state of ``pnet``, ``rnet`` or ``onet`` from the installed facenet-pytorch; needs torch (extra ``train``)."""
    import torch

    package = importlib.util.find_spec("facenet_pytorch")
    if package is None or package.origin is None:
        raise ModuleNotFoundError("facenet-pytorch carries MTCNN's weights: install the extra 'train'")
    state = torch.load(Path(package.origin).parent / "data" / f"{net}.pt", map_location="cpu", weights_only=True)
    return {name: tensor.numpy() for name, tensor in state.items()}


def build_mtcnn() -> dict[str, bytes]:
    """The three serialised models by file name (``FILE_NAMES``); the same bytes each time."""
    builders = {"pnet": build_pnet, "rnet": build_rnet, "onet": build_onet}
    return {FILE_NAMES[net]: build(read_weights(net)) for net, build in builders.items()}


def write_mtcnn(folder: Path) -> list[Path]:
    """Build the three models into ``folder`` and return their paths."""
    paths = []
    for name, model in build_mtcnn().items():
        path = folder / name
        path.write_bytes(model)
        paths.append(path)
    return paths
