"""The networks of the stages: any timm backbone with the plain classifier, then with the diffusion head; and what of them learns.

Axes: F crops, C colours, H rows, W columns, D features, K classes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from timm.data.auto_augment import augment_and_mix_transform
from timm.optim._optim_factory import create_optimizer_v2
from timm.scheduler.scheduler_factory import create_scheduler_v2
from torch import Tensor, nn

from training.paper.settings import FAMILIES, Optimiser, TrainStage
from training.settings import Network
from worker.errors import ConfigError
from worker.model.card import CardHead
from worker.model.diffusion import DiffusionLayer
from worker.model.network import DeepfakeNet, build
from worker.model.spec import HeadName

LEAST_FITTING = 0.9
"""A start must fill this share of the backbone's tensors: else it belongs to another network."""


def make_network(network: Network, head: HeadName, *, seed: int) -> DeepfakeNet:
    """Random weights that follow from ``seed``. Raises ConfigError for a backbone that timm does not know."""
    torch.manual_seed(seed)
    try:
        return build(
            backbone=network.backbone,
            head=head,
            families=len(FAMILIES),
            hidden_dim=network.hidden_dim,
            num_steps=network.num_steps,
            draws=network.draws,
            ddim_stride=network.ddim_stride,
        )
    except RuntimeError as exc:
        raise ConfigError(f"timm has no backbone {network.backbone!r}: {exc}") from exc


def load_start(backbone: nn.Module, path: Path) -> None:
    """Fill ``backbone`` from any local safetensors: timm's (its classifier is left aside) or one of our checkpoints.

    Raises ConfigError where the file cannot be read or holds another network's weights.
    """
    try:
        found = load_file(path)
    except (OSError, SafetensorError) as exc:
        raise ConfigError(f"{path}: no safetensors to start from: {exc}") from exc
    inner = {name.removeprefix("backbone."): value for name, value in found.items() if name.startswith("backbone.")}
    # without batch norms' counters, which our checkpoints hold in another shape and nothing here reads
    wanted: Mapping[str, Tensor] = {name: value for name, value in backbone.state_dict().items() if value.is_floating_point()}
    usable = {name: value for name, value in (inner or found).items() if name in wanted and value.shape == wanted[name].shape}
    if len(usable) < LEAST_FITTING * len(wanted):
        raise ConfigError(f"{path}: fits {len(usable)} of the backbone's {len(wanted)} tensors: weights of another network")
    backbone.load_state_dict(usable, strict=False)


def load_weights(network: nn.Module, path: Path) -> None:
    """Weights that a stage has left. Raises ConfigError where they are not there or do not fit."""
    try:
        network.load_state_dict(load_file(path))
    except (OSError, SafetensorError, RuntimeError) as exc:
        raise ConfigError(f"{path}: not the weights of the stage before: {exc}") from exc


def with_new_head(network: Network, before: Path, *, seed: int) -> DeepfakeNet:
    """The fine-tuned backbone under a fresh head; CARD's prior is the fine-tuned classifier."""
    tuned = make_network(network, "linear", seed=seed)
    load_weights(tuned, before)
    made = make_network(network, network.head, seed=seed)
    made.backbone.load_state_dict(tuned.backbone.state_dict())
    if isinstance(made.head, CardHead):
        made.head.prior.load_state_dict(tuned.head.state_dict())
    return made


class Learner(nn.Module):
    """The network under training with its loss. ``frozen``: the backbone stands still, its batch norms too."""

    class_weight_K: Tensor

    def __init__(self, network: DeepfakeNet, stage: TrainStage, class_weight: tuple[float, float]) -> None:
        super().__init__()
        self.network = network
        self.frozen = stage.stage == "head"
        self._smoothing, self._denoise_weight = stage.label_smoothing, stage.denoise_weight
        self.register_buffer("class_weight_K", torch.tensor(class_weight, dtype=torch.float32), persistent=False)
        if isinstance(network.head, CardHead) and (stage.augmentation.mixup or stage.augmentation.cutmix):
            raise ConfigError("a card head diffuses one label for each crop: set mixup and cutmix to 0")
        if self.frozen:
            network.backbone.requires_grad_(False)
            if isinstance(network.head, CardHead):
                network.head.prior.requires_grad_(False)

    def train(self, mode: bool = True) -> Learner:
        super().train(mode)
        if self.frozen:
            self.network.backbone.eval()
        return self

    def features(self, pixels_FCHW: Tensor) -> Tensor:
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            features_FD: Tensor = self.network.backbone(pixels_FCHW)
        return features_FD

    def forward(self, pixels_FCHW: Tensor, clean_FCHW: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """(loss, logits [F, K]) for normalised crops; ``target``: classes int64 [F], or shares of them [F, K] after mixing."""
        features_FD = self.features(pixels_FCHW)
        head = self.network.head
        if isinstance(head, CardHead):
            loss = head.loss(features_FD, target) if self.frozen else head.joint_loss(features_FD, target)
            with torch.no_grad():
                return loss, head(features_FD)
        logits_FK: Tensor = head(features_FD).float()
        loss = nn.functional.cross_entropy(logits_FK, target, self.class_weight_K, label_smoothing=self._smoothing)
        if self._denoise_weight and isinstance(head, DiffusionLayer):
            with torch.no_grad():
                clean_FD = self.network.backbone(clean_FCHW)
            loss = loss + self._denoise_weight * nn.functional.mse_loss(head.denoise(features_FD), clean_FD)
        return loss, logits_FK.detach()


def make_optimiser(learner: Learner, how: Optimiser) -> torch.optim.Optimizer:
    """timm's, with a rate of their own for stem and head, and no decay for biases and norms."""
    return create_optimizer_v2(list(parameter_groups(learner, how)), opt=how.opt, lr=how.lr, weight_decay=how.weight_decay)


def check_words(stage: TrainStage) -> None:
    """Raises ConfigError, naming the key, for an optimiser, a schedule or an AugMix that timm does not know or has not here."""
    how, augmix = stage.optimiser, stage.augmentation.augmix
    with _timm_told(f"{stage.stage}: optimiser.opt", how.opt):
        optimiser = create_optimizer_v2([nn.Parameter(torch.zeros(1))], opt=how.opt, lr=how.lr)
    with _timm_told(f"{stage.stage}: optimiser.sched", how.sched):
        made = create_scheduler_v2(optimiser, how.sched, num_epochs=stage.epochs, step_on_epochs=False, updates_per_epoch=1)
        if made[0] is None:
            raise ValueError("no schedule")
    if augmix is not None:
        with _timm_told(f"{stage.stage}: augmentation.augmix", augmix):
            augment_and_mix_transform(augmix, {})


@contextmanager
def _timm_told(key: str, word: str) -> Iterator[None]:
    """What timm raises for one of its words as ConfigError; it asserts much of what it is told."""
    try:
        yield
    except (AssertionError, ImportError, RuntimeError, TypeError, ValueError) as exc:
        raise ConfigError(f"{key}: timm takes no {word!r} here: {exc}") from exc


def parameter_groups(learner: Learner, how: Optimiser) -> Iterator[dict[str, Any]]:
    """``lr_scale`` is what timm's schedulers multiply a group's rate with."""
    kinds: dict[tuple[str, bool], list[nn.Parameter]] = {}
    stem = first_layer(learner.network.backbone)
    for name, value in learner.network.named_parameters():
        if value.requires_grad:
            part = "head" if name.startswith("head.") else "stem" if name.startswith(f"backbone.{stem}.") else "trunk"
            kinds.setdefault((part, value.ndim > 1), []).append(value)
    scale = {"stem": how.stem_lr_share, "head": how.head_lr_share, "trunk": 1.0}
    for (part, decayed), values in sorted(kinds.items()):
        yield {"params": values, "lr_scale": scale[part], "weight_decay": how.weight_decay if decayed else 0.0}


def first_layer(backbone: nn.Module) -> str:
    """The name of the first convolution, whatever timm calls it."""
    return next((name for name, module in backbone.named_modules() if isinstance(module, nn.Conv2d)), "none")
