"""The worker tests' tiny checkpoints and their exports, and the TensorRT library that builds without a card."""

from __future__ import annotations

from tests.worker.conftest import foreign_torch, make_crops, rtx, tiny_card, tiny_checkpoint, tiny_onnx, tiny_spec

__all__ = ["foreign_torch", "make_crops", "rtx", "tiny_card", "tiny_checkpoint", "tiny_onnx", "tiny_spec"]
