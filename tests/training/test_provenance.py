"""What a cache notes down of itself, and what is left of that by a run that was killed."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from training import provenance, terms
from training.prepare import jobs, prepare
from training.provenance import Skipped
from training.splits import COMMITTED, Item, read_split

NAMES = ["a.mp4", 'a "quoted", name.mp4', "two\nlines.mp4", "übung.mp4"]


@pytest.fixture
def media(tmp_path: Path) -> Path:
    root = tmp_path / "media"
    root.mkdir()
    for name in [*NAMES, "next.mp4"]:
        (root / name).write_bytes(b"as it was")
    return root


def test_a_note_of_what_was_cut_that_a_kill_left_at_any_byte_is_read_and_goes_on(media: Path, tmp_path: Path) -> None:
    provenance.note_cut(tmp_path / "whole", provenance.look_at(media, NAMES))
    noted = (tmp_path / "whole" / "about" / "cut.csv").read_bytes()
    looked = {name: provenance.look_at(media, [name]) for name in [*NAMES, "next.mp4"]}
    for name in looked:
        (media / name).write_bytes(b"another one")
    cache, found = tmp_path / "cut", []
    for end in range(len(noted) + 1):
        path = cache / "about" / "cut.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(noted[:end])
        found.append(provenance.changed_files(cache, media))
        provenance.note_cut(cache, looked["next.mp4"])
        assert provenance.changed_files(cache, media) == sorted([*found[-1], "next.mp4"])
    assert {tuple(names) for names in found} == {tuple(sorted(NAMES[:n])) for n in range(len(NAMES) + 1)}
    assert [len(names) for names in found] == sorted(len(names) for names in found)


def test_a_list_of_skipped_files_that_a_kill_left_at_any_byte_is_read_and_goes_on(tmp_path: Path) -> None:
    lines = [Skipped(path=name, code="corrupt", message='no, not\n"media"') for name in NAMES]
    provenance.skip(tmp_path / "whole", lines)
    noted = (tmp_path / "whole" / "about" / "skipped.csv").read_bytes()
    path = tmp_path / "cut" / "about" / "skipped.csv"
    path.parent.mkdir(parents=True)
    for end in range(len(noted) + 1):
        path.write_bytes(noted[:end])
        left = provenance.read_skipped(tmp_path / "cut")
        assert left == lines[: len(left)]
        more = Skipped(path="next.mp4", code="no_face")
        provenance.skip(tmp_path / "cut", [more])
        assert provenance.read_skipped(tmp_path / "cut") == [*left, more]


def test_there_is_no_shard_of_which_the_files_are_not_noted_down(tmp_path: Path) -> None:
    item = Item(path="empty.png", label="real", source="mine", manipulation="", group="mine/empty", split="train")
    Image.new("RGB", (80, 80), "green").save(tmp_path / item.path)
    cache, (job,) = tmp_path / "cache", jobs([item])
    (cache / f"{job.name}.npy").mkdir(parents=True)  # it ends as it begins to write the shard
    with pytest.raises(IsADirectoryError):
        prepare([item], tmp_path, cache, threads=1)
    Image.new("RGB", (81, 81), "red").save(tmp_path / item.path)
    assert provenance.changed_files(cache, tmp_path) == [item.path]


def test_a_file_that_comes_later_is_cut_then_and_no_other_again(tmp_path: Path) -> None:
    items = [
        Item(path=f"{name}.png", label="real", source=name, manipulation="", group=name, split="train")
        for name in ("here", "later", "never")
    ]
    Image.new("RGB", (80, 80), "green").save(tmp_path / "here.png")
    cache = tmp_path / "cache"
    prepare(items, tmp_path, cache, threads=1)
    assert [one.code for one in provenance.read_skipped(cache)] == ["no_face", "source_unreadable", "source_unreadable"]
    before = {path.name: path.stat().st_mtime_ns for path in cache.glob("*.csv")}
    Image.new("RGB", (80, 80), "green").save(tmp_path / "later.png")
    prepare(items, tmp_path, cache, threads=1)
    codes = {one.path: one.code for one in provenance.read_skipped(cache)}
    assert codes == {"here.png": "no_face", "later.png": "no_face", "never.png": "source_unreadable"}
    assert [name for name, at in before.items() if (cache / name).stat().st_mtime_ns != at] == ["later-real-00000.csv"]


def test_a_cache_of_a_committed_split_bears_its_name_and_one_of_another_its_own(tmp_path: Path) -> None:
    same, other = tmp_path / "same", tmp_path / "other"
    for cache, items in ((same, read_split()), (other, read_split()[1:])):
        provenance.begin(cache, provenance.Provenance(root=tmp_path, layout="own", items=tuple(items)))
    assert (provenance.split_of(same), provenance.split_of(other)) == (COMMITTED, provenance.split_file(other))
    assert terms.of_cache(same) == terms.of_cache(other) == (terms.BUNDLED,)
