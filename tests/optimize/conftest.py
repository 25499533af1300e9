"""The worker tests' tiny checkpoints and their exports, the TensorRT library that builds without a card, and a settings file."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.worker.conftest import foreign_torch, make_crops, rtx, tiny_card, tiny_checkpoint, tiny_onnx, tiny_spec

__all__ = ["foreign_torch", "make_crops", "rtx", "tiny_card", "tiny_checkpoint", "tiny_onnx", "tiny_spec"]


@pytest.fixture(params=["named", "of a checkout"])
def settings_flags(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Of a command whose settings name the checkpoint ``none.safetensors``: ``--config``, or none in a checkout."""
    file = tmp_path / "worker.yaml"
    file.write_text("model: {checkpoint: none.safetensors}")
    if request.param == "named":
        return ["--config", str(file)]
    monkeypatch.setattr("worker.settings.default_file", lambda: file)
    return []
