"""ONNX Runtime's own Python over sessions that fail as CUDA's do: when they are opened, or at the first run."""

from __future__ import annotations

from typing import Any, Literal

import onnxruntime as ort
import pytest
from onnxruntime.capi import onnxruntime_inference_collection as collection

NAMES = ["CUDAExecutionProvider", "CPUExecutionProvider"]


def pretend_cuda(monkeypatch: pytest.MonkeyPatch, fails: Literal["opening", "running"], error: str = "EPFail") -> None:
    """A card is there, and fails, when it runs by ONNX Runtime's class ``error``. The CPU's sessions are real."""
    real = collection.C

    class Session(real.InferenceSession):  # type: ignore[misc]
        on_card = False

        def initialize_session(self, providers: list[str], options: Any, disabled: Any) -> None:
            self.on_card = providers[:1] == NAMES[:1]
            if self.on_card and fails == "opening":
                raise RuntimeError("CUDA failure 35: CUDA driver version is insufficient for CUDA runtime version")
            super().initialize_session(NAMES[1:], [{}], disabled)

        def get_providers(self) -> Any:
            return NAMES if self.on_card else super().get_providers()

        def run(self, *arguments: Any) -> Any:
            if self.on_card:
                raise getattr(real, error)("CUDA failure 2: out of memory")
            return super().run(*arguments)

    class Library:
        InferenceSession = Session

        def get_available_providers(self) -> list[str]:
            return NAMES

        def __getattr__(self, name: str) -> Any:
            return getattr(real, name)

    monkeypatch.setattr(collection, "C", Library())
    monkeypatch.setattr(ort, "get_available_providers", lambda: NAMES)
