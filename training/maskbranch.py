"""Where a fake was made, asked of the backbone's features at a sixteenth of the crop (14 x 14 of 224) while it is trained.

A 1 x 1 convolution tells each place apart; it is dropped at the end of the run, so that checkpoints and scans know nothing of
it (local supervision, as LAA-Net and DiffusionFF's artefact maps). Axes: F crops, D features, H rows, W columns.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from worker.errors import ConfigError
from worker.model.network import DeepfakeNet

STRIDE = 16


class MaskBranch(nn.Module):
    """Listens to the features of one network; ``loss`` is of its latest forward pass."""

    def __init__(self, network: DeepfakeNet) -> None:
        super().__init__()
        backbone: Any = network.backbone
        at_stride = [one for one in getattr(backbone, "feature_info", ()) if one["reduction"] == STRIDE]
        if not at_stride or not isinstance(backbone, nn.Module) or not _has_maps(backbone, at_stride[-1]):
            raise ConfigError(f"the backbone has no maps at a {STRIDE}th of the crop, which mask_weight needs")
        self.classify = nn.Conv2d(int(at_stride[-1]["num_chs"]), 1, 1)
        self._features_FDHW: Tensor | None = None
        backbone.get_submodule(at_stride[-1]["module"]).register_forward_hook(self._listen)

    def _listen(self, _module: nn.Module, _inputs: object, features_FDHW: Tensor) -> None:
        if torch.is_grad_enabled():
            self._features_FDHW = features_FDHW

    def loss(self, where_FHW: Tensor) -> Tensor:
        """Binary cross-entropy over the places of ``where_FHW`` (float, 0 to 1, any grid); crops that are NaN do not count."""
        features_FDHW, self._features_FDHW = self._features_FDHW, None
        if features_FDHW is None:
            raise RuntimeError("the network was not called since the last loss")
        known_F = ~where_FHW.isnan().any(dim=(1, 2))
        if not known_F.any():
            return where_FHW.new_zeros(())
        logits_FHW = self.classify(features_FDHW[known_F]).float().squeeze(1)
        goal_FHW = nn.functional.adaptive_avg_pool2d(where_FHW[known_F], logits_FHW.shape[1:])
        return nn.functional.binary_cross_entropy_with_logits(logits_FHW, goal_FHW)


@torch.no_grad()
def _has_maps(backbone: nn.Module, place: dict[str, Any]) -> bool:
    """Whether the features there are [F, D, H, W], D as told: those of transformers are rows of tokens."""
    seen: list[Tensor] = []
    module = backbone.get_submodule(place["module"])
    hook = module.register_forward_hook(lambda _module, _inputs, features: seen.append(features))
    was_training = backbone.training
    try:
        size = getattr(backbone, "default_cfg", {}).get("input_size", (3, 224, 224))
        backbone.eval()(torch.zeros(1, *size, device=next(backbone.parameters()).device))
    finally:
        hook.remove()
        backbone.train(was_training)
    return isinstance(seen[-1], Tensor) and seen[-1].ndim == 4 and seen[-1].shape[1] == place["num_chs"]
