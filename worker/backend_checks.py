"""Which backends ``veriframe doctor`` finds, which of them were verified, and the one that ``auto`` takes."""

from __future__ import annotations

import importlib.metadata

from worker.backends.auto import choose, no_memory, remembered_choice
from worker.backends.candidates import ARTEFACTS, EXTRAS, MODULES, REFERENCE, lacking
from worker.backends.choose import opening_of
from worker.check import Check
from worker.errors import ConfigError, ModelError, VeriframeError
from worker.extras import how_to_install, missing
from worker.settings import Settings

DISTRIBUTIONS = {"tensorrt_rtx": "tensorrt-rtx", "torch_tensorrt": "torch-tensorrt"}
"""Where they are not called as the module."""


def backend_checks(settings: Settings) -> list[Check]:
    """All backends but ONNX Runtime on a CPU, which is always there. A missing one is bad where a scan cannot do without it."""
    return [_openvino(settings), *(_artefact_backend(name, settings) for name in ARTEFACTS), _library("torch", settings)]


def chosen_backend(settings: Settings) -> Check:
    """What the next scan runs on."""
    name = "backend in use"
    wanted = settings.model.backend
    try:
        opening = opening_of(settings.model.checkpoint, cache_dir=settings.model.cache_dir)
        if wanted != "auto":
            return _set_backend(name, wanted, lacking(wanted, opening.cache_dir, opening.digest))
        choice = remembered_choice(opening)
    except VeriframeError as exc:
        return Check(name=name, status="note", detail=str(exc))
    if choice is None and (reason := no_memory(opening.cache_dir)):
        told = f"auto: {REFERENCE}, as a choice could not be remembered: {reason}"
        return Check(name=name, status="note", detail=told, mend="set model.cache_dir to a folder of your own")
    if choice is None:
        told = "auto: to be measured at the first scan, and remembered"
        return Check(name=name, status="ok", detail=told, mend="veriframe doctor --choose does it now")
    refused = "".join(f"; not {trial.name}: {trial.reason}" for trial in choice.trials if trial.reason)
    return Check(name=name, status="ok", detail=f"auto: {choice.backend}, {choice.why()}{refused}")


def _set_backend(name: str, wanted: str, reason: str | None) -> Check:
    """``reason``: why it cannot be opened. In place of an artefact a scan takes the reference; without another it ends."""
    told = f"{wanted}, as set by model.backend"
    if reason is None:
        return Check(name=name, status="ok", detail=told)
    if wanted in ARTEFACTS:
        return Check(name=name, status="note", detail=f"{REFERENCE} in place of {told}: {reason}")
    return Check(name=name, status="bad", detail=f"{told}, cannot be opened: {reason}", mend="or set model.backend to auto")


def choose_anew(settings: Settings) -> None:
    """Measure the backends and remember the choice. Raises ConfigError or ModelError."""
    choose(opening_of(settings.model.checkpoint, cache_dir=settings.model.cache_dir), anew=True)


def _openvino(settings: Settings) -> Check:
    check = _library("openvino", settings)
    if check.status != "ok":
        return check
    from worker.backends.openvino import bf16_lacking

    try:
        without_bf16 = bf16_lacking()
    except (ConfigError, ModelError) as exc:
        return Check(name=check.name, status="note", detail=str(exc), mend=how_to_install("openvino"))
    if without_bf16 and settings.model.backend == "openvino-bf16":
        return Check(name=check.name, status="bad", detail=without_bf16, mend="set model.backend to auto or openvino")
    return Check(name=check.name, status="ok", detail=f"{check.detail}; {without_bf16 or 'openvino-bf16 runs on this CPU'}")


def _artefact_backend(name: str, settings: Settings) -> Check:
    check = _library(name, settings)
    if check.status == "ok":
        verify = f"veriframe export --to {name} && veriframe parity --backend {name}"
        return Check(
            name=check.name, status="note", detail=f"{check.detail}, not verified on hardware", mend=f"to verify: {verify}"
        )
    return check


def _library(name: str, settings: Settings) -> Check:
    """A backend's modules, looked for and not imported."""
    if absent := missing(MODULES[name]):
        is_models = name == settings.model.backend.removesuffix("-bf16")
        is_bad = is_models and name not in ARTEFACTS
        replaced = is_models or name == settings.faces.backend
        told = (
            ", but set as the backend"
            if is_bad
            else f"; {REFERENCE} takes its place"
            if replaced
            else "; a scan does not need it"
        )
        return Check(
            name=f"backend {name}",
            status="bad" if is_bad else "note",
            detail=f"{' and '.join(absent)} not installed{told}",
            mend=how_to_install(EXTRAS[absent[0]]),
        )
    module = MODULES[name][0]
    return Check(name=f"backend {name}", status="ok", detail=importlib.metadata.version(DISTRIBUTIONS.get(module, module)))
