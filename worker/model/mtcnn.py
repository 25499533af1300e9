"""Builds MTCNN's three networks (Zhang et al. 2016) as ONNX graphs from facenet-pytorch's weights.

A graph takes pictures as float32 pixel values 0..255, NHWC, of any batch (and, for P-Net, any height and width from 12), and
gives ``prob`` (of a face), ``offset`` (of the box corners, in units of the box), and ``points`` (five x, then five y) from O-Net.
The paper: https://arxiv.org/abs/1604.02878.

O-Net's large weights are stored as float16 and cast to float32 in the graph; ONNX Runtime folds the casts when it loads. Those of
P-Net and R-Net stay float32: candidates are cut at whole pixels, so that rounding there moved faces by up to 3 pixels, O-Net's by
0.02.

The graphs are written for ONNX Runtime's convolutions in blocks of channels (NCHWc), which know a fused ReLU and a fused sum, but
no PReLU; its own PRelu costs two reorders and a scalar loop. With slope a, ``prelu(x) = a x + relu((1 - a) x)`` as long as a
<= 1: two fused depthwise convolutions. First convolutions read three channels and write large maps, so there the terms come from
convolutions of their own, or after pooling. The two classes' softmax is the sigmoid of their difference; all answers of a network
come from one last product.
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
LARGE = 4096
"""Numbers from which a weight is stored in the type that is asked for; smaller ones stay float32."""

Array = npt.NDArray[np.float64]


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

        if self.dtype == np.float32 or np.size(value) < LARGE:
            return self.constant(value, np.float32)
        return self.op("Cast", self.constant(value, self.dtype), to=TensorProto.FLOAT)

    def op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        from onnx import helper

        name = self._name("t")
        self.nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def pixels(self, pictures: str) -> str:
        return self.op("Transpose", pictures, perm=[0, 3, 1, 2])

    def conv(self, x: str, weight: Array, bias: Array | None = None, **attributes: Any) -> str:
        return self.op("Conv", x, self.weight(weight), *([] if bias is None else [self.weight(bias)]), **attributes)

    def named(self, name: str) -> tuple[Array, Array]:
        """Weight and bias of a layer."""
        return self.weights[f"{name}.weight"].astype(np.float64), self.weights[f"{name}.bias"].astype(np.float64)

    def inner(self, x: str, name: str, mix: Array | None = None) -> str:
        """A convolution of maps with padded channels, of which ``mix`` [channels, channels of ``x``] makes the layer's inputs."""
        weight, bias = self.named(name)
        if mix is not None:
            weight = np.einsum("oihw,ij->ojhw", weight, mix)
        return self.conv(x, _padded(weight, 2), _padded(bias, 1))

    def prelu(self, x: str, name: str) -> str:
        """PReLU of a map with padded channels."""
        slope = _padded(self.slope(name, most=1)[:, None, None, None], 1)
        bent = self.op("Relu", self.conv(x, 1 - slope, group=len(slope)))
        return self.op("Add", self.conv(x, slope, group=len(slope)), bent)

    def slope(self, name: str, *, most: float = np.inf) -> Array:
        slope = self.weights[f"{name}.weight"].astype(np.float64)
        if slope.max() > most:
            raise ValueError(f"a slope of {name} is {slope.max()}, more than {most}")
        return slope

    def first(self, name: str) -> tuple[Array, Array]:
        """Weight and bias of a first convolution, on pixels as they come: (x - 127.5) / 128 is folded in."""
        weight, bias = self.named(name)
        return weight / 128, bias - weight.sum((1, 2, 3)) * 127.5 / 128

    def first_prelu(self, pictures: str) -> tuple[str, Array]:
        """First convolution and PReLU by two convolutions of the pictures, and the mix to be applied after pooling.

        Where a > 1 two channels carry x and relu(x), of which prelu(x) is a mix; to pool them first changes nothing, as prelu is
        then rising.
        """
        (weight, bias), slope = self.first("conv1"), self.slope("prelu1")
        steep, n = np.flatnonzero(slope > 1), len(slope)
        linear, bent = np.where(slope > 1, 1, slope), np.where(slope > 1, 0, 1 - slope)
        rows = np.r_[np.arange(n), steep]
        linear, bent = np.r_[linear, np.zeros(len(steep))], np.r_[bent, np.ones(len(steep))]
        mix = np.zeros((n, n + len(steep)))
        mix[np.arange(n), np.arange(n)] = np.where(slope > 1, slope, 1)
        mix[steep, n + np.arange(len(steep))] = 1 - slope[steep]
        x = self.pixels(pictures)
        parts = [
            self.conv(x, _padded(weight[rows] * part[:, None, None, None], 1), _padded(bias[rows] * part, 1))
            for part in (linear, bent)
        ]
        return self.op("Add", parts[0], self.op("Relu", parts[1])), mix

    def first_pooled(self, pictures: str, size: int) -> tuple[str, Array]:
        """First convolution, pooling, then PReLU, and the mix to be applied to the result.

        A rising prelu may follow the pooling. With a < 0, prelu(x) = max(x, a x): a second channel carries a x, and the maximum
        of both is taken after pooling. Where a > 1, -prelu(x) is what can be written as a linear term and a ReLU.
        """
        (weight, bias), slope = self.first("conv1"), self.slope("prelu1")
        falling, n = np.flatnonzero(slope < 0), len(slope)
        factor, rows = np.r_[np.ones(n), slope[falling]], np.r_[np.arange(n), falling]
        sign = np.where(slope > 1, -1.0, 1.0)
        linear, bent = np.zeros((n, len(rows))), np.zeros((n, len(rows)))
        linear[np.arange(n), np.arange(n)] = sign * np.maximum(slope, 0)
        bent[np.arange(n), np.arange(n)] = np.where(slope < 0, 1, sign * (1 - slope))
        extra = n + np.arange(len(falling))
        linear[falling, extra], bent[falling, extra] = 1, -1
        kernel = weight[rows] * factor[:, None, None, None]
        x = self.pool(self.conv(self.pixels(pictures), _padded(kernel, 1), _padded(bias[rows] * factor, 1)), size)
        parts = [self.conv(x, _padded(part[:, :, None, None], 2)) for part in (linear, bent)]
        return self.op("Add", parts[0], self.op("Relu", parts[1])), np.diag(sign)

    def prelu_flat(self, x: str, name: str) -> str:
        return self.op("PRelu", x, self.weight(self.slope(name)))

    def pool(self, x: str, size: int) -> str:
        return self.op("MaxPool", x, kernel_shape=[size, size], strides=[2, 2], ceil_mode=1)

    def dense(self, x: str, name: str, map_chw: tuple[int, int, int]) -> str:
        """Fully connected to a map; the weight's columns lie in (w, h, c) order and are turned to the graph's (c, h, w)."""
        (weight, bias), (c, h, w) = self.named(name), map_chw
        weight = weight.reshape(-1, w, h, c).transpose(0, 3, 2, 1).reshape(len(weight), -1)
        return self.op("Gemm", self.op("Flatten", x), self.weight(weight), self.weight(bias), transB=1)

    def last(self, face: str, *others: str) -> tuple[Array, Array, list[int]]:
        """The last layers as one: the difference of the two classes' logits, then the others; and how many rows each has."""
        weight, bias = self.named(face)
        layers = [(weight[1:] - weight[:1], bias[1:] - bias[:1]), *(self.named(name) for name in others)]
        weights, biases = zip(*layers, strict=True)
        return np.concatenate(weights), np.concatenate(biases), [len(bias) for bias in biases]

    def answers(self, x: str, rows: list[int]) -> list[str]:
        """``prob`` and the other outputs from the last product."""
        names = [f"part{i}" for i in range(len(rows))]
        from onnx import helper

        self.nodes.append(helper.make_node("Split", [x, self.constant(rows, np.int64)], names, axis=1))
        prob = self.op("Squeeze", self.op("Sigmoid", names[0]), self.constant([1], np.int64))
        return [prob, *names[1:]]

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


def _padded(value: Array, axes: int) -> Array:
    """Zeros added to the first ``axes`` up to whole blocks."""
    return np.pad(value, [(0, -n % BLOCK if axis < axes else 0) for axis, n in enumerate(value.shape)])


def build_pnet(weights: Weights, dtype: npt.DTypeLike = np.float32) -> bytes:
    """The proposal network, fully convolutional: a 12-px window with stride 2."""
    g = _Graph(weights, dtype)
    x, mix = g.first_pooled("pictures", 2)
    x = g.prelu(g.inner(x, "conv2", mix), "prelu2")
    x = g.inner(x, "conv3")
    # the last PReLU goes into the product that follows: w a x + w (1 - a) relu(x)
    weight, bias, rows = g.last("conv4_1", "conv4_2")
    slope = g.slope("prelu3")[None, :, None, None]
    bent = g.conv(g.op("Relu", x), weight * (1 - slope))
    prob, offset = g.answers(g.op("Add", g.conv(x, weight * slope, bias), bent), rows)
    return g.model(["n", "h", "w", 3], {"prob": (prob, ["n", "y", "x"]), "offset": (offset, ["n", 4, "y", "x"])})


def build_rnet(weights: Weights, dtype: npt.DTypeLike = np.float32) -> bytes:
    """The refinement network on 24-px candidates."""
    g = _Graph(weights, dtype)
    x, mix = g.first_prelu("pictures")
    x = g.prelu(g.inner(g.pool(x, 3), "conv2", mix), "prelu2")
    x = g.prelu(g.inner(g.pool(x, 3), "conv3"), "prelu3")
    x = g.prelu_flat(g.dense(x, "dense4", (64, 3, 3)), "prelu4")
    weight, bias, rows = g.last("dense5_1", "dense5_2")
    prob, offset = g.answers(g.op("Gemm", x, g.weight(weight), g.weight(bias), transB=1), rows)
    return g.model(["n", 24, 24, 3], {"prob": (prob, ["n"]), "offset": (offset, ["n", 4])})


def build_onet(weights: Weights, dtype: npt.DTypeLike = np.float16) -> bytes:
    """The output network on 48-px candidates, with landmarks."""
    g = _Graph(weights, dtype)
    x, mix = g.first_prelu("pictures")
    x = g.prelu(g.inner(g.pool(x, 3), "conv2", mix), "prelu2")
    x = g.prelu(g.inner(g.pool(x, 3), "conv3"), "prelu3")
    x = g.prelu(g.inner(g.pool(x, 2), "conv4"), "prelu4")
    x = g.prelu_flat(g.dense(x, "dense5", (128, 3, 3)), "prelu5")
    weight, bias, rows = g.last("dense6_1", "dense6_2", "dense6_3")
    prob, offset, points = g.answers(g.op("Gemm", x, g.weight(weight), g.weight(bias), transB=1), rows)
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
