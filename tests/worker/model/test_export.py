from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

from worker.errors import ModelError
from worker.model import checkpoint
from worker.model.export import main
from worker.model.graph import CHECKPOINT_KEY, FAMILIES, INPUT, LOGIT
from worker.model.mtcnn import FILE_NAMES
from worker.model.packaged import default_checkpoint, default_onnx, weights_folder
from worker.model.restore import load_network
from worker.model.spec import ModelSpec


@pytest.fixture(scope="module")
def graph(tiny_onnx: Path) -> onnx.GraphProto:
    return onnx.load(tiny_onnx).graph


def test_inputs_and_outputs(graph: onnx.GraphProto) -> None:
    def described(value: onnx.ValueInfoProto) -> tuple[str, int, list[int | str]]:
        tensor = value.type.tensor_type
        return value.name, tensor.elem_type, [dim.dim_param or dim.dim_value for dim in tensor.shape.dim]

    assert [described(value) for value in graph.input] == [(INPUT, TensorProto.UINT8, ["faces", 64, 64, 3])]
    outputs = [described(value) for value in graph.output]
    assert outputs == [(LOGIT, TensorProto.FLOAT, ["faces"]), (FAMILIES, TensorProto.FLOAT, ["faces", 4])]


def test_pixels_are_cast_before_they_are_transposed(graph: onnx.GraphProto) -> None:
    """TensorRT refuses to transpose uint8."""
    users = [node for node in graph.node if INPUT in node.input and node.op_type != "Shape"]
    assert [node.op_type for node in users] == ["Cast"]
    after = [node.op_type for node in graph.node if users[0].output[0] in node.input]
    assert after == ["Transpose"]


def test_the_weights_are_those_of_the_checkpoint(graph: onnx.GraphProto, tiny_checkpoint: Path) -> None:
    """Large ones in half precision, bit for bit; nothing large is left in single precision."""
    _, arrays = checkpoint.load(tiny_checkpoint)
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    halves = {array.tobytes() for array in stored.values() if array.dtype == np.float16}
    kernels = [array for name, array in arrays.items() if name.startswith("backbone") and array.ndim == 4 and array.size >= 256]
    assert len(kernels) > 5
    assert all(kernel.tobytes() in halves for kernel in kernels)
    assert max(array.size for array in stored.values() if array.dtype == np.float32) < 1000


def test_metadata_name_the_checkpoint(tiny_onnx: Path, tiny_checkpoint: Path) -> None:
    properties = {entry.key: entry.value for entry in onnx.load(tiny_onnx).metadata_props}
    assert properties[CHECKPOINT_KEY] == checkpoint.sha256(tiny_checkpoint)


def test_weights_that_do_not_fit_the_spec_are_refused(tmp_path: Path, tiny_checkpoint: Path) -> None:
    spec, arrays = checkpoint.load(tiny_checkpoint)
    path = tmp_path / "x.safetensors"
    missing = {name: array for name, array in arrays.items() if name != "head.decoder.bias"}
    wider = spec.model_copy(update={"head": spec.head.model_copy(update={"hidden_dim": 32})})
    for state, changed in ((missing, spec), (arrays | {"extra": arrays["head.decoder.bias"]}, spec), (arrays, wider)):
        checkpoint.save(path, state, changed)
        with pytest.raises(ModelError, match="do not fit"):
            load_network(path)


def test_what_cannot_be_exported_says_why(
    tmp_path: Path, tiny_checkpoint: Path, tiny_spec: ModelSpec, capsys: pytest.CaptureFixture[str]
) -> None:
    unknown, damaged, out = tmp_path / "unknown.safetensors", tmp_path / "damaged.safetensors", tmp_path / "out.onnx"
    checkpoint.save(unknown, {"w": np.zeros(1)}, tiny_spec.model_copy(update={"backbone": "no_such_net"}))
    data = bytearray(tiny_checkpoint.read_bytes())
    data[-1] ^= 0xFF
    damaged.write_bytes(data)
    for path, message in ((unknown, "timm has no backbone 'no_such_net'"), (damaged, "damaged checkpoint")):
        assert main([str(path), str(out)]) == 1
        assert message in capsys.readouterr().err.splitlines()[-1]
        assert not out.exists()


def test_the_packaged_export_is_that_of_the_packaged_checkpoint(tmp_path: Path) -> None:
    """Byte for byte, although another process on another machine made it: the same checkpoint always gives the same export."""
    bundled = default_checkpoint()
    assert bundled.stat().st_size < 16e6
    out = tmp_path / "rebuilt.onnx"
    assert main([str(bundled), str(out)]) == 0
    assert out.read_bytes() == default_onnx().read_bytes()


def test_the_packaged_mtcnn_is_rebuilt_alike(tmp_path: Path) -> None:
    assert main(["--mtcnn", str(tmp_path)]) == 0
    for name in FILE_NAMES.values():
        assert (tmp_path / name).read_bytes() == (weights_folder() / name).read_bytes()


@pytest.mark.parametrize("arguments", [[], ["only.safetensors"], ["a", "b", "--mtcnn", "c"]])
def test_half_a_command_line_is_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(arguments)
    assert "give CHECKPOINT and OUT.onnx" in capsys.readouterr().err
