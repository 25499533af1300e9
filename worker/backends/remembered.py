"""The backend that ``auto`` chose on this machine, in a small JSON file in the cache; an odd one counts for nothing."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from worker import __version__
from worker.backends.candidates import libraries
from worker.backends.openvino_bf16 import PARTS_VERSION
from worker.backends.trial import ON_CARD, Trial
from worker.content import write_atomically
from worker.model.graph import EXPORT_VERSION

MAX_BYTES = 1 << 16
PASSING = timedelta(hours=1)
CPUINFO = Path("/proc/cpuinfo")
CARDS = Path("/proc/driver/nvidia/gpus")


class Choice(BaseModel):
    """What was chosen, what for, and what it was chosen from."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: Literal[1] = 1
    key: dict[str, str]
    backend: str
    chosen_at: AwareDatetime
    trials: tuple[Trial, ...]

    @property
    def may_pass(self) -> bool:
        """Whether a candidate is out for what may be otherwise at the next scan and stands in no key: there was no time to try
        it, or the driver lists a card and a backend on it could not be opened (the card may be silent or full for a moment)."""
        no_answer = bool(self.key.get("gpu")) and any(t.name in ON_CARD and t.reason and t.max_dp is None for t in self.trials)
        return no_answer or any(trial.is_untried for trial in self.trials)

    def why(self) -> str:
        """One line for people."""
        mine, reference = (next((t for t in self.trials if t.name == name), None) for name in (self.backend, self.trials[0].name))
        if mine is None or reference is None or mine.ms is None or reference.ms is None:
            return "the only one that can be used here"
        if mine is reference:
            return f"{mine.ms:.1f} ms a crop, and no other that passes is clearly faster"
        return (
            f"{mine.ms:.1f} ms a crop against {reference.ms:.1f} by {reference.name}; "
            f"probabilities differ by at most {mine.max_dp or 0:.4f} (mean {mine.mean_dp or 0:.5f})"
        )


def machine_key(digest: str, names: Sequence[str], *, threads: int, artefacts: Sequence[str] = ()) -> dict[str, str]:
    """Everything that a choice depends on: another value of any, and it is made again."""
    return {
        "checkpoint": digest,
        "export": str(EXPORT_VERSION),
        "parts": str(PARTS_VERSION),
        "veriframe": __version__,
        "candidates": " ".join(names),
        "libraries": json.dumps(libraries(), sort_keys=True),
        "cpu": _cpu(),
        "gpu": _gpus(),
        "threads": str(threads),
        "artefacts": " ".join(artefacts),
    }


def recall(folder: Path, key: dict[str, str]) -> Choice | None:
    """The choice for this key, if one is kept, whole, and names a backend that was among its candidates and passed.

    One that ``may_pass`` counts for an hour, so that it keeps no backend out for ever, and that several processes, or scans on a
    slow machine, do not all measure.
    """
    try:
        handle = os.open(_path(folder, key), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        with os.fdopen(handle, "rb") as file:
            data = file.read(MAX_BYTES + 1)
        choice = Choice.model_validate_json(data) if len(data) <= MAX_BYTES else None
    except (OSError, ValidationError):
        return None
    if choice is None or choice.key != key or (choice.may_pass and abs(datetime.now(UTC) - choice.chosen_at) > PASSING):
        return None
    usable = {trial.name for trial in choice.trials if trial.reason is None}
    return choice if choice.backend in usable and choice.backend in key["candidates"].split() else None


def remember(folder: Path, choice: Choice) -> None:
    """Keep a choice, whole or not at all, in a private folder. Raises OSError."""
    write_atomically(_path(folder, choice.key), choice.model_dump_json(indent=2).encode())


def _path(folder: Path, key: dict[str, str]) -> Path:
    return folder / f"{hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:32]}.json"


def _cpu() -> str:
    """Model and instruction sets of the processor."""
    with suppress(OSError):
        lines = CPUINFO.read_text(encoding="utf-8", errors="replace").splitlines()
        told = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        flags = hashlib.sha256(told.get("flags", told.get("Features", "")).encode()).hexdigest()[:16]
        return f"{platform.machine()} {told.get('model name', '')} {flags}"
    return f"{platform.machine()} {platform.processor()}"


def _gpus() -> str:
    """Models of NVIDIA cards, as their driver lists them."""
    found: list[str] = []
    with suppress(OSError):
        for path in sorted(CARDS.glob("*/information")):
            found += [
                line.partition(":")[2].strip() for line in path.read_text(errors="replace").splitlines() if "Model:" in line
            ]
    return ", ".join(found)
