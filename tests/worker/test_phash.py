"""Perceptual hashes as text: their distances, their limits, and the bands that find them."""

from __future__ import annotations

import random

import pytest

from worker.phash import NEAR, NEAR_OF_FEW, bands, distance, hashes_of, limit

ONE = 0x0123456789ABCDEF


def test_a_text_has_a_hash_for_each_place_but_flat_ones() -> None:
    assert hashes_of("v1:0123456789abcdef.-.ffffffffffffffff") == (ONE, (1 << 64) - 1)
    assert hashes_of("v1:-.-") == ()


@pytest.mark.parametrize(
    "text", ["", "v2:0123456789abcdef", "v1:", "v1:0123", "v1:0123456789ABCDEF", f"v1:{ONE:016x}0", f"v1:{ONE:016x}\n"]
)
def test_what_another_version_wrote_says_nothing(text: str) -> None:
    assert hashes_of(text) == ()


def test_a_text_of_more_places_than_any_scan_writes_says_nothing() -> None:
    assert hashes_of("v1:" + ".".join([f"{ONE:016x}"] * 32)) == (ONE,) * 32
    assert hashes_of("v1:" + ".".join([f"{ONE:016x}"] * 33)) == ()


def test_a_distance_is_to_the_nearest_of_the_others() -> None:
    clip = (0, 0xFF, 0xFFFF)
    assert distance(clip, clip) == 0
    assert distance(clip, (0xFFFF, 0, 0xFF)) == 0, "the same pictures elsewhere in the clip"
    assert distance((0,), (0b111,)) == 3
    assert distance((0, 0), (0, 0xF)) == distance((0, 0xF), (0, 0)) == 1
    assert distance((0, 0), (0b111,)) == distance((0b111,), (0, 0)) == 3, "however many each has"
    assert distance((), clip) == distance(clip, ()) == float("inf")


def test_few_pictures_must_be_nearer_than_many() -> None:
    assert limit((0, 1, 2), (0, 1, 2)) == NEAR
    assert limit((0,), (0, 1, 2)) == limit((0, 1, 2), (0, 1)) == NEAR_OF_FEW


def test_hashes_of_three_differing_bits_share_a_band() -> None:
    draw = random.Random(7)
    for _ in range(200):
        one = draw.getrandbits(64)
        other = one
        for bit in draw.sample(range(64), 3):
            other ^= 1 << bit
        assert bands((one,)) & bands((other,))
    assert len(bands((ONE,))) == 4
    assert bands((ONE, ONE)) == bands((ONE,))
    assert not bands((ONE,)) & bands((ONE ^ 0x0001_0001_0001_0001,))
    assert not bands((0x1111_2222_3333_4444,)) & bands((0x4444_3333_2222_1111,)), "quarters at other places are others"
