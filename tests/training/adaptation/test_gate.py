"""The gate on made-up scores: what is beyond chance is refused, what is common to all or within chance is not."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from training.adaptation.gate import FEW, judge
from training.adaptation.results import Case, Gate

Move = Callable[[str, str, float, np.random.Generator], float]


def scored(move: Move, sources: dict[str, tuple[str, ...]], groups: int = 30) -> list[Case]:
    """Two files a group and label; ``move`` says what becomes of a logit of a source and label."""
    rng = np.random.default_rng(0)
    cases = []
    for source, labels in sources.items():
        for label in labels:
            for number in range(2 * groups):
                before = float(rng.normal(1.5 if label == "fake" else -1.5, 1.5))
                cases.append(
                    Case(
                        path=f"{source}/{label}/{number}",
                        label="fake" if label == "fake" else "real",
                        source=source,
                        group=f"{source}/{number // 2}",
                        before=before,
                        after=move(source, label, before, rng),
                    )
                )
    return cases


BOTH = {"two": ("real", "fake"), "reals": ("real",), "fakes": ("fake",)}
GAIN = [Case(path=f"f/{n}", label="real", source="f", group=f"f/{n}", before=2.0, after=-1.0) for n in range(3)]


def gate(move: Move, sources: dict[str, tuple[str, ...]] = BOTH, groups: int = 30) -> Gate:
    return judge(scored(move, sources, groups), GAIN, draws=100)


def lost(found: Gate) -> set[str]:
    return {change.source for change in found.sources if change.is_lost}


def test_small_changes_by_chance_are_accepted() -> None:
    found = gate(lambda source, label, before, rng: before + float(rng.normal(0, 0.05)))
    assert lost(found) == set()
    assert found.is_accepted
    assert {change.source: change.measure for change in found.sources} == {"fakes": "log loss", "reals": "log loss", "two": "AUC"}
    assert all(change.low <= change.change <= change.high for change in found.sources)


def test_a_source_that_is_ranked_worse_is_refused_and_named() -> None:
    found = gate(lambda source, label, before, rng: before + float(rng.normal(0, 3)) * (source == "two"))
    assert lost(found) == {"two"}
    assert "two: AUC" in found.refusals[0]


def test_a_source_of_one_label_that_moves_against_the_others_is_refused() -> None:
    found = gate(lambda source, label, before, rng: before + 1.5 * (source == "reals"))
    assert "reals" in lost(found)
    assert found.sources[1].after > found.sources[1].before


def test_an_offset_and_scale_common_to_all_are_no_loss() -> None:
    found = judge(
        scored(lambda source, label, before, rng: 0.5 * before + 1.0, BOTH),
        [case.model_copy(update={"after": 0.5 * case.after + 1.0}) for case in GAIN],
        draws=100,
        tolerance=0.005,
    )
    assert found.is_accepted, found.refusals
    assert max(abs(change.change) for change in found.sources) < 0.005


def test_pairing_bounds_what_two_separate_intervals_could_not() -> None:
    """Every fake sinks by a tenth of the scores' spread: far less than either AUC's own interval, yet beyond chance."""
    found = gate(lambda source, label, before, rng: before - 0.3 * (label == "fake" and source == "two"))
    change = next(change for change in found.sources if change.source == "two")
    assert change.is_lost
    assert abs(change.change) < 0.05


@pytest.mark.parametrize(("fakes", "measure", "losing"), [(1, "log loss", set()), (5, "log loss", set()), (6, "AUC", {"mine"})])
def test_a_source_with_few_groups_of_a_label_is_judged_by_log_loss(fakes: int, measure: str, losing: set[str]) -> None:
    """Ten real files pass the fakes and ten sink as far: by AUC a loss in every draw, however few the fakes."""
    kept = scored(lambda source, label, before, rng: before, {"rest": ("real", "fake")})
    moves = [("real", -1.0, 0.1)] * 10 + [("real", -1.0, -0.1)] * 10 + [("fake", -0.95, 0.0)] * fakes
    mine = [
        Case(
            path=f"mine/{n}",
            label="fake" if label == "fake" else "real",
            source="mine",
            group=f"mine/{n}",
            before=x,
            after=x + by,
        )
        for n, (label, x, by) in enumerate(moves)
    ]
    found = judge(kept + mine, GAIN, draws=100)
    assert {change.source: change.measure for change in found.sources} == {"mine": measure, "rest": "AUC"}
    assert lost(found) == losing


def test_sources_of_few_groups_are_judged_together() -> None:
    sources = {f"s{n}": ("real", "fake") for n in range(4)}
    kept = gate(lambda source, label, before, rng: before, sources, groups=3)
    assert [change.source for change in kept.sources] == [f"{FEW}: s0, s1, s2, s3"]
    assert kept.sources[0].is_judged
    spoilt = gate(lambda source, label, before, rng: -before, sources, groups=3)
    assert spoilt.sources[0].is_lost
    alone = gate(lambda source, label, before, rng: -before, {"s": ("real", "fake")}, groups=3)
    assert not alone.sources[0].is_judged
    assert np.isnan(alone.sources[0].high)


@pytest.mark.parametrize("after", [2.0, 3.0])
def test_feedback_that_did_not_gain_is_refused(after: float) -> None:
    cases = [case.model_copy(update={"after": after}) for case in GAIN]
    found = judge(scored(lambda source, label, before, rng: before, BOTH), cases, draws=100)
    assert lost(found) == set()
    assert "did not gain" in found.refusals[0]
    assert found.feedback_right == (0, 0)


def test_flips_are_named_with_what_is_now_wrong_first() -> None:
    found = gate(lambda source, label, before, rng: -before if source == "two" else before)
    flips = found.regression_flips
    assert {flip.source for flip in flips} >= {"two"}
    assert [flip.is_now_right for flip in flips] == sorted(flip.is_now_right for flip in flips)
    assert not flips[0].is_now_right
    assert [flip.path for flip in found.feedback_flips] == ["f/0", "f/1", "f/2"]


def test_a_regression_set_of_one_label_is_judged_as_it_is() -> None:
    found = gate(lambda source, label, before, rng: before + 1.0, {"reals": ("real",)})
    assert lost(found) == {"reals"}
