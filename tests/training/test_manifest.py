"""Manifests: what a line may say, and what is told of one that cannot be used."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from training.manifest import Entry, is_video, read_manifest, write_manifest
from worker.errors import ConfigError
from worker.queue.feedback_export import VIDEO_SUFFIXES


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "manifest.csv"
    path.write_text(text)
    return path


def test_optional_columns_may_be_missing_and_further_ones_are_passed_over(tmp_path: Path) -> None:
    entries = read_manifest(written(tmp_path, "label,path,source,terms\nREAL,real/a.mp4,mine,none\nfake,fake/a.mp4,mine,none\n"))
    assert [(entry.label, entry.family, entry.original) for entry in entries] == [("real", "", ""), ("fake", "", "")]
    assert entries[0].groups == entries[1].groups == ("mine/a",)


def test_a_group_may_be_two_people() -> None:
    entry = Entry(path="x.mp4", label="fake", source="s", group="s/ann+s/bob")
    assert entry.groups == ("s/ann", "s/bob")


def test_files_of_one_name_in_other_folders_stand_alone() -> None:
    one, two = (Entry(path=f"{folder}/1.png", label="real", source="s") for folder in ("a", "b"))
    assert one.groups != two.groups


def test_what_is_written_comes_back(tmp_path: Path) -> None:
    entries = [
        Entry(path="r.mp4", label="real", source="s", group="g", part="train"),
        Entry(path="f.mp4", label="fake", source="s", group="g", family="synthetic", manipulation="x", original="r.mp4"),
    ]
    out = io.StringIO()
    write_manifest(entries, out)
    assert read_manifest(written(tmp_path, out.getvalue())) == entries


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("path,label\na,real\n", "no column source"),
        ("path,label,source\na,genuine,s\n", "line 2: a: label 'genuine'"),
        ("path,label,source,family\na,fake,s,real\n", "family 'real' of a fake"),
        ("path,label,source,family\na,real,s,synthetic\n", "family 'synthetic' of a real"),
        ("path,label,source,part\na,real,s,dev\n", "part 'dev'"),
        ("path,label,source\na,real,s\na,real,s\n", "more than once: a"),
        ("path,label,source\n", "lists no file"),
        ("path,label,source\n,real,s\n", "must not be empty"),
        ("path,label,source\na,real,\n", "line 2: a: path and source must not be empty"),
    ],
)
def test_mistakes_name_file_and_line(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        read_manifest(written(tmp_path, text))


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    path.write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(ConfigError, match="cannot be read as a manifest"):
        read_manifest(path)


def test_what_cameras_and_the_export_of_feedback_call_a_video_is_one() -> None:
    suffixes = (*VIDEO_SUFFIXES.values(), ".MTS", ".m2ts", ".3g2", ".mxf")
    assert [suffix for suffix in suffixes if not is_video(f"clip{suffix}")] == []


def test_one_file_by_two_names_is_listed_twice(tmp_path: Path) -> None:
    listed = tmp_path / "list.csv"
    listed.write_text("path,label,source,original\nreal/a.mp4,real,s,\nfake/x/../a.mp4,fake,s,./real/a.mp4\n")
    assert [(entry.path, entry.original) for entry in read_manifest(listed)] == [("real/a.mp4", ""), ("fake/a.mp4", "real/a.mp4")]
    listed.write_text("path,label,source\na.mp4,real,s\nx/../a.mp4,real,s\n")
    with pytest.raises(ConfigError, match="more than once"):
        read_manifest(listed)


def test_a_path_may_be_absolute_in_one_place_and_relative_in_another(tmp_path: Path) -> None:
    head, whole = "path,label,source,original\n", tmp_path / "real" / "a.mp4"
    lines = f"real/a.mp4,real,s,\nfake/b.mp4,fake,s,{whole}\nc.mp4,fake,s,{tmp_path}/gone\n"
    entries = read_manifest(written(tmp_path, head + lines))
    assert [entry.original for entry in entries] == ["", "real/a.mp4", f"{tmp_path}/gone"]
    with pytest.raises(ConfigError, match=f"more than once: real/a.mp4 = {whole}"):
        read_manifest(written(tmp_path, f"{head}real/a.mp4,real,s,\n{whole},real,s,\n"))
    assert len(read_manifest(tmp_path / "manifest.csv", tmp_path / "elsewhere")) == 2
