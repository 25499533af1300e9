"""Reads what ``veriframe train`` is given: YAML files, later ones over earlier ones, that make one of four kinds of run.

``stages`` with ``sets``: the paper's pipeline (each stage a mapping or a YAML file beside it); ``backbones``: the comparison of
networks; ``folds``: a leave-one-source-out study (its ``stem`` a mapping or such a file); else one recipe
(``training.settings.Fit``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from training.paper.settings import Baselines, Pipeline
from training.settings import STEM, Fit, Study
from worker.errors import ConfigError
from worker.settings import read_yaml

Configuration = Fit | Pipeline | Baselines | Study


def read_configuration(paths: Sequence[Path]) -> Configuration:
    """Raises ConfigError, naming the files and the keys, where they cannot be used."""
    merged: dict[str, Any] = {}
    for path in paths:
        merged = over(merged, with_files(read_mapping(path), path.parent))
    told_by: dict[str, type[Configuration]] = {"backbones": Baselines, "sets": Pipeline, "folds": Study}
    kind = next((kind for key, kind in told_by.items() if key in merged), Fit)
    try:
        return kind.model_validate(overridden(merged, kind))
    except ValidationError as exc:
        raise ConfigError(f"{', '.join(map(str, paths))}: {exc}") from exc


def read_mapping(path: Path) -> dict[str, Any]:
    try:
        found = read_yaml(path.read_text("utf-8"))
    except (OSError, ValueError) as exc:
        raise ConfigError(f"{path}: {exc}") from exc
    if not isinstance(found, dict):
        raise ConfigError(f"{path}: not a mapping of settings")
    return found


def with_files(told: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Stages, and the stem of a study, that are named by their file, read from ``folder``."""

    def read(part: Any) -> Any:
        return read_mapping(folder / part) if isinstance(part, str) else part

    stages = told.get("stages")
    found = told | ({"stages": [read(stage) for stage in stages]} if isinstance(stages, list) else {})
    return found | ({STEM: read(told[STEM])} if STEM in told else {})


def overridden(told: Mapping[str, Any], kind: type[Configuration]) -> dict[str, Any]:
    """``overrides`` maps a stage's name, or ``train`` for all stages that train, to settings that replace the stage's own.

    Raises ConfigError for a name or settings that fit no stage, and in a run of another kind than stages.
    """
    rest = {name: value for name, value in told.items() if name != "overrides"}
    changes = told.get("overrides")
    if changes is None:
        return rest
    if kind is not Pipeline:
        raise ConfigError("overrides: they are for stages of a staged run, such as configs/train/paper.yaml; this is none")
    stages = [stage for stage in rest.get("stages", []) if isinstance(stage, dict)]
    known = {stage.get("stage") for stage in stages} | {"train" for stage in stages if "epochs" in stage}
    if not isinstance(changes, dict) or changes.keys() - known or not all(isinstance(one, dict) for one in changes.values()):
        raise ConfigError(f"overrides: a mapping from {', '.join(sorted(map(str, known)))} to settings, not {changes!r}")
    made = []
    for stage in stages:
        trains = "epochs" in stage
        made.append(over(over(stage, changes.get("train", {}) if trains else {}), changes.get(stage.get("stage"), {})))
    return rest | {"stages": made}


def over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """``above`` on top of ``below``, mapping by mapping."""
    joined = dict(below)
    for name, value in above.items():
        old = joined.get(name)
        joined[name] = over(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return joined
