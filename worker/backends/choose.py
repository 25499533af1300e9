"""Opens the classifier for a checkpoint, and sees to its export: the packaged one, or one made now and kept.

Exports are kept in a private folder, one file each: ``<checkpoint hash>-<export version>-<hash of the file>.onnx``. A file whose
bytes do not match its name is removed and made again. Of several processes one exports, and the others wait for it.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import worker
from worker.backends.alone import alone
from worker.backends.auto import open_auto, remembered_choice
from worker.backends.candidates import ARTEFACTS, NAMES, REFERENCE, Opening, open_named
from worker.backends.kept import find_kept, kept_name, private_cache, user_cache
from worker.errors import ConfigError, ModelError
from worker.extras import how_to_install, missing
from worker.model.checkpoint import load_spec, sha256
from worker.model.graph import EXPORT_VERSION
from worker.model.packaged import bundled_sha256, default_checkpoint, default_onnx, is_bundled
from worker.ports import Classifier

BACKENDS = ("auto", *NAMES)
EXPORT_TIMEOUT_S = 900
EXPORT_NEEDS = ("torch", "timm", "onnx", "onnx_ir", "onnxscript")

Exporter = Callable[[Path, Path], None]


def open_from(opening: Opening, backend: str, on_fallback: Callable[[str], None] = lambda wanted: None) -> Classifier:
    """The classifier of what ``opening_of`` gave.

    ``auto`` is the fastest that passes parity on this machine (``worker.backends.auto``). Any checkpoint but the bundled one is
    exported first, in a process of its own, so that this one never imports torch. A TensorRT artefact that cannot be used is
    replaced by ONNX Runtime, which is logged, counted, and told to ``on_fallback`` with the name of the wanted one.

    Raises ConfigError for an unknown backend, a missing extra or a cache folder of somebody else, ModelError for a checkpoint
    that cannot be exported.
    """
    if backend not in BACKENDS:
        raise ConfigError(f"unknown backend {backend!r}: one of {', '.join(BACKENDS)}")
    if backend == "auto":
        return open_auto(opening, on_fallback)
    if backend in ARTEFACTS:
        from worker.backends.tensorrt import or_fall_back

        return or_fall_back(lambda: open_named(backend, opening), lambda: open_named(REFERENCE, opening), backend, on_fallback)
    return open_named(backend, opening)


def opening_of(
    checkpoint: Path | None, *, threads: int = 1, parallel: int = 1, max_batch: int = 16, cache_dir: Path | None = None
) -> Opening:
    """What a backend is opened for: ``checkpoint``, or the bundled one (None), ``parallel`` calls at once, each on ``threads``
    threads. Exports, compiled graphs and the choice are kept in ``cache_dir`` (the user's cache folder when None). Raises
    ModelError for a checkpoint that cannot be used."""
    chosen = (default_checkpoint() if checkpoint is None else checkpoint).absolute()
    load_spec(chosen)
    digest = bundled_sha256() if checkpoint is None else sha256(chosen)
    cache = cache_dir or user_cache()
    return Opening(
        checkpoint=chosen,
        digest=digest,
        onnx=lambda: ready_export(digest, cache) or cached_export(chosen, digest, cache),
        cache_dir=cache,
        threads=threads,
        parallel=parallel,
        max_batch=max_batch,
    )


def is_at_hand(opening: Opening, backend: str) -> bool:
    """Whether the backend runs an export, and neither that has to be made nor a choice by measuring."""
    if backend == "auto":
        choice = remembered_choice(opening)
        if choice is None:
            return False
        backend = choice.backend
    return backend not in (*ARTEFACTS, "torch") and ready_export(opening.digest, opening.cache_dir) is not None


def export_in_process(checkpoint: Path, out: Path) -> None:
    """Run ``worker.model.export`` in a new process. Raises ConfigError without the extra ``train``, ModelError where it fails."""
    if lacking := missing(EXPORT_NEEDS):
        raise ConfigError(f"exporting a checkpoint for onnxruntime needs {', '.join(lacking)}: {how_to_install('train')}")
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
    return _packaged_export(digest) or _kept_export(private_cache((cache_dir or user_cache()) / "onnx"), digest)


def cached_export(checkpoint: Path, digest: str, cache_dir: Path, export: Exporter = export_in_process) -> Path:
    """The export of the checkpoint with hash ``digest``: the kept one if its bytes are sound, else a new one, which is kept."""
    folder = private_cache(cache_dir / "onnx")
    if kept := _kept_export(folder, digest):
        return kept
    with alone(folder / f"{digest}.lock", timeout_s=EXPORT_TIMEOUT_S, doing="exporting the same checkpoint"):
        if kept := _kept_export(folder, digest):
            return kept
        with tempfile.TemporaryDirectory(dir=folder, prefix="export-") as scratch:
            fresh = Path(scratch) / "fresh.onnx"
            export(checkpoint, fresh)
            kept = folder / kept_name(fresh, _prefix(digest), ".onnx")
            fresh.replace(kept)
        return kept


def _kept_export(folder: Path, digest: str) -> Path | None:
    """The kept export, if its bytes are sound; others are removed."""
    return find_kept(folder, _prefix(digest), ".onnx")


def _prefix(digest: str) -> str:
    return f"{digest}-{EXPORT_VERSION}-"


def _packaged_export(digest: str) -> Path | None:
    """The packaged export, if ``digest`` is the bundled checkpoint's. Raises ModelError where the package lacks it."""
    return default_onnx() if is_bundled(digest) else None
