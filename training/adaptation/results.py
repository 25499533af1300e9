"""What an adaptation found: the model behind ``report.json``. Numbers that are not defined are null."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict

from training.adaptation.settings import Adaptation
from worker.model.spec import TrainingData


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="null")


class Case(_Part):
    """One file scored by both checkpoints: mean of its crops' log p(fake) - log p(real)."""

    path: str
    label: Literal["real", "fake"]
    source: str
    group: str
    before: float
    after: float


class Change(_Part):
    """One source's value before and after; ``change`` with its paired 95 % interval is positive where the new one is better."""

    source: str
    real: int
    fake: int
    groups: int
    measure: Literal["AUC", "log loss"]
    before: float
    after: float
    change: float
    low: float
    high: float
    is_judged: bool
    """Whether there are groups enough for an interval."""
    is_lost: bool


class Flip(_Part):
    """A file that is now called otherwise at p(fake) = 0.5, calibrated anew for each checkpoint on the regression set."""

    path: str
    source: str
    label: Literal["real", "fake"]
    before: float
    after: float
    is_now_right: bool


class Gate(_Part):
    """The decision: refused for ``refusals``, accepted where there are none."""

    sources: tuple[Change, ...]
    feedback: Change
    feedback_right: tuple[int, int]
    """Feedback files on the right side of 0.5 before and after."""
    regression_flips: tuple[Flip, ...]
    feedback_flips: tuple[Flip, ...]
    refusals: tuple[str, ...]

    @property
    def is_accepted(self) -> bool:
        return not self.refusals


class Tried(_Part):
    """One average of the end of training with the parent, and why it was refused; accepted without reasons."""

    share: float
    refusals: tuple[str, ...]


class Adapted(_Part):
    """All that ``report.json`` holds. ``sha256`` is null where no checkpoint was written."""

    adaptation_version: Literal[1] = 1
    created: datetime
    name: str
    version: str
    parent_version: str
    parent_sha256: str
    sha256: str | None
    settings: Adaptation
    feedback_files: int
    feedback_skipped: dict[str, str]
    """Path -> why nothing could be learnt from it."""
    regression_sha256: str
    """Names the set: over path, frame and split of every crop."""
    regression_files: int
    regression_crops: int
    is_other_split: bool
    """The parent was trained by another split than the cache's: it may have seen old files, and the gate is then too strict."""
    training: TrainingData
    tried: tuple[Tried, ...]
    """In order; the last one is what ``gate`` tells of, and the only one that can be accepted."""
    gate: Gate
