"""The commands of the parts: refusals here, one real tiny run of each in ``make soak``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from optimize.cli import app
from worker.cores import affine_cores

RUNS = {
    "decode": ["--clips", "1", "--frames", "2", "--minutes", "0"],
    "detect": ["--clips", "1", "--frames", "2", "--repeat", "1", "--no-full-size"],
    "classify": ["--crops", "2", "--batch", "2", "--repeat", "1", "--runtime", "eager", "--runtime", "onnxruntime"],
    "serve": ["--videos", "2", "--workers", "1", "--frames", "2", "--rounds", "1"],
    "growth": ["--of", "frames", "--most", "2"],
    "memory": ["--minutes", "0.2"],
}


@pytest.mark.parametrize("command", ["decode", "detect", "classify", "serve"])
def test_a_folder_without_clips_is_a_usage_error(tmp_path: Path, command: str) -> None:
    result = CliRunner().invoke(app, [command, str(tmp_path)])
    assert result.exit_code == 2
    assert "no video files" in result.output


@pytest.mark.parametrize("command", sorted(RUNS))
def test_figures_have_a_place_to_go_before_anything_is_measured(command: str) -> None:
    result = CliRunner().invoke(app, [command, "--json", "nowhere/at/all.json"])
    assert result.exit_code == 2
    assert "no such folder" in result.output


def test_figures_go_to_a_file(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["queue", "--scans", "0", "--enqueue", "1", "--json", str(tmp_path)])
    assert result.exit_code == 2
    assert "is a folder" in result.output


def test_a_full_disk_is_told(tmp_path: Path) -> None:
    full = tmp_path / "full.json"
    full.symlink_to("/dev/full")
    result = CliRunner().invoke(app, ["queue", "--scans", "0", "--enqueue", "1", "--json", str(full)])
    assert result.exit_code == 2
    assert "enqueued by enqueue_many" in result.output, "the table comes first"
    assert "the figures cannot be written: [Errno 28]" in result.output


def test_cuda_is_unmeasured_where_there_is_none(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="needs torch: make setup")
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    out = tmp_path / "cuda.json"
    result = CliRunner().invoke(app, ["classify", "--device", "cuda", "--crops", "1", "--batch", "1", "--json", str(out)])
    assert result.exit_code == 0, result.output
    figures = json.loads(out.read_text())["figures"]
    assert {figure["value"] for figure in figures} == {None}
    assert {figure["name"] for figure in figures} == {"eager", "compile", "onnxruntime-cuda", "tensorrt", "torch-tensorrt"}


@pytest.mark.parametrize("name", ["onnx", "auto"])
def test_an_unknown_runtime_is_a_usage_error(name: str) -> None:
    pytest.importorskip("torch", reason="needs torch: make setup")
    result = CliRunner().invoke(app, ["classify", "--device", "cuda", "--runtime", name, "--json", "/dev/null"])
    assert result.exit_code == 2, result.output
    assert f"--runtime {name}: one of eager," in " ".join(result.output.split())


@pytest.mark.parametrize("command", ["classify", "decode", "detect", "scan", "growth", "memory"])
def test_more_threads_than_cores_are_a_usage_error(command: str) -> None:
    """The references' threads would be in each other's way, and cores that do not exist would stand idle."""
    result = CliRunner().invoke(app, [command, "--threads", str(affine_cores() + 1), "--json", "nowhere/at/all.json"])
    assert result.exit_code == 2
    assert "every side needs as many cores" in " ".join(result.output.replace("│", " ").split())


@pytest.mark.soak
@pytest.mark.parametrize("command", sorted(RUNS))
def test_a_tiny_real_run_leaves_figures(tmp_path: Path, command: str) -> None:
    out = tmp_path / "out.json"
    result = CliRunner().invoke(app, [command, *RUNS[command], "--json", str(out)])
    assert result.exit_code == 0, result.output
    document = json.loads(out.read_text())
    assert document["bench"] == command
    assert any(figure["value"] for figure in document["figures"])
