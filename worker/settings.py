"""Settings: ``configs/worker.yaml`` < environment (``VERIFRAME_SECTION__KEY``) < command-line flags. Unknown keys are errors."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from worker.errors import ConfigError
from worker.types import Json, Strategy

PREFIX = "VERIFRAME_"


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DecodeSettings(Section):
    decoder: Literal["auto", "pyav", "decord"] = Field("auto", description="auto picks for each probed file")
    threads: int = Field(2, ge=1, le=64, description="threads of one decoding child")
    timeout_s: float = Field(120, gt=0, description="wall-clock limit of one item's decoding; the child is killed")
    cpu_s: int = Field(600, gt=0, description="CPU-time limit of the decoding child")
    memory_mib: int = Field(2048, ge=256, description="address-space limit of the decoding child")
    shared_mib: int = Field(32, ge=1, description="frames in flight between child and parent; one frame always fits")
    max_pixels: int = Field(36_000_000, gt=0, description="largest video frame")
    max_picture_pixels: int = Field(64_000_000, gt=0, description="largest still picture")
    max_duration_s: float = Field(4 * 3600, gt=0, description="longest video")
    max_packets: int = Field(2_000_000, gt=0, description="most packets (frames) of a video")
    max_streams: int = Field(32, gt=0, description="most streams of a container")


class SamplingSettings(Section):
    strategy: Strategy = Field(Strategy.AUTO, description="auto | uniform | fps | keyframes")
    max_frames: int | None = Field(None, gt=0, description="most frames looked at, both passes; auto decides when unset")
    fps: float | None = Field(None, gt=0, description="frames a second for strategy fps")
    start_s: float = Field(0.0, ge=0)
    end_s: float | None = Field(None, gt=0)
    second_pass_frames: int = Field(128, ge=0, description="frames auto may add around the worst moments")


class FaceSettings(Section):
    min_face_px: int = Field(40, ge=20, description="smallest face looked for, in the reduced frame")
    batch_frames: int = Field(8, ge=1, le=64, description="frames detected at once, at most")
    batch_mib: int = Field(32, ge=1, description="bytes of the frames detected at once, at most")
    min_vote_px: int = Field(48, ge=1, description="shorter side of a face box below which it does not vote")
    min_vote_quality: float = Field(0.1, ge=0, le=1, description="quality below which a face does not vote")


class ModelSettings(Section):
    checkpoint: Path | None = Field(None, description="a .safetensors checkpoint; the bundled one when unset")
    backend: Literal["auto", "onnxruntime", "torch"] = "auto"
    threads: int = Field(2, ge=1, le=64, description="threads of detector and classifier")
    batch: int = Field(16, ge=1, le=256, description="crops scored at once")
    cache_dir: Path | None = Field(None, description="exports of other checkpoints; the user's cache folder when unset")


class VerdictSettings(Section):
    rule: Literal["mean_logit", "confident", "weighted", "consecutive", "windowed"] = "windowed"
    min_votes: int = Field(3, ge=1, description="faces a video's track needs before it may decide; a picture needs one")
    max_gap_s: float = Field(10.0, gt=0, description="a video looked at more thinly is never called real")
    fake_from: float | None = Field(
        None, ge=0, le=1, description="score from which the verdict is fake; the checkpoint's own when unset"
    )
    real_below: float | None = Field(
        None, ge=0, le=1, description="score below which the verdict is real; the checkpoint's own when unset"
    )
    max_frame_std: float | None = Field(None, gt=0, description="spread of frame logits above which the verdict is uncertain")


class OutputSettings(Section):
    evidence_per_track: int = Field(3, ge=0, le=32, description="evidence crops kept for each track")


class Settings(Section):
    """All settings of the worker, with their defaults."""

    decode: DecodeSettings = DecodeSettings()
    sampling: SamplingSettings = SamplingSettings()
    faces: FaceSettings = FaceSettings()
    model: ModelSettings = ModelSettings()
    verdict: VerdictSettings = VerdictSettings()
    output: OutputSettings = OutputSettings()


def _merged(low: Json, high: Json) -> Json:
    """``high`` over ``low``, section by section."""
    out = dict(low)
    for key, value in high.items():
        out[key] = _merged(out[key], value) if isinstance(value, dict) and isinstance(out.get(key), dict) else value
    return out


def _from_file(path: Path) -> Json:
    try:
        content: Any = yaml.safe_load(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as exc:
        raise ConfigError(f"cannot read settings from {path}: {exc}") from exc
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: expected sections such as 'decode:' at the top level")
    return content


def _from_environment() -> Json:
    """``VERIFRAME_SECTION__KEY`` variables as sections; an unknown one is kept, and refused with the rest."""
    found: Json = {}
    for name, value in os.environ.items():
        if not name.startswith(PREFIX):
            continue
        section, _, key = name.removeprefix(PREFIX).lower().partition("__")
        if not key:
            raise ConfigError(f"environment variable {name}: expected {PREFIX}SECTION__KEY, such as {PREFIX}DECODE__TIMEOUT_S")
        found.setdefault(section, {})[key] = yaml.safe_load(value) if value else None
    return found


def load_settings(path: Path | None = None, flags: Json | None = None) -> Settings:
    """Settings from an optional file, the environment and flags (nested, only what was given). Raises ConfigError naming the key."""
    merged = _merged(_merged(_from_file(path) if path else {}, _from_environment()), flags or {})
    try:
        return Settings.model_validate(merged)
    except ValidationError as exc:
        lines = [f"{'.'.join(str(part) for part in error['loc'])}: {error['msg']}" for error in exc.errors()]
        raise ConfigError("settings cannot be used:\n  " + "\n  ".join(lines)) from exc
