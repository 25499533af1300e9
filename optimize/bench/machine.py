"""The machine that a figure was measured on: processor, cores, memory, GPU, versions, and how busy it was."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from worker import __version__
from worker.cores import affine_cores

PACKAGES = (
    "av",
    "decord",
    "facenet-pytorch",
    "numpy",
    "onnxruntime",
    "opencv-contrib-python-headless",
    "openvino",
    "tensorrt",
    "timm",
    "torch",
)
INSTRUCTIONS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8")
ASK_S = 20.0
CHECKOUT = Path(__file__).parents[2]
"""Where the packages lie: a checkout, or ``site-packages``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """A part that could not be found, or that whoever wrote the file did not tell, is None or empty."""

    cpu: str
    cores: int
    instructions: list[str] = field(default_factory=list)
    memory_bytes: int | None = None
    gpu: str | None = None
    system: str = ""
    load_average: tuple[float, float, float] | None = None
    python: str = ""
    veriframe: str
    commit: str | None = None
    versions: dict[str, str] = field(default_factory=dict)


def describe_machine() -> Machine:
    """What is known here. Loads no library."""
    return Machine(
        cpu=cpu_name(),
        cores=affine_cores(),
        instructions=[name for name in INSTRUCTIONS if name in _cpu_flags()],
        memory_bytes=psutil.virtual_memory().total,
        gpu=gpu_name(),
        system=f"{platform.system()} {platform.release()}",
        load_average=_load_average(),
        python=platform.python_version(),
        veriframe=__version__,
        commit=commit(),
        versions={name: found for name in PACKAGES if (found := _version(name)) is not None},
    )


def cpu_name() -> str:
    names = [line.partition(":")[2].strip() for line in _cpuinfo() if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def gpu_name() -> str | None:
    """Name, driver and memory of the first NVIDIA GPU."""
    return _said(["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"])


def commit(folder: Path = CHECKOUT) -> str | None:
    """Of the checkout that lies there, with ``+`` where its files were changed since; None where the folder is no checkout's
    own, as a package's is that was installed below somebody's repository."""
    top = _said(["git", "-C", str(folder), "rev-parse", "--show-toplevel"])
    if top is None or Path(top).resolve() != folder.resolve():
        return None
    name = _said(["git", "-C", str(folder), "rev-parse", "--short=10", "HEAD"])
    changed = _said(["git", "-C", str(folder), "status", "--porcelain", "--untracked-files=no"])
    return name if name is None or not changed else f"{name}+"


def _load_average() -> tuple[float, float, float] | None:
    if not hasattr(os, "getloadavg"):
        return None
    one, five, fifteen = os.getloadavg()
    return round(one, 2), round(five, 2), round(fifteen, 2)


def _said(command: list[str]) -> str | None:
    """The first line that a program prints; None where it is missing, fails or says nothing."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=ASK_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    lines = done.stdout.strip().splitlines()
    return lines[0].strip() if done.returncode == 0 and lines else None


def _cpuinfo() -> list[str]:
    try:
        return Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return []


def _cpu_flags() -> set[str]:
    return {flag for line in _cpuinfo() if line.startswith("flags") for flag in line.partition(":")[2].split()}


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
