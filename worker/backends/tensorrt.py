"""Scores crops with a TensorRT engine that ``veriframe export`` built. Not verified on hardware: no card was at hand.

An operator verifies it on the card with ``veriframe parity --backend tensorrt``. Every engine is checked when it is opened: its
manifest against this machine, then its scores of real crops against eager float32. ``tensorrt_rtx`` has the same API. Of torch
only memory, one stream and the card's name are used. TensorRT's Python API:
https://docs.nvidia.com/deeplearning/tensorrt/latest/_static/python-api/
"""

from __future__ import annotations

import importlib
import logging
import math
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from worker.backends.artefact import (
    CLASSIFIER,
    Artefact,
    Gpu,
    Machine,
    check_fits,
    check_owned,
    check_parity,
    how_to_make,
    probabilities,
    read_artefact,
    told_as,
)
from worker.backends.crops import BatchedClassifier
from worker.errors import ConfigError, ModelError
from worker.extras import how_to_install, missing
from worker.model.graph import DRAWS, LOGIT
from worker.ports import Classifier
from worker.types import Float32, Scores, UInt8

LIBRARIES = {"tensorrt": "tensorrt", "tensorrt-rtx": "tensorrt_rtx"}
EXTRAS = {"tensorrt": "gpu", "tensorrt-rtx": "rtx"}

RtKind = Literal["tensorrt", "tensorrt-rtx"]
Array = npt.NDArray[Any]
log = logging.getLogger(__name__)


class Why(StrEnum):
    """Why another backend runs in the wanted one's place."""

    MISSING = "missing"
    """No library, no card or no artefact."""
    REFUSED = "refused"
    """An artefact that does not fit the machine or the checkpoint, or fails the parity gate."""


fallbacks: Counter[Why] = Counter()
"""How often this process opened another backend instead."""


class Runs(Protocol):
    """An engine for batches of ``least`` to ``greatest`` pictures; outputs by name."""

    least: int
    greatest: int

    def __call__(self, pictures: Array) -> dict[str, Array]: ...


class Engine:
    """One engine on the card: a context, a buffer for each tensor with a pinned one beside it, one stream. Calls take turns.

    ``trt`` is the library; ``remedy`` ends the message where it does not take the engine. Raises ModelError where the card or the
    library refuses.
    """

    def __init__(self, trt: Any, data: bytes, remedy: str = "") -> None:
        import torch

        from worker.backends.listener import lacks_memory, made_with, new_listener

        self._lock = threading.Lock()
        self._torch = torch
        self._told = new_listener(trt)
        self._runtime = made_with(trt.Runtime, self._told)
        self._engine = self._runtime.deserialize_cuda_engine(data)
        if self._engine is None:
            said = self._told.said()
            if lacks_memory(said):
                raise ModelError(f"the card has no room for the engine: {said}")
            raise ModelError(f"the engine was refused (built by another version, or for another card?): {said}{remedy}")
        names = [self._engine.get_tensor_name(place) for place in range(self._engine.num_io_tensors)]
        modes = {name: self._engine.get_tensor_mode(name) for name in names}
        self._input = next(name for name in names if modes[name] == trt.TensorIOMode.INPUT)
        self._outputs = [name for name in names if modes[name] == trt.TensorIOMode.OUTPUT]
        least, _, greatest = (tuple(shape) for shape in self._engine.get_tensor_profile_shape(self._input, 0))
        self.least, self.greatest = int(least[0]), int(greatest[0])
        try:
            self._context = self._engine.create_execution_context()
            # TensorRT raises nothing: it gives None, or False
            if self._context is None or not self._context.set_input_shape(self._input, greatest):
                raise ModelError(f"TensorRT could not make the engine's context: {self._told.said()}")
            self._stream: Any = torch.cuda.Stream()  # type: ignore[no-untyped-call]
            self._pinned, self._on_card = {}, {}
            for name in names:
                size = math.prod(self._context.get_tensor_shape(name))
                dtype = torch.from_numpy(np.empty(0, trt.nptype(self._engine.get_tensor_dtype(name)))).dtype
                self._pinned[name] = torch.empty(size, dtype=dtype, pin_memory=True)
                self._on_card[name] = torch.empty(size, dtype=dtype, device="cuda")
                self._context.set_tensor_address(name, self._on_card[name].data_ptr())
        except RuntimeError as exc:  # torch's class for whatever CUDA says
            raise ModelError(f"the card refused the engine's memory: {exc}") from exc

    def __call__(self, pictures: Array) -> dict[str, Array]:
        """Outputs by name, for ``least`` to ``greatest`` pictures. Raises ValueError for others, ModelError from the card."""
        with self._lock, self._torch.cuda.stream(self._stream):
            if not self._context.set_input_shape(self._input, pictures.shape):
                raise ValueError(f"the engine takes no input of shape {list(pictures.shape)}")
            try:
                np.copyto(self._pinned[self._input].numpy()[: pictures.size], pictures.reshape(-1), casting="no")
                self._copy(self._on_card, self._pinned, self._input, pictures.size)
                if not self._context.execute_async_v3(self._stream.cuda_stream):
                    raise ModelError(f"the engine failed: {self._told.said()}")
                shapes = {name: tuple(self._context.get_tensor_shape(name)) for name in self._outputs}
                for name, shape in shapes.items():
                    self._copy(self._pinned, self._on_card, name, math.prod(shape))
                self._stream.synchronize()
            except RuntimeError as exc:
                raise ModelError(f"the card failed: {exc}") from exc
            return {name: self._pinned[name].numpy()[: math.prod(s)].reshape(s).copy() for name, s in shapes.items()}

    @staticmethod
    def _copy(to: dict[str, Any], source: dict[str, Any], name: str, size: int) -> None:
        to[name][:size].copy_(source[name][:size], non_blocking=True)


class TensorRtNet:
    """One of MTCNN's networks on the card, called as ``worker.faces.nets.Net`` is: outputs in the order of the manifest."""

    def __init__(self, engine: Runs, outputs: Sequence[str]) -> None:
        self._engine, self._names = engine, tuple(outputs)

    def __call__(self, pictures_NHWC: Float32) -> list[Float32]:
        most = self._engine.greatest
        parts = [
            run_padded(self._engine, pictures_NHWC[start : start + most]) for start in range(0, len(pictures_NHWC), most)
        ] or [{name: part[:0] for name, part in run_padded(self._engine, pictures_NHWC).items()}]
        return [np.concatenate([part[name] for part in parts]) for name in self._names]


class TensorRtClassifier(BatchedClassifier):
    """A ``worker.ports.Classifier`` over an engine. Batches are cut to what the engine was built for, and padded where short."""

    def __init__(self, engine: Runs, *, name: str, size: int, max_batch: int) -> None:
        super().__init__(name=name, size=size, max_batch=min(max_batch, engine.greatest))
        self._engine = engine

    def _score(self, crops_FHWC: UInt8) -> Scores:
        found = {name: np.asarray(output, np.float32) for name, output in run_padded(self._engine, crops_FHWC).items()}
        return Scores(logit_F=found[LOGIT], draws_FN=found.get(DRAWS))


def run_padded(engine: Runs, pictures: Array) -> dict[str, Array]:
    """Run at most ``greatest`` pictures; fewer than ``least`` are filled up with zeros, whose outputs are dropped."""
    short = max(0, engine.least - len(pictures))
    filled = np.concatenate([pictures, np.zeros((short, *pictures.shape[1:]), pictures.dtype)]) if short else pictures
    return {name: output[: len(pictures)] for name, output in engine(filled).items()}


def open_tensorrt(folder: Path, *, kind: RtKind = "tensorrt", checkpoint_sha256: str, max_batch: int = 16) -> TensorRtClassifier:
    """The classifier of an artefact, checked against this machine and against eager float32.

    Raises ConfigError without library, card or a folder of one's own, ModelError for an artefact that does not fit or fails
    the gate.
    """
    trt, artefact = open_artefact(folder, kind=kind, checkpoint_sha256=checkpoint_sha256)
    engine = engine_of(trt, artefact)
    size = artefact.manifest.networks[CLASSIFIER].inputs[0].shape[1]
    classifier = TensorRtClassifier(engine, name=told_as(artefact.manifest), size=size, max_batch=max_batch)
    check_parity(artefact, probabilities(classifier.scores(artefact.probe().crops_FHWC).logit_F))
    return classifier


def open_artefact(folder: Path, *, kind: RtKind, checkpoint_sha256: str) -> tuple[Any, Artefact]:
    """The library and the artefact, if it fits this machine. Raises as ``open_tensorrt`` does.

    An engine's hash says that it is whole, not who made it, and the library trusts what it reads: so it is only taken from a
    folder that nobody else may write to.
    """
    check_owned(folder)
    trt = load_library(kind)
    gpu = this_gpu(f"the {kind} backend")
    artefact = read_artefact(folder)
    if artefact.manifest.kind != kind:
        raise ModelError(f"{folder}: holds an export to {artefact.manifest.kind}: `veriframe export --to {kind}`")
    machine = Machine(library=LIBRARIES[kind], version=str(trt.__version__), gpu=gpu)
    check_fits(artefact, checkpoint_sha256=checkpoint_sha256, machine=machine)
    return trt, artefact


def engine_of(trt: Any, artefact: Artefact, network: str = CLASSIFIER) -> Engine:
    """A network of an artefact that fits. Raises ModelError, with the command that makes the artefact anew where that helps."""
    return Engine(trt, artefact.path(network).read_bytes(), remedy=f"; {how_to_make(artefact.manifest)}")


def load_library(kind: RtKind) -> Any:
    """The module, imported. Raises ConfigError where it is not installed or does not load."""
    module = LIBRARIES[kind]
    if missing((module,)):
        raise ConfigError(f"{kind} needs {module}: {how_to_install(EXTRAS[kind])}")
    try:
        return importlib.import_module(module)
    except (ImportError, OSError) as exc:
        raise ConfigError(f"{module} is installed but does not load: {exc}") from exc


def this_gpu(what: str) -> Gpu:
    """The first card, by torch. Raises ConfigError where there is none; ``what`` needs it."""
    if missing(("torch",)):
        raise ConfigError(f"{what} needs torch: {how_to_install('train')}")
    import torch

    if not torch.cuda.is_available():
        raise ConfigError(f"{what} needs an NVIDIA GPU, and none answers here: see `veriframe doctor`")
    try:
        major, minor = torch.cuda.get_device_capability()
        return Gpu(name=torch.cuda.get_device_name(), compute_capability=f"{major}.{minor}")
    except (RuntimeError, torch.cuda.DeferredCudaCallError) as exc:  # cards were counted only so far; this begins to use one
        raise ConfigError(f"{what} needs an NVIDIA GPU, and the one here cannot be used: {exc}") from exc


def or_fall_back(
    open_wanted: Callable[[], Classifier],
    fall_back: Callable[[], Classifier],
    wanted: str,
    on_fallback: Callable[[str], None] = lambda wanted: None,
) -> Classifier:
    """The wanted classifier; where it cannot be opened, the other one: logged, counted in ``fallbacks``, told."""
    try:
        return open_wanted()
    except (ConfigError, ModelError) as exc:
        why = Why.MISSING if isinstance(exc, ConfigError) else Why.REFUSED
        fallbacks[why] += 1
        on_fallback(wanted)
        classifier = fall_back()
        log.warning("%s runs instead of %s (%s): %s", classifier.name, wanted, why, exc)
        return classifier
