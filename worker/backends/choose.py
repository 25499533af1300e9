"""Opens the classifier for a checkpoint: the packaged export, an export made now and kept, or PyTorch.

Exports are kept in a private folder, one file each: ``<checkpoint hash>-<export version>-<hash of the file>.onnx``. A file whose
bytes do not match its name is removed and made again. Several processes may export the same checkpoint at once.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import worker
from worker.backends.onnx import OnnxClassifier
from worker.errors import ConfigError, ModelError
from worker.model.checkpoint import load_spec, sha256
from worker.model.graph import EXPORT_VERSION
from worker.model.packaged import default_checkpoint, default_onnx
from worker.ports import Classifier

BACKENDS = ("auto", "onnxruntime", "torch")
EXPORT_TIMEOUT_S = 900
_EXPORT_NEEDS = ("torch", "timm", "onnx", "onnxscript")

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
    onnx_path = _packaged_export(digest)
    if onnx_path is None:
        onnx_path = cached_export(chosen, digest, cache_dir or user_cache())
    return OnnxClassifier(onnx_path, threads=threads, max_batch=max_batch, checkpoint_sha256=digest)


def user_cache() -> Path:
    """``$XDG_CACHE_HOME/veriframe``, by default ``~/.cache/veriframe``; a relative value is ignored, as its standard says."""
    named = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (named if named.is_absolute() else Path.home() / ".cache") / "veriframe"


def export_in_process(checkpoint: Path, out: Path) -> None:
    """Run ``worker.model.export`` in a new process. Raises ConfigError without the extra ``train``, ModelError where it fails."""
    _need_train("exporting a checkpoint for onnxruntime", _EXPORT_NEEDS)
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


def cached_export(checkpoint: Path, digest: str, cache_dir: Path, export: Exporter = export_in_process) -> Path:
    """The export of the checkpoint with hash ``digest``: the kept one if its bytes are sound, else a new one, which is kept."""
    folder = _private(cache_dir / "onnx")
    prefix = f"{digest}-{EXPORT_VERSION}-"
    for kept in sorted(folder.glob(f"{prefix}*.onnx")):
        if kept.name == f"{prefix}{_hash(kept)}.onnx":
            return kept
        with contextlib.suppress(FileNotFoundError):
            kept.unlink()
    with tempfile.TemporaryDirectory(dir=folder, prefix="export-") as scratch:
        fresh = Path(scratch) / "fresh.onnx"
        export(checkpoint, fresh)
        kept = folder / f"{prefix}{_hash(fresh)}.onnx"
        fresh.replace(kept)
    return kept


def _packaged_export(digest: str) -> Path | None:
    """The packaged export, if ``digest`` is the bundled checkpoint's."""
    with contextlib.suppress(ModelError):
        if sha256(default_checkpoint()) == digest:
            return default_onnx()
    return None


def _hash(path: Path) -> str:
    """Hash of a file in the cache; of one that another process just removed, that of nothing."""
    with contextlib.suppress(FileNotFoundError):
        return hashlib.sha256(path.read_bytes()).hexdigest()
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
    missing = [name for name in modules if not _importable(name)]
    if missing:
        raise ConfigError(f'{what} needs {", ".join(missing)}: pip install "veriframe[train]"')


def _importable(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):  # blocked on purpose, or half-loaded
        return False
