"""The state of a recipe's run on the disk, and what is told where such a file, or another of a run's, cannot be used."""

from __future__ import annotations

import io
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from training.room import beside
from training.settings import Fit
from worker.errors import ConfigError
from worker.exhausted import exhausted

STATE = "state.pt"


def write_state(path: Path, state: dict[str, Any]) -> None:
    """Whole or not at all. Raises StorageFull. By way of memory: torch's own writing of a file does not say why it failed."""
    data = io.BytesIO()
    torch.save(state, data)
    with beside(path) as unfinished:
        unfinished.write_bytes(data.getbuffer())


def read_state(path: Path) -> tuple[Fit, dict[str, Any]]:
    """The settings of the run and the rest. Raises ConfigError where the file is damaged or of another version."""
    with damage_told(path):
        state: dict[str, Any] = torch.load(path, weights_only=True, map_location="cpu")
        return Fit.model_validate_json(state["fit"]), state


@contextmanager
def damage_told(path: Path) -> Iterator[None]:
    """What reading ``path`` and taking over what it holds raises as ConfigError; not what is no fault of the file."""
    try:
        yield
    except (torch.OutOfMemoryError, torch.AcceleratorError, torch.distributed.DistError):
        raise
    except OSError as exc:
        if exhausted(exc):
            raise
        raise ConfigError(f"{path} cannot be read: {exc.strerror or exc}") from exc
    except (RuntimeError, ValueError, KeyError, TypeError, EOFError, pickle.UnpicklingError) as exc:
        if exhausted(exc):
            raise
        advice = "choose another folder with --run, or delete this one"
        raise ConfigError(f"{path} is damaged, or of another version of veriframe: {advice}. {exc}") from exc
