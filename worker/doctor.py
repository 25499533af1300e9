"""What works on this machine, checked without scanning anything; torch is looked for, never imported."""

from __future__ import annotations

import importlib
import importlib.metadata
import platform
import resource
import shutil
import subprocess
import sys
from pathlib import Path

from worker import __version__
from worker.backend_checks import backend_checks, chosen_backend
from worker.check import Check
from worker.cores import affine_cores, usable_cores
from worker.errors import ConfigError, ModelError
from worker.extras import how_to_install, missing, version_of
from worker.settings import CalibrationSettings, Settings

_GPU_TIMEOUT_S = 10.0
_OPEN_FILES = 24
"""What a process that scans several items at once was seen to hold, and a few to spare."""

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


def examine(settings: Settings, settings_file: Path | None) -> list[Check]:
    """All checks in the order in which they are shown."""
    return [
        _system(),
        Check(name="settings", status="ok", detail=str(settings_file) if settings_file else "defaults, environment and flags"),
        *_open_files(),
        _installed("decoder pyav", "av", mend="pip install --force-reinstall av"),
        _decord(settings),
        nvdec_check(_card_lacking(), wanted=settings.decode.decoder == "nvdec"),
        _sandbox(),
        _onnxruntime(),
        *backend_checks(settings),
        _gpu(),
        _detector(),
        *_model(settings),
    ]


def can_scan(checks: list[Check]) -> bool:
    return all(check.status != "bad" for check in checks)


def _system() -> Check:
    system = f"{platform.system()} {platform.machine()}, {cores_told(usable_cores(), affine_cores())}"
    return Check(name="veriframe", status="ok", detail=f"{__version__}, Python {platform.python_version()}, {system}")


def _open_files() -> list[Check]:
    """Of a limit that is too low for a scan."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if most == resource.RLIM_INFINITY or most >= _OPEN_FILES:
        return []
    detail = f"a process may have {most} (ulimit -n), fewer than the {_OPEN_FILES} that a scan may need: some items would fail"
    return [Check(name="open files", status="bad", detail=detail, mend="ulimit -n 1024")]


def cores_told(usable: int, affine: int) -> str:
    """What scans share among them, and by affinity, where a quota allows less."""
    told = f"{usable} {'core' if usable == 1 else 'cores'}"
    return told if usable == affine else f"{told} by the control group's quota, of {affine}"


def _installed(name: str, module: str, *, mend: str) -> Check:
    """A module that a scan cannot do without: imported, since a broken library shows only then."""
    try:
        importlib.import_module(module)
    except ImportError as exc:
        return Check(name=name, status="bad", detail=f"cannot be imported: {exc}", mend=mend)
    return Check(name=name, status="ok", detail=version_of(module))


def _decord(settings: Settings) -> Check:
    if not missing(("decord",)):
        return Check(name="decoder decord", status="ok", detail=importlib.metadata.version("decord"))
    return Check(
        name="decoder decord",
        status="note",
        detail=f"not installed; {_instead(wanted=settings.decode.decoder == 'decord')}",
        mend=f"Linux on x86-64 or Windows: {how_to_install('train')}",
    )


def _card_lacking() -> str | None:
    try:
        from worker.frames import nvdec
    except ImportError as exc:
        return f"PyAV cannot be imported: {exc}"
    return nvdec.lacking()


def nvdec_check(lacking: str | None, *, wanted: bool) -> Check:
    """``lacking``: why no card decodes."""
    name = "decoder nvdec"
    if lacking is None:
        verify = "to verify: veriframe parity --decoder nvdec --media DIR"
        return Check(name=name, status="note", detail="a card decodes; not verified on hardware", mend=verify)
    return Check(
        name=name,
        status="note",
        detail=f"{lacking}; {_instead(wanted=wanted)}",
        mend="install NVIDIA's driver; in a container, NVIDIA_DRIVER_CAPABILITIES with video",
    )


def _instead(*, wanted: bool) -> str:
    return "set as the decoder, but pyav takes its place" if wanted else "pyav decodes everything"


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
    found = "; ".join(line.split(" (UUID")[0] for line in done.stdout.splitlines())
    return Check(
        name="GPU",
        status="note",
        detail=f"{found}; scans use it by model.backend onnxruntime-cuda or an exported TensorRT artefact",
    )


def _detector() -> Check:
    from worker.faces.nets import load_nets, packaged_nets

    try:
        load_nets(packaged_nets())
    except ModelError as exc:
        return Check(name="face detector", status="bad", detail=str(exc), mend="install veriframe anew")
    return Check(name="face detector", status="ok", detail="MTCNN (weights of facenet-pytorch, MIT)")


def _model(settings: Settings) -> list[Check]:
    """The checkpoint, its weights read; its terms; what runs it without torch, and which backend that would be."""
    from worker.model import checkpoint, packaged
    from worker.model.spec import licence_notice

    try:
        path = settings.model.checkpoint or packaged.default_checkpoint()
        spec, _ = checkpoint.load(path)
        digest = checkpoint.sha256(path)
    except ModelError as exc:
        mend = "give a .safetensors checkpoint with --model, or train one: veriframe train --help"
        return [Check(name="model", status="bad", detail=str(exc), mend=mend)]
    checks = [
        Check(name="model", status="ok", detail=f"{spec.name} {spec.version}, {spec.backbone}, sha256 {digest}, {path}"),
        Check(name="licence", status="ok", detail=licence_notice(spec)),
    ]
    if settings.calibration.model_sha256 is not None:
        checks.append(_own_calibration(settings.calibration, digest))
    if settings.model.backend != "torch":
        checks.append(_export(path, digest, settings.model.cache_dir))
    return [*checks, chosen_backend(settings)]


def _own_calibration(calibration: CalibrationSettings, digest: str) -> Check:
    """The offsets fitted on the user's own footage, if they are for this checkpoint."""
    name = "own calibration"
    try:
        offsets = calibration.offsets(digest)
    except ConfigError as exc:
        return Check(name=name, status="bad", detail=str(exc), mend="veriframe calibrate FOLDER")
    told = ", ".join(f"{offset:+.2f} log odds for a {kind.value}" for kind, offset in offsets.items())
    return Check(name=name, status="ok", detail=told or "no offset")


def _export(checkpoint: Path, digest: str, cache_dir: Path | None) -> Check:
    """The checkpoint's graph, loaded as a scan loads it; one that is still to be made takes torch."""
    from worker.backends.choose import EXPORT_NEEDS, ready_export
    from worker.backends.onnx import OnnxClassifier

    try:
        path = ready_export(digest, cache_dir)
    except ConfigError as exc:
        return Check(name="export", status="bad", detail=str(exc), mend="set model.cache_dir to a folder of your own")
    except ModelError as exc:
        return Check(name="export", status="bad", detail=str(exc), mend=f"the command above needs {how_to_install('train')}")
    if path is None and (lacking := missing(EXPORT_NEEDS)):
        detail = f"not made yet, and making it needs {', '.join(lacking)}"
        return Check(name="export", status="bad", detail=detail, mend=how_to_install("train"))
    if path is None:
        return Check(name="export", status="ok", detail="made at the first scan with this checkpoint, and kept")
    try:
        OnnxClassifier(path, threads=1, checkpoint_sha256=digest)
    except ModelError as exc:
        return Check(
            name="export", status="bad", detail=str(exc), mend=f"{sys.executable} -m worker.model.export {checkpoint} {path}"
        )
    return Check(name="export", status="ok", detail=path.name)
