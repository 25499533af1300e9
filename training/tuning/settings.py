"""What a search can be told: a recipe, a budget for each trial, and the ranges of what is searched; unknown keys are refused."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from training.configuration import read_mapping
from training.settings import KINDS, Fit
from worker.errors import ConfigError

Value = float | int | str | bool | None


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Range(_Strict):
    """From ``low`` to ``high``, both included; ``log``: evenly in the logarithm; ``step``: only multiples of it above ``low``."""

    low: float
    high: float
    log: bool = False
    step: float | None = Field(default=None, gt=0)
    integer: bool = False

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if not self.low < self.high or (self.log and (self.low <= 0 or self.step is not None)):
            raise ValueError("low must be below high; with log above 0, and without step")
        return self

    @property
    def ends(self) -> tuple[Value, Value]:
        return (int(self.low), int(self.high)) if self.integer else (self.low, self.high)


class Choices(_Strict):
    """One of these."""

    choices: tuple[Value, ...] = Field(min_length=2)

    @property
    def ends(self) -> tuple[Value, Value]:
        return self.choices[0], self.choices[-1]


class Pruning(_Strict):
    """Which trials end early, by their validations on the way. ``median``: worse than the median of those before it at the same
    step, from ``startup_trials`` trials on; ``hyperband``: successive halving in several brackets."""

    kind: Literal["median", "hyperband", "none"] = "median"
    startup_trials: int = Field(default=4, ge=0)


class Search(_Strict):
    """One study. ``steps``: the budget of a trial, the same for all; ``validations`` of them on the way to its end."""

    recipe: dict[str, Any]
    """A recipe of ``training.settings.Fit``, or in the YAML the name of its file."""
    steps: int = Field(ge=2)
    validations: int = Field(default=4, ge=1)
    trials: int = Field(default=20, ge=1)
    seed: int = Field(default=1, ge=0)
    sources: tuple[str, ...] = ()
    """The objective is the mean AUC over these, of files that the trial did not train on; empty: all that have both labels."""
    pruning: Pruning = Pruning()
    space: dict[str, Range | Choices] = Field(min_length=1)
    """Dotted names of ``Fit``'s fields. Shares of kinds of pairs (``mixture.blend``) are weights: those that are searched, two or
    more, share in what the others leave."""

    @model_validator(mode="after")
    def _usable(self) -> Self:
        shares = [name for name in self.space if name in {f"mixture.{kind}" for kind in KINDS}]
        if len(shares) == 1:
            raise ValueError(f"space: {shares[0]} takes what the other kinds leave: name a second one, or it cannot change")
        for end in (0, 1):
            self.fit({name: found.ends[end] for name, found in self.space.items()})
        return self

    def fit(self, values: Mapping[str, Value], *, is_trial: bool = True) -> Fit:
        """The recipe with these values; within a trial's budget, or its own. Raises ValueError where they make no recipe."""
        told = Fit.model_validate(self.recipe).model_dump()
        for name, value in values.items():
            _put(told, name, value)
        _share(told["mixture"], [name.removeprefix("mixture.") for name in values if name.startswith("mixture.")])
        if is_trial:
            told |= {"steps": self.steps, "validate_every_steps": max(1, self.steps // self.validations)}
        return Fit.model_validate(told)


def _put(told: dict[str, Any], dotted: str, value: Value) -> None:
    *parents, last = dotted.split(".")
    for name in parents:
        told = told.get(name, {})
        if not isinstance(told, dict):
            raise ValueError(f"space: {dotted}: {name} has no fields")
    told[last] = value


def _share(mixture: dict[str, Any], searched: list[str]) -> None:
    """Scale the kinds that are searched so that all kinds add up to 1."""
    drawn = [kind for kind in KINDS if kind in searched]
    total = sum(mixture[kind] for kind in drawn)
    if drawn and total <= 0:
        raise ValueError("space: the shares of the mixture that are searched can all be 0")
    left = 1 - sum(mixture[kind] for kind in KINDS if kind not in drawn)
    for kind in drawn:
        mixture[kind] *= left / total


def read_search(path: Path) -> Search:
    """Raises ConfigError, naming the file and the keys, where it cannot be used. The recipe's file is looked for beside it."""
    told = deepcopy(read_mapping(path))
    if isinstance(told.get("recipe"), str):
        told["recipe"] = read_mapping(path.parent / told["recipe"])
    try:
        return Search.model_validate(told)
    except ValidationError as exc:
        raise ConfigError(f"{path}: {exc}") from exc
