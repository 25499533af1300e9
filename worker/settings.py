"""Settings: ``configs/worker.yaml`` < environment (``VERIFRAME_SECTION__KEY``) < command-line flags. Unknown keys are errors."""

from __future__ import annotations

import os
import re
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Literal, Self, get_args

import yaml
from pydantic import Field, SecretStr, ValidationError, model_validator
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from worker.errors import ConfigError
from worker.service_settings import (
    ApiSettings,
    ArtifactSettings,
    CallbackSettings,
    QueueSettings,
    RedisSettings,
    Section,
    SourceSettings,
    TelemetrySettings,
    UserPath,
)
from worker.types import Json, MediaKind, Strategy

PREFIX = "VERIFRAME_"


class DecodeSettings(Section):
    decoder: Literal["auto", "pyav", "decord", "nvdec"] = Field(
        default="auto", description="auto: pyav, in software; nvdec: an NVIDIA card where one takes the file, else pyav"
    )
    threads: int = Field(
        default=1, ge=1, le=64, description="threads of one decoding child; with more, damaged files may differ from run to run"
    )
    timeout_s: float = Field(default=120, gt=0, description="wall-clock limit of one item's decoding; the child is killed")
    cpu_s: int = Field(default=600, gt=0, description="CPU-time limit of the decoding child")
    memory_mib: int = Field(default=2048, ge=256, description="address-space limit of the decoding child")
    shared_mib: int = Field(
        default=256, ge=1, description="memory of decoded frames, taken as needed; what is kept beyond: copies"
    )
    max_pixels: int = Field(default=36_000_000, gt=0, description="largest video frame")
    max_picture_pixels: int = Field(default=64_000_000, gt=0, description="largest still picture")
    max_duration_s: float = Field(default=4 * 3600, gt=0, description="longest video")
    max_packets: int = Field(default=2_000_000, gt=0, description="most packets (frames) of a video")
    max_streams: int = Field(default=32, gt=0, description="most streams of a container")
    max_bytes: int = Field(default=16 << 30, gt=0, description="largest file; a larger one is refused unread")


class SamplingSettings(Section):
    strategy: Strategy = Field(default=Strategy.AUTO, description="auto | uniform | fps | keyframes")
    max_frames: int | None = Field(default=None, gt=0, description="most frames looked at, both passes; auto decides when unset")
    fps: float | None = Field(default=None, gt=0, description="frames a second for strategy fps")
    start_s: float = Field(default=0.0, ge=0, description="where the scanned part begins")
    end_s: float | None = Field(default=None, gt=0, description="where it ends; unset: at the end")
    second_pass_frames: int = Field(default=128, ge=0, description="frames auto may add around the worst moments")
    exhaustive: bool = Field(default=False, description="score every frame, even where fewer settle the verdict")
    hold_mib: int = Field(default=224, ge=0, description="frames kept aside until it is known whether they matter")

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        if self.end_s is not None and self.end_s <= self.start_s:
            raise ValueError(f"end_s {self.end_s:g} must lie after start_s {self.start_s:g}")
        if self.strategy is Strategy.FPS and self.fps is None:
            raise ValueError("strategy fps needs fps, the frames a second")
        return self


class FaceSettings(Section):
    backend: Literal["onnxruntime", "onnxruntime-cuda", "openvino", "tensorrt", "tensorrt-rtx"] = Field(
        default="onnxruntime", description="what runs the face detector's networks; tensorrt: an exported artefact's"
    )
    min_face_px: int = Field(default=40, ge=20, description="smallest face looked for, in the reduced frame")
    carry: bool = Field(default=False, description="follow faces between fully detected frames at most a second apart")
    batch_frames: int | None = Field(
        default=None, ge=1, le=64, description="frames that one thread looks at together, at most; 4, with carry 16, when unset"
    )
    batch_mib: int = Field(default=64, ge=1, description="bytes of the frames detected at once, at most")
    min_vote_px: int = Field(default=48, ge=1, description="shorter side of a face box below which it does not vote")
    min_vote_quality: float = Field(default=0.1, ge=0, le=1, description="quality below which a face does not vote")

    @property
    def frames_together(self) -> int:
        """Few fill the threads evenly; many are what carrying saves by."""
        return self.batch_frames or (16 if self.carry else 4)


class ModelSettings(Section):
    checkpoint: UserPath | None = Field(default=None, description="a .safetensors checkpoint; the bundled one when unset")
    backend: Literal[
        "auto",
        "onnxruntime",
        "onnxruntime-cuda",
        "openvino",
        "openvino-bf16",
        "tensorrt",
        "tensorrt-rtx",
        "torch-tensorrt",
        "torch",
    ] = Field(default="auto", description="auto: the fastest that passes parity on this machine, measured once")
    threads: int | None = Field(
        default=None, ge=1, le=64, description="frames' batches at work at once; the cores, up to 4, if unset"
    )
    batch: int = Field(default=8, ge=1, le=256, description="crops scored at once; onnxruntime on a CPU takes four")
    cache_dir: UserPath | None = Field(
        default=None, description="exports, compiled graphs, the choice of a backend; the user's cache folder when unset"
    )


class VerdictSettings(Section):
    rule: Literal["mean_logit", "confident", "weighted", "consecutive"] = Field(
        default="mean_logit", description="from the votes of a track to its logit"
    )
    windows: bool = Field(default=True, description="search tracks longer than half a minute for a short splice")
    min_votes: int = Field(default=3, ge=1, description="faces a video's track needs before it may decide; a picture needs one")
    max_gap_s: float = Field(default=10.0, gt=0, description="a video looked at more thinly is never called real")
    fake_above: float | None = Field(
        default=None, ge=0, le=1, description="score above which the verdict is fake; the checkpoint's own when unset"
    )
    real_below: float | None = Field(
        default=None, ge=0, le=1, description="score below which the verdict is real; the checkpoint's own when unset"
    )
    max_std: float = Field(default=4.0, gt=0, description="spread of the deciding logits above which the verdict is uncertain")
    min_quality: float = Field(
        default=0.15, ge=0, le=1, description="median quality of the deciding faces below which the verdict is uncertain"
    )

    @model_validator(mode="after")
    def _do_not_cross(self) -> Self:
        if self.real_below is not None and self.fake_above is not None and self.real_below > self.fake_above:
            raise ValueError(f"real_below {self.real_below:g} must not lie above fake_above {self.fake_above:g}")
        return self


MOST_OFFSET = 2.0
"""Largest offset, in log odds: 0.5 becomes 0.12 or 0.88. Footage that needs more needs a model of its own."""
Offset = Annotated[float, Field(ge=-MOST_OFFSET, le=MOST_OFFSET)]


class CalibrationSettings(Section):
    """A calibration on the user's own real footage; ``veriframe calibrate`` writes it."""

    model_sha256: str | None = Field(
        default=None, pattern=r"^[0-9a-f]{64}$", description="the checkpoint that the offsets were fitted with, and hold for"
    )
    offset_video: Offset | None = Field(default=None, description="log odds added to a video's; below 0 it looks less fake")
    offset_picture: Offset | None = Field(default=None, description="log odds added to a picture's")

    @model_validator(mode="after")
    def _bound(self) -> Self:
        if self.model_sha256 is None and (self.offset_video is not None or self.offset_picture is not None):
            raise ValueError("offsets need model_sha256, the checkpoint that they were fitted with")
        return self

    def offsets(self, model_sha256: str) -> dict[MediaKind, float]:
        """Offsets by kind, for scans with this checkpoint. Raises ConfigError where they were fitted with another."""
        if self.model_sha256 not in (None, model_sha256):
            raise ConfigError(
                f"the section 'calibration' of the settings was fitted with another model (sha256 {self.model_sha256}) than this "
                f"one ({model_sha256}): run veriframe calibrate again with this model, or take the section out"
            )
        given = {MediaKind.VIDEO: self.offset_video, MediaKind.PICTURE: self.offset_picture}
        return {kind: offset for kind, offset in given.items() if offset is not None}


class OutputSettings(Section):
    evidence_per_track: int = Field(default=3, ge=0, le=32, description="evidence crops kept for each track")
    explain: bool = Field(default=False, description="occlusion maps of the worst crop of up to 4 tracks, where crops are kept")


class WatchSettings(Section):
    """Streams watched as they run."""

    window_s: float = Field(default=10, gt=0, le=120, description="length of the stretch that a rolling verdict is about")
    hop_s: float = Field(default=5, ge=0.5, le=120, description="a verdict every so often; no longer than the window")
    fps: float = Field(default=2, gt=0, le=10, description="frames looked at in a second")
    max_duration_s: float = Field(default=6 * 3600, gt=0, description="a watch ends after so much of the stream")
    max_behind_s: float = Field(
        default=30, gt=0, description="further behind the stream, what is oldest is left out; half as far, every other frame"
    )
    give_up_s: float = Field(default=120, gt=0, description="a stream from which nothing new comes for so long is lost")
    file_ends_s: float = Field(default=30, gt=0, description="a file that does not grow for so long is finished")
    stall_s: float = Field(default=10, gt=0, description="without a byte for so long, a connection is made anew")
    piece_s: float = Field(default=2, gt=0, le=30, description="least length of the pieces that MPEG-TS and FLV are cut into")

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        if self.hop_s > self.window_s:
            raise ValueError(f"hop_s {self.hop_s:g} must be no longer than window_s {self.window_s:g}")
        if (self.window_s + 2 * self.hop_s) * self.fps > 300:
            raise ValueError(
                f"fps {self.fps:g} is too much for windows of {self.window_s:g} s: at most 300 frames are remembered"
            )
        return self


class Settings(Section):
    """All settings of the worker, with their defaults."""

    decode: DecodeSettings = DecodeSettings()
    sampling: SamplingSettings = SamplingSettings()
    faces: FaceSettings = FaceSettings()
    model: ModelSettings = ModelSettings()
    verdict: VerdictSettings = VerdictSettings()
    calibration: CalibrationSettings = CalibrationSettings()
    output: OutputSettings = OutputSettings()
    redis: RedisSettings = RedisSettings()
    queue: QueueSettings = QueueSettings()
    source: SourceSettings = SourceSettings()
    artifacts: ArtifactSettings = ArtifactSettings()
    callbacks: CallbackSettings = CallbackSettings()
    api: ApiSettings = ApiSettings()
    watch: WatchSettings = WatchSettings()
    telemetry: TelemetrySettings = TelemetrySettings()


def _merged(low: Json, high: Json) -> Json:
    """``high`` over ``low``, section by section; what stands in ``low`` for a section and is none stays, to be refused."""
    out = dict(low)
    for section, keys in high.items():
        below = out.get(section, {})
        out[section] = below | keys if isinstance(below, dict) else below
    return out


def read_yaml(text: str) -> Any:
    """What the text says. Raises ValueError for whatever cannot be read: PyYAML leaks what its constructors stumble over.

    The error names the place and what is wrong, and quotes nothing of the text but single characters: it may hold a password.
    """
    try:
        return yaml.safe_load(text)
    except RecursionError as exc:
        raise ValueError("nested too deeply") from exc
    except yaml.MarkedYAMLError as exc:
        mark = exc.problem_mark
        place = f" in line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise ValueError(f"{_unquoted(exc.problem or 'no YAML')}{place}") from exc
    except (yaml.YAMLError, ValueError, LookupError, AttributeError) as exc:
        raise ValueError(_unquoted(str(exc))) from exc


def _unquoted(problem: str) -> str:
    return re.sub(r"['\"].{2,}['\"]", "…", problem, flags=re.DOTALL)


def _from_file(path: Path) -> Json:
    try:
        content = read_yaml(path.read_text("utf-8"))
    except (OSError, ValueError) as exc:
        raise ConfigError(f"cannot read settings from {path}: {exc}") from exc
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: expected sections such as 'decode:' at the top level")
    return {section: {} if keys is None else keys for section, keys in content.items()}


def _from_environment() -> Json:
    """``VERIFRAME_SECTION__KEY`` variables as sections; an unknown one is kept, and refused with the rest."""
    found: Json = {}
    for name, value in os.environ.items():
        if not name.startswith(PREFIX):
            continue
        section, _, key = name.removeprefix(PREFIX).lower().partition("__")
        if not key:
            raise ConfigError(f"environment variable {name}: expected {PREFIX}SECTION__KEY, such as {PREFIX}DECODE__TIMEOUT_S")
        try:
            found.setdefault(section, {})[key] = _told(value, _fields(section).get(key))
        except ValueError as exc:
            raise ConfigError(f"environment variable {name} cannot be read: {exc}") from exc
    return found


def _told(value: str, field: FieldInfo | None) -> Any:
    """What a variable says: text as it stands, but for the line end of a file that it was taken from; anything else as YAML.
    An empty one unsets; so does ``null``, but for a secret."""
    kinds = _kinds(field) if field else set()
    value = value.removesuffix("\n").removesuffix("\r")
    if not value or not kinds <= {str, Path, SecretStr}:
        return read_yaml(value) if value else None
    is_unset = value in ("null", "~") and SecretStr not in kinds and field and field.default is None
    return None if is_unset else value


def _fields(section: str) -> dict[str, FieldInfo]:
    """A section's keys; empty where there is no such section."""
    field = Settings.model_fields.get(section)
    return field.annotation.model_fields if field and isinstance(field.annotation, type(Section)) else {}


def _kinds(field: FieldInfo) -> set[Any]:
    """The types that a key takes, besides none at all."""
    return {getattr(kind, "__origin__", kind) for kind in get_args(field.annotation) or (field.annotation,)} - {NoneType}


def default_file() -> Path | None:
    """``configs/worker.yaml`` of the checkout that this package runs from; None where it is installed apart from one."""
    path = Path(__file__).parents[1] / "configs" / "worker.yaml"
    return path if path.is_file() else None


def load_settings(path: Path | None = None, flags: Json | None = None) -> Settings:
    """Settings from an optional file, the environment and flags (nested, only those given). Raises ConfigError naming the key."""
    merged = _merged(_merged(_from_file(path) if path else {}, _from_environment()), flags or {})
    try:
        return Settings.model_validate(merged)
    except ValidationError as exc:
        raise ConfigError("settings cannot be used:\n  " + "\n  ".join(_plain(error) for error in exc.errors())) from exc


IN_YAML = {"tuple_type": "input should be a list, as in [a, b]", "model_type": "input should be a section, as in {a: b}"}
"""What pydantic tells by names of Python's, in words of the file."""


def _plain(error: ErrorDetails) -> str:
    """One mistake in words: the key, what is wrong, and what was given, unless a password may be in it."""
    key = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        return f"{re.split('[:=]', key)[0]}: there is no such setting"  # password:WORD is a key in braces
    if error["type"] == "value_error":
        return f"{key}: {error['ctx']['error']}"
    given = "" if _may_hold_a_password(*error["loc"][:2]) else f", not {error['input']!r}"
    said = IN_YAML.get(error["type"], error["msg"])
    return f"{key}: {said[:1].lower()}{said[1:]}{given}"


def _may_hold_a_password(section: int | str, key: int | str | None = None) -> bool:
    """A key whose values are left out of any ``repr``, or a section that has one: `password:WORD` is a text in its place."""
    fields = _fields(str(section))
    return any(not field.repr for name, field in fields.items() if key in (None, name))
