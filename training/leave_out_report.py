"""What a leave-one-source-out study found: AUC of every fold, their mean, and balanced accuracy at a threshold that could ship.

Axes: N entries, a file judged by one fold's model. A real file of a source with several folds is an entry of each; intervals draw
whole groups again, over all folds together, so that such entries move as one.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from training.calibration import Clips, fit_platt, folds_by_group
from training.evaluation.document import Document, Section, Table, write
from training.metrics import Bools, Floats, auc, balanced_accuracy, interval_of_both
from training.settings import Fit, Study
from worker.content import write_atomically
from worker.errors import ConfigError

PAPER = 0.77
"""The paper's greatest accuracy on sources that it was not trained on (its Table 4)."""
CROSSFIT = 5
RULE_FITTED = (
    "A file is called fake where the model that left it out puts it above log odds fitted on validation files alone: held-out"
    " files, of the same kind of media, of what that model was trained on. There Platt's calibration, both classes weighing"
    f" alike, gives 0.5. Cross-fitted: {CROSSFIT} folds of groups; no file of a group has a part in the threshold that the group"
    " meets."
)
Rows = npt.NDArray[np.int64]


class Scored(Protocol):
    """What is needed of a file's score."""

    @property
    def path(self) -> str: ...
    @property
    def label(self) -> str: ...
    @property
    def source(self) -> str: ...
    @property
    def group(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def logit(self) -> float: ...
    @property
    def test(self) -> bool: ...
    @property
    def validation(self) -> bool: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A value and its 95 % bootstrap interval over groups; None where a class has few."""

    value: float
    low: float | None
    high: float | None

    def __str__(self) -> str:
        return f"{self.value:.3f}" if self.low is None else f"{self.value:.3f} ({self.low:.3f}-{self.high:.3f})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Fakes against real files, one line of the table; ``of`` names the source where the fold has several."""

    fold: str
    of: str
    real: int
    fake: int
    auc: Estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class Decisions:
    """One fold's entries at its thresholds (least and greatest of the cross-fitted ones)."""

    fold: str
    thresholds: tuple[float, float]
    false_alarms: float
    found: float
    balanced_accuracy: Estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    parts: tuple[Part, ...]
    mean_auc: Estimate
    mean_auc_by_source: Estimate
    """Folds of one source count as one."""
    decisions: tuple[Decisions, ...]
    pooled_balanced_accuracy: Estimate
    """Over all entries: a source counts by its files."""
    mean_balanced_accuracy: Estimate
    """Over folds."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Entries:
    """All test files of all folds."""

    fold_N: npt.NDArray[np.str_]
    source_N: npt.NDArray[np.str_]
    group_N: npt.NDArray[np.str_]
    fake_N: Bools
    logit_N: Floats
    threshold_N: Floats

    @property
    def called_N(self) -> Bools:
        return self.logit_N > self.threshold_N

    def auc(self, rows: Rows) -> float:
        return auc(self.fake_N[rows], self.logit_N[rows])

    def accuracy(self, rows: Rows) -> float:
        return balanced_accuracy(self.fake_N[rows], self.called_N[rows])

    def estimate(self, rows: Rows, statistic: Callable[[Rows], float], draws: int) -> Estimate:
        groups = self.group_N[rows].tolist()
        interval = interval_of_both(self.fake_N[rows], groups, lambda drawn: statistic(rows[drawn]), draws=draws)
        low, high = (None if np.isnan(bound) else bound for bound in interval)
        return Estimate(value=statistic(rows), low=low, high=high)


def thresholds(scores: Sequence[Scored], given: float | None = None) -> list[float]:
    """Of one fold's test files in their order: the given one, or one fitted on its validation files without the file's group.

    Raises ValueError where the validation files of a kind of media lack a class or are of fewer groups than there are folds.
    """
    tests = [score for score in scores if score.test]
    if given is not None:
        return [given] * len(tests)
    found: dict[str, float] = {}
    for kind in sorted({score.kind for score in tests}):
        own = [score for score in scores if score.kind == kind]
        group_n = np.array([score.group for score in own])
        label_n = np.array([score.label == "fake" for score in own], np.int64)
        valid_n = np.array([score.validation for score in own])
        logit_n = np.array([score.logit for score in own])
        fold_n = folds_by_group(group_n, label_n, CROSSFIT, seed=0)
        for fold in range(CROSSFIT):
            fits = valid_n & (fold_n != fold)
            a, b = fit_platt(Clips(logits_n=logit_n[fits], labels_n=label_n[fits], groups_n=group_n[fits]))
            found |= {score.path: -b / a for score, its in zip(own, fold_n, strict=True) if its == fold}
    return [found[score.path] for score in tests]


def gather(scores: Mapping[str, Sequence[Scored]], given: float | None) -> Entries:
    """Raises ConfigError where a fold's threshold cannot be fitted."""
    fold: list[str] = []
    limits: list[float] = []
    tests: list[Scored] = []
    for name, its in scores.items():
        try:
            limits += thresholds(its, given)
        except ValueError as exc:
            raise ConfigError(
                f"fold {name}: no threshold can be fitted on its validation files ({exc}); give --threshold"
            ) from exc
        tests += [score for score in its if score.test]
        fold += [name] * (len(tests) - len(fold))
    return Entries(
        fold_N=np.array(fold),
        source_N=np.array([score.source for score in tests]),
        group_N=np.array([score.group for score in tests]),
        fake_N=np.array([score.label == "fake" for score in tests]),
        logit_N=np.array([score.logit for score in tests]),
        threshold_N=np.array(limits),
    )


def measure(scores: Mapping[str, Sequence[Scored]], *, threshold: float | None = None, draws: int = 1000) -> Findings:
    """All numbers of a study from its folds' scores."""
    entries = gather(scores, threshold)
    everything = np.arange(len(entries.fold_N), dtype=np.int64)
    by_sources: dict[str, list[str]] = defaultdict(list)
    for name in scores:
        by_sources["+".join(np.unique(entries.source_N[entries.fold_N == name]))].append(name)

    def mean(names: Sequence[str], statistic: Callable[[Rows], float]) -> Callable[[Rows], float]:
        return lambda rows: float(np.mean([statistic(rows[entries.fold_N[rows] == name]) for name in names]))

    def by_source(rows: Rows) -> float:
        return float(np.mean([mean(names, entries.auc)(rows) for names in by_sources.values()]))

    return Findings(
        parts=tuple(part for name in scores for part in _parts(entries, name, draws)),
        mean_auc=entries.estimate(everything, mean(list(scores), entries.auc), draws),
        mean_auc_by_source=entries.estimate(everything, by_source, draws),
        decisions=tuple(_decisions(entries, name, draws) for name in scores),
        pooled_balanced_accuracy=entries.estimate(everything, entries.accuracy, draws),
        mean_balanced_accuracy=entries.estimate(everything, mean(list(scores), entries.accuracy), draws),
    )


def _parts(entries: Entries, name: str, draws: int) -> list[Part]:
    """The fold as a whole; where it has several sources each apart: beside its own real files, or all where it has none."""
    mine = entries.fold_N == name
    sources = np.unique(entries.source_N[mine])
    chosen = [("", mine)]
    for source in sources if len(sources) > 1 else ():
        own = mine & (entries.source_N == source)
        has_real = bool((own & ~entries.fake_N).any())
        chosen.append((source if has_real else f"{source}, all real files", own if has_real else own | (mine & ~entries.fake_N)))
    found = []
    for of, mask in chosen:
        rows = np.flatnonzero(mask)
        fakes = int(entries.fake_N[rows].sum())
        estimate = entries.estimate(rows, entries.auc, draws)
        found.append(Part(fold=name, of=str(of), real=len(rows) - fakes, fake=fakes, auc=estimate))
    return found


def _decisions(entries: Entries, name: str, draws: int) -> Decisions:
    rows = np.flatnonzero(entries.fold_N == name)
    fake, called, limits = entries.fake_N[rows], entries.called_N[rows], entries.threshold_N[rows]
    return Decisions(
        fold=name,
        thresholds=(float(limits.min()), float(limits.max())),
        false_alarms=float(called[~fake].mean()),
        found=float(called[fake].mean()),
        balanced_accuracy=entries.estimate(rows, entries.accuracy, draws),
    )


def images_seen(fit: Fit) -> int:
    """Crops that a run whose steps are given sees, real and fake."""
    return sum(2 * fit.stage(step / (fit.steps or 1)).pairs for step in range(fit.last_step or 0))


def start_of(study: Study) -> list[str]:
    """What the folds of a study with a stem start from, and what of them is judged, a paragraph; without a stem nothing."""
    if study.stem is None:
        return []
    told = (
        f"All folds start from one run of {study.stem.last_step} steps, {images_seen(study.stem):,} images seen, on real training"
        " faces and what is made of them (blends, reconstructions, up-sampling traces): no fake of any source is in it."
    )
    if study.share is None:
        return [told]
    return [f"{told} Judged is an average: {study.share:g} of the weights where a fold ends, the rest of where it started."]


def compared(found: Findings, beside: Mapping[str, Findings]) -> Table:
    """AUC of every fold by the judged weights and by others."""
    folds = [part for part in found.parts if not part.of]
    return Table(
        header=("weights", *(part.fold for part in folds), "mean AUC", "pooled balanced accuracy"),
        rows=tuple(
            (weights, *(str(p.auc) for p in its.parts if not p.of), str(its.mean_auc), str(its.pooled_balanced_accuracy))
            for weights, its in {"judged": found, **beside}.items()
        ),
    )


def document(study: Study, found: Findings, beside: Mapping[str, Findings] | None = None) -> Document:
    """The report, all of its numbers from ``found``, and ``beside`` it those of other weights by what they are."""
    given = study.threshold
    rule = RULE_FITTED if given is None else f"A file is called fake where its log odds are above {given:g}, which was given."
    lead = (
        f"One recipe, trained {len(study.folds)} times for {study.recipe.last_step} steps,"
        f" {images_seen(study.recipe):,} images seen, each time without the fakes that are then judged. The groups of judged"
        " files are in no training; real files of other groups of those sources are. A clip's logits are averaged over its crops."
        " In brackets: 95 % bootstrap interval, groups drawn again; none under five groups of a class.",
        *start_of(study),
        f"**Mean AUC over folds {found.mean_auc}**; folds of one source counted as one: {found.mean_auc_by_source}.",
        f"**Pooled balanced accuracy {found.pooled_balanced_accuracy}**, mean over folds {found.mean_balanced_accuracy};"
        f" the paper's greatest on sources it was not trained on is {PAPER}.",
    )
    ranks = Table(
        header=("fold", "left out", "judged", "real", "fake", "AUC"),
        rows=tuple(
            (p.fold, ", ".join(study.folds[p.fold]), p.of or "all", str(p.real), str(p.fake), str(p.auc)) for p in found.parts
        ),
    )
    decisions = Table(
        header=("fold", "threshold (log odds)", "real called fake", "fake called fake", "balanced accuracy"),
        rows=tuple(
            (
                d.fold,
                " to ".join(dict.fromkeys(f"{limit:.2f}" for limit in d.thresholds)),
                f"{d.false_alarms:.3f}",
                f"{d.found:.3f}",
                str(d.balanced_accuracy),
            )
            for d in found.decisions
        ),
    )
    sections = (
        Section(title="AUC of what was left out", tables=(ranks,)),
        Section(title="Decisions", text=(rule,), tables=(decisions,)),
        *([Section(title="Other weights of the same runs", tables=(compared(found, beside),))] if beside else []),
    )
    return Document(title="Leave one source out", lead=lead, sections=sections)


def write_report(
    study: Study,
    scores: Mapping[str, Sequence[Scored]],
    folder: Path,
    *,
    beside: Mapping[str, Mapping[str, Sequence[Scored]]] | None = None,
    draws: int = 1000,
) -> Path:
    """``report.md`` (returned), ``report.html``, ``report.json``; ``beside``: scores by other weights, by what these are.

    Raises ConfigError where a threshold cannot be fitted.
    """
    found = measure(scores, threshold=study.threshold, draws=draws)
    others = {weights: measure(its, threshold=study.threshold, draws=draws) for weights, its in (beside or {}).items()}
    told = {
        "steps": study.recipe.last_step,
        "images_seen": images_seen(study.recipe),
        "left_out": {name: list(names) for name, names in study.folds.items()},
        "threshold": study.threshold if study.threshold is not None else RULE_FITTED,
        "paper": PAPER,
        "stem_images_seen": images_seen(study.stem) if study.stem is not None else None,
        "share": study.share,
        "beside": {weights: asdict(its) for weights, its in others.items()},
        **asdict(found),
    }
    write_atomically(folder / "report.json", json.dumps(told, indent=1).encode())
    write(document(study, found, others), folder)
    return folder / "report.md"
