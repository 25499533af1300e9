"""What a study found: ``report.md`` with all trials and what mattered, ``best.yaml`` ready to train."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import optuna
import yaml
from optuna.trial import FrozenTrial, TrialState

from training.tuning.settings import Search

MARKDOWN, BEST = "report.md", "best.yaml"
LEAST_FOR_IMPORTANCE = 4


def write_best(study: optuna.Study, search: Search, folder: Path) -> None:
    """The recipe with the best trial's values and the recipe's own length; nothing before a trial is complete."""
    if not _complete(study):
        return
    best = study.best_trial
    fit = search.fit(best.params, is_trial=False)
    text = yaml.safe_dump(fit.model_dump(mode="json", exclude_none=True), sort_keys=False)
    about = f"# Trial {best.number} of {folder.name}: mean AUC {best.value:.4f} after {search.steps} steps.\n"
    (folder / BEST).write_text(about + text, "utf-8")


def write_report(study: optuna.Study, search: Search, folder: Path) -> None:
    """Trials from best to worst, early ended ones after them."""
    trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))
    trials.sort(key=lambda trial: (trial.state is not TrialState.COMPLETE, -_value(trial)))
    judged = ", ".join(search.sources) or "all sources with both labels"
    names = list(search.space)
    rows = [
        (
            str(trial.number),
            "ended early" if trial.state is TrialState.PRUNED else "complete",
            str(max(trial.intermediate_values, default=0)),
            f"{_value(trial):.4f}",
            *(_text(trial.params.get(name)) for name in names),
        )
        for trial in trials
    ]
    lines = [
        f"# {folder.name}: {len(trials)} trials",
        "",
        f"Objective: mean AUC over {judged}, by files of the cache that are not trained on, after {search.steps} steps.",
        "These files chose the settings: what they say of the best trial is too good, and other files must judge it.",
        "",
        *_table(("trial", "end", "steps", "mean AUC", *names), rows),
        "",
        "## What mattered",
        "",
        *_importance(study),
    ]
    if _complete(study):
        found = study.best_trial.user_attrs["found"]
        lines += ["", f"## Best trial ({study.best_trial.number}) by source", ""]
        lines += _table(("source", "value"), [(name, f"{value:.3f}") for name, value in found.items()])
    (folder / MARKDOWN).write_text("\n".join(lines) + "\n", "utf-8")


def _importance(study: optuna.Study) -> list[str]:
    """By fANOVA (Hutter et al. 2014), of complete trials."""
    values = [trial.value for trial in _complete(study)]
    if len(values) < LEAST_FOR_IMPORTANCE or len(set(values)) < 2:
        return [f"Not known before {LEAST_FOR_IMPORTANCE} complete trials with different results."]
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    found = optuna.importance.get_param_importances(study, evaluator=evaluator)
    return _table(("setting", "share of the variance"), [(name, f"{share:.2f}") for name, share in found.items()])


def _complete(study: optuna.Study) -> list[FrozenTrial]:
    return study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))


def _value(trial: FrozenTrial) -> float:
    """The last that was reported."""
    last = max(trial.intermediate_values, default=None)
    return trial.intermediate_values[last] if last is not None else float("-inf")


def _text(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows)]
