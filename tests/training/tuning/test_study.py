"""Studies with a trainer that answers by a formula: objective, pruning, a kill in the middle and what follows, the report."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState
from rich.console import Console

from tests.training.conftest import crop, picture
from training.errors import Diverged
from training.prepare import write_shard
from training.settings import Fit, read_fit
from training.tuning.report import BEST, MARKDOWN
from training.tuning.settings import Search
from training.tuning.study import ROWS, OnValidation, WholeLines, objective, tune
from worker.errors import ConfigError, StorageFull

RECIPE = {"stages": [{"until": 1, "size": 32, "pairs": 2}], "minutes": 30}
SEARCH = Search.model_validate(
    {
        "recipe": RECIPE,
        "steps": 4,
        "validations": 4,
        "space": {"lr": {"low": 1e-5, "high": 1e-2, "log": True}, "ema": {"choices": [0.9, 0.99]}},
        "pruning": {"kind": "none"},
    }
)
NOBODY = Console(quiet=True)


class Killed(BaseException):
    """As an interrupt from outside: nothing catches it."""


class Trainer:
    """AUC 0.5 to 1, better the smaller lr is. Dies at ``(call, step)``; keeps its step in the folder as a real one does."""

    def __init__(self, dies: tuple[int, int] | None = None) -> None:
        self.dies, self.calls, self.steps = dies, list[tuple[str, Fit]](), list[int]()

    def __call__(self, fit: Fit, cache: Path, folder: Path, *, console: Console, on_validation: OnValidation) -> None:
        self.calls.append((folder.name, fit))
        state = folder / "state.pt"
        first = int(state.read_text()) if state.exists() else 0
        for step in range(first + 1, (fit.steps or 0) + 1):
            if self.dies == (len(self.calls), step):
                raise Killed
            self.steps.append(step)
            state.write_text(str(step))
            on_validation(step, {"a AUC": 1 - 50 * fit.lr, "a/kind AUC": 0.0, "b called fake": 0.3})


def run(
    folder: Path, train: Callable[..., None], trials: int, search: Search = SEARCH, storage: str | None = None
) -> optuna.Study:
    return tune(search, folder / "cache", folder, train, NOBODY, trials=trials, storage=storage)


def test_the_objective_is_the_mean_over_sources_and_never_a_default() -> None:
    found = {"a AUC": 0.6, "b AUC": 0.9, "a/kind AUC": 0.1, "c called fake": 0.2}
    assert objective(found, ()) == pytest.approx(0.75)
    assert objective(found, ("b",)) == 0.9
    with pytest.raises(ConfigError, match="no AUC of c"):
        objective(found, ("b", "c"))
    with pytest.raises(ConfigError, match="no AUC of a/kind"):
        objective(found, ("a/kind",))
    with pytest.raises(ConfigError, match="nothing to judge by"):
        objective({"c called fake": 0.2}, ())


def test_sources_with_a_slash_in_their_name_are_judged() -> None:
    found = {"git/faces AUC": 0.8, "git/faces/swap AUC": 0.1, "git/more AUC": 0.6, "b AUC": 0.4}
    assert objective(found, ()) == pytest.approx(0.6)
    assert objective(found, ("git/faces", "git/more")) == pytest.approx(0.7)


def test_a_study_writes_its_table_and_a_recipe_ready_to_train(tmp_path: Path) -> None:
    study = run(tmp_path, Trainer(), 4)
    report = (tmp_path / MARKDOWN).read_text()
    assert report.count("| complete | 4 |") == 4
    assert "| lr | " in report.split("## What mattered")[1]
    best = read_fit(tmp_path / BEST)
    assert best.lr == min(trial.params["lr"] for trial in study.trials) == study.best_params["lr"]
    assert (best.steps, best.minutes) == (None, 30)
    assert not list(tmp_path.glob("trials/*/state.pt"))


@pytest.mark.parametrize("storage", [None, "journal"])
def test_a_killed_study_goes_on_and_tries_what_an_uncut_one_does(tmp_path: Path, storage: str | None) -> None:
    def place(name: str) -> str | None:
        return storage and str(tmp_path / name / "study.log")

    whole = run(tmp_path / "whole", Trainer(), 5, storage=place("whole"))
    with pytest.raises(Killed):
        run(tmp_path / "cut", Trainer(dies=(3, 3)), 5, storage=place("cut"))
    second = Trainer()
    cut = run(tmp_path / "cut", second, 5, storage=place("cut"))
    assert second.steps == [3, 4, *[1, 2, 3, 4] * 2], "the cut trial goes on from its state, the next begin"
    assert [name for name, _ in second.calls] == ["0002", "0004", "0005"]
    complete = [trial for trial in cut.trials if trial.state is TrialState.COMPLETE]
    assert [trial.params for trial in complete] == [trial.params for trial in whole.trials]
    assert list(complete[2].intermediate_values) == [1, 2, 3, 4]
    assert run(tmp_path / "cut", second, 5, storage=place("cut")).trials == cut.trials, "all is done: nothing more is trained"


def test_several_at_work_on_one_study_share_its_trials(tmp_path: Path) -> None:
    """Threads for processes: a lock is held by who opened the file."""
    trainers = [Trainer() for _ in range(3)]
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda trainer: run(tmp_path, trainer, 4), trainers))
    study = run(tmp_path, Trainer(), 4)
    assert [trial.state for trial in study.trials] == [TrialState.COMPLETE] * 4
    assert sorted(name for trainer in trainers for name, _ in trainer.calls) == [f"{number:04d}" for number in range(4)]
    assert (tmp_path / MARKDOWN).read_text().count("| complete | 4 |") == 4


def test_a_trial_that_runs_elsewhere_is_neither_begun_nor_given_away(tmp_path: Path) -> None:
    second, seen = Trainer(), list[list[TrialState]]()

    class First(Trainer):
        def __call__(self, fit: Fit, cache: Path, folder: Path, *, console: Console, on_validation: OnValidation) -> None:
            seen.append([trial.state for trial in run(tmp_path, second, 1).trials])
            super().__call__(fit, cache, folder, console=console, on_validation=on_validation)

    study = run(tmp_path, First(), 1)
    assert (seen, second.calls) == ([[TrialState.RUNNING]], [])
    assert [trial.state for trial in study.trials] == [TrialState.COMPLETE]


@pytest.mark.parametrize("storage", ["study.log", "sqlite:///{}/study.db"])
def test_a_study_is_refused_in_another_folder_than_its_trials(tmp_path: Path, storage: str) -> None:
    """By the locks there its live trials would seem to be cut. Its own folder may be moved."""
    place = storage.format(tmp_path) if "{}" in storage else str(tmp_path / storage)

    class First(Trainer):
        def __call__(self, fit: Fit, cache: Path, folder: Path, *, console: Console, on_validation: OnValidation) -> None:
            with pytest.raises(ConfigError, match=f"has its trials in {tmp_path / 'a'}: name that folder by --run"):
                run(tmp_path / "b", Trainer(), 2, storage=place)
            super().__call__(fit, cache, folder, console=console, on_validation=on_validation)

    run(tmp_path / "a", First(), 1, storage=place)
    (tmp_path / "a").rename(tmp_path / "moved")
    assert len(run(tmp_path / "moved", Trainer(), 2, storage=place).trials) == 2


@pytest.mark.parametrize("storage", ["sqlite:///{}/kept/study.db", "{}/kept/study.log"])
def test_a_full_disk_under_the_study_is_told(
    tmp_path: Path, storage: str, little_room: Callable[[], AbstractContextManager[None]]
) -> None:
    place = storage.format(tmp_path)
    long = SEARCH.model_copy(update={"steps": 400})
    with little_room(), pytest.raises(StorageFull, match=f"^no room .*{tmp_path / 'kept'}"):
        run(tmp_path / "run", Trainer(), 9, long, place)


def test_half_a_line_that_a_full_disk_left_in_a_journal_is_cut_off(tmp_path: Path) -> None:
    place = tmp_path / "study.log"
    run(tmp_path, Trainer(), 1, storage=str(place))
    with place.open("a") as file:
        file.write(' {"op_code":4,"worker_id":"' + 5000 * "x")
    for trials in (2, 3):  # the second reads what the first wrote
        assert len(run(tmp_path, Trainer(), trials, storage=str(place)).trials) == trials


def test_the_lock_of_a_journal_leads_to_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether its holder was killed is told by the time of what it leads to."""
    monkeypatch.chdir(tmp_path)
    Path("kept").mkdir()
    Path("kept/study.log").touch()
    WholeLines(Path("kept/study.log")).acquire()
    assert Path("kept/study.log.lock").exists()


def test_trials_that_lag_end_early(tmp_path: Path) -> None:
    search = SEARCH.model_copy(update={"pruning": SEARCH.pruning.model_copy(update={"kind": "median", "startup_trials": 2})})
    study = run(tmp_path, Trainer(), 6, search)
    early = [trial for trial in study.trials if trial.state is TrialState.PRUNED]
    complete = [trial for trial in study.trials if trial.state is TrialState.COMPLETE]
    assert early
    assert len(early) + len(complete) == 6
    assert max(len(trial.intermediate_values) for trial in early) < 4
    assert min(trial.params["lr"] for trial in early) > study.best_params["lr"]
    assert "| ended early | 1 |" in (tmp_path / MARKDOWN).read_text()


def test_a_trial_that_diverges_ends_early_and_the_study_goes_on(tmp_path: Path) -> None:
    class Diverging(Trainer):
        def __call__(self, fit: Fit, cache: Path, folder: Path, *, console: Console, on_validation: OnValidation) -> None:
            if not self.calls:
                self.calls.append(("diverged", fit))
                raise Diverged("no number")
            super().__call__(fit, cache, folder, console=console, on_validation=on_validation)

    study = run(tmp_path, Diverging(), 2)
    assert [trial.state for trial in study.trials] == [TrialState.PRUNED, TrialState.COMPLETE]
    assert "| ended early | 0 |" in (tmp_path / MARKDOWN).read_text()


def test_a_study_with_other_settings_is_not_continued(tmp_path: Path) -> None:
    run(tmp_path, Trainer(), 1)
    with pytest.raises(ConfigError, match="other settings"):
        run(tmp_path, Trainer(), 2, SEARCH.model_copy(update={"seed": 2}))


def test_a_study_on_other_crops_is_not_continued(tmp_path: Path) -> None:
    study = run(tmp_path, Trainer(), 1)
    study.set_user_attr(ROWS, "of before")
    with pytest.raises(ConfigError, match="other crops"):
        run(tmp_path, Trainer(), 2)


@pytest.mark.parametrize("storage", [None, "journal"])
@pytest.mark.parametrize("wrong", [SEARCH, SEARCH.model_copy(update={"seed": 2, "steps": 8})])
def test_a_study_of_which_nothing_came_is_begun_anew(tmp_path: Path, wrong: Search, storage: str | None) -> None:
    """The first trial could not be judged, and had saved its state."""
    place = storage and str(tmp_path / "study.log")

    def unjudged(fit: Fit, cache: Path, folder: Path, **_: object) -> None:
        (folder / "state.pt").write_text("3")

    with pytest.raises(ConfigError, match="nothing to judge a trial by"):
        run(tmp_path, unjudged, 1, wrong, place)
    (tmp_path / "cache").mkdir()
    write_shard(tmp_path / "cache", "140k-real", [(picture(1), crop("140k-real", 1, "real", "140k"))])
    second = Trainer()
    study = run(tmp_path, second, 1, storage=place)
    assert (second.steps, [trial.state for trial in study.trials]) == ([1, 2, 3, 4], [TrialState.COMPLETE])


def test_a_study_that_another_process_has_is_not_begun_anew(tmp_path: Path) -> None:
    class First(Trainer):
        def __call__(self, fit: Fit, cache: Path, folder: Path, *, console: Console, on_validation: OnValidation) -> None:
            with pytest.raises(ConfigError, match="other settings"):
                run(tmp_path, Trainer(), 1, SEARCH.model_copy(update={"seed": 2}))
            super().__call__(fit, cache, folder, console=console, on_validation=on_validation)

    assert [trial.state for trial in run(tmp_path, First(), 1).trials] == [TrialState.COMPLETE]


def test_a_cut_trial_that_told_a_value_keeps_its_study(tmp_path: Path) -> None:
    with pytest.raises(Killed):
        run(tmp_path, Trainer(dies=(1, 2)), 1)
    with pytest.raises(ConfigError, match="other settings"):
        run(tmp_path, Trainer(), 1, SEARCH.model_copy(update={"seed": 2}))


def test_a_trial_that_could_not_be_judged_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nothing to judge a trial by"):
        run(tmp_path, lambda *_, **__: None, 1)
