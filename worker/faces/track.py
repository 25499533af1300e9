"""Links the faces of looked-at frames, often seconds apart, to tracks within shots.

Without a face embedder nobody can promise that two tracks are two people: a track is a face that can be followed by place, size
and colours. What is remembered of a face (``FaceSighting``) and of a frame (``FrameSighting``) is small and of fixed size, so
that all of an item's can be kept and linked again, in rising time, after a second pass has looked between the first's frames.

Legend: G cells of a grid, 3 colours (CIE L*a*b*, lightness scaled to 0..1), A numbers of an appearance, T tracks, N faces.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import cv2
import numpy as np
import numpy.typing as npt

from worker.types import Float32, Glance, UInt8

GRID = 4
"""A crop is described by the mean colours of GRID x GRID cells."""
THUMBNAIL = 8
"""A frame's signature is THUMBNAIL x THUMBNAIL mean colours."""
LEAST_CELL_PX = 8
"""From this side on, of cells as of a frame's signature, at most a tenth of either side is left out."""
CUT_LAYOUT, CUT_PALETTE = 0.09, 0.05
"""Mean colour difference, cell by cell and between sorted cells, beyond which two frames belong to two shots. On 25 clips, frames
of one shot up to 4 s apart reached 0.062 and 0.050; 98 % of the pairs of frames of different clips lie beyond both."""
APPEARANCE_NEAR, APPEARANCE_FAR = 0.12, 0.06
"""Mean colour difference up to which faces that overlap, or do not, may be one. One face over 4 s: median 0.015, at most 0.072;
two faces in one frame: median 0.083."""
APPEARANCE_UNIT = 0.04
"""Colour difference that weighs as much as the step from full overlap to none."""
OVERLAP = 0.3
"""IoU from which two boxes count as overlapping."""
REACH = 3.0
"""Farthest that a face moves between looked-at frames of a shot, in units of its side."""
SIZE_RATIO = 2.0
"""Greatest ratio of the sides of two boxes of one track that do not overlap."""
MEMORY = 0.7
"""Weight of the past in a track's running mean colours."""
_XYZ_OF_RGB = np.array([(0.4124, 0.3576, 0.1805), (0.2126, 0.7152, 0.0722), (0.0193, 0.1192, 0.9505)])
XYZ_OF_RGB = (_XYZ_OF_RGB / _XYZ_OF_RGB.sum(axis=1, keepdims=True)).T
"""Linear sRGB (rows) to CIE XYZ (columns), white point D65 (IEC 61966-2-1), in units of white's."""
LINEAR_OF_LEVEL = np.array([x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in np.arange(256) / 255])
"""sRGB's 256 levels as linear light of 0 to 1 (the same standard)."""
TRACKS = 256
"""Most tracks of a shot that a face may join, those seen last: a crowd would otherwise begin tens of thousands."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FaceSighting:
    """What is remembered of a face: its box, and float32 [48] mean colours over its crop."""

    box_xyxy: tuple[float, float, float, float]
    appearance_A: Float32


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FrameSighting(Glance):
    """What is remembered of a looked-at frame: its time, its mean colours and its faces."""

    faces: tuple[FaceSighting, ...]


def describe_face(box_4: Float32, crop_HWC: UInt8) -> FaceSighting:
    """Remember a face by its box (xyxy, pixels of the frame) and its crop (uint8 RGB)."""
    x1, y1, x2, y2 = (float(v) for v in box_4)
    return FaceSighting(box_xyxy=(x1, y1, x2, y2), appearance_A=_mean_colours(crop_HWC, GRID).reshape(-1))


def describe_frame(pts_s: float, rgb_HWC: UInt8, faces: Sequence[FaceSighting]) -> FrameSighting:
    """Remember a frame (uint8 RGB of any size) with its faces."""
    return FrameSighting(pts_s=pts_s, signature_G3=_mean_colours(rgb_HWC, THUMBNAIL), faces=tuple(faces))


def _mean_colours(rgb_HWC: UInt8, cells: int) -> Float32:
    """float32 [cells * cells, 3] L*a*b* in units in which lightness runs from 0 to 1."""
    return (_lab(_means(rgb_HWC, cells)) / 100).astype(np.float32)


def _means(rgb_HWC: UInt8, cells: int) -> UInt8:
    """[cells * cells, 3]: the mean of each, as ``cv2.resize`` gives it, which takes up to twenty times as long where cells are no
    whole pixels. So rows and columns that make up no whole cell are left out, but where cells are small: they would be much."""
    height, width = (side // cells for side in rgb_HWC.shape[:2])
    if min(height, width) < LEAST_CELL_PX:
        return np.asarray(cv2.resize(rgb_HWC, (cells, cells), interpolation=cv2.INTER_AREA), np.uint8).reshape(-1, 3)
    sums_KWC = np.empty((cells, width * cells, 3), np.int32)
    for row, sum_WC in enumerate(sums_KWC):
        band = rgb_HWC[row * height : (row + 1) * height, : width * cells]
        cv2.reduce(band, 0, cv2.REDUCE_SUM, sum_WC[None], cv2.CV_32S)
    planes_CGW = np.ascontiguousarray(sums_KWC.reshape(-1, width, 3).transpose(2, 0, 1))  # summed four times as fast
    mean_CG = planes_CGW.sum(axis=2).astype(np.float32) * np.float32(1 / (height * width))
    return np.asarray(np.rint(mean_CG.T), np.uint8)


def _lab(rgb_N3: UInt8) -> npt.NDArray[np.float64]:
    """sRGB (IEC 61966-2-1) as CIE L*a*b*, white point D65. OpenCV's first such conversion takes a tenth of a second to build
    tables, and is less exact."""
    xyz_N3 = LINEAR_OF_LEVEL[rgb_N3] @ XYZ_OF_RGB
    x, y, z = np.where(xyz_N3 > (6 / 29) ** 3, np.cbrt(xyz_N3), xyz_N3 * 841 / 108 + 4 / 29).T
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=1)


def is_cut(before: Glance, after: Glance) -> bool:
    """Whether two looked-at frames that follow each other belong to different shots.

    A cut changes the picture cell by cell (layout) and in its colours at large (palette); a moving camera or person changes the
    layout alone. Similar views of one place are taken for one shot.
    """
    return _layout_change(before, after) > CUT_LAYOUT and _palette_change(before, after) > CUT_PALETTE


def _layout_change(before: Glance, after: Glance) -> float:
    return float(np.abs(before.signature_G3 - after.signature_G3).mean())


def _palette_change(before: Glance, after: Glance) -> float:
    return float(np.abs(np.sort(before.signature_G3, axis=0) - np.sort(after.signature_G3, axis=0)).mean())


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TrackState:
    """A track that a face may join."""

    number: int
    box_xyxy: tuple[float, float, float, float]
    appearance_A: Float32


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LinkerState:
    """All that a ``Linker`` remembers: one made with it goes on exactly as the first would have."""

    tracks: tuple[TrackState, ...] = ()
    n_tracks: int = 0
    before: FrameSighting | None = None
    """The last frame; its faces do not matter."""


class Linker:
    """Links one frame after the other, as they come; what it remembers is bounded (``most_tracks``).

    A cut ends all tracks, and so does a step back in time. Within a shot each face joins at most one track and each track gets
    at most one face of a frame: pairs are taken by rising cost (``_costs``), and a face that no track may take begins one. A face
    that comes back within its shot may join its track again, unless ``most_tracks`` others were seen since.
    """

    def __init__(self, state: LinkerState | None = None, *, most_tracks: int = TRACKS) -> None:
        state = state or LinkerState()
        self._tracks = list(state.tracks)
        self._n_tracks = state.n_tracks
        self._before = state.before
        self._most_tracks = most_tracks

    def state(self) -> LinkerState:
        """What is remembered now."""
        return LinkerState(tracks=tuple(self._tracks), n_tracks=self._n_tracks, before=self._before)

    def add(self, frame: FrameSighting) -> tuple[int, ...]:
        """Track numbers of the frame's faces, from 0 by first appearance."""
        before, self._before = self._before, frame
        if before is not None and (frame.pts_s < before.pts_s or is_cut(before, frame)):
            self._tracks = []
        seen: list[TrackState] = []
        for face, track in zip(frame.faces, _assign(self._tracks, frame.faces), strict=True):
            if track is None:
                track = TrackState(number=self._n_tracks, box_xyxy=face.box_xyxy, appearance_A=face.appearance_A)
                self._n_tracks += 1
            appearance_A = np.asarray(MEMORY * track.appearance_A + (1 - MEMORY) * face.appearance_A, np.float32)
            seen.append(replace(track, box_xyxy=face.box_xyxy, appearance_A=appearance_A))
        numbers = tuple(track.number for track in seen)
        self._tracks = [*(track for track in self._tracks if track.number not in numbers), *seen][-self._most_tracks :]
        return numbers


def link(frames: Sequence[FrameSighting]) -> list[tuple[int, ...]]:
    """Track numbers of the faces of each frame; frames must come in rising time. Raises ValueError where times fall."""
    if any(after.pts_s < before.pts_s for before, after in pairwise(frames)):
        raise ValueError("frames must come in rising time")
    linker = Linker()
    return [linker.add(frame) for frame in frames]


def _assign(tracks: Sequence[TrackState], faces: Sequence[FaceSighting]) -> list[TrackState | None]:
    """The track that each face continues, or None; no track twice."""
    result: list[TrackState | None] = [None] * len(faces)
    if not tracks or not faces:
        return result
    cost_TN = _costs(tracks, faces)
    for _ in range(min(cost_TN.shape)):
        track, face = divmod(int(cost_TN.argmin()), len(faces))
        if not np.isfinite(cost_TN[track, face]):
            break
        result[face] = tracks[track]
        cost_TN[track], cost_TN[:, face] = np.inf, np.inf
    return result


def _costs(tracks: Sequence[TrackState], faces: Sequence[FaceSighting]) -> Float32:
    """[T, N]: how badly each face continues each track; infinite where it cannot.

    Place costs 1 - IoU, and for boxes that do not overlap also their distance over ``REACH``; colours cost their difference over
    ``APPEARANCE_UNIT``, so that two people who change places between looked-at frames keep their tracks if they look different.
    """
    a = np.array([track.box_xyxy for track in tracks], np.float32)[:, None]
    b = np.array([face.box_xyxy for face in faces], np.float32)[None]
    size_a, size_b = np.maximum(a[..., 2:] - a[..., :2], 1e-3), np.maximum(b[..., 2:] - b[..., :2], 1e-3)
    shared = np.maximum(np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2]), 0).prod(-1)
    iou = shared / (size_a.prod(-1) + size_b.prod(-1) - shared)
    side_a, side_b = np.sqrt(size_a.prod(-1)), np.sqrt(size_b.prod(-1))
    ratio = np.maximum(side_a, side_b) / np.minimum(side_a, side_b)
    centres = (a[..., :2] + a[..., 2:] - b[..., :2] - b[..., 2:]) / 2
    distance = np.hypot(centres[..., 0], centres[..., 1]) / np.maximum(side_a, side_b)
    near, far = iou >= OVERLAP, (distance <= REACH) & (ratio <= SIZE_RATIO)
    looks = np.full(iou.shape, np.inf, np.float32)
    t, n = np.nonzero(near | far)
    looks_of_track, looks_of_face = (np.stack([one.appearance_A for one in side]) for side in (tracks, faces))
    looks[t, n] = np.abs(looks_of_track[t] - looks_of_face[n]).mean(-1)
    cost = 1 - iou + np.where(iou > 0, 0, distance / REACH) + looks / APPEARANCE_UNIT
    return np.where((near & (looks <= APPEARANCE_NEAR)) | (far & (looks <= APPEARANCE_FAR)), cost, np.inf).astype(np.float32)
