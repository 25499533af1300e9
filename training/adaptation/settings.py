"""What an adaptation can be told, and nothing else: unknown keys are refused."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from training.configuration import read_mapping
from training.settings import Fit, Mixture, Network, Stage
from worker.errors import ConfigError
from worker.model.spec import ModelSpec

REPLAYED = Mixture(
    aligned=0.35, blend=0.35, composite=0.1, synthetic=0.2, parents={}, composites=(), synthetics=(), absent="leave out"
)
"""Pairs of every kind that a cache has, of all its sources."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Regression(_Strict):
    """The frozen set that a new checkpoint must not lose on: of the cache's rows that are not trained on."""

    frames: int = Field(default=4, ge=1)
    """Of a clip, evenly spaced."""
    pictures: int = Field(default=200, ge=1)
    """Of a source and label, the first by path."""
    draws: int = Field(default=1000, ge=100)
    """Of groups, for the paired intervals."""
    tolerance: float = Field(default=0.0, ge=0)
    """A loss (of AUC, or in nats) that is borne even where it is beyond chance."""


class Adaptation(_Strict):
    """One adaptation. ``replay``: of the real and of the fake crops of every batch, so many come from the cache; where feedback
    has one label only, the other label's crops are all replayed."""

    seed: int = Field(default=1, ge=0)
    steps: int = Field(default=200, ge=1)
    pairs: int = Field(default=8, ge=2)
    """Real crops in a batch, and as many fake."""
    replay: float = Field(default=0.5, ge=0, lt=1)
    lr: float = Field(default=2e-5, gt=0)
    stem_lr_share: float = 0.1
    head_lr_share: float = 1.0
    weight_decay: float = 0.02
    warmup: float = 0.1
    ema: float = Field(default=0.98, ge=0, lt=1)
    label_smoothing: float = Field(default=0.03, ge=0, le=1)
    noise_share: float = 0.1
    shares: tuple[float, ...] = Field(default=(1.0, 0.5, 0.25), min_length=1)
    """How much of the end of training, the rest the parent's weights; tried in this order until the gate accepts one (averages
    forget less: WiSE-FT, Wortsman et al., CVPR 2022)."""
    frames: int = Field(default=12, ge=1)
    """Of a feedback clip."""
    save_every_steps: int = Field(default=25, ge=1)
    threads: int = Field(default=2, ge=1)
    mixture: Mixture = REPLAYED
    regression: Regression = Regression()

    @field_validator("shares")
    @classmethod
    def _shares_fall(cls, shares: tuple[float, ...]) -> tuple[float, ...]:
        if any(not 0 < share <= 1 for share in shares) or any(after >= before for before, after in pairwise(shares)):
            raise ValueError("shares: from 1 downwards, above 0")
        return shares

    @property
    def feedback_crops(self) -> int:
        """Of each label in a batch: what is not replayed, at least one."""
        return max(1, int(round(self.pairs * (1 - self.replay), 6)))  # 10 * (1 - 0.8) is less than 2 in floating point

    def fit(self, spec: ModelSpec) -> Fit:
        """The run of ``training.loop`` that these steps are. Raises ConfigError for a head that it cannot train."""
        if spec.head.kind == "card":
            raise ConfigError("a CARD head is trained by its own loss, in stages: adapt a checkpoint with another head")
        return Fit(
            seed=self.seed,
            network=Network(
                backbone=spec.backbone, head=spec.head.kind, hidden_dim=spec.head.hidden_dim, num_steps=spec.head.num_steps
            ),
            mixture=self.mixture,
            stages=(Stage(until=1, size=spec.crop.size, pairs=self.pairs),),
            steps=self.steps,
            lr=self.lr,
            stem_lr_share=self.stem_lr_share,
            head_lr_share=self.head_lr_share,
            stem_frozen_until=0,
            weight_decay=self.weight_decay,
            warmup=self.warmup,
            ema=self.ema,
            label_smoothing=self.label_smoothing,
            noise_share=self.noise_share,
            threads=self.threads,
        )


def read_adaptation(path: Path | None) -> Adaptation:
    """The defaults without a file. Raises ConfigError, naming the file and the keys, where it cannot be used."""
    if path is None:
        return Adaptation()
    try:
        return Adaptation.model_validate(read_mapping(path))
    except ValidationError as exc:
        raise ConfigError(f"{path}: {exc}") from exc
