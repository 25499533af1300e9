"""The checkpoint that comes with the package, and its ONNX export beside it."""

from __future__ import annotations

import sys
from functools import lru_cache
from importlib.resources import files
from pathlib import Path

from worker.errors import ModelError
from worker.model.checkpoint import sha256

CHECKPOINT_NAME = "veriframe-b0-v4.safetensors"
ONNX_NAME = "veriframe-b0-v4.onnx"


def weights_folder() -> Path:
    """Where the package keeps its weights and their licence files."""
    return Path(str(files("worker") / "model" / "weights"))


def default_checkpoint(folder: Path | None = None) -> Path:
    """The bundled checkpoint. Raises ModelError where there is none: nothing is ever scored with random weights."""
    path = (folder or weights_folder()) / CHECKPOINT_NAME
    if not path.is_file():
        raise ModelError("no checkpoint bundled; pass one of your own with --model FILE.safetensors")
    return path


def is_bundled(checkpoint_sha256: str) -> bool:
    """Whether this is the bundled checkpoint's digest."""
    try:
        return bundled_sha256() == checkpoint_sha256
    except ModelError:
        return False


def bundled_sha256() -> str:
    """Hash of the bundled checkpoint, made once as long as the file stays as it is. Raises ModelError where there is none."""
    path = default_checkpoint()
    state = path.stat()
    return _hashed(path, state.st_ino, state.st_size, state.st_mtime_ns)


@lru_cache(maxsize=1)
def _hashed(path: Path, *_: int) -> str:
    return sha256(path)


def default_onnx(folder: Path | None = None) -> Path:
    """The export of the bundled checkpoint. Raises ModelError where it is missing."""
    path = (folder or weights_folder()) / ONNX_NAME
    if not path.is_file():
        command = f"{sys.executable} -m worker.model.export {path.with_name(CHECKPOINT_NAME)} {path}"
        raise ModelError(f"the bundled checkpoint's export {ONNX_NAME} is missing: make it with `{command}`")
    return path
