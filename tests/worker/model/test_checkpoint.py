from __future__ import annotations

import json
import pickle
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save as serialise

from worker.errors import ModelError
from worker.model import checkpoint
from worker.model.packaged import default_checkpoint, default_onnx
from worker.model.spec import ModelSpec, TrainingData, TrainingSource

STATE: dict[str, Any] = {
    "conv.weight": np.linspace(-1, 1, 24, dtype=np.float32).reshape(2, 3, 2, 2),
    "norm.running_var": np.array([1e-7, 90_000], np.float32),
    "norm.num_batches_tracked": np.array(5),
}


@pytest.fixture
def saved(tmp_path: Path, tiny_spec: ModelSpec) -> Path:
    path = tmp_path / "a.safetensors"
    checkpoint.save(path, STATE, tiny_spec)
    return path


def rewritten(path: Path, change: dict[str, Any]) -> Path:
    """The same tensors with other metadata."""
    about = json.loads(checkpoint._header_of(path)["__metadata__"][checkpoint.KEY])
    _, arrays = checkpoint.load(path)
    path.write_bytes(serialise(arrays, metadata={checkpoint.KEY: json.dumps(about | change)}))
    return path


def test_what_is_saved_comes_back(saved: Path, tiny_spec: ModelSpec) -> None:
    spec, arrays = checkpoint.load(saved)
    assert spec == tiny_spec == checkpoint.load_spec(saved)
    assert arrays["conv.weight"].dtype == np.float16
    np.testing.assert_allclose(arrays["conv.weight"], STATE["conv.weight"], rtol=1e-3)
    np.testing.assert_array_equal(arrays["norm.running_var"], STATE["norm.running_var"])
    assert arrays["norm.num_batches_tracked"] == 5


def test_the_same_weights_give_the_same_file_whatever_their_order(saved: Path, tmp_path: Path, tiny_spec: ModelSpec) -> None:
    again = tmp_path / "b.safetensors"
    checkpoint.save(again, dict(reversed(STATE.items())), tiny_spec)
    assert again.read_bytes() == saved.read_bytes()
    assert checkpoint.sha256(again) == checkpoint.sha256(saved)


def test_torch_tensors_of_any_float_type_are_taken(tmp_path: Path, tiny_spec: ModelSpec) -> None:
    import torch

    path = tmp_path / "t.safetensors"
    weight = torch.nn.Parameter(torch.linspace(-1, 1, 6)).to(torch.bfloat16)
    checkpoint.save(path, {"w": weight}, tiny_spec, dtype=np.float32)
    np.testing.assert_array_equal(checkpoint.load(path)[1]["w"], weight.detach().float().numpy())


@pytest.mark.parametrize("bad", [np.nan, np.inf, 70_000.0])
def test_values_that_half_precision_cannot_hold_are_refused(tmp_path: Path, tiny_spec: ModelSpec, bad: float) -> None:
    with pytest.raises(ValueError, match="not finite in float16"):
        checkpoint.save(tmp_path / "a.safetensors", {"w": np.array([1.0, bad])}, tiny_spec)
    assert list(tmp_path.iterdir()) == []


def test_saving_over_a_file_is_whole_or_nothing(saved: Path, tiny_spec: ModelSpec, tmp_path: Path) -> None:
    before = saved.read_bytes()
    with pytest.raises(ValueError, match="without weights"):
        checkpoint.save(saved, {}, tiny_spec)
    assert saved.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == [saved.name]


def test_weights_of_another_type_are_neither_written_nor_read(saved: Path, tiny_spec: ModelSpec) -> None:
    with pytest.raises(ValueError, match="float16 or float32, not"):
        checkpoint.save(saved, STATE, tiny_spec, dtype=np.float64)
    about = json.loads(checkpoint._header_of(saved)["__metadata__"][checkpoint.KEY])
    arrays = {"w": np.zeros(2), "b": np.zeros(2, np.float32)}
    told = json.dumps(about | {"content_sha256": checkpoint.content_sha256(arrays)})
    saved.write_bytes(serialise(arrays, metadata={checkpoint.KEY: told}))
    with pytest.raises(ModelError, match=r"weights of type float64$"):
        checkpoint.load(saved)


def test_every_damaged_byte_of_the_weights_is_found(saved: Path) -> None:
    good = saved.read_bytes()
    (header,) = struct.unpack("<Q", good[:8])
    for place in range(8 + header, len(good)):
        saved.write_bytes(good[:place] + bytes([good[place] ^ 1]) + good[place + 1 :])
        with pytest.raises(ModelError, match="damaged"):
            checkpoint.load(saved)


@pytest.mark.parametrize("length", [0, 4, 8, 100, -1])
def test_a_cut_file_is_refused(saved: Path, length: int) -> None:
    saved.write_bytes(saved.read_bytes()[:length])
    with pytest.raises(ModelError):
        checkpoint.load(saved)


def test_a_missing_or_renamed_tensor_is_found(saved: Path) -> None:
    about = checkpoint._header_of(saved)["__metadata__"]
    _, arrays = checkpoint.load(saved)
    for changed in ({"conv.weight": arrays["conv.weight"]}, {f"x.{name}": array for name, array in arrays.items()}):
        saved.write_bytes(serialise(changed, metadata=about))
        with pytest.raises(ModelError, match="not those that were saved"):
            checkpoint.load(saved)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 2}, "checkpoint format 2"),
        ({"format": None}, "checkpoint format None"),
        ({"spec": {"spec_version": 7}}, "spec version 7"),
        ({"spec": None}, "spec version None"),
        ({"spec": {"spec_version": 1}}, "name: Field required"),
    ],
)
def test_unknown_versions_and_broken_specs_are_refused(saved: Path, change: dict[str, Any], message: str) -> None:
    path = rewritten(saved, change)
    for read in (checkpoint.load, checkpoint.load_spec):
        with pytest.raises(ModelError, match=message):
            read(path)


def test_a_spec_with_a_field_of_a_newer_version_is_refused_with_advice(saved: Path, tiny_spec: ModelSpec) -> None:
    path = rewritten(saved, {"spec": tiny_spec.model_dump(mode="json") | {"next": 1}})
    with pytest.raises(ModelError, match=r"next: .*newer version of veriframe: update"):
        checkpoint.load_spec(path)


def test_what_was_left_out_is_written_only_where_there_is_any(tmp_path: Path, tiny_spec: ModelSpec) -> None:
    for leftout in (0, 3):
        source = TrainingSource(name="a", real=7, leftout=leftout)
        spec = tiny_spec.model_copy(update={"training": TrainingData(sources=(source,))})
        path = tmp_path / f"{leftout}.safetensors"
        checkpoint.save(path, STATE, spec)
        assert (b"leftout" in path.read_bytes()) is bool(leftout)
        assert checkpoint.load_spec(path) == spec


class Exploding:
    def __reduce__(self) -> tuple[Any, ...]:
        return (pytest.fail, ("unpickled",))


def test_other_files_are_refused_and_never_unpickled(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    for data in (
        pickle.dumps(Exploding()),
        b"\xff" * 64,
        struct.pack("<Q", 1 << 40) + b"{}",
        struct.pack("<Q", 4) + b"[[[[",
        struct.pack("<Q", 2) + b"[]",
        serialise({"w": np.zeros(1, np.float32)}),
        serialise({"w": np.zeros(1, np.float32)}, metadata={checkpoint.KEY: "[" * 100_000}),
        serialise({"w": np.zeros(1, np.float32)}, metadata={checkpoint.KEY: "[]"}),
    ):
        path.write_bytes(data)
        for read in (checkpoint.load, checkpoint.load_spec):
            with pytest.raises(ModelError):
                read(path)
    for read in (checkpoint.load, checkpoint.load_spec, checkpoint.sha256):
        with pytest.raises(ModelError, match=r"cannot (be )?read"):
            read(tmp_path / "none")
        with pytest.raises(ModelError, match=r"cannot (be )?read"):
            read(tmp_path)


def test_without_a_bundled_checkpoint_nothing_is_invented(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no checkpoint bundled"):
        default_checkpoint(tmp_path)
    with pytest.raises(ModelError, match="is missing"):
        default_onnx(tmp_path)


def test_reading_checkpoints_imports_no_torch() -> None:
    program = (
        "import sys; sys.modules['torch'] = None\n"
        "import worker.model.spec, worker.model.checkpoint, worker.model.packaged, worker.backends.choose, worker.backends.onnx"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
