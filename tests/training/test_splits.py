"""The committed split: nobody stands on both sides, and it is what the manifest gives."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import pytest

from training.leaks import by_name
from training.manifest import Entry
from training.splits import (
    COMMITTED,
    LEFT_OUT,
    Item,
    assign,
    components,
    held_out_groups,
    ids_of,
    is_clip,
    is_whole,
    make_split,
    read_sides,
    read_split,
)
from worker.errors import ConfigError


def test_no_group_stands_in_two_splits() -> None:
    sides: dict[str, set[str]] = defaultdict(set)
    for item in read_split():
        sides[item.group].add(item.split)
    assert len(sides) > 1000
    assert {group for group, splits in sides.items() if len(splits) > 1} == set()


def test_no_ffpp_id_stands_in_two_splits() -> None:
    sides: dict[str, set[str]] = defaultdict(set)
    for item in read_split():
        if item.source == "ffpp":
            for name in ids_of(item.path):
                sides[name].add(item.split)
    assert all(len(splits) == 1 for splits in sides.values())


def test_left_out_sources_are_wholly_left_out() -> None:
    for item in read_split():
        assert (item.split == "leftout") == (item.source in LEFT_OUT)


def test_every_frequent_manipulation_is_on_both_sides() -> None:
    found = {(item.manipulation, item.split) for item in read_split() if item.source == "ffpp"}
    assert {(kind, split) for kind in ("deepfakes", "face2face", "faceswap") for split in ("train", "heldout")} <= found


def test_committed_split_is_what_the_manifest_gives(shared_data: Path) -> None:
    assert make_split(shared_data / "MANIFEST.csv") == read_split()


def test_components_join_over_shared_ids() -> None:
    found = components([["033"], ["097"], ["033", "097"], ["097", "010"], ["500"]])
    assert found == {"033": "010", "097": "010", "010": "010", "500": "500"}


def test_ids_are_read_from_names_of_originals_and_fakes() -> None:
    assert ids_of("videos/ffpp/real/youtube_033.mp4") == ["033"]
    assert ids_of("videos/ffpp/fake/deepfakes_033_097.mp4") == ["033", "097"]


def test_pictures_are_no_clips_whatever_their_folder_is_called() -> None:
    assert [path for path in ("videos/a/1.JPG", "videos/a/1.webp", "faces/a/1.webp", "faces/a/1.mp4") if is_clip(path)] == [
        "videos/a/1.webp",
        "faces/a/1.mp4",
    ]
    committed = [item for item in read_split() if item.path.startswith("videos/")]
    assert all(item.is_video for item in committed)


@pytest.mark.parametrize(("name", "by"), [("real/youtube_033", "033"), ("fake/deepfakes_033_097", "033"), ("real/alice", "")])
def test_clips_in_a_folder_that_is_called_as_the_committed_splits_need_no_ids(name: str, by: str) -> None:
    item = Item(path=f"videos/ffpp/{name}.mp4", label="real", source="s", manipulation="", group="g", split="train")
    assert item.aligned_by == by


def test_held_out_groups_take_a_share_of_every_stratum() -> None:
    strata = {f"a{n}": "a" for n in range(10)} | {"b0": "b"}
    chosen = held_out_groups(strata, 0.4)
    assert len([group for group in chosen if strata[group] == "a"]) == 4
    assert "b0" in chosen
    assert len(held_out_groups({name: "few" for name in "abcd"}, 0.9)) == 3, "the fourth is learnt from"


def test_an_unknown_split_is_refused() -> None:
    with pytest.raises(ConfigError, match="split 'test'"):
        Item(path="x", label="real", source="lfw", manipulation="", group="g", split="test")


def pairs(source: str, count: int = 20) -> list[Entry]:
    """Originals of this source, and a fake of each, by another name and of the source ``mine``; every other one for training."""
    reals = [Entry(path=f"o/{n}.mp4", label="real", source=source) for n in range(count)]
    parts = ["train" if n % 2 else "test" for n in range(count)]
    return reals + [
        Entry(path=f"f/swap_{n}.mp4", label="fake", source="mine", original=f"o/{n}.mp4", part=part)
        for n, part in enumerate(parts)
    ]


@pytest.mark.parametrize("source", ["mine", "youtube"])
def test_a_fake_stays_with_its_original_whatever_its_name_and_source(source: str) -> None:
    entries = [replace(entry, part="") for entry in pairs(source)]
    found = {item.path: item for item in assign(entries).items}
    both = [(found[entry.original], found[entry.path]) for entry in entries if entry.original]
    assert len(found) == len(entries)
    assert all((real.split, real.group) == (fake.split, fake.group) for real, fake in both)
    assert {real.split for real, _ in both} == {"train", "heldout"}


def test_originals_are_where_a_sources_own_parts_have_their_fakes() -> None:
    entries = pairs("youtube")
    found = assign(entries)
    split = {item.path: item.split for item in found.items}
    assert all(split[entry.original] == split[entry.path] for entry in entries if entry.original)
    assert all((split[entry.path] == "train") == (entry.part == "train") for entry in entries if entry.part)
    assert found.notes == ("the data set's own parts are kept: mine",)


def test_a_source_of_which_only_parts_for_testing_are_there_is_divided_as_any_other() -> None:
    entries = [Entry(path=f"{n}.mp4", label="real", source="s", part=("valid", "test")[n % 2]) for n in range(20)]
    found = assign(entries)
    assert {item.split for item in found.items} == {"train", "heldout"}
    assert found.notes == ()


def test_a_group_of_which_there_is_one_of_its_kind_is_learnt_from() -> None:
    entries = [Entry(path=f"{n}.mp4", label="real", source="s") for n in range(20)]
    entries.append(Entry(path="alone.mp4", label="fake", source="rare"))
    split = {item.path: item.split for item in assign(entries, held_out=0.25).items}
    assert split.pop("alone.mp4") == "train"
    assert sorted(split.values()).count("heldout") == 5


def test_pairs_whose_names_have_a_plus_are_each_a_group_of_their_own() -> None:
    plus = [replace(entry, part="", path=entry.path.replace("swap_", "y+")) for entry in pairs("youtube")]
    alike = [Entry(path=f"{label}/x+{n}.mp4", label=label, source="s") for n in range(20) for label in ("real", "fake")]
    for entries in (plus, alike):
        found = assign(entries)
        assert len({item.group for item in found.items}) == 20
        assert (len(found.items), found.straddling, by_name(found.items)) == (40, (), [])


@pytest.mark.parametrize("parts", [True, False])
def test_originals_of_fakes_that_are_left_out_are_left_out_with_them(parts: bool) -> None:
    entries = [*pairs("youtube"), *(Entry(path=f"r/{n}.mp4", label="real", source="youtube") for n in range(20))]
    found = assign(entries if parts else [replace(entry, part="") for entry in entries], leave_out=["mine"])
    split = {item.path: item.split for item in found.items}
    assert len(split) == len(entries)
    assert by_name(found.items) == []
    assert {path for path, side in split.items() if side == "leftout"} == {entry.path for entry in pairs("youtube")}
    assert {side for path, side in split.items() if path.startswith("r/")} == {"train", "heldout"}
    assert found.notes == ("left out with them, as they share groups: 20 files of youtube",)


def test_of_people_all_connected_only_those_of_what_is_left_out_are_left_out() -> None:
    people = range(12)
    entries = [Entry(path=f"r/{n}.mp4", label="real", source="s", group=f"{n}") for n in people]
    entries += [Entry(path=f"f/{n}.mp4", label="fake", source="s", group=f"{n}+{(n + 1) % 12}") for n in people]
    entries.append(Entry(path="x.mp4", label="fake", source="other", original="r/0.mp4"))
    found = assign(entries, leave_out=["other"])
    assert {item.path for item in found.items if item.split == "leftout"} == {"x.mp4", "r/0.mp4"}
    assert {"f/0.mp4", "f/11.mp4"} <= {entry.path for entry in found.straddling}
    assert {item.split for item in found.items} == {"train", "heldout", "leftout"}
    assert by_name(found.items) == []


def test_a_split_that_parts_a_fake_from_an_original_of_another_source_is_told() -> None:
    entries = pairs("youtube", 3)
    given = {entry.path: "train" if entry.original else "heldout" for entry in entries}
    assert {leak.kind for leak in by_name(assign(entries, given=given).items)} == {"group", "original"}


def test_paths_of_a_split_are_plain(tmp_path: Path) -> None:
    path = tmp_path / "split.csv"
    path.write_text("path,split\n./real/a.mp4,train\nx/../b.mp4 ,heldout\n")
    assert read_sides(path) == {"real/a.mp4": "train", "b.mp4": "heldout"}


def test_a_file_of_two_sides_is_told(tmp_path: Path) -> None:
    path = tmp_path / "split.csv"
    path.write_text("path,split\na.mp4,train\na.mp4,train\n./a.mp4,heldout\n")
    with pytest.raises(ConfigError, match=r"a\.mp4 is of train and of heldout"):
        read_sides(path)


def test_a_split_of_a_spreadsheet_is_read(tmp_path: Path) -> None:
    """Which begins its file with a byte-order mark."""
    path = tmp_path / "split.csv"
    path.write_text("path,split\na.mp4,train\n", "utf-8-sig")
    assert read_sides(path) == {"a.mp4": "train"}


@pytest.mark.parametrize("content", [b"file,side\na.mp4,train\n", b"path,split\n\xff,train\n", b'path,split\n"' + b"x" * 200_000])
def test_a_table_of_another_kind_is_no_split(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "split.csv"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match="not a split"):
        read_sides(path)


def test_a_whole_split_is_read_from_a_spreadsheet_with_notes_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "split.csv"
    head, *rows = COMMITTED.read_text("utf-8").splitlines()
    path.write_text("\n".join([f"{head},note", *(f"{row},seen" for row in rows)]), "utf-8-sig")
    assert is_whole(path)
    assert read_split(path) == read_split()


@pytest.mark.parametrize(
    "content", [b"path,split\na.mp4,train\n", b"path,label,source,manipulation,group,split\n\xff,real,s,,g,train\n"]
)
def test_what_tells_no_whole_items_is_no_whole_split(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "split.csv"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match="not a split"):
        read_split(path)
