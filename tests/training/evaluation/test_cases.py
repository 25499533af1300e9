"""Manifests and folders read as cases: groups, apparent groups, originals, and the stratified sample."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from training.evaluation.cases import Case, age_band, read_cases, sample
from worker.errors import ConfigError
from worker.types import MediaKind


def place(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def write(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n", "utf-8")
    return path


def test_a_manifest_gives_cases_with_joined_groups(tmp_path: Path) -> None:
    place(tmp_path, "a.mp4", "b.mp4", "c.jpg")
    lines = ("path,label,source,group,split", "a.mp4,real,x,p1,heldout", "b.mp4,fake,x,p1+p2,heldout", "c.jpg,real,x,p2,train")
    first, second, third = read_cases(write(tmp_path / "set.csv", *lines))
    assert first.group == second.group == third.group
    assert (first.path, second.fake, third.split) == (tmp_path / "a.mp4", True, "train")
    assert (first.kind, third.kind) == (MediaKind.VIDEO, MediaKind.PICTURE)


def test_a_split_is_read_whatever_its_case_and_what_stands_around_it(tmp_path: Path) -> None:
    place(tmp_path, "a.mp4", "b.mp4", "c.mp4")
    lines = ("path,label,source,split,part", "a.mp4,real,x,train ,", "b.mp4,fake,x,Train,", "c.mp4,fake,x, ,test")
    assert [found.split for found in read_cases(write(tmp_path / "set.csv", *lines))] == ["train", "train", "test"]


def test_paths_may_be_below_another_folder_whose_notes_are_read(tmp_path: Path) -> None:
    data = tmp_path / "data"
    place(data, "faces/0.jpg")
    write(
        data / "MANIFEST.csv", "path,label,source,note", "faces/0.jpg,real,x,orig path: a/b/52_1_3_20170109140934624.jpg.chip.jpg"
    )
    manifest = write(tmp_path / "set.csv", "path,label,source", "faces/0.jpg,real,utk")
    (found,) = read_cases(manifest, data)
    assert (found.sex, found.age, found.race) == ("female", "52", "Indian")
    with pytest.raises(ConfigError, match="does not exist; --data"):
        read_cases(manifest)


@pytest.mark.parametrize("other", [b"file,sha256\na.jpg,0\n", b"path\n\xff\n", b'path\n"' + b"x" * 200_000 + b'"\n', b""])
def test_a_table_of_another_kind_that_is_named_like_a_manifest_has_no_notes(tmp_path: Path, other: bytes) -> None:
    place(tmp_path, "a.jpg")
    (tmp_path / "MANIFEST.csv").write_bytes(other)
    (found,) = read_cases(write(tmp_path / "set.csv", "path,label,source", "a.jpg,real,x"))
    assert found.sex == ""


def test_a_folder_with_a_manifest_is_read_by_it(tmp_path: Path) -> None:
    place(tmp_path, "a.mp4", "b.mp4")
    write(tmp_path / "MANIFEST.csv", "path,label,source,sex,split", "a.mp4,real,x,female,train", "b.mp4,fake,x,male,")
    assert [(found.sex, found.split) for found in read_cases(tmp_path)] == [("female", "train"), ("male", "")]


def test_labels_of_the_manifest_come_before_those_of_names(tmp_path: Path) -> None:
    place(tmp_path, "30_0_0_20170109140934624.jpg")
    manifest = write(tmp_path / "s.csv", "path,label,source,sex", "30_0_0_20170109140934624.jpg,real,x,other")
    assert read_cases(manifest)[0].sex == "other"


def test_a_name_tells_of_a_face_where_nothing_else_does(tmp_path: Path) -> None:
    names = ("52_1_3_20170109140934624.jpg", "7_0_4_20170109140934624.jpg")
    place(tmp_path, *names)
    lines = ("path,label,source,note", f"{names[0]},real,x,", f"{names[1]},real,x,orig path: a/30_1_0_20170109140934624.jpg")
    found = read_cases(write(tmp_path / "s.csv", *lines))
    assert [(case.sex, case.age, case.race) for case in found] == [("female", "52", "Indian"), ("female", "30", "White")]


def test_a_file_whose_name_is_not_utf8_is_judged_under_one_that_is(tmp_path: Path) -> None:
    odd = os.fsdecode(b"J\xf6rg.mp4")
    place(tmp_path, f"real/{odd}", f"fake/{odd}")
    found = {case.name: case for case in read_cases(tmp_path)}
    assert found.keys() == {r"real/J\xf6rg.mp4", r"fake/J\xf6rg.mp4"}
    assert found[r"fake/J\xf6rg.mp4"].original == r"real/J\xf6rg.mp4"
    assert found[r"real/J\xf6rg.mp4"].path == tmp_path / "real" / odd


@pytest.mark.parametrize(
    ("age", "band"),
    [
        ("0", "0-12"),
        ("12", "0-12"),
        ("39", "20-39"),
        ("60", "60 and more"),
        ("200", "60 and more"),
        ("old", "old"),
        ("201", "201"),
        ("1987", "1987"),
        ("²", "²"),
        ("9" * 5000, "9" * 5000),
    ],
    ids=lambda text: text[:9],
)
def test_ages_come_in_bands(age: str, band: str) -> None:
    assert age_band(age) == band


def test_a_folder_is_listed_as_prepare_lists_it_and_pairs_stay_together(tmp_path: Path) -> None:
    place(tmp_path / "Set", "real/1.mp4", "fake/gan/1.mp4", "real/2.jpg", "fake/notes.txt", "real/.DS_Store", "clips/Real/3.mp4")
    cases = {found.name: found for found in read_cases(tmp_path / "Set")}
    assert set(cases) == {"real/1.mp4", "fake/gan/1.mp4", "real/2.jpg", "clips/Real/3.mp4"}
    assert {name: found.source for name, found in cases.items()} == {name: "set" for name in cases} | {
        "clips/Real/3.mp4": "clips"
    }
    assert cases["real/1.mp4"].group == cases["fake/gan/1.mp4"].group
    assert (cases["fake/gan/1.mp4"].manipulation, cases["fake/gan/1.mp4"].original) == ("gan", "real/1.mp4")
    assert cases["real/2.jpg"].path == tmp_path / "Set" / "real" / "2.jpg"


def test_folders_of_any_case_are_taken_and_parts_are_splits(tmp_path: Path) -> None:
    place(tmp_path, "train/Real/1.mp4", "train/Fake/2.mp4", "test/Real/3.mp4", "test/Fake/4.mp4")
    assert Counter(found.split for found in read_cases(tmp_path)) == {"train": 2, "test": 2}


def test_folders_and_files_that_are_no_manifest_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="named real and fake"):
        read_cases(tmp_path)
    with pytest.raises(ConfigError, match="label, source"):
        read_cases(write(tmp_path / "x.csv", "path,other", "a,b"))


def test_names_of_faceforensics_give_the_original(tmp_path: Path) -> None:
    place(tmp_path, "real/ff/youtube_033.mp4", "fake/ff/deepfakes_033_097.mp4", "fake/ff/deepfakes_097_033.mp4")
    found = {found.name: found.original for found in read_cases(tmp_path)}
    assert found["fake/ff/deepfakes_033_097.mp4"] == "real/ff/youtube_033.mp4"
    assert found["fake/ff/deepfakes_097_033.mp4"] == ""


def test_of_several_files_with_a_fakes_number_none_is_its_original(tmp_path: Path) -> None:
    place(tmp_path, "real/ann_001.jpg", "real/bob_001.jpg", "fake/ann_001_050.jpg")
    assert {found.original for found in read_cases(tmp_path)} == {""}


def test_a_sample_takes_small_strata_whole_and_is_the_same_again(case: Callable[..., Case]) -> None:
    cases = [case("real", f"a/{n}.jpg", source="a") for n in range(50)] + [
        case("fake", f"b/{n}.jpg", source="b") for n in range(3)
    ]
    cases += [case("real", f"c/{n}.mp4", source="c") for n in range(4)]
    chosen = sample(cases, 10)
    assert Counter(found.source for found in chosen) == {"a": 7, "b": 3, "c": 4}
    assert sample(list(reversed(cases)), 10) == list(reversed(chosen))
    assert sample(cases, None) == cases
    assert len(sample(cases, 10, together=True)) == 10, "whatever their names say they are"


def test_paths_as_find_prints_them_and_originals_of_another_source(tmp_path: Path) -> None:
    place(tmp_path, "a.mp4", "b.mp4")
    lines = ("path,label,source,original,split", "./a.mp4,real,x,,heldout", "./b.mp4,fake,y,./a.mp4,heldout")
    real, fake = read_cases(write(tmp_path / "set.csv", *lines))
    assert (real.name, real.split, fake.original) == ("a.mp4", "heldout", "a.mp4")
    assert real.group == fake.group


def test_a_plus_in_a_fakes_name_is_no_group_of_its_own(tmp_path: Path) -> None:
    place(tmp_path, *(f"{folder}{n}.mp4" for n in range(2) for folder in ("real/", "fake/y+")))
    lines = (f"real/{n}.mp4,real,s,\nfake/y+{n}.mp4,fake,s,real/{n}.mp4" for n in range(2))
    groups = {found.name: found.group for found in read_cases(write(tmp_path / "m.csv", "path,label,source,original", *lines))}
    assert groups["real/0.mp4"] == groups["fake/y+0.mp4"] != groups["real/1.mp4"] == groups["fake/y+1.mp4"]
