"""Checkpoints: a safetensors file whose metadata hold the model's spec. One loader for worker, training, optimize; no pickle.

Metadata carry one key, ``veriframe``: JSON with ``format`` (of this container), ``content_sha256`` (over names, types, shapes and
bytes of all tensors) and ``spec``. One key only: safetensors does not keep the order of several, and the same weights shall give
the same file.
Format: https://huggingface.co/docs/safetensors
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load as parse_tensors
from safetensors.numpy import save as serialise_tensors

from worker.content import read_content, write_atomically
from worker.errors import MediaError, ModelError, SourceError
from worker.model.spec import SPEC_VERSION, ModelSpec

Arrays = dict[str, npt.NDArray[Any]]

FORMAT = 1
KEY = "veriframe"
MAX_HEADER_BYTES = 16 << 20
MAX_FILE_BYTES = 4 << 30
_DTYPES = ("float16", "float32", "int64")


def save(path: Path, state_dict: Mapping[str, Any], spec: ModelSpec, dtype: npt.DTypeLike = np.float16) -> None:
    """Write weights and spec, whole or not at all.

    ``state_dict`` holds numpy arrays or torch tensors. Floats are stored as ``dtype`` (float16 or float32), but a batch norm's
    running statistics always as float32, which costs little and saves their range. Raises ValueError where a value is not finite
    in ``dtype``.
    """
    if np.dtype(dtype).name not in ("float16", "float32"):
        raise ValueError(f"weights are stored as float16 or float32, not {dtype}")
    arrays = {name: _stored(name, value, np.dtype(dtype)) for name, value in sorted(state_dict.items())}
    if not arrays:
        raise ValueError("a checkpoint without weights")
    about = {"format": FORMAT, "content_sha256": content_sha256(arrays), "spec": spec.model_dump(mode="json")}
    data = serialise_tensors(arrays, metadata={KEY: json.dumps(about, sort_keys=True)})
    write_atomically(path, data)


def load_spec(path: Path) -> ModelSpec:
    """The spec alone, from the file's header: no weights are read. Raises ModelError."""
    return _spec_of(_about_of(_header_of(path), path), path)


def load(path: Path) -> tuple[ModelSpec, Arrays]:
    """The spec and all weights as stored. Raises ModelError for a missing or damaged file or an unknown version."""
    about = _about_of(_header_of(path), path)
    spec = _spec_of(about, path)
    try:
        arrays: Arrays = parse_tensors(path.read_bytes())
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as exc:
        raise ModelError(f"{path}: damaged checkpoint: {exc}") from exc
    if about.get("content_sha256") != content_sha256(arrays):
        raise ModelError(f"{path}: damaged checkpoint: its weights are not those that were saved")
    if odd := sorted({array.dtype.name for array in arrays.values()} - set(_DTYPES)):
        raise ModelError(f"{path}: holds weights of type {', '.join(odd)}")
    return spec, arrays


def sha256(path: Path) -> str:
    """Hash of the file, the identity of a checkpoint in reports and caches. Raises ModelError where it cannot be read."""
    try:
        return read_content(path, MAX_FILE_BYTES).sha256
    except (SourceError, MediaError) as exc:
        raise ModelError(f"{path}: {exc}") from exc


def content_sha256(arrays: Mapping[str, npt.NDArray[Any]]) -> str:
    """Hash over the tensors alone; independent of their order and of the metadata."""
    digest = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        digest.update(f"{name}|{array.dtype.name}|{array.shape}|".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _stored(name: str, value: Any, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    if hasattr(value, "detach"):  # a torch tensor, perhaps bfloat16 or on a GPU; torch is not imported here
        value = value.detach().cpu()
        value = (value.float() if value.is_floating_point() else value).numpy()
    array = np.asarray(value)
    if not np.issubdtype(array.dtype, np.floating):
        return np.ascontiguousarray(array, np.int64)
    statistic = name.endswith((".running_mean", ".running_var"))
    with np.errstate(over="ignore"):
        stored = np.ascontiguousarray(array, np.float32 if statistic else dtype)
    if not np.isfinite(stored).all():
        raise ValueError(f"{name} holds values that are not finite in {stored.dtype.name}")
    return stored


def _header_of(path: Path) -> dict[str, Any]:
    """The JSON header: eight bytes of little-endian length, then the text."""
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_size > MAX_FILE_BYTES:
                raise ModelError(f"{path}: larger than any checkpoint of ours")
            (length,) = struct.unpack("<Q", file.read(8))
            if length > MAX_HEADER_BYTES:
                raise ModelError(f"{path}: not a safetensors file")
            header = json.loads(file.read(length))
    except OSError as exc:
        raise ModelError(f"cannot read the checkpoint {path}: {exc.strerror}") from exc
    except (struct.error, ValueError, RecursionError) as exc:
        raise ModelError(f"{path}: not a safetensors file") from exc
    if not isinstance(header, dict):
        raise ModelError(f"{path}: not a safetensors file")
    return header


def _about_of(header: Mapping[str, Any], path: Path) -> dict[str, Any]:
    metadata = header.get("__metadata__")
    if not isinstance(metadata, dict) or KEY not in metadata:
        raise ModelError(f"{path}: safetensors, but without a model spec: not one of our checkpoints")
    try:
        about = json.loads(metadata[KEY])
    except (TypeError, ValueError, RecursionError) as exc:
        raise ModelError(f"{path}: its model spec is no JSON") from exc
    if not isinstance(about, dict):
        raise ModelError(f"{path}: its model spec is no JSON object")
    if about.get("format") != FORMAT:
        raise ModelError(f"{path}: checkpoint format {about.get('format')!r}; this program reads {FORMAT}: update it")
    return about


def _spec_of(about: Mapping[str, Any], path: Path) -> ModelSpec:
    spec = about.get("spec")
    version = spec.get("spec_version") if isinstance(spec, dict) else None
    if version != SPEC_VERSION:
        raise ModelError(f"{path}: spec version {version!r}; this program reads {SPEC_VERSION}: update it")
    try:
        return ModelSpec.model_validate(spec)
    except ValidationError as exc:
        first = exc.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "spec"
        is_newer = first["type"] == "extra_forbidden"
        why = "not known here: it was written by a newer version of veriframe: update this one" if is_newer else first["msg"]
        raise ModelError(f"{path}: {where}: {why}") from exc
