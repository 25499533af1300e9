"""What an evaluation found: the model behind ``report.json``. Numbers that are not defined (a missing class) are null."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict

from training.metrics import Proportion
from worker.report import Model
from worker.types import MediaKind


class Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="null")


class Rate(Part):
    """A share of files that come in groups (``training.metrics.clustered_clopper_pearson``), with its 95 % interval."""

    count: int
    total: int
    groups: int
    effective: float
    share: float
    low: float
    high: float
    upper: float
    """One-sided 95 % bound."""

    @classmethod
    def of(cls, found: Proportion) -> Rate:
        return cls(
            count=found.count,
            total=found.total,
            groups=found.groups,
            effective=found.effective,
            share=found.share,
            low=found.low,
            high=found.high,
            upper=found.upper,
        )


class Ranking(Part):
    """How well scores order fakes above real files; needs no threshold. ``interval``: 95 %, whole groups drawn again."""

    auc: float
    interval: tuple[float, float]
    ap: float
    eer: float


class Calibration(Part):
    """How far probabilities can be believed, both classes weighing alike."""

    log_loss: float
    ece: float
    """Of the scores as reported, in bins of equal mass."""
    ece_floor: float
    """What perfectly calibrated scores of as many files would show."""
    ece_crossfit: float | None
    log_loss_crossfit: float | None
    """Of scores calibrated anew on the other groups of these very files: what a calibration that never saw a file would give."""
    ece_other_sources: float | None
    """The same, calibrated on all other sources; null for a single source."""
    aurc: float
    """Area under risk over coverage, the surest files first, sure meaning |p - 0.5|."""
    aurc_piw: float | None
    """The same, sure meaning a narrow prediction interval; null where the reports have none."""
    bins: tuple[tuple[float, float, float], ...]
    """Reliability diagram: mean probability, share of fakes, share of the weight."""


class Row(Part):
    """One part of the files: all of a kind, a source, or a manipulation of a source with the source's real files."""

    name: str
    kind: MediaKind
    real: int
    fake: int
    groups: int
    ranking: Ranking | None
    """Of the files that got a score; null where a class is missing."""
    faces: Ranking | None
    """Of single faces in videos, each face a sample of its file's label."""
    calibration: Calibration | None
    accuracy_half: float
    """Of all scored files, called fake above p = 0.5."""
    balanced_accuracy_half: float
    accuracy_decided: float
    """Of the files called fake or real."""
    balanced_accuracy_decided: float
    false_alarms: Rate | None
    """Real files called fake, of all real files."""
    detected: Rate | None
    """Fakes called fake, of all fakes."""
    missed: Rate | None
    """Fakes called real."""
    uncertain_real: Rate | None
    uncertain_fake: Rate | None
    unscored: Rate
    """Files without a score: no usable face, or failed."""
    decided: float
    confusion: dict[Literal["real", "fake"], dict[str, int]]
    """Files by label and answer."""
    calibrated: float
    """Share of the scored files for which a fitted calibration holds."""


class RuleRow(Part):
    """One aggregation rule on the videos, recomputed from the face scores of the reports."""

    rule: str
    part: str
    files: int
    ranking: Ranking
    log_loss_crossfit: float | None


class Pairs(Part):
    """Fakes above the very file they were made from; moods of scenes cancel."""

    name: str
    above: Rate
    mean_difference: float
    """Of the logits, fake less original."""


class GroupRow(Part):
    """Real faces of one apparent group; ``axis`` is sex, age, race or sex and race."""

    axis: str
    value: str
    false_alarms: Rate
    uncertain: Rate
    unscored: Rate
    mean_score: float


class Level(Part):
    """A degradation at one level, on a sample; ``level`` 0 is the file as it is (``family`` ``none``)."""

    kind: MediaKind
    family: str
    level: float
    real: int
    fake: int
    auc: float
    interval: tuple[float, float]
    false_alarms: Rate | None
    detected: Rate | None
    uncertain: Rate
    unscored: Rate
    shift_real: float
    shift_fake: float
    """Mean change of the logit against the untouched file, over files scored in both."""


class Evaluation(Part):
    """All numbers of ``veriframe evaluate``."""

    evaluation_version: Literal[1] = 1
    created: datetime
    veriframe: str
    manifest: str
    manifest_sha256: str | None
    model: Model
    files: int
    left_out: Mapping[str, int]
    """Files of the manifest that were not judged, by the reason."""
    seen_in_training: int
    """Judged files of ``train``, by the manifest or by what the checkpoint says that it learnt from."""
    rows: tuple[Row, ...]
    rules: tuple[RuleRow, ...]
    pairs: tuple[Pairs, ...]
    demographics: tuple[GroupRow, ...]
    robustness: tuple[Level, ...]
