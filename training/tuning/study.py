"""A study by Optuna: each trial trains a recipe for a while, is judged on files that it did not see, and ends early if it lags.

What a trial draws follows from the seed, its number and the trials before it, so a study that was killed and started again tries
what an uncut one would have. The trial that was cut goes on in its folder, from its last saved state: it is entered anew with the
same values and what it had reported. That it was cut shows by the lock on its folder, which its process held. Of several
processes on one study one at a time opens it, begins a trial or writes the report; each trains in a folder of its own.
"""

from __future__ import annotations

import os
import secrets
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import optuna
from optuna.exceptions import StorageInternalError
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock
from optuna.trial import FrozenTrial, Trial, TrialState
from rich.console import Console
from rich.progress import Progress
from sqlalchemy.exc import SQLAlchemyError

from training.errors import Diverged
from training.folder_lock import in_turn, locked, sharing
from training.identity import rows_sha256
from training.prepare import read_index
from training.settings import Fit
from training.state import STATE
from training.tuning.report import write_best, write_report
from training.tuning.settings import Choices, Pruning, Search, Value
from worker.content import full_told, write_atomically
from worker.errors import ConfigError, StorageFull

NAME, DATABASE, TRIALS, FOLDER_NAME = "veriframe", "study.db", "trials", "study.id"
FOLDER, SETTINGS, ROWS, CONTINUES, FOUND = "folder", "settings", "rows_sha256", "continues", "found"
OnValidation = Callable[[int, dict[str, float]], None]


class Train(Protocol):
    """``training.loop.fit_network``, or what stands for it."""

    def __call__(self, fit: Fit, cache: Path, folder: Path, *, console: Console, on_validation: OnValidation) -> object: ...


def tune(
    search: Search, cache: Path, folder: Path, train: Train, console: Console, *, trials: int, storage: str | None = None
) -> optuna.Study:
    """Go on until ``trials`` trials are done, or run elsewhere; after each ``folder`` has a new ``report.md`` and ``best.yaml``.

    ``storage``: an SQLAlchemy URL, or the path of a journal file; None is an SQLite file in the folder. Raises ConfigError where
    it holds a study with other settings or on other crops that told something already, or one with its trials in another folder,
    and where no source can be judged.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with ExitStack() as opened:
        with in_turn(folder):
            is_alone = opened.enter_context(sharing(folder, partial(console.print, markup=False)))
            kept = opened.enter_context(open_storage(storage or f"sqlite:///{folder / DATABASE}"))
            study = _open_study(kept, search)
            _keep_to_folder(study, folder)
            rows = rows_sha256(read_index(cache))
            refusal = _refusal(study, search, rows, folder)
            if refusal is not None and is_alone and _is_untried(study):
                study = _begin_anew(kept, search, folder)
                _keep_to_folder(study, folder)
            elif refusal is not None:
                raise refusal
            _claim(study, search, rows)
        progress = opened.enter_context(Progress(console=console))
        task = progress.add_task("trials", total=trials, completed=count_done(study))
        while _one(study, search, cache, folder, train, trials):
            with in_turn(folder):
                write_report(study, search, folder)
                write_best(study, search, folder)
            progress.update(task, completed=count_done(study), description=_standing(study))
    return study


def objective(found: Mapping[str, float], sources: tuple[str, ...]) -> float:
    """Mean AUC over sources; a name that is another's with a slash and more behind it is of a part of that one.

    Raises ConfigError for a source that ``found`` has no AUC of, and where there is none at all.
    """
    suffix = " AUC"
    by_name = {name.removesuffix(suffix): value for name, value in found.items() if name.endswith(suffix)}
    parts = {name for name in by_name for source in by_name if name.startswith(f"{source}/")}
    by_source = {name: value for name, value in by_name.items() if name not in parts}
    if missing := [source for source in sources if source not in by_source]:
        raise ConfigError(f"no AUC of {', '.join(missing)}: files of both labels that are not trained on are needed")
    chosen = [by_source[source] for source in sources or by_source]
    if not chosen:
        raise ConfigError("the cache has no source with files of both labels that are not trained on: nothing to judge by")
    return sum(chosen) / len(chosen)


def suggest(trial: Trial, search: Search) -> dict[str, Value]:
    """A value for each name of the space."""
    found: dict[str, Value] = {}
    for name, over in search.space.items():
        if isinstance(over, Choices):
            found[name] = trial.suggest_categorical(name, over.choices)
        elif over.integer:
            found[name] = trial.suggest_int(name, int(over.low), int(over.high), log=over.log, step=int(over.step or 1))
        else:
            found[name] = trial.suggest_float(name, over.low, over.high, log=over.log, step=over.step)
    return found


def count_done(study: optuna.Study) -> int:
    """Trials that ended, by themselves or early; of one that was cut and entered anew, the last counts."""
    known = study.get_trials(deepcopy=False)
    return sum(trial.state.is_finished() for trial in known) - sum(CONTINUES in trial.user_attrs for trial in known)


def count_taken(study: optuna.Study) -> int:
    """Trials that are done or run, by one look: one may end meanwhile."""
    known = study.get_trials(deepcopy=False)
    return sum(trial.state is not TrialState.WAITING for trial in known) - sum(CONTINUES in trial.user_attrs for trial in known)


def count_begun(study: optuna.Study) -> int:
    """Trials that drew values of their own: one that was cut and entered anew is one."""
    return sum(CONTINUES not in trial.user_attrs for trial in study.get_trials(deepcopy=False))


def place_of(trial: Trial | FrozenTrial) -> int:
    """The number of its folder: that of the first that began there."""
    return int(trial.user_attrs.get(CONTINUES, trial.number))


class Journal(JournalFileBackend):
    """Raises StorageFull, which names its own folder: it need not be the run's."""

    def __init__(self, path: Path) -> None:
        super().__init__(str(path), WholeLines(path))

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        with full_told(Path(self._file_path).parent):
            super().append_logs(logs)


class WholeLines(JournalFileSymlinkLock):
    """Once held, half a line that a full disk left is cut off: the next would be joined to it, and no more of the study read."""

    def __init__(self, path: Path) -> None:
        super().__init__(str(path.absolute()))  # a link to a relative path leads nowhere, and is waited for without end
        self._path = path

    def acquire(self) -> bool:
        super().acquire()
        try:
            _cut_half_a_line(self._path)
        except BaseException:
            self.release()
            raise
        return True


def _cut_half_a_line(path: Path) -> None:
    with path.open("rb+") as file:
        if file.seek(0, os.SEEK_END) > 0:
            file.seek(-1, os.SEEK_END)
            if file.read() != b"\n":
                file.seek(0)
                file.truncate(file.read().rfind(b"\n") + 1)


@contextmanager
def open_storage(name: str) -> Iterator[optuna.storages.BaseStorage]:
    """Raises StorageFull, also for what is done with it in the context."""
    if "://" not in name:
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        yield optuna.storages.JournalStorage(Journal(path))
        return
    if name.startswith("sqlite:///"):
        Path(name.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
    with _full_database_told(name):
        kept = optuna.storages.RDBStorage(name)
        try:
            yield kept
        finally:
            kept.remove_session()
            kept.engine.dispose()


@contextmanager
def _full_database_told(name: str) -> Iterator[None]:
    """SQLite's own errors of a full disk, a quota or a file-size limit, within those of SQLAlchemy and Optuna, as StorageFull."""
    try:
        yield
    except (SQLAlchemyError, StorageInternalError) as exc:
        told: BaseException | None = exc
        while told is not None and not isinstance(told, sqlite3.Error):
            told = told.__cause__
        if told is None or told.sqlite_errorcode not in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE):
            raise
        raise StorageFull(f"no room for the study in {name}: {told}; make room and start again, it goes on") from exc


def _one(study: optuna.Study, search: Search, cache: Path, folder: Path, train: Train, trials: int) -> bool:
    """Begin a trial and bring it to its end; False where ``trials`` are done or run already."""
    with ExitStack() as held:
        with in_turn(folder):
            _enter_anew(study, folder)
            if count_taken(study) >= trials:
                return False
            study.sampler = optuna.samplers.TPESampler(seed=search.seed * 100_003 + count_begun(study))
            trial = study.ask()
            place = folder / TRIALS / f"{place_of(trial):04d}"
            if not held.enter_context(locked(place)):
                raise ConfigError(f"{place}: another process trains there, for another study: name another folder by --run")
        _bring_to_end(study, trial, search, cache, place, train)
    return True


def _bring_to_end(study: optuna.Study, trial: Trial, search: Search, cache: Path, place: Path, train: Train) -> None:
    fit = search.fit(suggest(trial, search))
    reported = _reported_before(study, trial)
    for step, value in reported.items():
        trial.report(value, step)
    last: list[float] = []

    def on_validation(step: int, found: dict[str, float]) -> None:
        last[:] = [objective(found, search.sources)]
        trial.set_user_attr(FOUND, found)
        if step not in reported:
            reported[step] = last[0]
            trial.report(last[0], step)
        if step < search.steps and trial.should_prune():
            raise optuna.TrialPruned

    with (place / "log.txt").open("a", encoding="utf-8") as log:
        try:
            train(fit, cache, place, console=Console(file=log, width=200), on_validation=on_validation)
        except (optuna.TrialPruned, Diverged):
            study.tell(trial, state=TrialState.PRUNED)
        else:
            if not last:
                raise ConfigError(f"{cache} holds no crops that are not trained on: there is nothing to judge a trial by")
            study.tell(trial, last[0], skip_if_finished=False)
    (place / STATE).unlink(missing_ok=True)


def _reported_before(study: optuna.Study, trial: Trial) -> dict[int, float]:
    """What those cut in the same folder had reported."""
    found: dict[int, float] = {}
    for other in study.get_trials(deepcopy=False):
        if other.number != trial.number and place_of(other) == place_of(trial):
            found |= other.intermediate_values
    return found


def _running(study: optuna.Study) -> list[FrozenTrial]:
    return study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))


def _enter_anew(study: optuna.Study, folder: Path) -> None:
    """Trials that run nowhere any more end as failed, and wait with the same values."""
    for trial in _running(study):
        with locked(folder / TRIALS / f"{place_of(trial):04d}") as is_free:
            if is_free and any(one.number == trial.number for one in _running(study)):  # it may just have ended
                study.tell(trial.number, state=TrialState.FAIL)
                study.enqueue_trial(trial.params, user_attrs={CONTINUES: place_of(trial)})


def _open_study(kept: optuna.storages.BaseStorage, search: Search) -> optuna.Study:
    return optuna.create_study(storage=kept, study_name=NAME, direction="maximize", load_if_exists=True, pruner=_pruner(search))


def _keep_to_folder(study: optuna.Study, folder: Path) -> None:
    """Raises ConfigError where the study has its trials in another folder: by the locks here they would seem to be cut.

    The folder is known by a name that it holds, wherever it is moved or mounted.
    """
    path = folder / FOLDER_NAME
    if not path.exists():
        write_atomically(path, secrets.token_hex(8).encode())
    if FOLDER not in study.user_attrs:
        study.set_user_attr(FOLDER, {"name": path.read_text(), "path": str(folder.resolve())})
    theirs = study.user_attrs[FOLDER]  # read anew: another process may have been faster
    if theirs["name"] != path.read_text():
        there = f"the study of this --storage has its trials in {theirs['path']}"
        raise ConfigError(f"{folder}: {there}: name that folder by --run, or another --storage")


def _refusal(study: optuna.Study, search: Search, rows: str, folder: Path) -> ConfigError | None:
    """Where the study is for other settings or crops."""
    known = study.user_attrs
    for what, theirs, ours in (("settings", known.get(SETTINGS), _told(search)), ("crops", known.get(ROWS), rows)):
        if SETTINGS in known and theirs != ours:
            return ConfigError(f"{folder}: the study there has other {what}: name another folder by --run (or another --storage)")
    return None


def _claim(study: optuna.Study, search: Search, rows: str) -> None:
    """Note what the study is for; the settings last: where they are, the rows are."""
    study.set_user_attr(ROWS, rows)
    study.set_user_attr(SETTINGS, _told(search))


def _told(search: Search) -> dict[str, Any]:
    return search.model_dump(mode="json", exclude={"trials"})


def _is_untried(study: optuna.Study) -> bool:
    """Nothing came of it yet: what ended its first trial, such as a wrong cache, can be put right."""
    known = study.get_trials(deepcopy=False)
    return not any(trial.state in (TrialState.COMPLETE, TrialState.PRUNED) or trial.intermediate_values for trial in known)


def _begin_anew(kept: optuna.storages.BaseStorage, search: Search, folder: Path) -> optuna.Study:
    """An empty study in its place: trials that are cut would go on with what is left of them."""
    optuna.delete_study(study_name=NAME, storage=kept)
    for left in (folder / TRIALS).glob(f"*/{STATE}"):
        left.unlink()
    return _open_study(kept, search)


def _pruner(search: Search) -> optuna.pruners.BasePruner:
    pruning: Pruning = search.pruning
    if pruning.kind == "median":
        return optuna.pruners.MedianPruner(n_startup_trials=pruning.startup_trials)
    if pruning.kind == "hyperband":
        least = max(1, search.steps // search.validations)
        return optuna.pruners.HyperbandPruner(min_resource=least, max_resource=search.steps)
    return optuna.pruners.NopPruner()


def _standing(study: optuna.Study) -> str:
    done = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    return f"best so far {study.best_value:.3f} (trial {study.best_trial.number})" if done else "trials"
