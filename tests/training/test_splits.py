"""The committed split: nobody stands on both sides, and it is what the manifest gives."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import pytest

from training.splits import LEFT_OUT, Item, components, held_out_groups, ids_of, make_split, read_sides, read_split
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


def test_held_out_groups_take_a_share_of_every_stratum() -> None:
    strata = {f"a{n}": "a" for n in range(10)} | {"b0": "b"}
    chosen = held_out_groups(strata, 0.4)
    assert len([group for group in chosen if strata[group] == "a"]) == 4
    assert "b0" in chosen


def test_an_unknown_split_is_refused() -> None:
    with pytest.raises(ConfigError, match="split 'test'"):
        Item(path="x", label="real", source="lfw", manipulation="", group="g", split="test")


def test_paths_of_a_split_are_plain(tmp_path: Path) -> None:
    path = tmp_path / "split.csv"
    path.write_text("path,split\n./real/a.mp4,train\nx/../b.mp4 ,heldout\n")
    assert read_sides(path) == {"real/a.mp4": "train", "b.mp4": "heldout"}
