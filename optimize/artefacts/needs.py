"""What each kind of artefact needs installed; nothing heavy is imported to know it."""

from __future__ import annotations

from collections.abc import Mapping

from worker.backends.artefact import Kind
from worker.errors import ConfigError
from worker.extras import how_to_install, missing

TRAIN = ("onnx", "onnx_ir", "onnxscript", "timm", "torch")
NEEDS: Mapping[Kind, tuple[str, tuple[str, ...]]] = {
    "onnx": ("train", ("onnx",)),
    "openvino": ("openvino", ("openvino",)),
    "tensorrt": ("gpu", ("tensorrt",)),
    "tensorrt-rtx": ("rtx", ("tensorrt_rtx",)),
    "torch-tensorrt": ("gpu", ("torch_tensorrt", "tensorrt")),
}
"""The extra of each kind and the modules it brings; all need ``train`` too."""


def need(kind: Kind) -> None:
    """Raises ConfigError naming what is not installed and how to install it."""
    extra, modules = NEEDS[kind]
    for name, wanted in (("train", TRAIN), (extra, modules)):
        if lacking := missing(wanted):
            raise ConfigError(f"an export to {kind} needs {', '.join(lacking)}: {how_to_install(name)}")
