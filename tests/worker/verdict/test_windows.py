"""How often a long track's worst window sticks out: made videos, looked at as a scan does, in two passes, then the windows.

``python -m tests.worker.verdict.test_windows`` prints the table of docs/decisions/0006-verdict.md.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import pytest

from training.longtracks import Layout, look_through
from worker.verdict.aggregate import Windows, track_evidence

Floats = npt.NDArray[np.float64]
Votes = Callable[[Floats], Floats]
LONG_S = 1200.0
RISE = 4.0
"""Of a swap over its host, in logits."""
STANDS_OUT = 3.4
"""Logits gained: what lifts the middle one of the held-out real clips to the threshold of checkpoint 2.1."""
LEVELS: dict[str, Callable[[np.random.Generator, int], Floats]] = {
    "steady": lambda rng, n: np.zeros(n),
    "scenes, 0.3": lambda rng, n: 0.3 * rng.normal(size=n),
    "scenes, 0.6": lambda rng, n: 0.6 * rng.normal(size=n),
    "scenes, 1.0": lambda rng, n: rng.normal(size=n),
    "heavy tails, 0.6": lambda rng, n: 0.6 * rng.standard_t(3, size=n) / np.sqrt(3),
    "two levels, 1.0": lambda rng, n: np.sign(rng.random(n) - 0.5),
}
SWAPS: dict[str, tuple[float, ...]] = {
    "none": (),
    "10 s": (10.0,),
    "30 s": (30.0,),
    "120 s": (120.0,),
    "300 s": (300.0,),
    "3 of 10 s": (10.0,) * 3,
    "6 of 10 s": (10.0,) * 6,
}


def host(rng: np.random.Generator, levels: str, duration_s: float = LONG_S, within: float = 0.7) -> Votes:
    """A real video: scenes of 22 s on average, a level each, and votes that scatter by ``within`` about it."""
    ends = np.cumsum(2.0 + rng.exponential(20.0, 200))
    levels_n = LEVELS[levels](rng, len(ends))
    scatter_n = within * rng.normal(size=round(25 * duration_s) + 1)
    return lambda times_n: levels_n[np.searchsorted(ends, times_n)] + scatter_n[np.floor(25 * times_n).astype(np.int64)]


def swapped(rng: np.random.Generator, votes: Votes, lengths_s: Sequence[float], duration_s: float = LONG_S) -> Votes:
    """With swaps of these lengths, at places that do not meet."""
    if not lengths_s:
        return votes
    grid_n = np.arange(10.0, duration_s - max(lengths_s) - 10.0, max(lengths_s) + 15.0)
    starts = rng.choice(grid_n, len(lengths_s), replace=False)

    def with_swaps(times_n: Floats) -> Floats:
        x_n = votes(times_n).copy()
        for start_s, length_s in zip(starts, lengths_s, strict=True):
            x_n[(times_n >= start_s) & (times_n < start_s + length_s)] += RISE
        return x_n

    return with_swaps


def gain(votes: Votes, duration_s: float = LONG_S, windows: Windows | None = None) -> float:
    """Logits by which the worst window lifts the track."""
    found = look_through(votes, Layout(duration_s=duration_s), windows or Windows())
    return found.logit - found.whole


def wandering(rng: np.random.Generator, videos: int, duration_s: float, fps: float) -> tuple[Floats, Floats]:
    """Times [n] and votes [videos, n] of real speakers who are looked at evenly: levels that scatter by 0.7 and wander in 4 s,
    and votes that scatter by 0.5 about them."""
    times_n = np.arange(0.0, duration_s, 1.0 / fps)
    covariance_nn = 0.49 * np.exp(-np.abs(times_n[:, None] - times_n) / 4.0)
    levels_n = rng.normal(size=(videos, len(times_n))) @ np.linalg.cholesky(covariance_nn).T
    return times_n, levels_n + 0.5 * rng.normal(size=levels_n.shape)


def share(levels: str, swaps: str, videos: int, duration_s: float = LONG_S) -> float:
    """Of so many videos, how many stand out."""
    rng = np.random.default_rng(0)
    made = (swapped(rng, host(rng, levels, duration_s), SWAPS[swaps], duration_s) for _ in range(videos))
    return float(np.mean([gain(votes, duration_s) > STANDS_OUT for votes in made]))


@pytest.mark.parametrize("levels", LEVELS)
def test_real_videos_of_20_minutes_seldom_stand_out(levels: str) -> None:
    """But for heavy tails: the docs say so."""
    assert share(levels, "none", 40) <= (0.25 if levels.startswith("heavy") else 0.1)


@pytest.mark.parametrize(("levels", "most"), [("steady", 0.0), ("scenes, 0.6", 0.07), ("scenes, 1.0", 0.18)])
def test_of_videos_of_a_minute_few_stand_out_but_for_a_swap(levels: str, most: float) -> None:
    """They have two or three scenes, which often lie close together by chance."""
    assert share(levels, "none", 100, 60.0) <= most
    assert share(levels, "10 s", 100, 60.0) >= 0.9


def test_a_video_stands_out_no_more_often_by_being_looked_at_more_often() -> None:
    """Six votes of a moment are alike, and at four a second each second and a half would be a window."""
    times_n, votes = wandering(np.random.default_rng(0), 100, 120.0, 4.0)
    shares = {}
    for step in (4, 2, 1):
        found = [track_evidence(times_n[::step], votes_n[::step], windows=Windows()) for votes_n in votes]
        shares[step] = np.mean([one.logit - one.whole > STANDS_OUT for one in found])
    assert shares[1] <= 0.25
    assert max(shares[1], shares[2]) <= shares[4]


def test_a_few_high_bins_say_nothing_of_how_far_others_come() -> None:
    """Videos of less than five minutes are judged by the noise alone: by a tail of two or three bins more of them stood out."""
    rng = np.random.default_rng(3)
    for duration_s, counts in ((240.0, False), (LONG_S, True)):
        made = [swapped(rng, host(rng, "two levels, 1.0", duration_s), (10.0,), duration_s) for _ in range(20)]
        differ = [gain(votes, duration_s) != gain(votes, duration_s, Windows(tail_bins=10**6)) for votes in made]
        assert any(differ) == counts


@pytest.mark.parametrize("levels", ["steady", "scenes, 0.3", "scenes, 0.6"])
@pytest.mark.parametrize("swaps", [swaps for swaps in SWAPS if swaps != "none"])
def test_swaps_stand_out_however_long_and_however_many(levels: str, swaps: str) -> None:
    assert share(levels, swaps, 15) >= 0.9


def test_a_loop_that_beats_with_the_sampling_hides_no_swap() -> None:
    """Ten seconds over and over, every second look (5 s) at its better half: two levels and nothing between."""
    scatter_n = 0.05 * np.random.default_rng(2).normal(size=round(25 * LONG_S) + 1)

    def loop(times_n: Floats) -> Floats:
        return np.where(times_n % 10 < 5, 3.7, -1.2) + scatter_n[np.floor(25 * times_n).astype(np.int64)]

    assert gain(loop) == 0.0
    assert gain(lambda times_n: np.where((times_n >= 600) & (times_n < 610), 5.1, loop(times_n))) > STANDS_OUT


def main() -> None:
    print("| votes of the host | minutes | " + " | ".join(SWAPS) + " |\n" + "|---" * (len(SWAPS) + 2) + "|")
    for duration_s in (60.0, 150.0, 300.0, 600.0, LONG_S):
        for levels in LEVELS if duration_s == LONG_S else ("scenes, 0.6", "scenes, 1.0"):
            fit = [name for name, swaps in SWAPS.items() if sum(swaps) <= duration_s / 4 and len(swaps) < duration_s / 50]
            found = [f"{share(levels, swaps, 300, duration_s):.2f}" if swaps in fit else "" for swaps in SWAPS]
            print(f"| {levels} | {duration_s / 60:g} | " + " | ".join(found) + " |", flush=True)


if __name__ == "__main__":
    main()
