"""Leaks by name, by bytes and by looks; and nothing told where there is none."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.training.conftest import picture
from training.leaks import by_content, by_looks, by_name, dhash, near_pairs, thumbnail
from training.splits import Item
from worker.types import UInt8


def item(path: str, split: str, **other: str) -> Item:
    values = {"label": "real", "source": "s", "manipulation": "", "group": path, **other}
    return Item(path=path, split=split, **values)


def test_a_group_on_two_sides_is_named_with_a_file_of_each() -> None:
    found = by_name([item("a", "train", group="ann"), item("b", "heldout", group="ann"), item("c", "train")])
    assert [str(leak) for leak in found] == ["group ann: heldout b | train a"]


@pytest.mark.parametrize("source", ["s", "another"])
def test_a_fake_apart_from_its_original_is_a_leak(source: str) -> None:
    found = by_name([item("a", "train", target="t"), item("b", "leftout", target="t", label="fake", source=source)])
    assert [leak.kind for leak in found] == ["original"]


def test_one_side_is_no_leak() -> None:
    assert by_name([item("a", "train", group="ann", target="t"), item("b", "train", group="ann", target="t")]) == []


def test_equal_bytes_on_two_sides_or_of_two_labels(tmp_path: Path) -> None:
    for name, data in (("a", b"one"), ("b", b"one"), ("c", b"two"), ("d", b"two"), ("e", b"three")):
        (tmp_path / name).write_bytes(data)
    rows = [item("a", "train"), item("b", "heldout"), item("c", "train"), item("d", "train", label="fake"), item("e", "heldout")]
    found, unread = by_content([*rows, item("gone", "train")], tmp_path)
    assert [(leak.kind, [path for _, path in leak.files]) for leak in found] == [
        ("same bytes", ["b", "a"]),
        ("two labels", ["d", "c"]),
    ]
    assert unread == ["gone"]


def recoded(rgb_HWC: UInt8, quality: int) -> UInt8:
    """Through JPEG, and two pixels smaller."""
    size = rgb_HWC.shape[0] - 2
    small = cv2.resize(rgb_HWC, (size, size), interpolation=cv2.INTER_AREA)
    return np.asarray(
        cv2.imdecode(cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_COLOR), np.uint8
    )


def test_a_recompressed_copy_on_the_other_side_is_found_and_another_picture_is_not() -> None:
    pictures = [picture(1), recoded(picture(1), 60), picture(2)]
    rows = [item("a", "train"), item("b", "heldout"), item("c", "heldout")]
    found = by_looks(rows, np.stack([thumbnail(p) for p in pictures]))
    assert [leak.files for leak in found] == [(("heldout", "b"), ("train", "a"))]


def test_copies_on_one_side_are_no_leak() -> None:
    thumbs = np.stack([thumbnail(picture(1))] * 2)
    assert by_looks([item("a", "train"), item("b", "train")], thumbs) == []


def test_flat_pictures_do_not_stop_the_check() -> None:
    thumbs = np.zeros((3, 32, 32), np.uint8)
    thumbs[0] = thumbnail(picture(3))
    assert len(by_looks([item("a", "train"), item("b", "train"), item("c", "heldout")], thumbs)) == 1


@pytest.mark.parametrize("max_bits", [0, 3, 5])
def test_banded_search_finds_what_comparing_all_finds(max_bits: int) -> None:
    rng = np.random.default_rng(0)
    base = rng.integers(0, 1 << 63, 30, dtype=np.uint64)
    flips = [sum(1 << int(bit) for bit in rng.choice(64, rng.integers(0, 8), replace=False)) for _ in range(90)]
    hashes = np.array([int(base[n % 30]) ^ flip for n, flip in enumerate(flips)], np.uint64)
    sides = [("train", "heldout")[n % 2] if n < 60 else "leftout" for n in range(90)]
    every = [
        (a, b)
        for a, b in combinations(range(90), 2)
        if sides[a] != sides[b] and int(hashes[a] ^ hashes[b]).bit_count() <= max_bits
    ]
    assert near_pairs(hashes, sides, max_bits).tolist() == [list(pair) for pair in every]
    assert every


def test_hash_is_of_gradients_not_of_brightness() -> None:
    thumb = thumbnail(picture(5))
    assert (dhash(thumb) ^ dhash((thumb * 0.7 + 20).astype(np.uint8))).bit_count() <= 3
