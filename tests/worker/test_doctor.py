from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from worker.cli import app
from worker.doctor import LAYERS, Check, can_scan, examine
from worker.frames.lockdown import SandboxLevel
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
        "sandbox",
        "backend onnxruntime",
        "backend torch",
        "GPU",
        "face detector",
        "model",
    ]
    assert "CPUExecutionProvider" in checks["backend onnxruntime"].detail
    for name in ("veriframe", "decoder pyav", "backend onnxruntime", "face detector"):
        assert checks[name].status == "ok", checks[name]


def test_a_missing_model_stops_a_scan_and_says_how_to_mend_it(checks: dict[str, Check]) -> None:
    assert checks["model"].status == "bad"
    assert "nowhere.safetensors" in checks["model"].detail
    assert "--model" in checks["model"].mend
    assert not can_scan(list(checks.values()))


def test_every_layer_of_the_sandbox_has_advice() -> None:
    assert set(SandboxLevel().missing) == LAYERS.keys()


def test_nothing_heavy_is_imported(checks: dict[str, Check]) -> None:
    import subprocess

    script = (
        "import sys; from worker.doctor import examine; from worker.settings import Settings; examine(Settings(), None);"
        "assert not {'torch', 'decord', 'timm'} & sys.modules.keys()"
    )
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-c", script], check=True, cwd=root, timeout=100)


def test_what_is_wanted_but_not_installed_is_bad(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in ("torch", "decord") else real(name))
    for flags, status in (({}, "note"), ({"model": {"backend": "torch"}, "decode": {"decoder": "decord"}}, "bad")):
        found = {check.name: check for check in examine(load_settings(None, flags), None)}
        assert found["backend torch"].status == status
        assert found["decoder decord"].status == status
        assert "pip install" in found["backend torch"].mend


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
