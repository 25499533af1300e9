"""MTCNN's three networks on ONNX Runtime."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import numpy as np
import onnxruntime as ort

from worker.errors import ModelError
from worker.onnx_errors import LOAD_ERRORS
from worker.ports import FaceNets
from worker.types import Float32

PIXELS_AT_ONCE = 9216
"""About so many pixels go through a network in one run, at least one picture: the maps of the first layers then stay in the
processor's cache, which makes all three a third faster than in one go. 16 candidates for R-Net, 4 for O-Net."""


class Net:
    """One network: float32 pixels 0..255 [N, H, W, 3] -> its outputs. Runs on the calling thread, and on several at once."""

    def __init__(self, path: Path) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        try:
            self._session = ort.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
        except LOAD_ERRORS as exc:
            raise ModelError(f"cannot load MTCNN's network {path}: {exc}") from exc

    def __call__(self, pictures_NHWC: Float32) -> list[Float32]:
        n, height, width = pictures_NHWC.shape[:3]
        chunk = max(1, PIXELS_AT_ONCE // (height * width))
        if n <= chunk:
            outputs: list[Float32] = self._session.run(None, {"pictures": pictures_NHWC})
            return outputs
        runs = [self._session.run(None, {"pictures": pictures_NHWC[start : start + chunk]}) for start in range(0, n, chunk)]
        return [np.concatenate(parts) for parts in zip(*runs, strict=True)]


def packaged_nets() -> Path:
    """Folder of the networks that come with the package."""
    return Path(str(files("worker") / "model" / "weights"))


def load_nets(folder: Path) -> FaceNets:
    """P-Net, R-Net and O-Net from ``mtcnn_{pnet,rnet,onet}.onnx``. Raises ModelError where one is missing or damaged."""
    return Net(folder / "mtcnn_pnet.onnx"), Net(folder / "mtcnn_rnet.onnx"), Net(folder / "mtcnn_onet.onnx")
