"""What a search can be told, and the recipes that its values make."""

from __future__ import annotations

from pathlib import Path

import pytest

from training.tuning.settings import Search, read_search
from worker.errors import ConfigError

RECIPE = {"stages": [{"until": 1, "size": 32, "pairs": 2}], "minutes": 30, "lr": 1e-3}
LR = {"lr": {"low": 1e-5, "high": 1e-2, "log": True}}


def test_the_shipped_search_is_valid_and_keeps_the_recipes_length_for_the_best() -> None:
    search = read_search(Path(__file__).parents[3] / "configs" / "train" / "tune.yaml")
    values = {name: over.ends[1] for name, over in search.space.items()}
    trial, best = search.fit(values), search.fit(values, is_trial=False)
    assert (trial.steps, trial.validate_every_steps) == (150, 50)
    assert (best.steps, best.minutes) == (None, 75)
    assert best.lr == trial.lr == 6e-4


def test_searched_shares_of_pairs_share_in_what_the_others_leave() -> None:
    space = {f"mixture.{kind}": {"low": 0, "high": 1} for kind in ("aligned", "blend")}
    told = {"recipe": RECIPE, "steps": 4, "space": space | {"mixture.donor": {"low": 0, "high": 0.5}}}
    with pytest.raises(ValueError, match="can all be 0"):
        Search.model_validate(told)
    told["space"]["mixture.aligned"] = {"low": 0.1, "high": 1}  # type: ignore[index]
    mixture = Search.model_validate(told).fit({"mixture.aligned": 0.3, "mixture.blend": 0.9, "mixture.donor": 0.4}).mixture
    assert (mixture.composite, mixture.synthetic, mixture.donor) == (0.05, 0.13, 0.4)
    assert mixture.aligned == pytest.approx(0.82 / 4)
    assert mixture.blend == pytest.approx(0.82 * 3 / 4)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{recipe: {stages: []}, steps: 4, space: {lr: {low: 1, high: 2}}}", "stages must rise"),
        ("{recipe: RECIPE, steps: 4, space: {speed: {low: 1, high: 2}}}", "speed"),
        ("{recipe: RECIPE, steps: 4, space: {lr.peak: {low: 1, high: 2}}}", "lr.peak"),
        ("{recipe: RECIPE, steps: 4, space: {lr: {low: 2, high: 1}}}", "low must be below high"),
        ("{recipe: absent.yaml, steps: 4, space: {lr: {low: 1, high: 2}}}", r"absent\.yaml"),
        ("{recipe: RECIPE, steps: 4, space: {mixture.blend: {low: 0.1, high: 1}}}", r"mixture\.blend .* name a second one"),
        ("{recipe: RECIPE, steps: 4, space: {mixture.donor: {low: 0.5, high: 1.5}}}", "must not exceed 1"),
    ],
)
def test_a_search_that_cannot_run_is_refused_before_it_starts(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "search.yaml"
    path.write_text(text.replace("RECIPE", "{stages: [{until: 1, size: 32, pairs: 2}]}"))
    with pytest.raises(ConfigError, match=told):
        read_search(path)
