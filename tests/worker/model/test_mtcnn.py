"""The packaged networks are the builder's, and equal facenet-pytorch's modules."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from worker.faces.nets import packaged_nets
from worker.model import mtcnn
from worker.types import Float32

BUILDERS = {"pnet": mtcnn.build_pnet, "rnet": mtcnn.build_rnet, "onet": mtcnn.build_onet}
SIZES = {"pnet": (30, 41), "rnet": (24, 24), "onet": (48, 48)}


def run(model: bytes, pictures: Float32) -> dict[str, Float32]:
    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, {"pictures": pictures}), strict=True))


def reference(net: str, pictures: Float32) -> dict[str, Float32]:
    import torch
    from facenet_pytorch.models import mtcnn as facenet

    modules: dict[str, Any] = {"pnet": facenet.PNet, "rnet": facenet.RNet, "onet": facenet.ONet}
    with torch.no_grad():
        x = (torch.from_numpy(pictures).permute(0, 3, 1, 2) - 127.5) * 0.0078125
        offset, *points, prob = (value.numpy() for value in modules[net]()(x))
    return {"prob": prob[:, 1], "offset": offset} | ({"points": points[0]} if points else {})


@pytest.mark.parametrize("net", ["pnet", "rnet", "onet"])
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("float16", 5e-3)])
def test_equals_facenet_pytorch(net: str, dtype: str, tolerance: float) -> None:
    pictures = np.random.default_rng(5).uniform(0, 255, (4, *SIZES[net], 3)).astype(np.float32)
    ours = run(BUILDERS[net](mtcnn.read_weights(net), dtype), pictures)
    expected = reference(net, pictures)
    assert ours.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(ours[name], value, atol=tolerance, err_msg=name)


def test_any_batch_gives_the_same_answers() -> None:
    pictures = np.random.default_rng(6).uniform(0, 255, (5, 48, 48, 3)).astype(np.float32)
    model = (packaged_nets() / mtcnn.FILE_NAMES["onet"]).read_bytes()
    together = run(model, pictures)["prob"]
    assert run(model, pictures[:0])["prob"].shape == (0,)
    np.testing.assert_allclose(np.concatenate([run(model, p[None])["prob"] for p in pictures]), together, atol=1e-6)


def test_packaged_networks_are_the_builders(tmp_path: Path) -> None:
    paths = mtcnn.write_mtcnn(tmp_path)
    assert {path.name for path in paths} == set(mtcnn.FILE_NAMES.values())
    for path in paths:
        packaged, built = onnx.load(packaged_nets() / path.name), onnx.load(path)
        assert (packaged.ir_version, packaged.opset_import) == (built.ir_version, built.opset_import)
        assert (packaged.graph.input, packaged.graph.output) == (built.graph.input, built.graph.output)
        assert packaged.graph.node == built.graph.node
        for ours, theirs in zip(packaged.graph.initializer, built.graph.initializer, strict=True):
            np.testing.assert_array_equal(onnx.numpy_helper.to_array(ours), onnx.numpy_helper.to_array(theirs))
    assert sum(path.stat().st_size for path in paths) < 1.3e6


def test_onet_is_stored_in_half_precision() -> None:
    graph = onnx.load(packaged_nets() / mtcnn.FILE_NAMES["onet"]).graph
    large = [tensor for tensor in graph.initializer if np.prod(tensor.dims) >= mtcnn.LARGE]
    assert {tensor.data_type for tensor in large} == {onnx.TensorProto.FLOAT16}
    assert sum(np.prod(tensor.dims) for tensor in large) > 380_000


def test_a_prelu_too_steep_to_be_written_is_refused() -> None:
    weights = dict(mtcnn.read_weights("rnet"))
    weights["prelu2.weight"] = np.append(weights["prelu2.weight"][:-1], np.float32(1.5))
    with pytest.raises(ValueError, match="slope"):
        mtcnn.build_rnet(weights)


def test_weights_that_are_not_installed_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "facenet_pytorch", None)
    with pytest.raises(ModuleNotFoundError, match="install the extra 'train'"):
        mtcnn.read_weights("pnet")


def test_weights_carry_their_licence() -> None:
    text = (packaged_nets() / "MTCNN-LICENSE.txt").read_text()
    assert "MIT License" in text
    assert "Timothy Esler" in text
