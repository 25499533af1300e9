"""The network that is trained, saved and exported: a timm backbone and a head that gives one logit for each family of faces.

Axes: F crops, H rows, W columns, C colours (RGB), D features, K families. Family 0 is ``real``; all others are ways to be fake.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import timm
import torch
from torch import Tensor, nn

from worker.model.card import CardHead
from worker.model.diffusion import DiffusionLayer
from worker.model.spec import HeadName

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def score_logit(family_logits_FK: Tensor) -> Tensor:
    """log p(fake) - log p(real) for each crop: float [F, K] -> float [F]; p(fake) = 1 - p(real) = sigmoid of it."""
    return torch.logsumexp(family_logits_FK[:, 1:], dim=1) - family_logits_FK[:, 0]


class DeepfakeNet(nn.Module):
    """uint8 crops in, family logits out; normalisation and layout change are inside, so every exported graph takes raw crops."""

    mean_C11: Tensor
    std_C11: Tensor

    def __init__(
        self,
        backbone: nn.Module,
        head: nn.Module,
        *,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head
        self.register_buffer("mean_C11", torch.tensor(mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("std_C11", torch.tensor(std).view(-1, 1, 1), persistent=False)

    def normalise(self, crops_FHWC: Tensor) -> Tensor:
        """uint8 [F, H, W, C] -> float [F, C, H, W]. Cast before the transpose: TensorRT refuses to transpose uint8."""
        pixels_FCHW = crops_FHWC.to(self.mean_C11.dtype).permute(0, 3, 1, 2) / 255.0
        return (pixels_FCHW - self.mean_C11) / self.std_C11

    def forward_normalised(self, pixels_FCHW: Tensor) -> Tensor:
        """Normalised float [F, C, H, W] -> family logits [F, K]. Training adds the paper's noise (equation 2) to this input."""
        logits_FK: Tensor = self.head(self.backbone(pixels_FCHW))
        return logits_FK

    def forward(self, crops_FHWC: Tensor) -> Tensor:
        """uint8 [F, H, W, C] -> family logits [F, K]."""
        return self.forward_normalised(self.normalise(crops_FHWC))


def build(
    *,
    backbone: str,
    head: HeadName = "diffusion",
    families: int = 4,
    hidden_dim: int = 256,
    num_steps: int = 4,
    draws: int = 50,
    ddim_stride: int = 0,
    mean: Sequence[float] = IMAGENET_MEAN,
    std: Sequence[float] = IMAGENET_STD,
) -> DeepfakeNet:
    """An untrained network from plain values (those of a checkpoint's spec); ``backbone`` is any timm name.

    Raises ValueError for an unknown or impossible head, RuntimeError (timm's) for an unknown backbone.
    """
    trunk: Any = timm.create_model(backbone, pretrained=False, num_classes=0)
    features = int(getattr(trunk, "head_hidden_size", None) or trunk.num_features)
    layer: nn.Module
    if head == "diffusion":
        layer = DiffusionLayer(features, hidden_dim, families, num_steps)
    elif head == "card":
        layer = CardHead(features, hidden_dim, families, num_steps, draws=draws, ddim_stride=ddim_stride)
    elif head == "linear":
        layer = nn.Linear(features, families)
    else:
        raise ValueError(f"unknown head {head!r}")
    return DeepfakeNet(trunk, layer, mean=mean, std=std)
