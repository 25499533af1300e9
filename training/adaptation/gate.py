"""Whether an adapted checkpoint may replace its parent: the same old files scored by both, source by source.

A source is refused where the 95 % interval of its *paired* change lies wholly on the losing side (beyond ``tolerance``). The
interval is a percentile bootstrap that draws whole groups again (a person, a clip, a scene: files of one move together) and takes
both checkpoints' scores of a file along, so that what is common to them cancels: a paired change is bounded far more tightly than
either value. The measure is AUC where a source has ``LEAST_GROUPS`` groups of either label: it needs no calibration, and the
adapted checkpoint has none yet. Without real files or fakes a source cannot be ranked, and with few of one all draws hang on
those few: its log loss is taken, of probabilities that a Platt scaling of *that* checkpoint's logits over the whole regression
set gives. So an offset or a scale common to all sources, which a new calibration takes away, is no loss, but a source that moved
against all the others is. Sources with fewer than ``LEAST_GROUPS`` groups say nothing alone (of five pairs of equal direction not
even the sign test rejects at 2.5 %): they are judged together, by log loss.

The feedback cases must gain, by the same probabilities: their mean log loss must fall. They were trained on, so this only shows
that training reached them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from training.adaptation.results import Case, Change, Flip, Gate
from training.calibration import Clips, fit_platt
from training.metrics import EDGE, Bools, Floats, auc, grouped_interval, least_groups, one_class

LEAST_GROUPS = 6
PENALTY = 0.01
"""Of Platt scaling, in files: next to nothing, so that a common offset and scale vanish; it keeps separable classes finite."""
FEW = "sources of few groups"
Measure = Literal["AUC", "log loss"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Files:
    """Axes: N files. ``p_before_N``, ``p_after_N``: probabilities of fake, calibrated for each checkpoint alone."""

    cases: Sequence[Case]
    fake_N: Bools
    p_before_N: Floats
    p_after_N: Floats

    @classmethod
    def of(cls, cases: Sequence[Case], before: tuple[float, float], after: tuple[float, float]) -> _Files:
        return cls(
            cases=cases,
            fake_N=np.array([case.label == "fake" for case in cases], bool),
            p_before_N=_probability(np.array([case.before for case in cases]), before),
            p_after_N=_probability(np.array([case.after for case in cases]), after),
        )

    def take(self, places: Sequence[int]) -> _Files:
        rows = list(places)
        return _Files(
            cases=[self.cases[row] for row in rows],
            fake_N=self.fake_N[rows],
            p_before_N=self.p_before_N[rows],
            p_after_N=self.p_after_N[rows],
        )


def judge(regression: Sequence[Case], feedback: Sequence[Case], *, draws: int = 1000, tolerance: float = 0.0) -> Gate:
    """Raises ValueError for a logit that is not finite."""
    before, after = _platt(regression, "before"), _platt(regression, "after")
    old, new = _Files.of(regression, before, after), _Files.of(feedback, before, after)
    sources = tuple(_change(name, part, measure, draws, tolerance) for name, part, measure in parts(old))
    gained = _change("feedback", new, "log loss", draws, 0.0)
    refusals = [
        f"{change.source}: {change.measure} {change.before:.3f} -> {change.after:.3f}, lost beyond chance "
        f"(change {change.change:+.4f}, 95 % interval {change.low:+.4f} to {change.high:+.4f})"
        for change in sources
        if change.is_lost
    ]
    if not gained.change > 0:
        refusals.append(f"the feedback cases did not gain: log loss {gained.before:.3f} -> {gained.after:.3f}")
    return Gate(
        sources=sources,
        feedback=gained,
        feedback_right=(_right(new.fake_N, new.p_before_N), _right(new.fake_N, new.p_after_N)),
        regression_flips=_flips(old),
        feedback_flips=_flips(new),
        refusals=tuple(refusals),
    )


def parts(files: _Files) -> list[tuple[str, _Files, Measure]]:
    """Sources that can be judged, and those of few groups together; sorted by name."""
    by_source: dict[str, list[int]] = defaultdict(list)
    for place, case in enumerate(files.cases):
        by_source[case.source].append(place)
    small = [name for name, places in by_source.items() if len({files.cases[place].group for place in places}) < LEAST_GROUPS]
    found: list[tuple[str, _Files, Measure]] = []
    for name in sorted(by_source.keys() - set(small)):
        part = files.take(by_source[name])
        ranks = least_groups(part.fake_N, [case.group for case in part.cases]) >= LEAST_GROUPS
        found.append((name, part, "AUC" if ranks else "log loss"))
    if small:
        together = files.take([place for name in sorted(small) for place in by_source[name]])
        found.append((f"{FEW}: {', '.join(sorted(small))}", together, "log loss"))
    return found


def _change(name: str, part: _Files, measure: Measure, draws: int, tolerance: float) -> Change:
    """``change`` is positive where the new checkpoint is better."""
    groups = [case.group for case in part.cases]
    if measure == "AUC":
        before, after = auc(part.fake_N, part.p_before_N), auc(part.fake_N, part.p_after_N)
        change = after - before

        def statistic(rows: np.ndarray[tuple[int], np.dtype[np.int64]]) -> float:
            fake_N = part.fake_N[rows]
            return auc(fake_N, part.p_after_N[rows]) - auc(fake_N, part.p_before_N[rows])
    else:
        before_N, after_N = _losses(part.fake_N, part.p_before_N), _losses(part.fake_N, part.p_after_N)
        before, after = float(before_N.mean()), float(after_N.mean())
        change = before - after

        def statistic(rows: np.ndarray[tuple[int], np.dtype[np.int64]]) -> float:
            return float((before_N[rows] - after_N[rows]).mean())

    judged = len(set(groups)) >= LEAST_GROUPS
    low, high = grouped_interval(groups, statistic, draws=draws) if judged else (float("nan"), float("nan"))
    return Change(
        source=name,
        real=int((~part.fake_N).sum()),
        fake=int(part.fake_N.sum()),
        groups=len(set(groups)),
        measure=measure,
        before=before,
        after=after,
        change=change,
        low=low,
        high=high,
        is_judged=judged,
        is_lost=bool(high < -tolerance),
    )


def _platt(cases: Sequence[Case], when: Literal["before", "after"]) -> tuple[float, float]:
    """(a, b) over the whole regression set; the identity where it has one label only."""
    logits_N = np.array([getattr(case, when) for case in cases], np.float64)
    labels_N = np.array([case.label == "fake" for case in cases], np.int64)
    if one_class(labels_N == 1):
        return 1.0, 0.0
    return fit_platt(Clips(logits_n=logits_N, labels_n=labels_N, groups_n=np.array([case.group for case in cases])), PENALTY)


def _probability(logit_N: Floats, platt: tuple[float, float]) -> Floats:
    return np.asarray(0.5 * (1 + np.tanh(0.5 * (platt[0] * logit_N + platt[1]))), np.float64)


def _losses(fake_N: Bools, p_N: Floats) -> Floats:
    """-log p(the truth) of each file, nats."""
    return np.asarray(-np.log(np.clip(np.where(fake_N, p_N, 1 - p_N), EDGE, 1)), np.float64)


def _right(fake_N: Bools, p_N: Floats) -> int:
    return int(((p_N > 0.5) == fake_N).sum())


def _flips(files: _Files) -> tuple[Flip, ...]:
    """Files on another side of 0.5 than before, those that are now wrong first."""
    flips = [
        Flip(
            path=case.path,
            source=case.source,
            label=case.label,
            before=round(float(before), 4),
            after=round(float(after), 4),
            is_now_right=bool((after > 0.5) == (case.label == "fake")),
        )
        for case, before, after in zip(files.cases, files.p_before_N, files.p_after_N, strict=True)
        if (before > 0.5) != (after > 0.5)
    ]
    return tuple(sorted(flips, key=lambda flip: (flip.is_now_right, flip.source, flip.path)))
