"""The calibration's formula, where it holds, and what stands in for it elsewhere."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.types import MediaKind, Strategy
from worker.verdict.calibrate import MOST_TRACKS, Calibration, choose, log_odds_of

DEFAULT = (0.25, 0.75)


def calibration(**changes: object) -> Calibration:
    values = {
        "kind": MediaKind.VIDEO,
        "rule": "mean_logit",
        "strategies": frozenset({Strategy.AUTO}),
        "frames": (16, 512),
        "a": 0.8,
        "b": 0.3,
        "c_tracks": 0.5,
        "c_windows": 0.2,
    }
    return Calibration(**(values | changes))  # type: ignore[arg-type]


@given(x=st.floats(-30, 30), rise=st.floats(0, 5), tracks=st.integers(1, 50), windows=st.integers(1, 500))
def test_p_rises_with_the_logit_and_falls_with_chances(x: float, rise: float, tracks: int, windows: int) -> None:
    entry = calibration()
    p = entry.apply(x, tracks, windows)
    assert 0.0 <= p <= 1.0
    assert entry.apply(x + rise, tracks, windows) >= p
    assert entry.apply(x, tracks + 1, windows) <= p
    assert entry.apply(x, tracks, windows + 1) <= p


@pytest.mark.parametrize("band", [(0.3, 0.7), (0.2, 0.4), (0.6, 0.9)])
def test_more_tracks_than_it_was_fitted_on_can_take_fake_away_but_give_no_real(band: tuple[float, float]) -> None:
    entry = calibration(t_real=band[0], t_fake=band[1], c_tracks=0.9)
    high, low = entry.logit_at(0.99), entry.logit_at(0.5 * band[0])
    assert entry.apply(high, MOST_TRACKS) > entry.apply(high, 10) > entry.apply(high, 10**9) == pytest.approx(sum(band) / 2)
    assert entry.apply(low, 10**9) == entry.apply(low, MOST_TRACKS) < entry.apply(low, MOST_TRACKS - 1) < band[0]


@given(logits=st.lists(st.floats(-30, 30), min_size=1, max_size=40), rise=st.floats(0, 5), other=st.floats(-30, 30))
def test_tracks_that_are_high_together_are_no_chance(logits: list[float], rise: float, other: float) -> None:
    entry = calibration()
    odds = entry.together(logits)
    assert odds >= entry.log_odds(max(logits), len(logits))
    assert odds >= entry.log_odds(min(logits))
    assert odds <= entry.log_odds(max(logits))
    assert entry.together([logits[0] + rise, *logits[1:]]) >= odds
    assert entry.together([*logits, other]) <= max(odds, entry.log_odds(other)) + 1e-9


@given(p=st.floats(0.01, 0.99), tracks=st.integers(1, 9), windows=st.integers(1, 99))
def test_logit_at_inverts_apply(p: float, tracks: int, windows: int) -> None:
    entry = calibration()
    assert entry.apply(entry.logit_at(p, tracks, windows), tracks, windows) == pytest.approx(p)


@pytest.mark.parametrize(
    "changes",
    [
        {"a": 0.0},
        {"a": float("nan")},
        {"b": float("inf")},
        {"c_tracks": -0.1},
        {"c_windows": -1.0},
        {"t_real": 0.9},
        {"t_real": -0.1},
        {"t_fake": 1.1},
        {"frames": (9, 1)},
        {"frames": (-1, 1)},
        {"quality_slope": -1.0},
        {"quality_slope": float("inf")},
        {"quality_full": 1.5},
    ],
)
def test_impossible_calibrations_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"calibration|raise p|thresholds|frame range|surer"):
        calibration(**changes)


def test_holds_for_what_it_was_fitted_on_only() -> None:
    entry = calibration()
    for requested, holds in ((15, False), (16, True), (512, True), (513, False)):
        assert entry.holds_for(MediaKind.VIDEO, "mean_logit", Strategy.AUTO, requested) is holds
    assert not entry.holds_for(MediaKind.VIDEO, "mean_logit", Strategy.FPS, 32)
    assert not entry.holds_for(MediaKind.VIDEO, "weighted", Strategy.AUTO, 32)
    assert not entry.holds_for(MediaKind.PICTURE, "mean_logit", Strategy.AUTO, 32)
    assert calibration(kind=MediaKind.PICTURE).holds_for(MediaKind.PICTURE, "mean_logit", Strategy.FPS, 1)


def test_the_nearest_stands_in_and_says_so() -> None:
    entries = (calibration(kind=MediaKind.PICTURE, a=2.0), calibration(frames=(16, 64)), calibration(frames=(65, 512), a=3.0))
    assert choose(entries, MediaKind.VIDEO, "mean_logit", Strategy.AUTO, 70, DEFAULT) == (entries[2], True)
    assert choose(entries, MediaKind.VIDEO, "mean_logit", Strategy.AUTO, 8, DEFAULT) == (entries[1], False)
    assert choose(entries, MediaKind.VIDEO, "mean_logit", Strategy.KEYFRAMES, 600, DEFAULT) == (entries[2], False)
    assert choose(entries, MediaKind.PICTURE, "confident", Strategy.AUTO, 1, DEFAULT) == (entries[0], False)


@pytest.mark.parametrize(
    ("farther", "nearest"),
    [
        ({"kind": MediaKind.PICTURE}, {"rule": "weighted", "strategies": frozenset(), "frames": (400, 512)}),
        ({"rule": "weighted"}, {"strategies": frozenset(), "frames": (400, 512)}),
        ({"strategies": frozenset()}, {"frames": (400, 512)}),
        ({"frames": (1, 23)}, {"frames": (40, 512)}),
    ],
    ids=["kind", "rule", "strategy", "frames"],
)
def test_what_makes_one_nearer_than_another(farther: dict[str, object], nearest: dict[str, object]) -> None:
    """Of two as near the earlier."""
    entries = (calibration(**farther), calibration(**nearest), calibration(**nearest, a=3.0))
    assert choose(entries, MediaKind.VIDEO, "mean_logit", Strategy.AUTO, 32, DEFAULT) == (entries[1], False)


def test_without_any_the_logit_is_taken_at_its_word() -> None:
    entry, holds = choose((), MediaKind.VIDEO, "mean_logit", Strategy.AUTO, 32, DEFAULT)
    assert not holds
    assert (entry.t_real, entry.t_fake) == DEFAULT
    assert entry.apply(0.0, 5, 100) == 0.5


POOR = {"quality_full": 0.8, "quality_slope": 4.0}


@given(
    x=st.floats(-30, 30),
    rise=st.floats(0, 5),
    quality=st.floats(0, 1),
    band=st.tuples(st.floats(0.01, 0.99), st.floats(0.01, 0.99)).map(sorted),
)
def test_poor_faces_pull_to_uncertain_never_past_it(x: float, rise: float, quality: float, band: list[float]) -> None:
    entry = calibration(**POOR, t_real=band[0], t_fake=band[1])
    full, poor = entry.apply(x), entry.apply(x, quality=quality)
    assert entry.apply(x + rise, quality=quality) >= poor
    if full < entry.t_real:
        assert full - 1e-12 <= poor < entry.t_fake or band[0] == band[1]
    if full > entry.t_fake:
        assert full + 1e-12 >= poor > entry.t_real or band[0] == band[1]


@pytest.mark.parametrize("band", [(0.3, 0.7), (0.2, 0.4), (0.6, 0.9)])
def test_useless_faces_are_uncertain_wherever_the_band_lies(band: tuple[float, float]) -> None:
    entry = calibration(quality_full=0.8, quality_slope=20.0, t_real=band[0], t_fake=band[1])
    for x in (-10.0, 10.0):
        assert band[0] < entry.apply(x, quality=0.0) < band[1]
        assert entry.apply(x, quality=0.8) == calibration(t_real=band[0], t_fake=band[1]).apply(x)


@given(p=st.floats(0.01, 0.99), quality=st.floats(0.3, 1))
def test_logit_at_inverts_apply_for_poor_faces_too(p: float, quality: float) -> None:
    entry = calibration(**POOR)
    assert entry.apply(entry.logit_at(p, 2, 3, quality), 2, 3, quality) == pytest.approx(p)


def test_log_odds_are_finite_at_the_ends() -> None:
    assert log_odds_of(0.0) == pytest.approx(-log_odds_of(1.0))
    assert log_odds_of(0.5) == 0.0
