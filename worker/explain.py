"""Occlusion maps: how much of a crop's score hangs on each part of it, by hiding one part after the other.

Asked of the ``Classifier`` port alone, so it is the same on every backend. A part is hidden by the colours of its surroundings,
with soft edges: a hard edge would look like a pasted face. What is measured is how far the logit falls; what raises it when it is
hidden spoke for a real face, and is not drawn. After Zeiler and Fergus, Visualizing and Understanding Convolutional Networks,
2014.

Axes: G parts of a row and of a column, P = G * G parts, S pixels of a crop's side, H rows, W columns, C colours (RGB).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import cv2
import numpy as np

from worker.deciding import ranked
from worker.evidence import encoded
from worker.report import Evidence, Report, Track
from worker.types import Float32, UInt8

GRID: Final = 7
"""Parts overlap: each is twice as wide as the distance from one to the next."""
FILL: Final = 3
"""What hides a part is the crop at so many pixels a side, enlarged: coarser than a part, or it would show what it hides."""
MOST_MAPS: Final = 4
"""Tracks with a map in one report, those that decide and those of the highest scores first."""
WEAK_LOGIT: Final = 1.0
"""A fall that is smaller is drawn paler than the strongest colour."""
OUTLINED: Final = 0.5
"""The outline holds the parts with so much of the largest fall."""
QUALITY: Final = 90

Score = Callable[[UInt8], Float32]
"""uint8 crops [F, S, S, 3] -> logits [F]."""


def explained(report: Report, pictures: Mapping[str, bytes], score: Score) -> tuple[Report, dict[str, bytes]]:
    """The report with a map of the first crop of its most suspicious tracks, and all pictures by name."""
    made = dict(pictures)
    chosen = {track.id for track in [track for track in ranked(report) if _crop(track) in pictures][:MOST_MAPS]}
    tracks = tuple(_with_map(track, made, score) if track.id in chosen else track for track in report.tracks)
    return report.model_copy(update={"tracks": tracks}), made


def _crop(track: Track) -> str | None:
    return track.evidence[0].crop if track.evidence else None


def _with_map(track: Track, pictures: dict[str, bytes], score: Score) -> Track:
    first: Evidence = track.evidence[0]
    name = f"{str(first.crop).removesuffix('.jpg')}_map.jpg"
    crop_SSC = _decoded(pictures[str(first.crop)])
    pictures[name] = encoded(drawn(crop_SSC, occlusion_map(crop_SSC, score)), QUALITY)
    return track.model_copy(update={"evidence": (first.model_copy(update={"explanation": name}), *track.evidence[1:])})


def _decoded(jpeg: bytes) -> UInt8:
    """One of our own pictures as RGB."""
    bgr_HWC = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    if bgr_HWC is None:
        raise RuntimeError("OpenCV could not read a crop that it wrote")
    return np.asarray(cv2.cvtColor(bgr_HWC, cv2.COLOR_BGR2RGB), np.uint8)


def occlusion_map(crop_SSC: UInt8, score: Score) -> Float32:
    """float32 [G, G]: by how much the logit falls where each part is hidden; below 0: it rises."""
    logits_P = score(np.concatenate([crop_SSC[None], hidden(crop_SSC)]))
    return np.asarray(logits_P[0] - logits_P[1:].reshape(GRID, GRID), np.float32)


def hidden(crop_SSC: UInt8) -> UInt8:
    """uint8 [P, S, S, 3]: the crop with one part after the other hidden, row by row."""
    side = crop_SSC.shape[0]
    coarse = cv2.resize(crop_SSC, (FILL, FILL), interpolation=cv2.INTER_AREA)
    fill_SSC = cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC).astype(np.float32)
    change_SSC = fill_SSC - crop_SSC
    strip_GS = _strips(side)
    out_PSSC = np.empty((GRID * GRID, *crop_SSC.shape), np.uint8)
    for place, out_SSC in enumerate(out_PSSC):
        weight_SS1 = np.outer(strip_GS[place // GRID], strip_GS[place % GRID])[:, :, None]
        out_SSC[...] = np.clip(np.rint(crop_SSC + weight_SS1 * change_SSC), 0, 255)
    return out_PSSC


def _strips(side: int) -> Float32:
    """float32 [G, S]: 1 within a part, falling to 0 over a seventh of its width at each edge."""
    step = side / GRID
    soft = step * 2 / 7
    centre_G1 = (np.arange(GRID)[:, None] + 0.5) * step
    distance_GS = np.abs(np.arange(side)[None] + 0.5 - centre_G1)
    return np.asarray(np.clip((step + soft / 2 - distance_GS) / soft, 0, 1), np.float32)


def drawn(crop_SSC: UInt8, fall_GG: Float32) -> UInt8:
    """The crop in grey under the map: from no colour to yellow by how far the score falls (cividis, which reads the same with any
    colour vision), with an outline around the parts of at least half the largest fall."""
    side = crop_SSC.shape[0]
    most = max(float(fall_GG.max()), 0.0)
    fall_SS = np.clip(cv2.resize(np.maximum(fall_GG, 0), (side, side), interpolation=cv2.INTER_CUBIC), 0, None)
    strength_SS = np.clip(fall_SS / max(most, WEAK_LOGIT), 0, 1)
    colour_SSC = cv2.cvtColor(
        cv2.applyColorMap(np.asarray(np.rint(255 * strength_SS), np.uint8), cv2.COLORMAP_CIVIDIS), cv2.COLOR_BGR2RGB
    )
    grey_SS = cv2.cvtColor(crop_SSC, cv2.COLOR_RGB2GRAY)
    cover_SS1 = np.clip(1.2 * strength_SS, 0, 0.6)[:, :, None]
    out_SSC = np.asarray(np.rint((1 - cover_SS1) * grey_SS[:, :, None] + cover_SS1 * colour_SSC), np.uint8)
    if most > WEAK_LOGIT / 10:
        inside_SS = np.asarray(fall_SS >= OUTLINED * most, np.uint8)
        outlines, _ = cv2.findContours(inside_SS, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(out_SSC, outlines, -1, (0, 0, 0), 3)
        cv2.drawContours(out_SSC, outlines, -1, (255, 255, 255), 1)
    return out_SSC
