"""Every backend by name: what it lacks on this machine, and how it is opened for a checkpoint."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from worker.backends.artefact import Precision, kept_artefacts
from worker.backends.kept import private_cache
from worker.backends.onnx import OnnxClassifier, has_cuda
from worker.errors import ConfigError, ModelError
from worker.extras import how_to_install, missing
from worker.ports import Classifier

ArtefactKind = Literal["tensorrt", "tensorrt-rtx", "torch-tensorrt"]
REFERENCE = "onnxruntime"
ARTEFACTS: tuple[ArtefactKind, ...] = ("tensorrt", "tensorrt-rtx", "torch-tensorrt")
AUTO = (REFERENCE, "onnxruntime-cuda", "openvino", "openvino-bf16", *ARTEFACTS)
"""What ``auto`` may choose from; of equally fast ones the first. PyTorch is slower than any and takes seconds to import."""
NAMES = (*AUTO, "torch")
MODULES = {
    "openvino": ("openvino",),
    "openvino-bf16": ("openvino",),
    "tensorrt": ("tensorrt",),
    "tensorrt-rtx": ("tensorrt_rtx",),
    "torch-tensorrt": ("torch_tensorrt",),
    "torch": ("torch", "timm"),
}
EXTRAS = {
    "openvino": "openvino",
    "tensorrt": "gpu",
    "tensorrt_rtx": "rtx",
    "torch_tensorrt": "gpu",
    "torch": "train",
    "timm": "train",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """What is to be opened. ``onnx`` gives the export of the checkpoint with hash ``digest``, made where it has to be.

    ``parallel`` calls of ``scores`` at once, each on ``threads`` threads.
    """

    checkpoint: Path
    digest: str
    onnx: Callable[[], Path]
    cache_dir: Path
    threads: int
    parallel: int
    max_batch: int


def lacking(name: str, cache_dir: Path, digest: str) -> str | None:
    """Why a backend cannot be opened here, as far as that shows without loading its library; None where it may."""
    if absent := missing(MODULES.get(name, ())):
        return f"{', '.join(absent)} not installed: {how_to_install(EXTRAS[absent[0]])}"
    if name == "onnxruntime-cuda" and not has_cuda():
        return "this onnxruntime has no CUDA: install onnxruntime-gpu in its place"
    if name in ARTEFACTS and not kept_artefacts(cache_dir, name, digest):
        return f"no artefact of this checkpoint: veriframe export --to {name}"
    return None


def precision_of(ran: str) -> Precision:
    """Of a classifier by its name, which says what is below float32: ``openvino-bf16``, ``tensorrt-fp16``."""
    said = ran.rpartition("-")[2]
    return "fp16" if said == "fp16" else "bf16" if said == "bf16" else "fp32"


def is_of(ran: str, backend: str) -> bool:
    """Whether a classifier of the name ``ran`` is what the backend opens; an artefact's name tells its precision too."""
    return ran == backend or (backend in ARTEFACTS and ran in (f"{backend}-fp16", f"{backend}-bf16"))


def libraries() -> dict[str, str]:
    """Versions of the runtimes that are installed, by distribution."""
    names = ("onnxruntime", "onnxruntime-gpu", "openvino", "tensorrt", "tensorrt-rtx", "torch-tensorrt")
    found: dict[str, str] = {}
    for name in names:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def open_named(name: str, opening: Opening) -> Classifier:
    """The classifier of that name. Raises ConfigError where a library or card is missing, ModelError where it cannot be used."""
    if absent := missing(MODULES.get(name, ())):
        raise ConfigError(f"the {name} backend needs {', '.join(absent)}: {how_to_install(EXTRAS[absent[0]])}")
    if name == "torch":
        from worker.backends.torch import TorchClassifier

        return TorchClassifier(opening.checkpoint, threads=opening.threads, max_batch=opening.max_batch)
    if name in ARTEFACTS:
        return _open_artefact(name, opening)
    if name.startswith("openvino"):
        from worker.backends.openvino import OpenVinoClassifier

        return OpenVinoClassifier(
            opening.onnx(),
            threads=opening.threads,
            parallel=opening.parallel,
            precision="bf16" if name == "openvino-bf16" else "fp32",
            max_batch=opening.max_batch,
            checkpoint_sha256=opening.digest,
            cache=_compiled_cache(opening.cache_dir),
        )
    return OnnxClassifier(
        opening.onnx(),
        threads=opening.threads,
        max_batch=opening.max_batch,
        checkpoint_sha256=opening.digest,
        cuda=name == "onnxruntime-cuda",
    )


def _compiled_cache(cache_dir: Path) -> Path | None:
    """Where compiled graphs are kept; None where nothing can be kept: then each start compiles anew."""
    try:
        return private_cache(cache_dir / "openvino")
    except ConfigError:
        return None


def _open_artefact(kind: ArtefactKind, opening: Opening) -> Classifier:
    """The newest kept artefact that fits this machine. Raises the last one's reason where none does."""
    failed: ConfigError | ModelError = ConfigError(
        f"the {kind} backend needs an artefact of this checkpoint, built on this machine: veriframe export --to {kind}"
    )
    for folder in kept_artefacts(opening.cache_dir, kind, opening.digest):
        try:
            if kind == "torch-tensorrt":
                from worker.backends.torch_tensorrt import open_torch_tensorrt

                return open_torch_tensorrt(folder, checkpoint_sha256=opening.digest, max_batch=opening.max_batch)
            from worker.backends.tensorrt import open_tensorrt

            return open_tensorrt(folder, kind=kind, checkpoint_sha256=opening.digest, max_batch=opening.max_batch)
        except (ConfigError, ModelError) as exc:
            failed = exc
    raise failed
