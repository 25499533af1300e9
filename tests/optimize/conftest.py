"""The worker tests' tiny checkpoint and its export, and the TensorRT library that builds without a card."""

from __future__ import annotations

import importlib
import os
import platform
import sys
from typing import Any

import pytest

from tests.worker.conftest import foreign_torch, make_crops, tiny_checkpoint, tiny_onnx, tiny_spec
from worker.extras import how_to_install, missing

__all__ = ["foreign_torch", "make_crops", "tiny_checkpoint", "tiny_onnx", "tiny_spec"]


@pytest.fixture(scope="session")
def rtx() -> Any:
    """tensorrt_rtx. In CI on Linux, x86-64, its absence is a failure: engines must be built there."""
    if missing(("tensorrt_rtx",)):
        if os.environ.get("CI") and sys.platform == "linux" and platform.machine() == "x86_64":
            pytest.fail(f"tensorrt_rtx must be installed in CI: {how_to_install('rtx')}")
        pytest.skip(f"needs tensorrt_rtx: {how_to_install('rtx')}")
    return importlib.import_module("tensorrt_rtx")
