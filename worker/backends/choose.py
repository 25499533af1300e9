"""Opens the classifier for a checkpoint: the packaged export, an export made now and kept, or PyTorch.

Exports are kept in a private folder, one file each: ``<checkpoint hash>-<export version>-<hash of the file>.onnx``. A file whose
bytes do not match its name is removed and made again. Of several processes one exports, and the others wait for it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import worker
from worker.backends.onnx import OnnxClassifier
from worker.errors import ConfigError, ModelError
from worker.extras import how_to_install, missing
from worker.model.checkpoint import load_spec, sha256
from worker.model.graph import EXPORT_VERSION
from worker.model.packaged import default_checkpoint, default_onnx
from worker.ports import Classifier

BACKENDS = ("auto", "onnxruntime", "torch")
EXPORT_TIMEOUT_S = 900
LOCK_POLL_S = 0.1
EXPORT_NEEDS = ("torch", "timm", "onnx", "onnx_ir", "onnxscript")

Exporter = Callable[[Path, Path], None]


def open_classifier(
    checkpoint: Path | None, backend: str = "auto", threads: int = 2, cache_dir: Path | None = None, *, max_batch: int = 16
) -> Classifier:
    """The classifier for ``checkpoint``, or for the bundled one (None). ``auto`` is onnxruntime.

    Any checkpoint but the bundled one is exported first, in a process of its own, so that this one never imports torch; it is
    kept in ``cache_dir`` (the user's cache folder when None). Raises ConfigError for an unknown backend, a missing extra or a
    cache folder of somebody else, ModelError for a checkpoint that cannot be used.
    """
    if backend not in BACKENDS:
        raise ConfigError(f"unknown backend {backend!r}: one of {', '.join(BACKENDS)}")
    chosen = (default_checkpoint() if checkpoint is None else checkpoint).absolute()
    load_spec(chosen)
    if backend == "torch":
        _need_train("the torch backend", ("torch", "timm"))
        from worker.backends.torch import TorchClassifier

        return TorchClassifier(chosen, threads=threads, max_batch=max_batch)
    digest = sha256(chosen)
    onnx_path = ready_export(digest, cache_dir) or cached_export(chosen, digest, cache_dir or user_cache())
    return OnnxClassifier(onnx_path, threads=threads, max_batch=max_batch, checkpoint_sha256=digest)


def user_cache() -> Path:
    """``$XDG_CACHE_HOME/veriframe``, by default ``~/.cache/veriframe``; a relative value is ignored, as its standard says."""
    named = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (named if named.is_absolute() else Path.home() / ".cache") / "veriframe"


def export_in_process(checkpoint: Path, out: Path) -> None:
    """Run ``worker.model.export`` in a new process. Raises ConfigError without the extra ``train``, ModelError where it fails."""
    _need_train("exporting a checkpoint for onnxruntime", EXPORT_NEEDS)
    command = [sys.executable, "-m", "worker.model.export", str(checkpoint), str(out)]
    # `-m` looks in the working folder first: it must be ours, not the user's, which may hold a torch.py
    home = Path(str(worker.__file__)).parents[1]
    try:
        done = subprocess.run(
            command, cwd=home, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=EXPORT_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired as exc:
        raise ModelError(f"exporting {checkpoint} took longer than {EXPORT_TIMEOUT_S} s") from exc
    if done.returncode != 0 or not out.is_file():
        last = done.stderr.strip().splitlines()[-1:] or [f"exit status {done.returncode}"]
        raise ModelError(f"cannot export {checkpoint}: {last[0]}")


def ready_export(digest: str, cache_dir: Path | None) -> Path | None:
    """The export that a scan with the checkpoint of this hash would run: packaged, or kept; None where it is still to be made."""
    return _packaged_export(digest) or _kept_export(_private((cache_dir or user_cache()) / "onnx"), digest)


def cached_export(checkpoint: Path, digest: str, cache_dir: Path, export: Exporter = export_in_process) -> Path:
    """The export of the checkpoint with hash ``digest``: the kept one if its bytes are sound, else a new one, which is kept."""
    folder = _private(cache_dir / "onnx")
    if kept := _kept_export(folder, digest):
        return kept
    with _alone(folder / f"{digest}.lock"):
        if kept := _kept_export(folder, digest):
            return kept
        with tempfile.TemporaryDirectory(dir=folder, prefix="export-") as scratch:
            fresh = Path(scratch) / "fresh.onnx"
            export(checkpoint, fresh)
            kept = folder / f"{_prefix(digest)}{_hash(fresh)}.onnx"
            fresh.replace(kept)
        return kept


def _kept_export(folder: Path, digest: str) -> Path | None:
    """The kept export, if its bytes are sound; others are removed."""
    for kept in sorted(folder.glob(f"{_prefix(digest)}*.onnx")):
        if kept.name == f"{_prefix(digest)}{_hash(kept)}.onnx":
            return kept
        with contextlib.suppress(FileNotFoundError):
            kept.unlink()
    return None


def _prefix(digest: str) -> str:
    return f"{digest}-{EXPORT_VERSION}-"


@contextlib.contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """While entered, no other process is inside for the same lock file; the kernel frees the lock of one that dies."""
    deadline = time.monotonic() + EXPORT_TIMEOUT_S
    try:
        handle = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as exc:
        raise ConfigError(f"cannot use the cache folder {lock.parent}: {exc.strerror}; set model.cache_dir") from exc
    with os.fdopen(handle, "wb"):
        while not _locked(handle):
            if time.monotonic() > deadline:
                raise ModelError(f"another process has been exporting the same checkpoint for {EXPORT_TIMEOUT_S} s: {lock}")
            time.sleep(LOCK_POLL_S)
        yield


def _locked(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as exc:
        raise ConfigError(f"cannot lock a file in the cache folder: {exc.strerror}; set model.cache_dir") from exc
    return True


def _packaged_export(digest: str) -> Path | None:
    """The packaged export, if ``digest`` is the bundled checkpoint's. Raises ModelError where the package lacks it."""
    try:
        bundled = sha256(default_checkpoint())
    except ModelError:  # nothing is bundled: then ``digest`` is of a checkpoint of the user's own
        return None
    return default_onnx() if bundled == digest else None


def _hash(path: Path) -> str:
    """Hash of a file in the cache; of one that another process just removed, that of nothing."""
    with contextlib.suppress(ModelError):
        return sha256(path)
    return ""


def _private(folder: Path) -> Path:
    """Make the folder, readable and writable by its owner alone; refuse one that belongs to somebody else."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        state = folder.lstat()
        if hasattr(os, "geteuid") and state.st_uid != os.geteuid():
            raise ConfigError(f"the cache folder {folder} belongs to another user: set model.cache_dir")
        if folder.is_symlink():
            raise ConfigError(f"the cache folder {folder} is a link: set model.cache_dir")
        if state.st_mode & 0o077:
            folder.chmod(0o700)
    except OSError as exc:
        raise ConfigError(f"cannot use the cache folder {folder}: {exc.strerror}; set model.cache_dir") from exc
    return folder


def _need_train(what: str, modules: tuple[str, ...]) -> None:
    if lacking := missing(modules):
        raise ConfigError(f"{what} needs {', '.join(lacking)}: {how_to_install('train')}")
