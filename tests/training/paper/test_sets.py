"""Sets are named, disjoint by group, and follow from the crops' names alone."""

from __future__ import annotations

from types import ModuleType

import pytest

from training.paper.sets import Chosen, TrainingSet, as_found, choose_sets, divided, select
from training.paper.settings import Selection, Sets
from training.prepare import Crop
from worker.errors import ConfigError

PAPER = Sets.model_validate(
    {"first": {"sources": ["140k"]}, "second": {"sources": ["ciplab", "roeishc"]}, "test": {"sources": "others"}}
)


def rows_of(
    faces: ModuleType, *, held: str = "", sources: tuple[str, ...] = ("140k", "ciplab", "roeishc", "lfw", "dfd")
) -> list[Crop]:
    return [
        faces.crop(
            f"{source}-{label}",
            n,
            label,
            source,
            group=f"{source}/{label}/{n}",
            split="heldout" if source == held and n < 2 else "train",
        )
        for source in sources
        for label in ("real", "fake")
        for n in range(10)
    ]


def test_the_test_set_is_all_other_sources(faces: ModuleType) -> None:
    chosen = choose_sets(rows_of(faces), PAPER)
    assert {row.source for row in chosen.first.rows} == {"140k"}
    assert {row.source for row in chosen.second.rows} == {"ciplab", "roeishc"}
    assert {row.source for row in chosen.test} == {"lfw", "dfd"}
    assert len(chosen.test) == 40


def test_held_out_groups_validate_and_without_any_a_share_of_each_label_does(faces: ModuleType) -> None:
    chosen = choose_sets(rows_of(faces, held="140k"), PAPER)
    assert {row.split for row in chosen.first.validation} == {"heldout"}
    assert len(chosen.first.validation) == 4
    found = sorted((row.source, row.label) for row in chosen.second.validation)
    assert found == sorted((source, label) for source in ("ciplab", "roeishc") for label in ("real", "fake") for _ in range(2))


def test_the_order_of_the_cache_changes_nothing(faces: ModuleType) -> None:
    rows = rows_of(faces)
    assert choose_sets(rows, PAPER) == choose_sets(rows[::-1], PAPER)


def test_a_limit_counts_by_source_and_label(faces: ModuleType) -> None:
    found = select(rows_of(faces), Selection(sources="all", limit=3), set())
    assert len(found) == 5 * 2 * 3


def test_parts_of_one_source_share_no_group(faces: ModuleType) -> None:
    rows = rows_of(faces)
    low = select(rows, Selection(sources="all", part=(0, 0.7)), set())
    high = select(rows, Selection(sources="all", part=(0.7, 1)), set())
    assert len(low) + len(high) == len(rows)
    assert not {row.group for row in low} & {row.group for row in high}
    assert 50 < len(low) < 90


@pytest.mark.parametrize("part", ["validation of its own set", "set 2", "the test set"])
def test_a_group_in_two_sets_is_refused(part: str, faces: ModuleType) -> None:
    rows = {source: tuple(row for row in rows_of(faces) if row.source == source) for source in ("140k", "ciplab", "lfw")}
    first, second, test = divided(rows["140k"], 0.2), divided(rows["ciplab"], 0.2), rows["lfw"]
    Chosen(first=first, second=second, test=test)
    stray = first.train[0]
    if part == "validation of its own set":
        first = TrainingSet(train=first.train, validation=(*first.validation, stray))
    elif part == "set 2":
        second = TrainingSet(train=(*second.train, stray), validation=second.validation)
    else:
        test = (*test, stray)
    with pytest.raises(ConfigError, match=stray.group):
        Chosen(first=first, second=second, test=test)


def test_a_source_that_is_not_there_and_a_missing_class_are_told(faces: ModuleType) -> None:
    with pytest.raises(ConfigError, match="no crops of roeishc"):
        choose_sets(rows_of(faces, sources=("140k", "ciplab", "lfw")), PAPER)
    with pytest.raises(ConfigError, match="set 1 has no fake"):
        choose_sets([row for row in rows_of(faces) if (row.source, row.label) != ("140k", "fake")], PAPER)


def test_crops_that_were_made_of_others_are_left_out(faces: ModuleType) -> None:
    rows = rows_of(faces)
    made = [
        faces.crop("copy", 0, "real", "dfd", variant="crf35"),
        faces.crop("taesd-lfw", 0, "fake", "taesd", group=rows[0].group),
    ]
    assert as_found([*rows, *made]) == rows
