"""Where a run computes: on the CPU, or on a CUDA device where there is one."""

from __future__ import annotations

from typing import Any, Literal

import numpy.typing as npt
import torch
from torch import Tensor

from worker.errors import ConfigError


def choose_device(name: Literal["auto", "cpu", "cuda"]) -> torch.device:
    """``auto``: CUDA where there is any. Raises ConfigError for CUDA where there is none."""
    there = torch.cuda.is_available()
    if name == "cuda" and not there:
        raise ConfigError("device: there is no CUDA device here; say cpu or auto")
    return torch.device("cuda" if there and name != "cpu" else "cpu")


def place(values: npt.NDArray[Any], device: torch.device) -> Tensor:
    """An array on the device, by way of page-locked memory where that is another than the CPU."""
    tensor = torch.from_numpy(values)
    return tensor if device.type == "cpu" else tensor.pin_memory().to(device, non_blocking=True)
