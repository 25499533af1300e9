"""Folders below ``real`` and ``fake``: clips and people stay on one side, and no side loses a label for that."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath

import pytest

from training.manifest import LABELS, Entry
from training.plain import folder_notes, plain_entries
from training.splits import assign


def listed(paths: Iterable[str]) -> list[Entry]:
    return plain_entries(map(PurePosixPath, sorted(paths)), "set")


def torn(entries: Sequence[Entry]) -> set[str]:
    """Names of folders whose files are on both sides."""
    sides: dict[str, set[str]] = defaultdict(set)
    for item in assign(entries).items:
        sides[PurePosixPath(item.path).parent.name].add(item.split)
    return {name for name, its in sides.items() if len(its) > 1} - {"real", "fake"}


def labels_of_sides(entries: Sequence[Entry]) -> set[tuple[str, str]]:
    return {(item.split, item.label) for item in assign(entries).items}


ALL = {(split, label) for split in ("train", "heldout") for label in LABELS}
FRAMES = [f"{label}/{label}clip{clip}/{label}_{clip}_{frame}.jpg" for label in LABELS for clip in range(8) for frame in "abc"]
PEOPLE = [f"{label}/{who}/{n}.mp4" for label in LABELS for who in ("alice", "bob", "carol", "dan") for n in range(5)]
ONE_SIDED = [f"real/{n}.mp4" for n in range(30)] + [f"fake/person{who}/f{who}_{n}.mp4" for who in range(5) for n in range(4)]


@pytest.mark.parametrize("paths", [FRAMES, PEOPLE, PEOPLE[5:], ONE_SIDED], ids=["frames", "people", "one-unshared", "one-sided"])
def test_a_folder_of_a_clip_or_a_person_stays_on_one_side(paths: list[str]) -> None:
    entries = listed(paths)
    assert torn(entries) == set()
    assert labels_of_sides(entries) == ALL
    (note,) = folder_notes(entries)
    assert note.startswith("taken for clips or persons, each on one side: fake/")


def test_the_same_name_under_both_labels_is_the_same_group() -> None:
    entries = listed(PEOPLE)
    assert {entry.group for entry in entries if "/alice/" in entry.path} == {"set/alice"}


@pytest.mark.parametrize(
    ("folder", "paths"),
    [
        ("real/batch1", [f"real/batch1/{n}.jpg" for n in range(40)] + [f"fake/f{n}.jpg" for n in range(40)]),
        (
            "fake/gan",
            [f"real/r{n}.jpg" for n in range(40)] + [f"fake/{kind}/{kind}{n}.jpg" for kind in ("gan", "sd") for n in "abc"],
        ),
        ("fake/frames", [f"{label}/frames/{label}{n}.jpg" for label in LABELS for n in range(40)]),
    ],
)
def test_folders_that_would_take_a_label_from_a_side_are_no_groups_and_that_is_told(folder: str, paths: list[str]) -> None:
    entries = listed(paths)
    assert labels_of_sides(entries) == ALL
    assert len({entry.group for entry in entries if entry.path.startswith(folder)}) > 1
    (note,) = folder_notes(entries)
    assert note.startswith("not taken for clips or persons")
    assert folder in note


def test_a_batch_beside_people_is_no_group_but_they_are() -> None:
    entries = listed([f"real/batch1/{n}.jpg" for n in range(200)] + ["real/alice/a1.jpg", "real/alice/a2.jpg"] + FRAMES[24:])
    assert torn(entries) <= {"batch1"}
    assert len(folder_notes(entries)) == 2


def test_four_folders_of_one_label_are_kinds_and_leave_enough_to_train_on() -> None:
    kinds = ("gan", "sd", "mj", "dalle")
    entries = listed([f"real/r{n}.jpg" for n in range(40)] + [f"fake/{kind}/{kind}{n}.jpg" for kind in kinds for n in range(9)])
    assert {entry.manipulation for entry in entries if entry.label == "fake"} == set(kinds)
    assert labels_of_sides(entries) == ALL
    fakes = {item.group for item in assign(entries).items if (item.split, item.label) == ("train", "fake")}
    assert len(fakes) >= 4, "own.yaml needs so many"


def test_kinds_of_fakes_stay_with_the_real_files_of_their_names() -> None:
    kinds = ("deepfakes", "face2face", "faceswap", "neuraltextures", "faceshifter")
    entries = listed([f"real/{n}.mp4" for n in range(20)] + [f"fake/{kind}/{n}.mp4" for kind in kinds for n in range(20)])
    assert {entry.group for entry in entries if entry.path.endswith("/7.mp4")} == {"set/7"}
    assert {entry.manipulation for entry in entries if entry.label == "fake"} == set(kinds)
    assert {entry.original for entry in entries if entry.path.endswith("/7.mp4")} == {"", "real/7.mp4"}


def test_a_file_beside_the_folders_goes_with_the_one_that_holds_its_name() -> None:
    entries = listed([*PEOPLE, "real/bob/speech.mp4", "fake/speech.mp4", "fake/3.mp4"])
    group = {entry.path: entry.group for entry in entries}
    assert group["fake/speech.mp4"] == "set/bob"
    assert group["fake/3.mp4"] == "set/3", "many folders hold a 3"


def test_where_groups_leave_a_side_without_a_label_files_stand_alone() -> None:
    """Whichever of few groups is held out: both sides have both labels."""
    for people in (["alice", "bob"], ["x1", "x2", "x3"], ["dan", "eve", "y", "z"]):
        paths = [f"{label}/{who}/{label}{who}{n}.mp4" for label in LABELS for who in people[:2] for n in range(5)]
        paths += [f"real/{who}/{who}{n}.mp4" for who in people[2:] for n in range(5)]
        assert labels_of_sides(listed(paths)) == ALL


def test_a_plus_in_a_name_joins_no_groups() -> None:
    entries = listed(f"{label}/{who}+new/{n}.mp4" for label in LABELS for who in "abcdef" for n in range(3))
    assert {entry.groups for entry in entries} == {(f"set/{who}%2Bnew",) for who in "abcdef"}
    assert "not taken" not in "".join(folder_notes(entries))


@pytest.mark.parametrize(
    ("one", "other"), [("видео", "Фото"), ("视频 2", "照片 2"), ("فيديو", "صور"), ("वीडियो", "वाडेया"), ("café", "caf")]
)
def test_folders_of_any_script_are_sources_and_kinds_of_their_own(one: str, other: str) -> None:
    entries = listed(f"{part}/real/{n}.mp4" for part in (one, other) for n in range(10))
    names = {part: part.lower().replace(" ", "-") for part in (one, other)}
    assert {(entry.path.partition("/")[0], entry.source) for entry in entries} == set(names.items())
    assert not {entry.group for entry in entries if entry.source == names[one]} & {f"{names[other]}/{n}" for n in range(10)}
    fakes = listed([f"real/{n}.mp4" for n in range(9)] + [f"fake/{kind}/{n}.mp4" for kind in (one, other) for n in range(9)])
    assert {entry.manipulation for entry in fakes if entry.label == "fake"} == set(names.values())


def test_a_name_is_the_same_however_its_accents_are_written() -> None:
    assert {entry.source for entry in listed(f"{name}/real/1.mp4" for name in ("caf\u00e9", "cafe\u0301"))} == {"caf\u00e9"}


def test_parts_below_the_labels_are_kept_as_those_above() -> None:
    parts = ("train", "Val", "test")
    paths = [f"{label}/{part}/{label}{n}.jpg" for label in LABELS for part in parts for n in range(9)]
    entries = listed([*paths, "real/train/ann/1.jpg", "fake/train/ann/1.jpg", "fake/test/real3.jpg"])
    assert {(item.path.split("/")[1], item.split) for item in assign(entries).items} == {
        ("train", "train"),
        ("Val", "heldout"),
        ("test", "heldout"),
    }
    found = {entry.path: (entry.group, entry.original) for entry in entries}
    assert found["fake/train/ann/1.jpg"] == ("set/ann", "real/train/ann/1.jpg")
    assert found["fake/test/real3.jpg"] == ("set/test/real3", "real/test/real3.jpg")
    assert folder_notes(entries) == ["taken for clips or persons, each on one side: fake/train/ann, real/train/ann"]


def test_a_folder_that_is_called_as_a_part_and_alone_is_none() -> None:
    assert {entry.part for entry in listed([*PEOPLE, "real/test/1.mp4", "fake/test/1.mp4"])} == {""}
    of_one_label = ["real/train/1.jpg", "real/test/2.jpg", "fake/train/3.jpg"]
    assert {entry.part for entry in listed(of_one_label)} == {""}, "the other would be judged by no file"
