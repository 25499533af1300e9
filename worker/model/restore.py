"""The trained network of a checkpoint, in PyTorch (needs the extra ``train``)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from worker.errors import ModelError
from worker.model.checkpoint import load
from worker.model.network import DeepfakeNet, build
from worker.model.spec import ModelSpec


def load_network(path: Path) -> tuple[ModelSpec, DeepfakeNet]:
    """The spec and the network with its weights, float32, in evaluation mode, on the CPU.

    Raises ModelError for a damaged checkpoint, an unknown backbone, or weights that are not exactly those the network needs.
    """
    spec, arrays = load(path)
    try:
        network = build(
            backbone=spec.backbone,
            head=spec.head.kind,
            families=len(spec.families),
            hidden_dim=spec.head.hidden_dim,
            num_steps=spec.head.num_steps,
            draws=spec.head.draws,
            ddim_stride=spec.head.ddim_stride,
            mean=spec.mean,
            std=spec.std,
        )
    except RuntimeError as exc:
        raise ModelError(f"{path}: timm has no backbone {spec.backbone!r}") from exc
    tensors = {
        name: torch.from_numpy(array.astype(np.float32) if array.dtype.kind == "f" else array) for name, array in arrays.items()
    }
    try:
        network.load_state_dict(tensors, strict=True)
    except RuntimeError as exc:
        raise ModelError(f"{path}: its weights do not fit its spec: {exc}") from exc
    return spec, network.eval().requires_grad_(False)
