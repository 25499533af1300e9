"""Which files an evaluation judges, by their splits and by what the checkpoint learnt from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from training.evaluation.cases import Case
from training.evaluation.run import Plan, choose
from worker.errors import ConfigError
from worker.model.spec import TrainingData, TrainingSource

FILES = {"a": ("mine", "train"), "b": ("mine", "leftout"), "c": ("yours", "heldout"), "d": ("others", "leftout")}


@pytest.mark.parametrize(
    ("splits", "names", "trained_on"),
    [
        (None, ["c", "d"], []),
        (("train",), ["a", "b"], ["a", "b"]),
        (("leftout",), ["b", "d"], ["b"]),
        (("heldout", "train"), ["a", "b", "c"], ["a", "b"]),
    ],
)
def test_left_out_files_that_were_learnt_from_are_training_files_under_either_name(
    case: Callable[..., Case], splits: tuple[str, ...] | None, names: list[str], trained_on: list[str]
) -> None:
    cases = [case("real", name, source=source, split=split) for name, (source, split) in FILES.items()]
    training = TrainingData(sources=(TrainingSource(name="mine", real=2, leftout=1),))
    plan = Plan(manifest=Path("set.csv"), out=Path("out"), splits=splits)
    chosen, left_out = choose(cases, plan, training)
    assert [one.name for one in chosen] == names
    assert [one.name for one in chosen if one.split == "train"] == trained_on
    assert sum(left_out.values()) == len(cases) - len(names)
    as_marked, _ = choose(cases, plan, TrainingData(sources=()))
    assert [one.split for one in as_marked] == [one.split for one in cases if one in as_marked]


def test_a_split_of_unknown_meaning_is_judged_only_where_it_is_named(case: Callable[..., Case]) -> None:
    cases = [case("real", "a", split="fold1"), case("real", "b", split="val")]
    with pytest.raises(ConfigError, match=r"set\.csv: a: split 'fold1'; one of train, .* --split"):
        choose(cases, Plan(manifest=Path("set.csv"), out=Path("out")), TrainingData(sources=()))
    chosen, _ = choose(cases, Plan(manifest=Path("set.csv"), out=Path("out"), splits=("Fold1",)), TrainingData(sources=()))
    assert [one.name for one in chosen] == ["a"]
