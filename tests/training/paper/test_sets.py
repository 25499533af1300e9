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
    assert len(low) == 70


OWN = Sets.model_validate(
    {
        "first": {"sources": "all", "splits": ["train"], "part": (0, 0.7)},
        "second": {"sources": "all", "splits": ["train"], "part": (0.7, 1)},
        "test": {"sources": "all", "splits": ["heldout"]},
    }
)


def own_rows(faces: ModuleType, tag: int, counts: dict[str, int]) -> list[Crop]:
    """Training groups of each label, or of ``both``, and one held-out group of both."""
    return [
        faces.crop("mine", n, label, "mine", group=f"mine/{tag}/{kind}/{n}", split="heldout" if kind == "held" else "train")
        for kind, count in (counts | {"held": 1}).items()
        for n in range(count)
        for label in (("real", "fake") if kind in ("both", "held") else (kind,))
    ]


@pytest.mark.parametrize(
    "counts",
    [
        {"real": 4, "fake": 4},
        {"real": 5, "fake": 9},
        {"both": 4},
        {"both": 3, "real": 1, "fake": 1},
        {"both": 2, "real": 2, "fake": 2},
    ],
)
def test_four_groups_of_each_label_are_enough_whatever_their_hash(faces: ModuleType, counts: dict[str, int]) -> None:
    for tag in range(25):
        chosen = choose_sets(own_rows(faces, tag, counts), OWN)
        for label in ("real", "fake"):
            groups = [{row.group for row in part.rows if row.label == label} for part in (chosen.first, chosen.second)]
            assert min(map(len, groups)) >= 2


def test_a_part_is_a_share_of_each_label(faces: ModuleType) -> None:
    chosen = choose_sets(own_rows(faces, 0, {"real": 20, "fake": 50}), OWN)
    labels = [row.label for row in chosen.first.rows]
    assert (labels.count("real"), labels.count("fake")) == (14, 35)


def test_too_few_groups_are_told_with_their_number(faces: ModuleType) -> None:
    with pytest.raises(ConfigError, match=r"set 2's validation has no fake crops: too few groups: 4 real, 1 fake in set 2"):
        choose_sets(own_rows(faces, 0, {"real": 14, "fake": 3}), OWN)


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
