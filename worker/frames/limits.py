"""What one file may cost at most; checked by the probe before anything is decoded."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Hard limits of the probe. Pixels are those of one frame (coded and as shown), packets those of one way
    through the file. An animation's pixels are those of all its frames: each is drawn over the ones before."""

    max_pixels: int = 36_000_000
    max_picture_pixels: int = 64_000_000
    max_animation_pixels: int = 20_000_000_000
    max_duration_s: float = 4 * 3600.0
    max_packets: int = 2_000_000
    max_streams: int = 32
    max_bytes: int = 64 * 1024**3

    def __post_init__(self) -> None:
        for name in self.__slots__:
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} {getattr(self, name)} must be positive")
