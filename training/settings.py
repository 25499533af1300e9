"""What a training run can be told, and nothing else: unknown keys are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from worker.errors import ConfigError
from worker.model.spec import FAMILIES as FAMILIES
from worker.settings import read_yaml

KINDS = ("aligned", "blend", "composite", "synthetic", "reconstruction", "traces", "processing")
"""Of pairs; each has its share in a mixture."""
PROCESSED = "processing"
"""Family of whole-picture processing: it exists in networks whose mixture gives it a share."""
TERMS = "the terms of the data it was trained on"
"""What a checkpoint says of its licence where nobody told more."""
STEM = "stem"
"""Folder of the run that all folds of a study start from, beside theirs."""


Share = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Stage(_Strict):
    """Until this share of the run, crops of ``size`` in batches of ``pairs`` real and as many fake."""

    until: float = Field(gt=0, le=1)
    size: int = Field(ge=32)
    pairs: int = Field(ge=1)
    window: int | None = Field(default=None, ge=32)
    """Of a pair only a square of so many pixels is seen, at a place drawn anew, not resized: a seam stays as wide as it will
    be in a scan, at a smaller cost, and no face is seen whole. None: the crop."""

    @model_validator(mode="after")
    def _window_fits(self) -> Self:
        if self.window is not None and self.window > self.size:
            raise ValueError("window: at most the size")
        return self


class Mixture(_Strict):
    """Shares of the kinds of pairs, and of the sources that are parents of blends (by name, over those in the cache)."""

    aligned: float = 0.34
    blend: float = 0.48
    composite: float = 0.05
    synthetic: float = 0.13
    reconstruction: float = 0.0
    traces: float = 0.0
    processing: float = 0.0
    parents: dict[str, Share] = {"ffpp": 0.5, "140k": 0.17, "lfw": 0.13, "utkface": 0.1, "ciplab": 0.1}
    """Empty: all sources, by their number of real files."""
    composites: tuple[str, ...] = ("ciplab",)
    """Sources of ``composite`` pairs, of manipulated fakes without an aligned original. Empty: all that have both labels."""
    synthetics: tuple[str, ...] = ("140k",)
    """Sources of ``synthetic`` pairs; empty as above."""
    absent: Literal["refuse", "leave out"] = "refuse"
    """What becomes of a kind of pairs that the cache has nothing for; left out, the others share in its part."""
    donor: float = 0.25
    """Of the blends: someone else's face is blended in, the mirrored one, or a parent's reconstruction if there is one."""
    donor_candidates: int = Field(default=1, ge=1)
    """Of so many other faces the donor is the one in the most similar pose; 1: anyone."""
    mirrored_donor: float = 0.0
    """Eyes or a mouth from the face's own mirror image."""
    remade_donor: float = 0.0
    own_donor: float = 0.0
    """The same clip's face at another moment: another expression, as re-enactment gives. Pictures have no other moment: plain."""
    covered: float = Field(default=0.0, ge=0, le=1)
    """Of all pairs: a caption, sticker, watermark or the like is laid over both crops (``training.cover``)."""
    smoothed: float = Field(default=0.0, ge=0, le=1)
    """Of all pairs: both crops are smoothed as beauty filters smooth skin."""
    widely_smoothed: float = Field(default=0.0, ge=0, le=1)
    """Of all pairs, others than those: so too, over a surrounding of up to a seventh of the crop."""
    varied: float = Field(default=0.0, ge=0, le=1)
    """Of all pairs: both crops are turned, stretched and recoloured alike (``training.vary``)."""
    tilted: float = Field(default=0.0, ge=0, le=1)
    """Of the varied ones: turned by up to 45 degrees, where the others are by up to 12, as a head on a shoulder is."""
    lit: float = Field(default=0.0, ge=0, le=1)
    """Of all pairs: harsh light falls on both crops from one side, the rest lies in the shade."""
    partial: float = Field(default=0.0, ge=0, le=1)
    """Of the aligned pairs of one moment: a part of the fake's face alone is laid into its original; where the part drawn holds
    too little of what was changed (``training.blend.PART_LEAST``; of every second fake of FF++) the fake stays whole."""
    leave_out: tuple[str, ...] = ()
    """Sources or manipulations whose fakes are in no pair of any kind; their sources' real faces stay."""

    @model_validator(mode="after")
    def _sums(self) -> Self:
        kinds = (self.aligned, self.blend, self.composite, self.synthetic, self.reconstruction, self.traces, self.processing)
        if min(kinds) < 0 or abs(sum(kinds) - 1) > 1e-6:
            raise ValueError(
                "shares of aligned, blend, composite, synthetic, reconstruction, traces and processing must add up to 1"
            )
        donors = (self.donor, self.mirrored_donor, self.remade_donor, self.own_donor)
        if min(donors) < 0 or sum(donors) > 1 + 1e-6:
            raise ValueError("shares of donor, mirrored_donor, remade_donor and own_donor must not exceed 1 together")
        if self.smoothed + self.widely_smoothed > 1 + 1e-6:
            raise ValueError("shares of smoothed and widely_smoothed must not exceed 1 together")
        return self

    @property
    def families(self) -> tuple[str, ...]:
        """What the network tells apart, ``real`` first."""
        return (*FAMILIES, PROCESSED) if self.processing > 0 else FAMILIES


class Network(_Strict):
    backbone: str = "tf_efficientnetv2_b0"
    head: Literal["diffusion", "card", "linear"] = "diffusion"
    """``card`` is for the paper's stages alone (``training.paper``); CARD's own number of steps is 10."""
    hidden_dim: int = Field(default=256, ge=1, le=16384)
    num_steps: int = Field(default=4, ge=1, le=64)
    draws: int = Field(default=50, ge=1, le=1000)
    """``card``: reconstructions of the label for each face; a checkpoint keeps the number."""
    ddim_stride: int = Field(default=0, ge=0)
    """``card``: 0 samples by the whole reverse chain, n by DDIM at every n-th step."""
    init: Path | None = None
    """safetensors of the backbone alone; None starts from random weights."""
    start: Path | None = None
    """A checkpoint of this very network (backbone, head, families) to go on from; excludes ``init``."""

    @model_validator(mode="after")
    def _one_start(self) -> Self:
        if self.init is not None and self.start is not None:
            raise ValueError("init and start exclude each other")
        return self


class Fit(_Strict):
    """One run. It ends after ``steps`` steps where given, else after ``minutes`` of training time (validation apart)."""

    seed: int = Field(default=1, ge=0)
    network: Network = Network()
    mixture: Mixture = Mixture()
    hold_out: tuple[str, ...] = ()
    """Groups of ``train`` that this run holds out like those of ``heldout``: for one of several runs that cross-fit a recipe."""
    terms: str = TERMS
    """What the checkpoint says of its licence, beside the terms of what it started from."""
    stages: tuple[Stage, ...]
    minutes: float = Field(default=60, gt=0)
    steps: int | None = Field(default=None, ge=1)
    stop: int | None = Field(default=None, ge=1)
    """End after so many steps, on the schedule of ``steps``: so a run that was stopped early can be had again."""
    lr: float = 2e-4
    stem_lr_share: float = 0.1
    head_lr_share: float = 3.0
    """The head is new, the backbone mostly is not."""
    stem_frozen_until: float = 0.05
    weight_decay: float = 0.02
    warmup: float = 0.05
    ema: float = 0.998
    label_smoothing: float = Field(default=0.03, ge=0, le=1)
    noise_share: float = 0.1
    noise_alpha: tuple[float, float] = (0.7, 0.99)
    """Equation 2 of the paper on this share of pairs; alpha is drawn from here (the paper: half of a set, 0.1 to 0.9)."""
    mask_weight: float = Field(default=0.0, ge=0)
    """Of the loss of ``training.maskbranch``, which asks where a fake was made; 0: none."""
    bf16: bool = False
    """Mixed precision on the CPU; a CUDA device always computes so."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """``auto``: CUDA where there is any."""
    threads: int = Field(default=2, ge=1)
    loaders: int = Field(default=1, ge=1)
    """Processes that make batches: one keeps up with two CPU cores, a GPU wants as many as there are cores."""
    save_every_minutes: float = 5
    validate_every_minutes: float = 12
    validate_every_steps: int | None = Field(default=None, ge=1)
    """Instead of by the clock."""

    @model_validator(mode="after")
    def _alpha(self) -> Self:
        if not 0 <= self.noise_alpha[0] <= self.noise_alpha[1] <= 1:
            raise ValueError(f"noise_alpha {self.noise_alpha}: two rising numbers from 0 to 1")
        return self

    @model_validator(mode="after")
    def _stages(self) -> Self:
        ends = [stage.until for stage in self.stages]
        if not ends or ends != sorted(ends) or ends[-1] != 1:
            raise ValueError("stages must rise and end at 1")
        if self.stop is not None and (self.steps is None or self.stop > self.steps):
            raise ValueError("stop: comes before the last of steps")
        if self.network.head == "card":
            raise ValueError("network.head card: the paper's stages train it (configs/train/paper.yaml), this recipe does not")
        return self

    @property
    def last_step(self) -> int | None:
        """Steps that the run does; None where the clock ends it."""
        return self.steps if self.stop is None else self.stop

    @property
    def size(self) -> int:
        """Of the last stage's crops: what the network is judged at and scans by."""
        return self.stages[-1].size

    def is_validation_due(self, step: int, since_s: float) -> bool:
        """After ``step`` steps, ``since_s`` seconds of training after the last one."""
        if self.validate_every_steps is not None:
            return step % self.validate_every_steps == 0
        return since_s > self.validate_every_minutes * 60

    def stage(self, progress: float) -> Stage:
        """The stage at ``progress`` in [0, 1]."""
        return next(stage for stage in self.stages if progress < stage.until or stage.until == 1)


class Study(_Strict):
    """One recipe, trained anew for each fold, that leaves out the fakes named there and is judged on them."""

    recipe: Fit
    """Its ``steps`` are the budget, the same for all folds."""
    folds: dict[str, tuple[str, ...]] = Field(min_length=1)
    """Name of a fold -> sources or manipulations, as in ``Mixture.leave_out``."""
    stem: Fit | None = None
    """A run on no fakes of any source: all folds start from its averaged weights. None: from ``recipe.network``."""
    share: float | None = Field(default=None, gt=0, lt=1)
    """Judged is an average: so much of a fold's end, the rest the stem's (``training.release.average_with``); None: the end."""
    threshold: float | None = None
    """Log odds above which a file is called fake; None: fitted for each fold on held-out files of what it was trained on."""

    @model_validator(mode="after")
    def _fair(self) -> Self:
        if self.recipe.steps is None:
            raise ValueError("recipe: give steps, so that all folds see equally many images")
        if self.recipe.mixture.leave_out:
            raise ValueError("recipe: mixture.leave_out is what the folds say")
        if self.recipe.network.start is not None:
            raise ValueError("recipe: network.start has seen what the folds leave out; name a backbone by network.init")
        if empty := [name for name, names in self.folds.items() if not names]:
            raise ValueError(f"folds: {', '.join(empty)} leaves nothing out")
        return self

    @model_validator(mode="after")
    def _stem_knows_no_fakes(self) -> Self:
        if self.stem is None:
            if self.share is not None:
                raise ValueError("share: says how much of an average is not the stem's; give a stem")
            return self
        mixture, network = self.stem.mixture, self.stem.network
        if mixture.aligned or mixture.composite or mixture.synthetic:
            raise ValueError("stem: aligned, composite and synthetic pairs hold fakes of a source; their shares must be 0")
        if self.stem.steps is None:
            raise ValueError("stem: give steps")
        if network.start is not None:
            raise ValueError("stem: nobody knows what network.start has seen; name a backbone by network.init")
        if self.recipe.network.init is not None:
            raise ValueError("recipe: its folds start from the stem; network.init belongs there")
        if self.stem.hold_out != self.recipe.hold_out:
            raise ValueError("stem: hold_out must be the recipe's")
        if network.model_copy(update={"init": None}) != self.recipe.network or mixture.families != self.recipe.mixture.families:
            raise ValueError("stem: network and families must be the recipe's")
        if STEM in self.folds:
            raise ValueError(f"folds: the name {STEM} is taken")
        return self

    def fit(self, fold: str, start: Path | None = None) -> Fit:
        """The run of one fold; ``start``: the checkpoint of the stem where there is one."""
        mixture = self.recipe.mixture.model_copy(update={"leave_out": self.folds[fold]})
        network = self.recipe.network.model_copy(update={"start": start})
        return self.recipe.model_copy(update={"mixture": mixture, "network": network})


def read_fit(path: Path) -> Fit:
    """Raises ConfigError, naming the file and the keys, where it cannot be used."""
    try:
        return Fit.model_validate(read_yaml(path.read_text("utf-8")))
    except (OSError, ValueError) as exc:
        raise ConfigError(f"{path}: {exc}") from exc
