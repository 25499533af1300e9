"""``auto``: the fastest backend that passes parity here, measured once and remembered.

Measuring takes a few seconds and happens where a scanner is opened with nothing remembered, or by ``veriframe doctor --choose``;
where only ONNX Runtime is installed there is nothing to measure. Of several processes one measures and the others wait, so that
all score alike.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from worker.backends.alone import alone
from worker.backends.artefact import kept_marks
from worker.backends.candidates import ARTEFACTS, AUTO, REFERENCE, Opening, lacking, open_named
from worker.backends.kept import private_cache
from worker.backends.remembered import Choice, machine_key, recall, remember
from worker.backends.tensorrt import or_fall_back
from worker.backends.trial import Trial, fastest, probe_crops, try_all
from worker.errors import ConfigError
from worker.model.checkpoint import load_spec
from worker.ports import Classifier

MEASURE_TIMEOUT_S = 300.0
log = logging.getLogger(__name__)


def open_auto(opening: Opening, on_fallback: Callable[[str], None] = lambda wanted: None) -> Classifier:
    """The chosen backend, opened; the reference where that one no longer opens, which is logged, counted and told."""
    choice = choose(opening)
    if choice.backend == REFERENCE:
        return open_named(REFERENCE, opening)
    wanted = choice.backend
    return or_fall_back(lambda: open_named(wanted, opening), lambda: open_named(REFERENCE, opening), wanted, on_fallback)


def choose(opening: Opening, *, anew: bool = False) -> Choice:
    """The backend for this machine: the remembered one, or by measuring (``anew``: in any case)."""
    names = candidates(opening.cache_dir, opening.digest)
    key = _key(opening, names)
    if names == [REFERENCE]:
        return _chosen(key, [Trial(name=REFERENCE)])
    with ExitStack() as held:
        try:
            folder = private_cache(opening.cache_dir / "backends")
            if not anew and (known := recall(folder, key)):
                return known
            held.enter_context(alone(folder / "lock", timeout_s=MEASURE_TIMEOUT_S, doing="choosing a backend"))
        except ConfigError as exc:
            return _not_remembered(key, exc)
        if not anew and (known := recall(folder, key)):
            return known
        crops_FHWC = probe_crops(load_spec(opening.checkpoint).crop.size)
        one_call = replace(opening, parallel=1)
        choice = _chosen(key, try_all(names, lambda name: open_named(name, one_call), crops_FHWC))
        if choice.may_pass:
            told = "; ".join(f"{trial.name}: {trial.reason}" for trial in choice.trials if trial.reason)
            log.warning("the backend is %s for an hour; then it is measured again (%s)", choice.backend, told)
        try:
            remember(folder, choice)
        except OSError as exc:  # a full disk
            return _not_remembered(key, exc)
    log.info("the backend is %s: %s", choice.backend, choice.why())
    return choice


def remembered_choice(opening: Opening) -> Choice | None:
    """What a scan would use without measuring; None where it would measure, or could remember nothing."""
    names = candidates(opening.cache_dir, opening.digest)
    key = _key(opening, names)
    if names == [REFERENCE]:
        return _chosen(key, [Trial(name=REFERENCE)])
    try:
        return recall(private_cache(opening.cache_dir / "backends"), key)
    except ConfigError:  # no_memory says why
        return None


def no_memory(cache_dir: Path) -> str | None:
    """Why a choice could not be remembered there; None where it could."""
    try:
        folder = private_cache(cache_dir / "backends")
    except ConfigError as exc:
        return str(exc)
    return None if os.access(folder, os.W_OK | os.X_OK) else f"nothing can be written to the cache folder {folder}"


def candidates(cache_dir: Path, digest: str) -> list[str]:
    """The backends whose libraries are installed here, and whose artefacts were made."""
    return [name for name in AUTO if lacking(name, cache_dir, digest) is None]


def _not_remembered(key: dict[str, str], exc: Exception) -> Choice:
    """The reference: without a memory each scan might choose another one."""
    log.warning("the backend is %s: a choice could not be remembered (%s)", REFERENCE, exc)
    return _chosen(key, [Trial(name=REFERENCE)])


def _key(opening: Opening, names: Sequence[str]) -> dict[str, str]:
    made = [mark for kind in ARTEFACTS if kind in names for mark in kept_marks(opening.cache_dir, kind, opening.digest)]
    return machine_key(opening.digest, names, threads=opening.threads, artefacts=made)


def _chosen(key: dict[str, str], trials: Sequence[Trial]) -> Choice:
    return Choice(key=key, backend=fastest(trials).name, chosen_at=datetime.now(UTC), trials=tuple(trials))
