"""Published layouts, built of empty files: nothing is decoded to recognise them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path

import pytest

from training.layouts import list_source, list_sources
from training.manifest import Entry
from training.splits import assign
from worker.errors import ConfigError


def lay(root: Path, names: Iterable[str]) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def by_path(entries: Iterable[Entry]) -> dict[str, Entry]:
    return {entry.path: entry for entry in entries}


def test_plain_folders_at_any_depth(tmp_path: Path) -> None:
    root = lay(tmp_path / "My Set", ["real/a.mp4", "fake/a.mp4", "other/Real/b.jpg", "other/Fake/gan/c.jpg", "notes.txt"])
    found = list_source(root)
    entries = by_path(found.entries)
    assert found.layout == "plain"
    assert {path: entry.source for path, entry in entries.items()} == {
        "real/a.mp4": "my-set",
        "fake/a.mp4": "my-set",
        "other/Real/b.jpg": "other",
        "other/Fake/gan/c.jpg": "other",
    }
    assert entries["fake/a.mp4"].original == "real/a.mp4"
    assert entries["fake/a.mp4"].group == entries["real/a.mp4"].group
    assert entries["other/Fake/gan/c.jpg"].manipulation == "gan"
    assert any("1 x .txt" in note for note in found.notes)


def test_plain_folders_of_frames_are_clips_where_there_are_many(tmp_path: Path) -> None:
    names = [f"real/clip{clip}/{frame}.png" for clip in range(10) for frame in range(2)] + ["fake/gan/1.png", "fake/gan/2.png"]
    entries = by_path(list_source(lay(tmp_path / "set", names)).entries)
    assert entries["real/clip3/0.png"].group == entries["real/clip3/1.png"].group == "set/clip3"
    assert entries["fake/gan/1.png"].group != entries["fake/gan/2.png"].group


FFPP = [
    *(f"original_sequences/youtube/c23/videos/{name}.mp4" for name in ("033", "097", "500")),
    *(
        f"manipulated_sequences/{kind}/c23/videos/{name}.mp4"
        for kind in ("Deepfakes", "FaceSwap")
        for name in ("033_097", "097_033")
    ),
    "original_sequences/actors/c23/videos/01__exit_phone_room.mp4",
    "manipulated_sequences/DeepFakeDetection/c23/videos/01_02__exit_phone_room__YVGY8LOK.mp4",
]


def test_faceforensics_groups_by_connected_ids_and_knows_the_originals(tmp_path: Path) -> None:
    found = list_source(lay(tmp_path, FFPP))
    entries = by_path(found.entries)
    swap = entries["manipulated_sequences/FaceSwap/c23/videos/097_033.mp4"]
    assert found.layout == "ffpp"
    assert swap.original == "original_sequences/youtube/c23/videos/097.mp4"
    assert swap.groups == ("ffpp/097", "ffpp/033")
    dfd = entries["manipulated_sequences/DeepFakeDetection/c23/videos/01_02__exit_phone_room__YVGY8LOK.mp4"]
    assert (dfd.source, dfd.original) == ("dfd", "original_sequences/actors/c23/videos/01__exit_phone_room.mp4")
    items = {item.path: item for item in assign(found.entries).items}
    pair = [item for path, item in items.items() if "033" in path]
    assert len({item.group for item in pair}) == len({item.split for item in pair}) == 1
    assert items["original_sequences/youtube/c23/videos/500.mp4"].group == "ffpp/500"
    assert items["manipulated_sequences/FaceSwap/c23/videos/097_033.mp4"].target == items[swap.original].target != ""


def test_mask_videos_of_faceforensics_are_no_fakes(tmp_path: Path) -> None:
    masks = [f"manipulated_sequences/Deepfakes/masks/videos/{name}.mp4" for name in ("033_097", "097_033")]
    found = list_source(lay(tmp_path, [*FFPP, *masks]))
    assert by_path(found.entries).keys() == set(FFPP)
    assert found.notes == ("passed over: 2 x .mp4",)


def test_a_missing_original_is_told_and_leaves_no_pair(tmp_path: Path) -> None:
    found = list_source(lay(tmp_path, ["manipulated_sequences/Deepfakes/c23/videos/001_002.mp4"]))
    assert found.entries[0].original == ""
    assert any("1 fakes lack their original" in note for note in found.notes)


def test_fakes_of_an_original_that_is_not_listed_stay_together(tmp_path: Path) -> None:
    lines = [f"f/{kind}_{n}.mp4,fake,{kind},gone/{n}.mp4" for n in range(20) for kind in ("swap", "mask")]
    (tmp_path / "m.csv").write_text("\n".join(["path,label,source,original", *lines]) + "\n")
    found = list_source(tmp_path / "m.csv")
    split = {item.path: (item.split, item.group) for item in assign(found.entries).items}
    assert all(split[f"f/swap_{n}.mp4"] == split[f"f/mask_{n}.mp4"] for n in range(20))
    assert len(set(split.values())) == 20
    assert {entry.original for entry in found.entries} == {""}
    assert any("40 fakes lack their original" in note for note in found.notes)


@pytest.mark.parametrize("original", ["../reals/a.mp4", "a.mp4"])
def test_an_original_may_be_listed_in_another_manifest(tmp_path: Path, original: str) -> None:
    for name, line in (("reals", "a.mp4,real,s,"), ("fakes", f"b.mp4,fake,t,{original}")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "m.csv").write_text(f"path,label,source,original\n{line}\n")
    found = list_sources([tmp_path / "reals" / "m.csv", tmp_path / "fakes" / "m.csv"])
    is_listed = original.startswith("..")
    assert by_path(found.entries)["fakes/b.mp4"].original == ("reals/a.mp4" if is_listed else "")
    assert len({item.group for item in assign(found.entries).items}) == (1 if is_listed else 2)
    assert len(found.notes) == (0 if is_listed else 1)


def test_a_file_that_two_lists_name_is_told_however_they_name_it(tmp_path: Path) -> None:
    for name, path in (("one", "../../a.mp4"), ("two", f"{tmp_path.resolve().parent}/a.mp4")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "m.csv").write_text(f"path,label,source\n{path},real,s\n")
    with pytest.raises(ConfigError, match="reached by two"):
        list_sources([tmp_path / name / "m.csv" for name in ("one", "two")])


def test_celeb_df_keeps_identities_and_its_test_list(tmp_path: Path) -> None:
    names = ["Celeb-real/id0_0001.mp4", "Celeb-real/id1_0000.mp4", "YouTube-real/00000.mp4", "Celeb-synthesis/id0_id1_0001.mp4"]
    root = lay(tmp_path, names)
    (root / "List_of_testing_videos.txt").write_text("1 YouTube-real/00000.mp4\n0 Celeb-synthesis/id0_id1_0001.mp4\n")
    found = list_source(root)
    entries = by_path(found.entries)
    assert found.layout == "celebdf"
    fake = entries["Celeb-synthesis/id0_id1_0001.mp4"]
    assert (fake.original, fake.groups, fake.part) == ("Celeb-real/id0_0001.mp4", ("celebdf/id0", "celebdf/id1"), "test")
    assert entries["Celeb-real/id1_0000.mp4"].part == "train"
    assert entries["YouTube-real/00000.mp4"].label == "real"


def test_people_all_connected_are_divided_and_what_straddles_is_left(tmp_path: Path) -> None:
    ids = range(8)
    names = [f"Celeb-real/id{n}_0000.mp4" for n in ids]
    names += [f"Celeb-synthesis/id{a}_id{b}_0000.mp4" for a in ids for b in ids if a != b]
    found = assign(list_source(lay(tmp_path, names)).entries)
    people = {item.path: item.split for item in found.items if item.label == "real"}
    side = {f"celebdf/{Path(path).stem.split('_')[0]}": split for path, split in people.items()}
    assert sorted(side.values()) == ["heldout"] * 2 + ["train"] * 6
    for entry in found.straddling:
        assert {side[name] for name in entry.groups} == {"train", "heldout"}
    assert len(found.straddling) == 2 * 2 * 6
    assert len(found.items) + len(found.straddling) == len(names)


def test_dfdc_metadata(tmp_path: Path) -> None:
    root = lay(tmp_path, [f"part_{n}/{name}.mp4" for n in range(2) for name in (f"a{n}", f"b{n}")])
    for n in range(2):
        table = {f"a{n}.mp4": {"label": "REAL", "split": "train", "original": None}}
        table |= {f"b{n}.mp4": {"label": "FAKE", "split": "train", "original": f"a{n}.mp4"}, "gone.mp4": {"label": "REAL"}}
        (root / f"part_{n}" / "metadata.json").write_text(json.dumps(table))
    found = list_source(root)
    entries = by_path(found.entries)
    assert (found.layout, len(entries)) == ("dfdc", 4)
    assert entries["part_1/b1.mp4"].original == "part_1/a1.mp4"
    assert entries["part_1/b1.mp4"].group == entries["part_1/a1.mp4"].group != entries["part_0/a0.mp4"].group


def test_dfdc_table_of_another_shape_is_refused(tmp_path: Path) -> None:
    root = lay(tmp_path, ["a.mp4"])
    (root / "metadata.json").write_text(json.dumps({"a.mp4": {"kind": "REAL"}}))
    with pytest.raises(ConfigError, match=r"metadata\.json: not the DFDC's table"):
        list_source(root, "dfdc")


@pytest.mark.parametrize("table", ['{"real/a.mp4": {"label": "REAL"}}', '{"fps": 25}', '["a.mp4"]', "not JSON"])
def test_another_metadata_file_beside_real_and_fake_makes_no_dfdc(tmp_path: Path, table: str) -> None:
    root = lay(tmp_path, ["real/a.mp4", "fake/b.mp4"])
    (root / "metadata.json").write_text(table)
    found = list_source(root)
    assert (found.layout, len(found.entries)) == ("plain", 2)


def test_140k_keeps_its_own_parts(tmp_path: Path) -> None:
    names = [
        f"real_vs_fake/real-vs-fake/{part}/{label}/{part}{label}{n}.jpg"
        for part in ("train", "valid", "test")
        for label in ("real", "fake")
        for n in range(2)
    ]
    found = list_source(lay(tmp_path, [*names, "train.csv"]))
    assert (found.layout, len(found.entries)) == ("140k", 12)
    assert {entry.family for entry in found.entries if entry.label == "fake"} == {"synthetic"}
    given = assign(found.entries)
    assert {item.split for item in given.items if "/train/" in item.path} == {"train"}
    assert {item.split for item in given.items if "/train/" not in item.path} == {"heldout"}
    assert any("own parts are kept: 140k" in note for note in given.notes)


def test_140k_is_known_by_its_tables_where_only_training_files_are_there(tmp_path: Path) -> None:
    names = ["train.csv", "valid.csv", "test.csv", "a/b/train/real/1.jpg", "a/b/train/fake/2.jpg"]
    assert list_source(lay(tmp_path, names)).layout == "140k"


@pytest.mark.parametrize(
    ("parts", "suffix"), [(("train", "val"), "mp4"), (("train", "val"), "jpg"), (("train", "valid", "test"), "mp4")]
)
def test_train_and_val_of_anything_is_no_140k_but_parts_of_a_plain_folder(
    tmp_path: Path, parts: tuple[str, ...], suffix: str
) -> None:
    names = [f"{part}/{label}/{n}.{suffix}" for part in parts for label in ("real", "fake") for n in range(4)]
    found = list_source(lay(tmp_path / "Mine", names))
    assert (found.layout, len(found.entries)) == ("plain", len(names))
    assert {(entry.source, entry.family) for entry in found.entries} == {("mine", "")}
    split = {item.path: item.split for item in assign(found.entries).items}
    assert {path for path, side in split.items() if side == "train"} == {name for name in names if name.startswith("train/")}


def test_a_person_in_two_parts_of_a_plain_folder_is_on_one_side(tmp_path: Path) -> None:
    names = [
        f"{part}/{label}/{who}/{n}.mp4" for part in ("train", "val") for label in ("real", "fake") for who in "abcd" for n in "12"
    ]
    items = assign(list_source(lay(tmp_path, names)).entries).items
    assert {len({item.split for item in items if f"/{who}/" in item.path}) for who in "abcd"} == {1}


def test_several_sources_become_one_list(tmp_path: Path) -> None:
    lay(tmp_path / "one", ["real/a.mp4", "fake/a.mp4"])
    lay(tmp_path / "deep" / "two", ["real/a.mp4"])
    found = list_sources([tmp_path / "one", tmp_path / "deep" / "two"])
    entries = by_path(found.entries)
    assert set(entries) == {"one/real/a.mp4", "one/fake/a.mp4", "deep/two/real/a.mp4"}
    assert all((found.root / path).is_file() for path in entries)
    assert entries["one/fake/a.mp4"].original == "one/real/a.mp4"
    assert entries["deep/two/real/a.mp4"].group != entries["one/real/a.mp4"].group


@pytest.mark.parametrize("link", ["my/fake/again", "disk/again"])
def test_links_are_followed_but_not_back_to_where_they_lie(tmp_path: Path, link: str) -> None:
    root, elsewhere = lay(tmp_path / "my", ["real/a.mp4", "fake/b.mp4"]), lay(tmp_path / "disk", ["c.mp4"])
    (root / "real" / "more").symlink_to(elsewhere)
    (tmp_path / link).symlink_to(root)
    assert [entry.path for entry in list_source(root).entries] == ["fake/b.mp4", "real/a.mp4", "real/more/c.mp4"]


def test_nor_from_a_folder_that_is_itself_a_link(tmp_path: Path) -> None:
    root = lay(tmp_path / "disk" / "set", ["real/a.mp4", "fake/b.mp4"])
    (root / "up").symlink_to(root.parent)
    (tmp_path / "linked").symlink_to(root)
    assert [entry.path for entry in list_source(tmp_path / "linked").entries] == ["fake/b.mp4", "real/a.mp4"]


def test_files_whose_names_are_not_utf8_are_passed_over_and_told(tmp_path: Path) -> None:
    """A crop cache and its lists could not name them, nor could the split be drawn."""
    odd = os.fsdecode(b"J\xf6rg")
    root = lay(tmp_path / "set", [f"{label}/{name}.mp4" for label in ("real", "fake") for name in ("a", "b", odd)])
    found = list_sources([root])
    assert by_path(found.entries).keys() == {"real/a.mp4", "real/b.mp4", "fake/a.mp4", "fake/b.mp4"}
    assert r"passed over: 2 files whose names are not UTF-8, the first of them fake/J\xf6rg.mp4" in found.notes
    assert len(list_source(root).entries) == 6, "what only judges them names them otherwise"
    beside = [lay(tmp_path / name, ["real/a.mp4", "fake/a.mp4"]) for name in (odd, "other")]
    assert by_path(list_sources(beside).entries).keys() == {"other/real/a.mp4", "other/fake/a.mp4"}
    with pytest.raises(ConfigError, match=r"only 2 files whose names are not UTF-8.*; rename them"):
        list_sources([lay(tmp_path / "odd", [f"real/{odd}.mp4", f"fake/{odd}.mp4"])])


def test_a_layout_can_be_named(tmp_path: Path) -> None:
    root = lay(tmp_path, ["original_sequences/real/a.mp4", "original_sequences/fake/b.mp4"])
    assert list_source(root, "plain").layout == "plain"
    with pytest.raises(ConfigError, match="finds no labelled file"):
        list_source(root)


@pytest.mark.parametrize(("names", "told"), [([], "no layout recognised"), (["a.mp4"], "folders named real and fake")])
def test_what_is_not_recognised_is_told_with_what_would_be(tmp_path: Path, names: list[str], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        list_source(lay(tmp_path, names))


def test_the_projects_own_folder_is_recognised(shared_data: Path) -> None:
    assert list_source(shared_data).layout == "own"
