"""Scores crops with PyTorch in float32: the reference that other backends are compared with (needs the extra ``train``)."""

from __future__ import annotations

from pathlib import Path

import torch

from worker.backends.crops import checked, in_batches
from worker.model.network import score_logit
from worker.model.restore import load_network
from worker.types import Float32, UInt8


class TorchClassifier:
    """A ``worker.ports.Classifier`` over a checkpoint. ``threads`` is torch's own setting, for the whole process.

    Raises ModelError where the checkpoint cannot be used.
    """

    name = "torch"

    def __init__(self, checkpoint: Path, *, threads: int, max_batch: int = 16, device: str = "cpu") -> None:
        if threads < 1 or max_batch < 1:
            raise ValueError(f"threads {threads} and max_batch {max_batch} must be positive")
        torch.set_num_threads(threads)
        self._max_batch = max_batch
        self._device = torch.device(device)
        spec, network = load_network(checkpoint)
        self._size = spec.crop.size
        self._network = network.to(self._device)

    def logits(self, crops_FHWC: UInt8) -> Float32:
        """uint8 RGB crops [F, size, size, 3] -> float32 [F], log p(fake) - log p(real). Raises ValueError for other input."""
        return in_batches(self._score, checked(crops_FHWC, self._size), self._max_batch)

    @torch.inference_mode()
    def _score(self, crops_FHWC: UInt8) -> Float32:
        families_FK = self._network(torch.from_numpy(crops_FHWC).to(self._device))
        logits_F: Float32 = score_logit(families_FK).cpu().numpy()
        return logits_F
