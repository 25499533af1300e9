from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from worker.backends.choose import cached_export
from worker.check import Check
from worker.cli import app
from worker.cores import affine_cores, usable_cores
from worker.doctor import LAYERS, can_scan, cores_told, examine, nvdec_check
from worker.frames.lockdown import SandboxLevel
from worker.model.checkpoint import sha256
from worker.model.packaged import default_checkpoint
from worker.output.checklist import print_checks
from worker.settings import load_settings


@pytest.fixture(scope="module")
def checks() -> dict[str, Check]:
    settings = load_settings(None, {"model": {"checkpoint": "nowhere.safetensors"}})
    return {check.name: check for check in examine(settings, None)}


def test_everything_a_scan_rests_on_is_examined(checks: dict[str, Check]) -> None:
    assert list(checks) == [
        "veriframe",
        "settings",
        "decoder pyav",
        "decoder decord",
        "decoder nvdec",
        "sandbox",
        "backend onnxruntime",
        "backend openvino",
        "backend tensorrt",
        "backend tensorrt-rtx",
        "backend torch-tensorrt",
        "backend torch",
        "GPU",
        "face detector",
        "model",
    ]
    assert "CPUExecutionProvider" in checks["backend onnxruntime"].detail
    for name in ("veriframe", "decoder pyav", "backend onnxruntime", "face detector"):
        assert checks[name].status == "ok", checks[name]


@pytest.mark.parametrize(
    ("usable", "affine", "told"), [(1, 1, "1 core"), (4, 4, "4 cores"), (1, 4, "1 core by the control group's quota, of 4")]
)
def test_the_cores_are_those_that_scans_use(usable: int, affine: int, told: str, checks: dict[str, Check]) -> None:
    assert cores_told(usable, affine) == told
    assert cores_told(usable_cores(), affine_cores()) in checks["veriframe"].detail


def test_a_missing_model_stops_a_scan_and_says_how_to_mend_it(checks: dict[str, Check]) -> None:
    assert checks["model"].status == "bad"
    assert "nowhere.safetensors" in checks["model"].detail
    assert "--model" in checks["model"].mend
    assert not can_scan(list(checks.values()))


def test_a_low_limit_on_open_files_stops_a_scan() -> None:
    command = ["bash", "-c", 'ulimit -n 23 && exec "$@"', "bash", sys.executable, "-m", "worker.start", "doctor", "--json"]
    done = subprocess.run(command, capture_output=True, check=False, cwd=Path(__file__).parents[2], timeout=100)
    (check,) = [check for check in json.loads(done.stdout)["checks"] if check["name"] == "open files"]
    assert (done.returncode, check["status"], check["mend"]) == (1, "bad", "ulimit -n 1024")
    assert "may have 23 (ulimit -n), fewer than" in check["detail"]


def test_every_layer_of_the_sandbox_has_advice() -> None:
    assert set(SandboxLevel().missing) == LAYERS.keys()


def test_nothing_heavy_is_imported(checks: dict[str, Check]) -> None:
    script = (
        "import sys; from worker.doctor import examine; from worker.settings import Settings; examine(Settings(), None);"
        "assert not {'torch', 'decord', 'timm'} & sys.modules.keys()"
    )
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-c", script], check=True, cwd=root, timeout=100)


def test_what_is_wanted_but_not_installed_is_bad_unless_another_takes_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in ("torch", "decord") else real(name))
    for flags, status in (({}, "note"), ({"model": {"backend": "torch"}, "decode": {"decoder": "decord"}}, "bad")):
        found = {check.name: check for check in examine(load_settings(None, flags), None)}
        assert found["backend torch"].status == status
        assert found["decoder decord"].status == "note"
        assert ("set as the decoder" in found["decoder decord"].detail) is (status == "bad")
        assert "make setup" in found["backend torch"].mend


def test_a_card_that_decodes_is_not_verified_and_one_that_is_missing_is_told_where_it_is_wanted() -> None:
    for wanted in (False, True):
        there, missing = nvdec_check(None, wanted=wanted), nvdec_check("no driver", wanted=wanted)
        assert (there.status, missing.status) == ("note", "note")
        assert "not verified on hardware" in there.detail
        assert "parity --decoder nvdec" in there.mend
        assert missing.detail.startswith("no driver")
        assert ("set as the decoder" in missing.detail) is wanted


def examined(checkpoint: Path, cache: Path) -> dict[str, Check]:
    settings = load_settings(None, {"model": {"checkpoint": checkpoint, "cache_dir": cache}})
    return {check.name: check for check in examine(settings, None)}


def test_a_checkpoint_of_ones_own_runs_with_torch_or_a_kept_export(
    monkeypatch: pytest.MonkeyPatch, tiny_checkpoint: Path, tiny_onnx: Path, tmp_path: Path
) -> None:
    assert examined(tiny_checkpoint, tmp_path)["export"].status == "ok"
    monkeypatch.setitem(sys.modules, "torch", None)
    without = examined(tiny_checkpoint, tmp_path)
    assert without["export"].status == "bad"
    assert "torch" in without["export"].detail
    assert not can_scan(list(without.values()))
    kept = examined(tiny_checkpoint, tiny_onnx.parents[1])
    assert kept["export"] == Check(name="export", status="ok", detail=tiny_onnx.name)


def test_damaged_weights_are_found(tiny_checkpoint: Path, tmp_path: Path) -> None:
    data = bytearray(tiny_checkpoint.read_bytes())
    data[-1] ^= 0xFF
    (tmp_path / "own.safetensors").write_bytes(data)
    check = examined(tmp_path / "own.safetensors", tmp_path)["model"]
    assert check.status == "bad"
    assert "damaged" in check.detail


def test_an_export_that_does_not_load_is_bad(tiny_checkpoint: Path, tmp_path: Path) -> None:
    cached_export(tiny_checkpoint, sha256(tiny_checkpoint), tmp_path, lambda _, out: out.write_bytes(b"no graph") and None)
    check = examined(tiny_checkpoint, tmp_path)["export"]
    assert (check.status, "cannot load the network" in check.detail) == ("bad", True)
    assert "-m worker.model.export" in check.mend


def test_a_gpu_is_noted_but_not_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 'GPU 0: Somebody X1 (UUID: GPU-1)'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    check = next(check for check in examine(load_settings(), None) if check.name == "GPU")
    assert (check.status, check.detail) == (
        "note",
        "GPU 0: Somebody X1; scans use it by model.backend onnxruntime-cuda or an exported TensorRT artefact",
    )


def test_text_and_json(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["doctor", "--json", "--model", str(tmp_path / "none.safetensors")])
    assert result.exit_code == 1
    told = json.loads(result.stdout)
    assert told["can_scan"] is False
    assert {"name", "status", "detail", "mend"} == told["checks"][0].keys()
    out = io.StringIO()
    print_checks([Check(name="model", status="bad", detail="gone\x1b[0m", mend="fetch it")], out)
    assert "NO  model  gone\\x1b[0m" in out.getvalue()
    assert "to mend: fetch it" in out.getvalue()
    assert "A scan cannot run here." in out.getvalue()


def test_settings_that_cannot_be_used_are_usage(tmp_path: Path) -> None:
    assert CliRunner().invoke(app, ["doctor", "--config", str(tmp_path / "none.yaml")]).exit_code == 2


@pytest.mark.parametrize("fits", [True, False])
def test_an_own_calibration_is_told_and_stops_a_scan_with_another_model(fits: bool) -> None:
    digest = sha256(default_checkpoint()) if fits else "b" * 64
    section = {"model_sha256": digest, "offset_video": -0.62, "offset_picture": 0.05}
    checks = examine(load_settings(None, {"calibration": section}), None)
    (check,) = [check for check in checks if check.name == "own calibration"]
    if fits:
        assert (check.status, check.detail) == ("ok", "-0.62 log odds for a video, +0.05 log odds for a picture")
    else:
        assert check.status == "bad"
        assert "another model" in check.detail
        assert "veriframe calibrate" in check.mend
        assert not can_scan(checks)
