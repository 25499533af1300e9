"""Scores crops with a program that torch-tensorrt compiled ahead of time. Not verified on hardware: no card was at hand.

Made by ``veriframe export --to torch-tensorrt`` on the card that runs it, and checked as an engine is when it is opened. Loading
a saved program can run code that it carries, so it is only loaded from a folder that nobody else may write to.
"""

from __future__ import annotations

import importlib
import threading
from pathlib import Path
from typing import Any

from worker.backends.artefact import (
    CLASSIFIER,
    Machine,
    check_fits,
    check_owned,
    check_parity,
    probabilities,
    read_artefact,
    told_as,
)
from worker.backends.tensorrt import Array, TensorRtClassifier, this_gpu
from worker.errors import ConfigError, ModelError
from worker.extras import how_to_install, missing
from worker.model.graph import DRAWS, FAMILIES, LOGIT

LIBRARY = "torch_tensorrt"
OUTPUTS = (LOGIT, FAMILIES, DRAWS)
"""In a program's order; the last of a head that draws only."""
LEAST = 2
"""A batch of one is filled up: torch.export may have taken 1 for a constant."""


class Program:
    """A compiled program on the card, called as an engine is. One stream: torch's own.

    One call at a time: nothing says that a program's buffers may be shared.
    """

    def __init__(self, module: Any, *, least: int, greatest: int) -> None:
        self._module = module
        self._lock = threading.Lock()
        self.least, self.greatest = max(LEAST, least), greatest

    def __call__(self, pictures: Array) -> dict[str, Array]:
        """The outputs by name. Raises ModelError from the card."""
        import torch

        try:
            with self._lock, torch.inference_mode():
                outputs = self._module(torch.from_numpy(pictures).cuda())
                return {name: output.cpu().numpy() for name, output in zip(OUTPUTS, outputs, strict=False)}
        except RuntimeError as exc:
            raise ModelError(f"the card failed: {exc}") from exc


def load_library() -> Any:
    """torch_tensorrt, imported. Raises ConfigError where it is not installed or does not load (it needs a driver to)."""
    if missing((LIBRARY,)):
        raise ConfigError(f"torch-tensorrt needs {LIBRARY}: {how_to_install('gpu')}")
    try:
        return importlib.import_module(LIBRARY)
    except Exception as exc:
        raise ConfigError(f"{LIBRARY} is installed but does not load: {exc}") from exc


def open_torch_tensorrt(folder: Path, *, checkpoint_sha256: str, max_batch: int = 16) -> TensorRtClassifier:
    """The classifier of an artefact, checked against this machine and against eager float32.

    Raises ConfigError without library, card or a folder of one's own, ModelError for an artefact that does not fit.
    """
    library, gpu = load_library(), this_gpu("the torch-tensorrt backend")
    check_owned(folder)
    artefact = read_artefact(folder)
    manifest = artefact.manifest
    if manifest.kind != "torch-tensorrt":
        raise ModelError(f"{folder}: holds an export to {manifest.kind}: `veriframe export --to torch-tensorrt`")
    machine = Machine(library=LIBRARY, version=str(library.__version__), gpu=gpu)
    check_fits(artefact, checkpoint_sha256=checkpoint_sha256, machine=machine)
    try:
        module = library.load(str(artefact.path(CLASSIFIER))).module()
    except (OSError, RuntimeError, ValueError) as exc:
        raise ModelError(f"{folder}: its program does not load: {exc}") from exc
    least, _, greatest = manifest.batch
    size = manifest.networks[CLASSIFIER].inputs[0].shape[1]
    program = Program(module, least=least, greatest=greatest)
    classifier = TensorRtClassifier(program, name=told_as(manifest), size=size, max_batch=max_batch)
    check_parity(artefact, probabilities(classifier.scores(artefact.probe().crops_FHWC).logit_F))
    return classifier
