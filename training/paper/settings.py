"""What a staged run can be told: the sets, the network, the hardware and one part for each stage. Unknown keys are refused."""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from training.settings import TERMS, Network

ORDER = ("finetune", "noise", "head", "unfreeze", "evaluate")
FAMILIES = ("real", "fake")
"""The paper's two classes."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Selection(_Strict):
    """Crops of the cache, by source; ``others`` are all sources that neither training set names."""

    sources: tuple[str, ...] | Literal["all", "others"]
    splits: tuple[str, ...] = ("train", "heldout", "leftout")
    part: tuple[float, float] = (0.0, 1.0)
    """This share of the groups of every source, label and part of the split, in the order of their hash: two sets can share a
    source, never a group. Of four groups two at least lie on each side of a bound."""
    limit: int | None = Field(default=None, ge=1)
    """At most this many crops of every source and label, chosen by hash."""


class Sets(_Strict):
    """Set 1 (fine-tuning), set 2 (noise, head, unfreezing) and the test set; no two may share a group."""

    first: Selection
    second: Selection
    test: Selection
    validation: float = Field(default=0.15, gt=0, lt=1)
    """Share of the groups that validates, in sources of which the split holds nothing out; elsewhere the held-out groups do."""


class Optimiser(_Strict):
    """timm's optimiser and scheduler factories."""

    opt: str = "adamw"
    lr: float = Field(gt=0)
    weight_decay: float = 0.02
    stem_lr_share: float = 1.0
    head_lr_share: float = 1.0
    sched: str = "cosine"
    warmup_epochs: float = Field(default=0.0, ge=0)
    min_lr: float = 1e-6
    clip_norm: float = 5.0


class Augmentation(_Strict):
    """Crop by crop: degradation (``training.augment``) and AugMix; batch by batch: Mixup and CutMix (timm)."""

    degrade: bool = True
    augmix: str | None = None
    """timm's words for it, such as ``augmix-m3-w3``."""
    mixup: float = Field(default=0.0, ge=0)
    cutmix: float = Field(default=0.0, ge=0)
    mix_prob: float = Field(default=1.0, ge=0, le=1)
    switch_prob: float = Field(default=0.5, ge=0, le=1)

    @property
    def mixes(self) -> bool:
        """Whether crops of a batch are mixed with one another."""
        return self.mixup > 0 or self.cutmix > 0


class TrainStage(_Strict):
    """``finetune``: plain classifier, set 1; ``head``: diffusion head on a frozen backbone, set 2; ``unfreeze``: all, set 2."""

    stage: Literal["finetune", "head", "unfreeze"]
    size: int = Field(default=224, ge=32)
    batch: int = Field(default=32, ge=2)
    """Over all devices together."""
    epochs: int = Field(ge=1)
    patience: int = Field(default=3, ge=1)
    """Epochs without a lower validation loss before it stops."""
    optimiser: Optimiser
    augmentation: Augmentation = Augmentation()
    ema: float | None = Field(default=0.998, gt=0, lt=1)
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    balance: bool = True
    """Weigh the classes so that real and fake count the same."""
    denoise_weight: float = Field(default=0.0, ge=0)
    """Times the squared distance of the head's denoised features of a corrupted crop to the clean crop's; the paper has none."""


class NoiseStage(_Strict):
    """Equations 1 and 2 on half of set 2, exactly: floor(N/2) crops, stratified by label, source and use."""

    stage: Literal["noise"]
    alpha: tuple[float, float] = (0.1, 0.9)

    @model_validator(mode="after")
    def _range(self) -> Self:
        if not 0 < self.alpha[0] <= self.alpha[1] < 1:
            raise ValueError(f"alpha {self.alpha}: two rising numbers between 0 and 1")
        return self


class EvaluateStage(_Strict):
    """Clean crops of the test set, source by source."""

    stage: Literal["evaluate"]
    size: int = Field(default=224, ge=32)
    batch: int = Field(default=64, ge=1)


Stage = Annotated[TrainStage | NoiseStage | EvaluateStage, Field(discriminator="stage")]


class Hardware(_Strict):
    """Lightning Fabric's words. Says nothing about the result, but for ``precision`` and the number of devices."""

    accelerator: str = "auto"
    devices: int | str = "auto"
    strategy: str = "auto"
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true"
    threads: int = Field(default=2, ge=1)
    workers: int = Field(default=0, ge=0)
    """Processes that cut and degrade crops; 0: the training process itself."""
    save_every_s: float = Field(default=60.0, ge=0)


LATER = {"draws": 50, "ddim_stride": 0}
"""Settings of the network that the first versions had not got, and the values that stood for them."""


class Pipeline(_Strict):
    """A staged run."""

    seed: int = Field(default=1, ge=0)
    network: Network = Network()
    sets: Sets
    hardware: Hardware = Hardware()
    terms: str = TERMS
    """What the checkpoint says of its licence, beside the terms of a checkpoint that it started from."""
    stages: tuple[Stage, ...]

    @model_validator(mode="after")
    def _card(self) -> Self:
        if self.network.head == "card":
            if self.network.num_steps < 2:
                raise ValueError("network.num_steps: label diffusion (head card) needs two or more; CARD's own number is 10")
            if self.network.ddim_stride >= self.network.num_steps:
                raise ValueError(f"network.ddim_stride: below the {self.network.num_steps} steps; 0 takes them all")
            under_it = [one for one in self.stages if isinstance(one, TrainStage) and one.stage != "finetune"]
            if mixed := [one.stage for one in under_it if one.augmentation.mixes]:
                raise ValueError(f"{', '.join(mixed)}: a card head diffuses one label for each crop: set mixup and cutmix to 0")
        return self

    @model_validator(mode="after")
    def _starts_from_a_backbone(self) -> Self:
        if self.network.start is not None:
            raise ValueError("network.start is for one recipe; here name it by network.init")
        return self

    @model_validator(mode="after")
    def _order(self) -> Self:
        names = tuple(stage.stage for stage in self.stages)
        if not names or names != ORDER[: len(names)]:
            raise ValueError(f"stages {', '.join(names) or 'none'}: they run in the order {', '.join(ORDER)}, from the first on")
        return self

    @property
    def sha256(self) -> str:
        """Names the configuration: everything that the result depends on."""
        return _sha256(self, self.hardware)

    def stage(self, name: str) -> Stage:
        """The stage of this name. Raises KeyError where the run has none."""
        return {str(stage.stage): stage for stage in self.stages}[name]

    @property
    def weights_from(self) -> str:
        """The last training stage: its weights are the run's."""
        return [stage.stage for stage in self.stages if isinstance(stage, TrainStage)][-1]


class Baselines(_Strict):
    """Networks to compare: each trained from random weights on set 1, on equally many images, and judged on the test set."""

    seed: int = Field(default=1, ge=0)
    backbones: tuple[str, ...] = Field(min_length=1)
    sets: Sets
    hardware: Hardware = Hardware()
    train: TrainStage
    evaluate: EvaluateStage = EvaluateStage(stage="evaluate")
    latency_size: int = Field(default=224, ge=32)
    """Pixels of the crop for the columns of cost."""

    @property
    def sha256(self) -> str:
        """Names the configuration; more ``backbones`` may join a run."""
        return _sha256(self.model_copy(update={"backbones": ("",)}), self.hardware)


def _sha256(settings: BaseModel, hardware: Hardware) -> str:
    """Of the hardware only its precision counts. What later versions can be told as well counts where it is told, so that a run
    of an earlier one is gone on with."""
    told = settings.model_dump(mode="json", exclude={"hardware"}) | {"precision": hardware.precision}
    if "network" in told:
        told["network"] = {name: value for name, value in told["network"].items() if (name, value) not in LATER.items()}
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()
