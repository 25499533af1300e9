from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from worker.backend_checks import backend_checks, choose_anew, chosen_backend
from worker.backends.candidates import NAMES
from worker.backends.choose import open_from, opening_of
from worker.doctor import can_scan
from worker.errors import ConfigError
from worker.extras import missing
from worker.settings import Settings, load_settings


def settings_for(checkpoint: Path, cache: Path, backend: str = "auto") -> Settings:
    return load_settings(flags={"model": {"backend": backend, "checkpoint": checkpoint, "cache_dir": cache}})


def test_the_choice_is_told_before_and_after_it_is_made(tiny_checkpoint: Path, tiny_onnx: Path, tmp_path: Path) -> None:
    if missing(("openvino",)):
        pytest.skip("needs openvino: make setup")
    shutil.copytree(tiny_onnx.parent, tmp_path / "onnx")
    settings = settings_for(tiny_checkpoint, tmp_path)
    before = chosen_backend(settings)
    assert (before.status, "to be measured" in before.detail, "--choose" in before.mend) == ("ok", True, True)
    choose_anew(settings)
    after = chosen_backend(settings)
    assert after.detail.startswith("auto: o")
    assert "ms a crop" in after.detail
    assert not after.mend
    (tmp_path / "backends").chmod(0o777)
    assert "onnxruntime, as a choice could not be remembered: others may write" in chosen_backend(settings).detail


def test_where_no_choice_can_be_remembered_the_reference_is_told_and_why(tiny_checkpoint: Path, tmp_path: Path) -> None:
    if missing(("openvino",)):
        pytest.skip("needs openvino: make setup")
    (tmp_path / "backends").touch()
    check = chosen_backend(settings_for(tiny_checkpoint, tmp_path))
    assert check.status == "note"
    assert check.detail.startswith("auto: onnxruntime, ")
    assert f"{tmp_path / 'backends'}: File exists" in check.detail
    assert "model.cache_dir" in check.mend


def test_a_backend_that_is_set_is_the_one_in_use(tiny_checkpoint: Path, tmp_path: Path) -> None:
    assert "as set by" in chosen_backend(settings_for(tiny_checkpoint, tmp_path, "openvino")).detail


def test_a_checkpoint_that_cannot_be_read_is_noted(tmp_path: Path) -> None:
    assert chosen_backend(settings_for(tmp_path / "none.safetensors", tmp_path)).status == "note"


def test_what_no_card_has_run_is_marked_and_can_be_verified(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.metadata
    import importlib.util

    real = importlib.util.find_spec
    present = ("tensorrt", "tensorrt_rtx", "torch_tensorrt")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object() if name in present else real(name))
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "9.9")
    checks = {check.name: check for check in backend_checks(load_settings())}
    for name in ("tensorrt", "tensorrt-rtx", "torch-tensorrt"):
        check = checks[f"backend {name}"]
        assert (check.status, check.detail) == ("note", "9.9, not verified on hardware")
        assert f"veriframe parity --backend {name}" in check.mend


@pytest.mark.parametrize("backend", ["openvino", "openvino-bf16"])
def test_what_is_set_and_missing_is_bad(backend: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import importlib.util

    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "openvino" else real(name))
    checks = {check.name: check for check in backend_checks(load_settings(flags={"model": {"backend": backend}}))}
    assert checks["backend openvino"].status == "bad"
    assert "SOURCE[openvino]" in checks["backend openvino"].mend


@pytest.mark.parametrize("backend", NAMES)
def test_a_backend_that_is_set_is_bad_where_opening_it_raises(
    backend: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """On a base installation, with the bundled checkpoint."""
    import importlib.util

    real = importlib.util.find_spec
    others = ("openvino", "tensorrt", "tensorrt_rtx", "torch_tensorrt", "torch", "timm")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in others else real(name))
    settings = load_settings(flags={"model": {"backend": backend, "cache_dir": tmp_path}})
    if can_scan([*backend_checks(settings), chosen_backend(settings)]):
        assert open_from(opening_of(None, cache_dir=tmp_path), backend).name == "onnxruntime"
    else:
        with pytest.raises(ConfigError):
            open_from(opening_of(None, cache_dir=tmp_path), backend)


@pytest.mark.parametrize("backend", ["openvino", "tensorrt"])
def test_the_face_detector_goes_on_without_its_backend(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == backend else real(name))
    checks = {check.name: check for check in backend_checks(load_settings(flags={"faces": {"backend": backend}}))}
    assert checks[f"backend {backend}"].status == "note"
    assert "onnxruntime takes its place" in checks[f"backend {backend}"].detail
