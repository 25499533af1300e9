"""The crop cache: every labelled file decoded once, its face found by the worker's detector, cut by the one crop function.

A cached crop is wider than the network sees (``WIDE_MARGIN``), and carries its face box and landmarks in its own pixels; training
cuts the final crop from it, by ``worker.faces.crop`` again, with a jittered margin. Of a fake whose original is known the same
frames are kept as of that, with the original's box: aligned pairs. A file that cannot be used is skipped and noted down
(``training.provenance``). The cache holds private media: it lives outside git.
"""

from __future__ import annotations

import csv
import hashlib
import io
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from rich.progress import Progress

from training import provenance
from training.clips import count_frames, open_frames, read_clip
from training.errors import damaged_shard
from training.provenance import CROP_PX, Skipped
from training.recompress import VARIANTS
from training.room import beside
from training.splits import Item, family_of
from worker.errors import ConfigError, UnsupportedMedia, VeriframeError
from worker.faces.crop import crop_faces, crop_squares
from worker.faces.detect import MtcnnDetector
from worker.ports import FrameSource
from worker.types import Float32, UInt8

WIDE_MARGIN, PICTURES_IN_SHARD = 1.8, 200
FILE_NAME = re.compile("[A-Za-z0-9_-][A-Za-z0-9._-]{0,150}")
"""What a shard may be called: sources and files are named by whoever wrote the manifest."""
VARIANT_FRAMES = 10
TOGETHER = 16
"""Pictures in memory at a time."""
ANOTHER_SCENE = 20.0
"""``difference`` from which two clips are not of one scene; FF++ fakes lie within 15.5 of their originals."""
RECONSTRUCTED = "taesd"
"""Source of pictures of other sources that went through an autoencoder; ``Crop.target`` is the original's path."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Crop:
    """One row of the index. ``box``, ``landmarks``: in cached-crop pixels; ``side_px``: the box's longer side in the file."""

    shard: str
    row: int
    path: str
    label: str
    source: str
    manipulation: str
    group: str
    split: str
    frame: int
    target: str
    """The same for a fake and the original that it is aligned with; else empty."""
    side_px: float
    prob: float
    box: tuple[float, ...]
    landmarks: tuple[float, ...]
    variant: str = ""
    """The recompressed copy that it was cut from (``VARIANTS``); empty: the file itself."""
    family: str = ""

    @property
    def its_family(self) -> str:
        """real, blend, manipulation or synthetic."""
        return family_of(self.label, self.source, self.family)

    @property
    def landmarks_K2(self) -> Float32:
        return np.array(self.landmarks, np.float32).reshape(5, 2)

    @property
    def box_4(self) -> Float32:
        return np.array(self.box, np.float32)


COLUMNS = tuple(field.name for field in fields(Crop))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """A face in one frame: box and landmarks in the frame's pixels."""

    box_4: Float32
    landmarks_K2: Float32
    prob: float


class Finder:
    """The main face of every frame: the largest by area, weighted towards the middle of the frame; upright ones alone."""

    def __init__(self, detector: MtcnnDetector) -> None:
        self._detector = detector

    def faces(self, frames: Mapping[int, UInt8]) -> dict[int, _Found]:
        """By frame number; frames without a sure face are left out."""
        found = self.find(list(frames.values()))
        return {number: face for number, face in zip(frames, found, strict=True) if face is not None}

    def find(self, frames_BHWC: Sequence[UInt8]) -> list[_Found | None]:
        height, width = frames_BHWC[0].shape[:2]
        faces = self._detector.detect(frames_BHWC)
        best: list[_Found | None] = [None] * len(frames_BHWC)
        weight = [0.0] * len(frames_BHWC)
        upright_N = faces.prob_N * (faces.turn_N == 0)
        for box, landmarks, prob, frame in zip(faces.boxes_N4, faces.landmarks_NK2, upright_N, faces.frame_N, strict=True):
            away = np.hypot((box[0] + box[2]) / 2 / width - 0.5, (box[1] + box[3]) / 2 / height - 0.5)
            score = float(prob * (box[2] - box[0]) * (box[3] - box[1]) * (1 - away))
            if prob >= 0.9 and score > weight[frame]:
                best[frame] = _Found(box_4=box, landmarks_K2=landmarks, prob=float(prob))
                weight[frame] = score
        return best


def cut(rgb_HWC: UInt8, box_4: Float32, landmarks_K2: Float32, *, margin: float, size: int) -> tuple[UInt8, Float32, Float32]:
    """The crop [size, size, 3] of a face, and the face's box [4] and landmarks [5, 2] in the crop's pixels."""
    height, width = rgb_HWC.shape[:2]
    crop = crop_faces(rgb_HWC, box_4[None], margin=margin, size=size)[0]
    square = crop_squares(box_4[None], height=height, width=width, margin=margin)[0]
    corner, zoom = np.round(square[:2]), np.float32(size / max(1, round(float(square[2] - square[0]))))
    return crop, (box_4 - np.tile(corner, 2)) * zoom, (landmarks_K2 - corner) * zoom


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """Files that go to one shard: pictures, or one clip with those made of it; ``items[0]`` leads, its boxes serve all."""

    name: str
    items: tuple[Item, ...]
    variant: str = ""


def jobs(items: Sequence[Item], *, recompress: bool = True) -> list[Job]:
    """Clips by their original, other clips one by one, pictures in handfuls of their original's source or their own;
    ``recompress``: aligned training clips also as encoded again."""
    home = {item.aligned_by: item.source for item in items if item.aligned_by and item.label == "real"}
    clips: dict[str, list[Item]] = defaultdict(list)
    pictures: dict[str, list[Item]] = defaultdict(list)
    for item in items:
        source = home.get(item.aligned_by, item.source)
        if item.is_video:
            clips[f"{source}-{item.aligned_by or Path(item.path).stem}"].append(item)
        else:
            pictures[f"{source}-{'pairs' if item.target else item.label}"].append(item)
    planned: list[Job] = []
    for name, members in clips.items():
        if not members[0].aligned_by:
            planned += [Job(name=name if n == 0 else f"{name}-{n}", items=(item,)) for n, item in enumerate(members)]
            continue
        aligned = tuple(sorted(members, key=lambda i: i.label != "real"))
        planned.append(Job(name=name, items=aligned))
        if recompress and aligned[0].split == "train":
            planned += [Job(name=f"{name}-{variant}", items=aligned, variant=variant) for variant in VARIANTS]
    for name, members in pictures.items():
        members.sort(key=lambda i: (i.target, i.label != "real") if i.target else ("", False))
        start = 0
        while start < len(members):
            end = start + PICTURES_IN_SHARD
            while end < len(members) and members[end].target and members[end].target == members[end - 1].target:
                end += 1  # an original and what was made of it stay together
            planned.append(Job(name=f"{name}-{start:05d}", items=tuple(members[start:end])))
            start = end
    return sorted(map(_with_file_name(planned), planned), key=lambda job: (not job.items[0].aligned_by, job.name))


def _with_file_name(planned: Sequence[Job]) -> Callable[[Job], Job]:
    """Gives a job that shares its name with another, in any case, or whose name is none of a file, one of its own."""
    holders = Counter(job.name.casefold() for job in planned)

    def named(job: Job) -> Job:
        if FILE_NAME.fullmatch(job.name) and holders[job.name.casefold()] == 1:
            return job
        digest = hashlib.sha256(f"{job.items[0].path}\0{job.variant}".encode()).hexdigest()
        return replace(job, name=f"{re.sub('[^A-Za-z0-9_-]', '_', job.name)[:100]}-{digest[:16]}")

    return named


class Cutter:
    """Crops of one job at a time; ``skipped`` collects the files that could not be decoded."""

    def __init__(self, source: FrameSource, data: Path, finder: Finder, crop_px: int) -> None:
        self._source, self._data, self._finder, self._crop_px = source, data, finder, crop_px
        self.skipped: dict[str, Skipped] = {}

    def crops(self, job: Job, frames_per_clip: int) -> list[tuple[UInt8, Crop]]:
        """All of a job. Files without a sure face are among ``skipped`` afterwards, too."""
        self.skipped.clear()
        pairs = list(self._of_clips(job, frames_per_clip) if job.items[0].is_video else self._of_pictures(job))
        for path in {item.path for item in job.items} - {crop.path for _, crop in pairs} - self.skipped.keys():
            self.skipped[path] = Skipped(path=path, code="no_face")
        return pairs

    def _read(self, item: Item, count: int, last: int | None = None, phase: float = 0.5) -> dict[int, UInt8]:
        """Empty for a file that is skipped."""
        try:
            return read_clip(self._source, self._data / item.path, count, last, phase)
        except VeriframeError as exc:
            self.skipped[item.path] = Skipped(path=item.path, code=exc.code, message=str(exc))
            return {}

    def _shortest(self, job: Job) -> int | None:
        """Frames of the shortest clip that opens."""
        lengths: list[int] = []
        for item in job.items:
            try:
                lengths.append(count_frames(self._source, self._data / item.path))
            except VeriframeError as exc:
                self.skipped[item.path] = Skipped(path=item.path, code=exc.code, message=str(exc))
        return min(lengths, default=None)

    def _of_clips(self, job: Job, frames_per_clip: int) -> Iterator[tuple[UInt8, Crop]]:
        """The frames and boxes of the first clip serve all others that show the same moments.

        Some Face2Face clips of FF++ leave frames out, so that their frame t is another moment than their original's: those keep
        faces of their own. What shows another scene is aligned with nothing.
        """
        last = self._shortest(job)
        phase = VARIANTS[job.variant].phase if job.variant else 0.5
        leading: dict[int, UInt8] = {}
        found: dict[int, _Found] = {}
        for item in job.items:
            upright = {} if item.path in self.skipped else self._read(item, frames_per_clip, last, phase)
            if not upright:
                continue
            if not leading:
                leading, found = upright, self._finder.faces(upright)
            own = found if same_moments(leading, upright) else self._finder.faces(upright)
            frames = self._recompressed(item, job.variant, upright, set(own)) if job.variant else upright
            target = item.aligned_by if difference(leading, upright) < ANOTHER_SCENE else ""
            for number in sorted(own.keys() & frames.keys()):
                zoom = np.float32(frames[number].shape[0] / upright[number].shape[0])
                face = replace(own[number], box_4=own[number].box_4 * zoom, landmarks_K2=own[number].landmarks_K2 * zoom)
                yield _row(job, item, frames[number], face, number, target, self._crop_px)

    def _recompressed(self, item: Item, variant: str, upright: Mapping[int, UInt8], wanted: Set[int]) -> dict[int, UInt8]:
        """Empty, and skipped, where the clip cannot be encoded again, or is rotated or of odd pixels: the copy keeps neither."""
        try:
            frames = VARIANTS[variant].frames(self._data / item.path, wanted)
            for number, rgb_HWC in frames.items():
                height, width = upright[number].shape[:2]
                if abs(rgb_HWC.shape[1] / rgb_HWC.shape[0] / (width / height) - 1) > 0.02:
                    raise UnsupportedMedia(f"{item.path}: rotated, or its pixels are not square")
        except VeriframeError as exc:
            self.skipped[item.path] = Skipped(path=f"{item.path} ({variant})", code=exc.code, message=str(exc))
            return {}
        return frames

    def _of_pictures(self, job: Job) -> Iterator[tuple[UInt8, Crop]]:
        """The main face of every picture, or its original's; pictures of one size go to the detector together."""
        originals: dict[str, tuple[UInt8, _Found]] = {}
        for start in range(0, len(job.items), TOGETHER):
            some = job.items[start : start + TOGETHER]
            pictures = {item: frame for item in some for frame in self._read(item, 1).values()}
            by_size: dict[tuple[int, ...], list[Item]] = defaultdict(list)
            for item, rgb_HWC in pictures.items():
                by_size[rgb_HWC.shape].append(item)
            found = {
                item: face
                for members in by_size.values()
                for item, face in zip(members, self._finder.find([pictures[item] for item in members]), strict=True)
            }
            for item, rgb_HWC in pictures.items():
                face, target = found[item], ""
                original = originals.get(item.target)
                if item.target and item.label == "real" and face is not None:
                    originals, target = {item.target: (rgb_HWC, face)}, item.target
                elif original is not None and same_moments({0: _faceless(*original)}, {0: _faceless(rgb_HWC, original[1])}):
                    face, target = original[1], item.target
                if face is not None:
                    yield _row(job, item, rgb_HWC, face, 0, target, self._crop_px)


def same_moments(ours: Mapping[int, UInt8], theirs: Mapping[int, UInt8]) -> bool:
    """Whether two clips' frames of one number differ little outside a face: below 2.5 grey levels on average at 64 x 36 pixels.

    Measured over the 96 FF++ fakes at hand that have their original: 2.43 or less where only the face is another, 4.1 to
    15.5 in the seven (all Face2Face) where frames are missing.
    """
    shapes = {frame.shape for frames in (ours, theirs) for frame in frames.values()}
    return len(shapes) == 1 and difference(ours, theirs) < 2.5


def difference(ours: Mapping[int, UInt8], theirs: Mapping[int, UInt8]) -> float:
    """Mean absolute difference of the frames of one number, in grey levels at 64 x 36 pixels; infinite where there is none."""
    away = [_small(ours[number]) - _small(theirs[number]) for number in ours.keys() & theirs.keys()]
    return float(np.mean(np.abs(away))) if away else float("inf")


def _faceless(rgb_HWC: UInt8, face: _Found) -> UInt8:
    """Black where the face is: it fills much of a picture, and in a fake it is another."""
    x1, y1, x2, y2 = np.rint(face.box_4.clip(0)).astype(int)
    out = rgb_HWC.copy()
    out[y1:y2, x1:x2] = 0
    return out


def _small(rgb_HWC: UInt8) -> Float32:
    gray = cv2.cvtColor(rgb_HWC, cv2.COLOR_RGB2GRAY)
    return np.asarray(cv2.resize(gray, (64, 36), interpolation=cv2.INTER_AREA), np.float32)


def _row(job: Job, item: Item, rgb_HWC: UInt8, face: _Found, frame: int, target: str, crop_px: int) -> tuple[UInt8, Crop]:
    crop, box, landmarks = cut(rgb_HWC, face.box_4, face.landmarks_K2, margin=WIDE_MARGIN, size=crop_px)
    side_px = float(np.max(face.box_4[2:] - face.box_4[:2]))
    return crop, Crop(
        shard=job.name,
        row=-1,
        path=item.path,
        label=item.label,
        source=item.source,
        manipulation=item.manipulation,
        group=item.group,
        split=item.split,
        frame=frame,
        target=target,
        variant=job.variant,
        family=item.its_family,
        side_px=round(side_px, 2),
        prob=round(face.prob, 4),
        box=tuple(round(float(v), 2) for v in box),
        landmarks=tuple(round(float(v), 2) for v in landmarks.ravel()),
    )


def prepare(
    items: Sequence[Item],
    data: Path,
    cache: Path,
    *,
    train_frames: int = 20,
    test_frames: int = 12,
    threads: int = 2,
    recompress: bool = True,
    crop_px: int = CROP_PX,
) -> None:
    """Fill the cache; shards that exist are kept, so that a cut run goes on. Files left out are noted by ``provenance.skip``."""
    if any(item.source == RECONSTRUCTED for item in items):
        raise ConfigError(f"{RECONSTRUCTED}: the name of what `veriframe data reconstruct` makes; give the source another")
    cache.mkdir(parents=True, exist_ok=True)
    planned = jobs(items, recompress=recompress)
    provenance.begin_again(cache, data, {job.name: [item.path for item in job.items] for job in planned})
    with MtcnnDetector(threads=threads) as detector, open_frames() as source, Progress() as progress:
        cutter = Cutter(source, data, Finder(detector), crop_px)
        for job in progress.track(planned, description="crops"):
            if (cache / f"{job.name}.csv").exists():
                continue
            count = VARIANT_FRAMES if job.variant else train_frames if job.items[0].split == "train" else test_frames
            files = provenance.look_at(data, [item.path for item in job.items])
            pairs = cutter.crops(job, count)
            new = [one for one in cutter.skipped.values() if not job.variant or one.path.endswith(f"({job.variant})")]
            provenance.skip(cache, new)
            provenance.note_cut(cache, files)  # first: a shard that a kill left without it would never be compared
            write_shard(cache, job.name, pairs)


def write_shard(cache: Path, name: str, pairs: Sequence[tuple[UInt8, Crop]]) -> None:
    """The pictures as one array, then the index that makes the shard count; each whole or not at all. Raises StorageFull."""
    pictures = np.stack([picture for picture, _ in pairs]) if pairs else np.empty((0, CROP_PX, CROP_PX, 3), np.uint8)
    data = io.BytesIO()  # NumPy's own writing of a file does not say why it failed
    np.save(data, pictures)
    with beside(cache / f"{name}.npy") as unfinished:
        unfinished.write_bytes(data.getbuffer())
    with beside(cache / f"{name}.csv") as unfinished, unfinished.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        for row, (_, crop) in enumerate(pairs):
            values = asdict(replace(crop, row=row))
            writer.writerow(values | {key: " ".join(map(str, values[key])) for key in ("box", "landmarks")})


def read_index(cache: Path) -> list[Crop]:
    """All rows of all finished shards, in a fixed order. Raises ConfigError for an index that is damaged, or none."""
    rows: list[Crop] = []
    for path in sorted(cache.glob("*.csv")):
        try:
            with path.open(newline="") as file:
                rows.extend(_parsed(row) for row in csv.DictReader(file, restval=""))
        except (KeyError, ValueError, csv.Error) as exc:
            raise damaged_shard(path, exc) from exc
    return rows


def _parsed(row: dict[str, str]) -> Crop:
    told: dict[str, Any] = {name: row.get(name) or "" if name in ("variant", "family") else row[name] for name in COLUMNS}
    told |= {name: int(row[name]) for name in ("row", "frame")} | {name: float(row[name]) for name in ("side_px", "prob")}
    found = Crop(**told | {name: tuple(map(float, row[name].split())) for name in ("box", "landmarks")})
    if (len(found.box), len(found.landmarks)) != (4, 10):
        raise ValueError(f"row {found.row}: no box and five landmarks")
    return found
