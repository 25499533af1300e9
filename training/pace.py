"""How fast a run goes: crops a second, and how much of its time the network waits for those that make them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(kw_only=True)
class Pace:
    """Sums since the last line of the log."""

    crops: int = 0
    seconds: float = 0.0
    waited_s: float = 0.0
    """Of the seconds."""

    def add(self, *, crops: int, seconds: float, waited_s: float) -> None:
        """One step; ``waited_s`` of its ``seconds`` went by before its crops were there."""
        self.crops += crops
        self.seconds += seconds
        self.waited_s += waited_s

    def told(self) -> str:
        """In words, the speed to three digits; the sums begin anew."""
        seconds = max(self.seconds, 1e-9)
        speed = float(f"{self.crops / seconds:.3g}")
        words = f"{speed:g} crops/s, {self.waited_s / seconds:.0%} of the time waiting for them"
        self.crops, self.seconds, self.waited_s = 0, 0.0, 0.0
        return words
