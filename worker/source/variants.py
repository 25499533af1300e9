"""Which of several renditions of one video is fetched: the best that is no larger than a scan can use."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

T = TypeVar("T")

_UNKNOWN_SIDE_BPS: Final = ((400_000, 240), (900_000, 360), (1_800_000, 480), (4_000_000, 720), (8_000_000, 1080))
"""What a bit rate usually is the rate of, for renditions that do not say their size."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant(Generic[T]):
    """One rendition. ``what``: how it is to be had; what is not known of it is None."""

    what: T
    width_px: int | None = None
    height_px: int | None = None
    bandwidth_bps: float | None = None
    size_bytes: int | None = None

    @property
    def side_px(self) -> int:
        """The shorter side, so that upright video counts as it would lying down; guessed from the rate where not known."""
        sides = [side for side in (self.width_px, self.height_px) if side]
        if sides:
            return min(sides)
        if not self.bandwidth_bps:
            return 0
        return next((side for bps, side in _UNKNOWN_SIDE_BPS if self.bandwidth_bps <= bps), 2160)

    def bytes_for(self, duration_s: float | None) -> float | None:
        """Size as it was said, or as its rate lets expect."""
        if self.size_bytes is not None:
            return self.size_bytes
        if self.bandwidth_bps is None or duration_s is None:
            return None
        return self.bandwidth_bps / 8 * duration_s


def by_preference(
    variants: Iterable[Variant[T]], *, max_side_px: int, max_bytes: int, duration_s: float | None = None
) -> list[Variant[T]]:
    """The best first: the largest picture whose shorter side is at most ``max_side_px``, of these the highest rate; then larger
    pictures, the smallest first. What would not fit into ``max_bytes`` comes last."""

    def rank(variant: Variant[T]) -> tuple[bool, bool, int, float]:
        expected = variant.bytes_for(duration_s)
        too_long = expected is not None and expected > max_bytes
        is_larger = variant.side_px > max_side_px
        rate = variant.bandwidth_bps or 0.0
        if too_long or is_larger:
            return too_long, is_larger, variant.side_px, rate
        return too_long, is_larger, -variant.side_px, -rate

    return sorted(variants, key=rank)
