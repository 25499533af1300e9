"""What a checkpoint says about itself: architecture, crop, thresholds, calibrations, training data and licence.

Stored as JSON in the checkpoint's metadata (``worker.model.checkpoint``). Reading a spec needs neither torch nor the weights.
"""

from __future__ import annotations

from datetime import date
from typing import Annotated, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from worker.types import MediaKind, Strategy

SPEC_VERSION: Final = 1
FAMILIES = ("real", "blend", "manipulation", "synthetic")
"""The families of faces that the shipped network tells apart; family 0 is always ``real``."""

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Rgb = tuple[float, float, float]
HeadName = Literal["diffusion", "linear", "card"]
Quantiles = tuple[float, ...]
BackboneName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9_]+(\.[a-z0-9_]+)?$", max_length=100)]
"""A plain timm name: no ``hf-hub:`` or ``local-dir:`` prefix, which would make timm read from elsewhere."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class HeadSpec(_Part):
    """The classifier on top of the backbone; all but ``kind`` is for the diffusion heads."""

    kind: HeadName = "diffusion"
    hidden_dim: int = Field(default=256, ge=1, le=16384)
    num_steps: int = Field(default=4, ge=1, le=64)
    """``card`` needs two or more; its published setting is ten."""
    draws: int = Field(default=50, ge=1, le=1000)
    """``card``: reconstructions of the label for each face."""
    ddim_stride: int = Field(default=0, ge=0)
    """``card``: 0 samples by the whole reverse chain, n by DDIM at every n-th step."""

    @model_validator(mode="after")
    def _steps(self) -> Self:
        if self.kind == "card" and (self.num_steps < 2 or self.ddim_stride >= self.num_steps):
            raise ValueError(
                f"a card head of {self.num_steps} steps with stride {self.ddim_stride}: two steps or more, above the stride"
            )
        return self


class CropSpec(_Part):
    """How faces are cut (``worker.faces.crop``): side over the longer side of the box, and pixels of the result."""

    margin: float = Field(default=1.3, ge=1.0, le=4.0)
    size: int = Field(default=224, ge=32, le=1024)


class Thresholds(_Part):
    """p(fake) below ``real`` is real, above ``fake`` is fake, between them uncertain."""

    real: float = Field(default=0.3, ge=0.0, le=1.0)
    fake: float = Field(default=0.7, ge=0.0, le=1.0)

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.real > self.fake:
            raise ValueError(f"threshold for real {self.real} lies above that for fake {self.fake}")
        return self


class Calibration(_Part):
    """Parameters of ``worker.verdict.calibrate.Calibration``: one media kind, aggregation rule, strategies and range of frames.

    It holds for scans that asked for ``min_frames`` to ``max_frames`` frames (both included), and nowhere else.
    """

    media: MediaKind
    rule: str
    strategies: tuple[Strategy, ...]
    min_frames: int = Field(ge=0)
    max_frames: int = Field(ge=0)
    a: float = Field(gt=0.0)
    b: float
    c_tracks: float = Field(default=0.0, ge=0.0)
    c_windows: float = Field(default=0.0, ge=0.0)
    t_real: float = Field(ge=0.0, le=1.0)
    t_fake: float = Field(ge=0.0, le=1.0)
    quality_full: float = Field(default=1.0, ge=0.0, le=1.0)
    quality_slope: float = Field(default=0.0, ge=0.0)
    """Below ``quality_full`` the temperature grows by this, in log a unit of quality; 0: quality does not count."""
    real_log_odds: Quantiles = ()
    """Evenly spaced quantiles, least to greatest, of the held-out real files' calibrated log odds; empty: not known."""
    fake_log_odds: Quantiles = ()

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.min_frames > self.max_frames or self.t_real > self.t_fake:
            raise ValueError("min_frames must not exceed max_frames, nor t_real t_fake")
        for quantiles in (self.real_log_odds, self.fake_log_odds):
            if len(quantiles) == 1 or list(quantiles) != sorted(quantiles):
                raise ValueError("quantiles of log odds must rise, and be two or more")
        return self


class TrainingSource(_Part):
    """How many items (clips or pictures) of one source were trained on."""

    name: str
    real: int = Field(default=0, ge=0)
    fake: int = Field(default=0, ge=0)
    leftout: int = Field(default=0, ge=0, exclude_if=lambda count: count == 0)
    """So many of these the split leaves out: only staged runs learn from such. Written only where there are any: programs that do
    not know it read other checkpoints."""


class TrainingData(_Part):
    """What the weights were trained on, and the hash of the committed split file that says which groups were left out."""

    sources: tuple[TrainingSource, ...]
    split_sha256: Sha256 | None = None
    parent_sha256: Sha256 | None = None
    """The file of the checkpoint that these weights were adapted from."""
    held_out: tuple[str, ...] = Field(default=(), exclude_if=lambda groups: not groups)
    """Groups of the split's training side that these weights did not learn from: one of several runs that cross-fit a recipe.
    Written only where there are any, as ``TrainingSource.leftout`` is."""
    earlier_splits: tuple[Sha256, ...] = Field(default=(), exclude_if=lambda splits: not splits)
    """Other splits, by which the checkpoints were trained that these weights began from. Written only where there are any."""


class Licence(_Part):
    """Terms of the weights (not of the code): a name, the file with the text beside the checkpoint, one sentence for reports."""

    name: str
    file: str
    notice: str


class ModelSpec(_Part):
    """Everything that must be known to use the weights in the same way as they were trained."""

    spec_version: Literal[1] = SPEC_VERSION
    name: str = Field(min_length=1)
    version: str = Field(min_length=1)
    backbone: BackboneName
    head: HeadSpec = HeadSpec()
    families: tuple[str, ...] = FAMILIES
    crop: CropSpec = CropSpec()
    mean: Rgb = (0.485, 0.456, 0.406)
    std: Rgb = (0.229, 0.224, 0.225)
    thresholds: Thresholds = Thresholds()
    """For scores that no calibration covers."""
    calibrations: tuple[Calibration, ...] = ()
    calibration_is_inherited: bool = False
    """Thresholds and calibrations were fitted on the parent's scores: they stand in, verdicts say ``calibrated: false``, and they
    want fitting anew."""
    training: TrainingData
    git_revision: str
    licence: Licence
    created: date

    @model_validator(mode="after")
    def _sound(self) -> Self:
        if len(self.families) < 2 or self.families[0] != "real" or len(set(self.families)) != len(self.families):
            raise ValueError(f"families {self.families}: two or more different ones, the first 'real'")
        if min(self.std) <= 0:
            raise ValueError(f"std {self.std} must be positive")
        return self


def licence_notice(spec: ModelSpec) -> str:
    """One line on the weights' terms, for reports and ``doctor``."""
    return f"{spec.name} {spec.version}: {spec.licence.name} ({spec.licence.file}). {spec.licence.notice}"
