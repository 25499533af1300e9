from __future__ import annotations

from typing import Any

import pytest

from worker.source.variants import Variant, by_preference


def variant(name: str, **known: Any) -> Variant[str]:
    return Variant(what=name, **known)


def order(*variants: Variant[str], **asked: Any) -> str:
    limits: dict[str, Any] = {"max_side_px": 720, "max_bytes": 1 << 30, **asked}
    return " ".join(one.what for one in by_preference(variants, **limits))


@pytest.mark.parametrize(
    ("variants", "expected"),
    [
        ([variant("a", height_px=360), variant("b", height_px=720), variant("c", height_px=1080)], "b a c"),
        ([variant("a", width_px=720, height_px=1280), variant("b", width_px=640, height_px=360)], "a b"),
        ([variant("a", height_px=2160), variant("b", height_px=1080)], "b a"),
        ([variant("a", height_px=720, bandwidth_bps=1e6), variant("b", height_px=720, bandwidth_bps=2e6)], "b a"),
        ([variant("a", bandwidth_bps=3e5), variant("b", bandwidth_bps=3e6), variant("c", bandwidth_bps=6e6)], "b a c"),
        ([variant("a", height_px=720, size_bytes=2 << 30), variant("b", height_px=360, size_bytes=1 << 20)], "b a"),
        ([variant("a"), variant("b", height_px=144)], "b a"),
        ([], ""),
    ],
)
def test_the_best_that_is_not_too_large_comes_first(variants: list[Variant[str]], expected: str) -> None:
    assert order(*variants) == expected


def test_a_rate_over_the_whole_length_may_be_too_much() -> None:
    pair = (variant("a", height_px=720, bandwidth_bps=4e6), variant("b", height_px=360, bandwidth_bps=1e6))
    assert order(*pair) == "a b"
    assert order(*pair, duration_s=3600) == "b a"
