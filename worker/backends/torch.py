"""Scores crops with PyTorch in float32: the reference that other backends are compared with (needs the extra ``train``)."""

from __future__ import annotations

from pathlib import Path

import torch

from worker.backends.crops import BatchedClassifier
from worker.model.card import CardHead
from worker.model.network import score_logit
from worker.model.restore import load_network
from worker.types import Scores, UInt8


class TorchClassifier(BatchedClassifier):
    """A ``worker.ports.Classifier`` over a checkpoint. ``threads`` is torch's own setting, for the whole process.

    Raises ModelError where the checkpoint cannot be used.
    """

    def __init__(self, checkpoint: Path, *, threads: int, max_batch: int = 16, device: str = "cpu") -> None:
        if threads < 1 or max_batch < 1:
            raise ValueError(f"threads {threads} and max_batch {max_batch} must be positive")
        torch.set_num_threads(threads)
        self._device = torch.device(device)
        spec, network = load_network(checkpoint)
        super().__init__(name="torch", size=spec.crop.size, max_batch=max_batch)
        self._network = network.to(self._device)

    @torch.inference_mode()
    def _score(self, crops_FHWC: UInt8) -> Scores:
        network = self._network
        features_FD = network.backbone(network.normalise(torch.from_numpy(crops_FHWC).to(self._device)))
        if isinstance(network.head, CardHead):
            families_FK, draws_FN = network.head.outputs(features_FD)
            return Scores(logit_F=score_logit(families_FK).cpu().numpy(), draws_FN=draws_FN.cpu().numpy())
        return Scores(logit_F=score_logit(network.head(features_FD)).cpu().numpy())
