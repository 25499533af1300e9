"""What could tell fake from real without looking at the face: size, compression, borders, grayness, frame rate.

Each feature alone is given to a small decision tree (which also finds a *middle* range, a missing value or a codec), judged out
of fold by AUC: 0.5 says nothing, 1.0 is a perfect shortcut. A source where one is above ``FLAGGED`` teaches that feature rather
than faces, unless pairs share their degradation (``training.augment``) and their geometry.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from training.leaks import Placed
from training.metrics import auc
from worker.errors import CorruptMedia, VeriframeError
from worker.frames import probe
from worker.frames.limits import Limits
from worker.types import UInt8

FLAGGED = 0.8
FOLDS = 5
MIN_FILES = 10
"""Of each label, for a number."""
FILE_FEATURES = ("width", "height", "bytes a pixel", "JPEG quality", "frame rate", "format")
CROP_FEATURES = ("face px", "border share", "gray share")
FLAT_STD = 2.0
GRAY_SPREAD = 6
_LUMINANCE = (
    16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55,
    14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29, 51, 87, 80, 62,
    18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92,
    49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99,
)  # fmt: skip
"""Quantisation of luminance at quality 50 (ITU-T T.81, table K.1)."""
P = TypeVar("P", bound=Placed)
Value = float | str
Features = Mapping[str, Value]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shortcut:
    """One feature of one source (or ``all``): medians by label (of ``format``: the commonest) and the AUC of it alone."""

    source: str
    feature: str
    real: Value
    fake: Value
    auc: float

    @property
    def is_flagged(self) -> bool:
        return self.auc > FLAGGED


def jpeg_quality(path: Path) -> float:
    """libjpeg's quality, 1 to 100, whose luminance table is nearest in sum; nan for another format."""
    with Image.open(path) as picture:
        tables: dict[int, list[int]] = getattr(picture, "quantization", {})
    return quality_of(tables[0]) if 0 in tables else float("nan")


def quality_of(table: Sequence[int]) -> float:
    """Of one luminance table of 64 entries, in any order."""
    qualities = np.arange(1, 101)
    scale_Q = np.where(qualities < 50, 5000 / qualities, 200 - 2 * qualities)
    sums_Q = np.clip(np.floor((np.array(_LUMINANCE) * scale_Q[:, None] + 50) / 100), 1, 255).sum(1)
    return float(qualities[np.abs(sums_Q - sum(table)).argmin()])


def of_file(path: Path) -> dict[str, Value]:
    """Features of a file by its head alone. Raises VeriframeError or OSError where it cannot be opened."""
    size_bytes = path.stat().st_size
    try:
        with Image.open(path) as picture:
            width, height, frames, kind, fps = *picture.size, getattr(picture, "n_frames", 1), str(picture.format), float("nan")
        quality = jpeg_quality(path) if kind == "JPEG" else float("nan")
    except UnidentifiedImageError:
        width, height, frames, kind, fps = _of_video(path)
        quality = float("nan")
    except (OSError, MemoryError):
        raise
    except Exception as exc:  # Pillow's parsers raise what they meet in a damaged head: TypeError, IndexError, SyntaxError
        raise CorruptMedia(f"cannot be read as a picture: {exc}") from exc
    return {
        "width": float(width),
        "height": float(height),
        "bytes a pixel": size_bytes / max(1, width * height * max(1, frames)),
        "JPEG quality": quality,
        "frame rate": fps,
        "format": kind,
    }


def _of_video(path: Path) -> tuple[int, int, int, str, float]:
    limits = Limits()
    with path.open("rb") as file, probe.open_container(file, limits) as container:
        stream = probe.video_stream(container, limits)
        context = stream.codec_context
        fps = float(stream.average_rate or stream.guessed_rate or 0)
        frames = stream.frames or round(probe.duration_of(container, stream) * fps)
        return context.width, context.height, frames, f"{container.format.name.split(',')[0]}/{context.codec.canonical_name}", fps


def of_crop(crop_HWC: UInt8, side_px: float) -> dict[str, Value]:
    """Features of a cached crop: the face's size in the file, the share of flat rows and columns at its edges, of gray pixels."""
    spread_HW = crop_HWC.max(axis=2).astype(np.int16) - crop_HWC.min(axis=2)
    return {
        "face px": side_px,
        "border share": border_share(crop_HWC),
        "gray share": float((spread_HW <= GRAY_SPREAD).mean()),
    }


def border_share(rgb_HWC: UInt8) -> float:
    """Share of the pixels in rows and columns of one colour at the edges."""
    grey_HW = rgb_HWC.mean(axis=2)
    height, width = grey_HW.shape
    rows, columns = (int(np.argmin([*(grey_HW.std(axis=axis) < FLAT_STD), False])) for axis in (1, 0))
    rows_end, columns_end = (int(np.argmin([*(grey_HW.std(axis=axis)[::-1] < FLAT_STD), False])) for axis in (1, 0))
    inner = max(0, height - rows - rows_end) * max(0, width - columns - columns_end)
    return 1.0 - float(inner / (height * width))


def of_files(files: Iterable[P], root: Path) -> tuple[list[tuple[P, dict[str, Value]]], list[str]]:
    """Features of each file under ``root``, and the paths that could not be opened; ``files``: a row each."""
    found: list[tuple[P, dict[str, Value]]] = []
    unread: list[str] = []
    for row in files:
        try:
            found.append((row, of_file(root / row.path)))
        except (VeriframeError, OSError):
            unread.append(row.path)
    return found, unread


def shortcuts(measured: Sequence[tuple[Placed, Features]]) -> list[Shortcut]:
    """One for each source of two labels and for all of them, and each feature that varies, over the files where it is known."""
    parts: dict[str, list[tuple[Placed, Features]]] = defaultdict(list)
    for row, features in measured:
        parts[row.source].append((row, features))
    with_both = {name: part for name, part in parts.items() if len({row.label for row, _ in part}) == 2}
    if len(parts) > 1:
        with_both["all"] = list(measured)
    return [found for name, part in sorted(with_both.items()) for found in _of_source(name, part)]


def _of_source(name: str, part: Sequence[tuple[Placed, Features]]) -> list[Shortcut]:
    found: list[Shortcut] = []
    for feature in (*FILE_FEATURES, *CROP_FEATURES):
        known = [(row.label == "fake", features[feature]) for row, features in part if feature in features]
        values = [value for _, value in known]
        if len({repr(value) for value in values}) > 1:
            real, fake = (_typical([value for is_fake, value in known if is_fake == which]) for which in (False, True))
            alone = one_feature_auc(values, np.array([is_fake for is_fake, _ in known]))
            found.append(Shortcut(source=name, feature=feature, real=real, fake=fake, auc=alone))
    return found


def one_feature_auc(values: Sequence[Value], fake_N: npt.NDArray[np.bool_]) -> float:
    """Out-of-fold AUC of a tree of depth three; nan below ``MIN_FILES`` of a label."""
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.tree import DecisionTreeClassifier

    if min(int(fake_N.sum()), int((~fake_N).sum())) < MIN_FILES:
        return float("nan")
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=0)
    tree = DecisionTreeClassifier(max_depth=3, min_samples_leaf=max(2, len(values) // 100), random_state=0)
    score_N = cross_val_predict(tree, _column(values), fake_N, cv=folds, method="predict_proba")[:, 1]
    return auc(fake_N, score_N)


def _column(values: Sequence[Value]) -> npt.NDArray[np.float64]:
    """[N, 1]; names by their place in the alphabet."""
    places = {name: float(place) for place, name in enumerate(sorted({str(v) for v in values if isinstance(v, str)}))}
    return np.array([places[value] if isinstance(value, str) else value for value in values], np.float64)[:, None]


def _typical(values: Sequence[Value]) -> Value:
    names = [value for value in values if isinstance(value, str)]
    if names:
        return max(sorted(set(names)), key=names.count)
    numbers = np.array(values, np.float64)
    return float(np.nanmedian(numbers)) if not np.isnan(numbers).all() else float("nan")
