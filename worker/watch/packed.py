"""Small numbers as text in a cursor: exact, and a fraction of what JSON would take."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from worker.faces.track import GRID, THUMBNAIL, FrameSighting, LinkerState, TrackState
from worker.types import Face, Json

_FACE = np.dtype(
    [
        ("pts_s", "<f8"),
        ("box_xyxy", "<f4", 4),
        ("prob", "<f4"),
        ("quality", "<f4"),
        ("logit", "<f4"),
        ("track", "<i4"),
        ("too_small", "?"),
    ]
)
"""Without a vote the logit is not a number."""
_MOST: Final = {"pts_s": 1e9, "box_xyxy": 1e6, "prob": 1.01, "quality": 1.01, "logit": 1e4}
"""No value is further from 0; the limits are those of ``worker.watch.cursor``."""
_VOTE = np.dtype([("pts_s", "<f8"), ("quality", "<f4"), ("logit", "<f4"), ("track", "<i4")])


def pack_faces(faces: Sequence[Face]) -> str:
    rows = [
        (face.pts_s, face.box_xyxy, face.det_prob, face.quality, _or_nan(face.logit), face.track, face.too_small)
        for face in faces
    ]
    return _text(np.array(rows, _FACE).tobytes())


def unpack_faces(text: str) -> list[Face]:
    """Raises ValueError."""
    return [
        Face(
            pts_s=float(row["pts_s"]),
            box_xyxy=_box(row["box_xyxy"]),
            det_prob=float(row["prob"]),
            track=int(row["track"]),
            quality=float(row["quality"]),
            logit=None if np.isnan(row["logit"]) else float(row["logit"]),
            too_small=bool(row["too_small"]),
        )
        for row in _rows(text, _FACE)
    ]


def pack_votes(faces: Sequence[Face]) -> str:
    """Faces without their places, which a verdict does not ask for."""
    rows = [(face.pts_s, face.quality, _or_nan(face.logit), face.track) for face in faces]
    return _text(np.array(rows, _VOTE).tobytes())


def unpack_votes(text: str) -> list[Face]:
    """Raises ValueError."""
    return [
        Face(
            pts_s=float(row["pts_s"]),
            box_xyxy=(0.0, 0.0, 0.0, 0.0),
            det_prob=1.0,
            track=int(row["track"]),
            quality=float(row["quality"]),
            logit=None if np.isnan(row["logit"]) else float(row["logit"]),
        )
        for row in _rows(text, _VOTE)
    ]


def pack_times(times_s: Sequence[float]) -> str:
    return _text(np.asarray(times_s, "<f8").tobytes())


def unpack_times(text: str) -> list[float]:
    """Raises ValueError."""
    return [float(time_s) for time_s in _numbers(text, "<f8", 1e9)]


def pack_linker(state: LinkerState) -> Json:
    before = state.before
    return {
        "n": state.n_tracks,
        "tracks": [
            [one.number, _text(np.asarray(one.box_xyxy, "<f4").tobytes()), _text(one.appearance_A.astype("<f4").tobytes())]
            for one in state.tracks
        ],
        "before": None if before is None else [before.pts_s, _text(before.signature_G3.astype("<f4").tobytes())],
    }


def unpack_linker(data: Json) -> LinkerState:
    """Raises ValueError, KeyError, TypeError."""
    before = data["before"]
    return LinkerState(
        tracks=tuple(
            TrackState(
                number=int(number),
                box_xyxy=_box(_numbers(box, "<f4", 1e6)),
                appearance_A=_numbers(appearance, "<f4", 1e3).reshape(3 * GRID**2).astype(np.float32),
            )
            for number, box, appearance in data["tracks"]
        ),
        n_tracks=int(data["n"]),
        before=None
        if before is None
        else FrameSighting(
            pts_s=float(before[0]),
            signature_G3=_numbers(before[1], "<f4", 1e3).reshape(THUMBNAIL**2, 3).astype(np.float32),
            faces=(),
        ),
    )


def _or_nan(value: float | None) -> float:
    return float("nan") if value is None else value


def _box(values: object) -> tuple[float, float, float, float]:
    x1, y1, x2, y2 = (float(value) for value in np.asarray(values))
    return x1, y1, x2, y2


def _rows(text: str, kind: np.dtype[Any]) -> np.ndarray[Any, Any]:
    """Raises ValueError for what is out of bounds."""
    rows = np.frombuffer(_bytes(text), kind)
    for name in kind.names or ():
        values, most = np.asarray(rows[name], np.float64), _MOST.get(name)
        if name == "logit":
            values = values[~np.isnan(values)]
        least = 0.0 if name in ("pts_s", "prob", "quality") else -(most or 0.0)
        if most is not None and not np.all((values >= least) & (values <= most)):
            raise ValueError(f"{name} out of bounds")
    return rows


def _numbers(text: str, kind: str, most: float) -> np.ndarray[Any, Any]:
    values = np.frombuffer(_bytes(text), kind)
    if not np.all(np.abs(values) <= most):
        raise ValueError("a number out of bounds")
    return values


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _bytes(text: str) -> bytes:
    return base64.b64decode(text, validate=True)
