from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from optimize.commands.export import app
from worker.backends.artefact import MANIFEST, read_artefact
from worker.extras import missing

runner = CliRunner()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--to", "coreml"], "--to coreml: one of onnx, openvino, tensorrt"),
        (["--to", "onnx", "--precision", "int8"], "--precision int8: one of fp32, fp16, bf16"),
        (["--to", "onnx", "--batch", "8"], "three numbers"),
        (["--to", "onnx", "--batch", "8,4,2"], "rising"),
        (["--to", "onnx", "--target", "sm80"], "takes no target"),
        (["--to", "onnx", "none.safetensors"], "none.safetensors"),
    ],
)
def test_what_cannot_be_meant_is_refused(arguments: list[str], message: str, tmp_path: Path) -> None:
    done = runner.invoke(app, [*arguments, "--out", str(tmp_path / "out")])
    assert done.exit_code == 2
    assert message in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not missing(("tensorrt",)), reason="tensorrt is installed")
def test_a_missing_library_says_how_to_install_it(tmp_path: Path) -> None:
    for kind in ("tensorrt", "torch-tensorrt"):
        done = runner.invoke(app, ["--to", kind, "--out", str(tmp_path / "out")])
        assert done.exit_code == 2
        assert f"an export to {kind} needs " in done.stderr
        assert "SOURCE[gpu]" in done.stderr


def test_help_has_examples() -> None:
    done = runner.invoke(app, ["--help"])
    assert done.exit_code == 0
    assert "veriframe export --to tensorrt-rtx --target" in done.stdout


def test_an_export_prints_its_figures_and_its_folder(tiny_checkpoint: Path, tiny_onnx: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    environment = {"VERIFRAME_MODEL__CACHE_DIR": str(tiny_onnx.parents[1])}
    done = runner.invoke(app, [str(tiny_checkpoint), "--to", "onnx", "--out", str(out)], env=environment)
    assert done.exit_code == 0, done.stderr
    assert done.stdout.splitlines()[-1] == str(out)
    assert "classifier" in done.stdout
    assert (out / MANIFEST).is_file()
    assert read_artefact(out).manifest.model == "tiny 0"


def test_the_settings_file_is_read(settings_flags: list[str], tmp_path: Path) -> None:
    done = runner.invoke(app, ["--to", "onnx", "--out", str(tmp_path / "out"), *settings_flags])
    assert done.exit_code == 2
    assert "none.safetensors" in done.stderr
