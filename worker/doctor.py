"""What works on this machine, checked without scanning anything; torch is looked for, never imported."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from worker import __version__
from worker.errors import ModelError
from worker.settings import Settings

Status = Literal["ok", "note", "bad"]
_GPU_TIMEOUT_S = 10.0

LAYERS = {
    "rlimits": "memory, CPU time and file limits: run on Linux or macOS",
    "no_new_privs": "no new privileges: needs Linux",
    "no_capabilities": "dropped capabilities: needs Linux on x86-64 or arm64",
    "seccomp": "system-call filter: needs Linux on x86-64 or arm64, and a container whose own profile allows seccomp",
    "landlock": "file access: needs Linux 5.13 or newer with landlock among /sys/kernel/security/lsm",
    "netns": "network name space: allow user name spaces (kernel.unprivileged_userns_clone=1, or "
    "kernel.apparmor_restrict_unprivileged_userns=0), or give the container CAP_SYS_ADMIN; the filter forbids sockets anyway",
}
"""What each layer of the decoder's sandbox holds back, and what it takes to have it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """``bad`` stops a scan, ``note`` does not. ``mend`` says what to do about either."""

    name: str
    status: Status
    detail: str
    mend: str = ""


def examine(settings: Settings, settings_file: Path | None) -> list[Check]:
    """All checks in the order in which they are shown."""
    return [
        _system(),
        Check(name="settings", status="ok", detail=str(settings_file) if settings_file else "defaults, environment and flags"),
        _installed("decoder pyav", "av", mend="pip install --force-reinstall av"),
        _decord(settings),
        _sandbox(),
        _onnxruntime(),
        _torch(settings),
        _gpu(),
        _detector(),
        *_model(settings),
    ]


def can_scan(checks: list[Check]) -> bool:
    return all(check.status != "bad" for check in checks)


def _system() -> Check:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    system = f"{platform.system()} {platform.machine()}, {cores} {'core' if cores == 1 else 'cores'}"
    return Check(name="veriframe", status="ok", detail=f"{__version__}, Python {platform.python_version()}, {system}")


def _installed(name: str, module: str, *, mend: str) -> Check:
    """A module that a scan cannot do without: imported, since a broken library shows only then."""
    try:
        importlib.import_module(module)
    except ImportError as exc:
        return Check(name=name, status="bad", detail=f"cannot be imported: {exc}", mend=mend)
    return Check(name=name, status="ok", detail=importlib.metadata.version(module))


def _decord(settings: Settings) -> Check:
    if importlib.util.find_spec("decord") is not None:
        return Check(name="decoder decord", status="ok", detail=importlib.metadata.version("decord"))
    wanted = settings.decode.decoder == "decord"
    return Check(
        name="decoder decord",
        status="bad" if wanted else "note",
        detail="not installed" + (", but set as the decoder" if wanted else "; pyav decodes everything"),
        mend='pip install "veriframe[decord]" (Linux on x86-64)',
    )


def _sandbox() -> Check:
    from worker.frames.lockdown import sandbox_level

    missing = sandbox_level().missing
    if not missing:
        return Check(name="sandbox", status="ok", detail=f"all layers: {', '.join(LAYERS)}")
    held = [layer for layer in LAYERS if layer not in missing]
    return Check(
        name="sandbox",
        status="note",
        detail=f"decoding is held back by {', '.join(held) or 'nothing but a process of its own'}; missing: {', '.join(missing)}",
        mend="; ".join(LAYERS.get(layer, layer) for layer in missing),
    )


def _onnxruntime() -> Check:
    check = _installed("backend onnxruntime", "onnxruntime", mend="pip install --force-reinstall onnxruntime")
    if check.status == "bad":
        return check
    providers = importlib.import_module("onnxruntime").get_available_providers()
    return Check(name=check.name, status="ok", detail=f"{check.detail} ({', '.join(providers)})")


def _torch(settings: Settings) -> Check:
    missing = [name for name in ("torch", "timm") if importlib.util.find_spec(name) is None]
    if not missing:
        return Check(name="backend torch", status="ok", detail=importlib.metadata.version("torch"))
    wanted = settings.model.backend == "torch"
    return Check(
        name="backend torch",
        status="bad" if wanted else "note",
        detail=f"{' and '.join(missing)} not installed" + (", but set as the backend" if wanted else "; a scan does not need it"),
        mend='pip install "veriframe[train]"',
    )


def _gpu() -> Check:
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return Check(name="GPU", status="note", detail="none found; scans run on the CPU")
    try:
        done = subprocess.run([tool, "-L"], capture_output=True, text=True, timeout=_GPU_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as exc:
        return Check(name="GPU", status="note", detail=f"nvidia-smi does not answer: {exc}", mend="reinstall the NVIDIA driver")
    if done.returncode != 0:
        return Check(name="GPU", status="note", detail="no driver answers nvidia-smi", mend="reinstall the NVIDIA driver")
    return Check(name="GPU", status="ok", detail="; ".join(line.split(" (UUID")[0] for line in done.stdout.splitlines()))


def _detector() -> Check:
    from worker.model.packaged import weights_folder

    missing = [name for net in "pro" if not (weights_folder() / (name := f"mtcnn_{net}net.onnx")).is_file()]
    if missing:
        return Check(name="face detector", status="bad", detail=f"{', '.join(missing)} missing", mend="install veriframe anew")
    return Check(name="face detector", status="ok", detail="MTCNN (weights of facenet-pytorch, MIT)")


def _model(settings: Settings) -> list[Check]:
    """The checkpoint, its terms, and what runs it without torch."""
    from worker.model import checkpoint, packaged
    from worker.model.spec import licence_notice

    own = settings.model.checkpoint
    try:
        path = own or packaged.default_checkpoint()
        spec = checkpoint.load_spec(path)
        digest = checkpoint.sha256(path)
    except ModelError as exc:
        mend = "give a .safetensors checkpoint with --model, or train one: veriframe train --help"
        return [Check(name="model", status="bad", detail=str(exc), mend=mend)]
    checks = [
        Check(name="model", status="ok", detail=f"{spec.name} {spec.version}, {spec.backbone}, sha256 {digest}, {path}"),
        Check(name="licence", status="ok", detail=licence_notice(spec)),
    ]
    return [*checks, _own_export() if own else _export(packaged.default_onnx)]


def _own_export() -> Check:
    """A checkpoint of one's own is exported by torch at its first scan, and the export kept."""
    if importlib.util.find_spec("torch") is not None:
        return Check(name="export", status="ok", detail="made at the first scan with this checkpoint, and kept")
    mend = 'pip install "veriframe[train]"'
    return Check(name="export", status="note", detail="needs torch, unless an earlier scan left it", mend=mend)


def _export(find: Callable[[], Path]) -> Check:
    try:
        return Check(name="export", status="ok", detail=find().name)
    except ModelError as exc:
        return Check(name="export", status="bad", detail=str(exc), mend=f"{sys.executable} -m worker.model.export")
