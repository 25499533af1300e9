"""All that a watch knows, in bounded memory, and as JSON: what a cursor holds besides where the stream is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from worker.errors import ConfigError, DamagedRecord, UnreadableRecord
from worker.evidence import EvidenceStore
from worker.faces.track import Linker
from worker.look import FrameLook
from worker.types import Face, Json, Label, MediaInfo, MediaKind
from worker.watch.cursor import VERSION, check_cursor
from worker.watch.events import Ending
from worker.watch.frames import KeptFrames
from worker.watch.packed import pack_linker, unpack_linker
from worker.watch.recent import Recent, Rhythm
from worker.watch.stretches import Stretches
from worker.watch.tracks import Tracks
from worker.watch.votes import Votes

MOST_LINKED: Final = 32
"""Tracks that a face may join."""


@dataclass(slots=True)
class Counts:
    """``end_s``: where the clock is; ``seen_until_s``: no frame before this is looked at again; ``watched_s``: on our clock;
    ``unsaid_s``: by so much pieces were longer than the stream's reader said, whose clock is behind by that; ``crowded``: frames
    with faces that could vote and were not looked at."""

    next_window: int = 0
    next_event: int = 0
    end_s: float = 0.0
    seen_until_s: float = 0.0
    pieces: int = 0
    unreadable: int = 0
    with_face: int = 0
    faces: int = 0
    last_frame_s: float | None = None
    max_gap_s: float = 0.0
    fake_windows: int = 0
    detect_s: float = 0.0
    infer_s: float = 0.0
    read_s: float = 0.0
    watched_s: float = 0.0
    unsaid_s: float = 0.0
    crowded: int = 0
    label: Label | None = None
    ending: Ending | None = None
    ending_code: str | None = None


_MEDIA = ("container", "codec", "width", "height", "fps", "decoder")


@dataclass(slots=True, kw_only=True)
class WatchState:
    """See the parts. ``position``: what the stream's reader said last."""

    rhythm: Rhythm
    linker: Linker
    recent: Recent
    votes: Votes
    tracks: Tracks
    frames: KeptFrames
    stretches: Stretches
    evidence: EvidenceStore
    """Crops since this process began; not in a cursor."""
    counts: Counts = field(default_factory=Counts)
    media: MediaInfo | None = None
    position: Json | None = None

    @classmethod
    def new(cls, rhythm: Rhythm, *, evidence_per_track: int) -> WatchState:
        return cls(
            rhythm=rhythm,
            linker=Linker(most_tracks=MOST_LINKED),
            recent=Recent(rhythm),
            votes=Votes(),
            tracks=Tracks(evidence_per_track),
            frames=KeptFrames(),
            stretches=Stretches(),
            evidence=EvidenceStore(evidence_per_track),
        )

    @classmethod
    def restored(cls, rhythm: Rhythm, cursor: Json, *, evidence_per_track: int) -> WatchState:
        """As it was when ``cursor`` was made. Raises UnreadableRecord where it is another version's, DamagedRecord where it
        is no version's, ConfigError where it was made for other windows."""
        version = cursor.get("version") if isinstance(cursor, dict) else None
        if version != VERSION:
            told = version if isinstance(version, int) else "no number"
            raise UnreadableRecord(
                f"the watch's cursor has the layout {told}, this worker reads {VERSION}: run workers of the version that wrote it"
            )
        try:
            check_cursor(cursor)
            if cursor["rhythm"] != [rhythm.window_s, rhythm.hop_s, rhythm.fps]:
                raise ConfigError("the watch was begun with another window, hop or rate: begin it anew")
            counts = Counts(**cursor["counts"])
            counts.label = None if counts.label is None else Label(counts.label)
            media = cursor["media"]
            return cls(
                rhythm=rhythm,
                linker=Linker(unpack_linker(cursor["linker"]), most_tracks=MOST_LINKED),
                recent=Recent(rhythm, cursor["recent"]),
                votes=Votes(cursor["votes"]),
                tracks=Tracks(evidence_per_track, cursor["tracks"]),
                frames=KeptFrames(cursor["frames"]),
                stretches=Stretches(cursor["stretches"]),
                evidence=EvidenceStore(evidence_per_track),
                counts=counts,
                media=None if media is None else MediaInfo(kind=MediaKind.VIDEO, duration_s=0.0, n_frames=1, **media),
                position=cursor["position"],
            )
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError, RuntimeError) as exc:
            raise DamagedRecord(f"the cursor of the watch is damaged ({type(exc).__name__})") from exc

    def cursor(self) -> Json:
        """JSON of bounded size."""
        counts = {name: getattr(self.counts, name) for name in Counts.__slots__}
        for name in ("unsaid_s", "crowded"):
            if not counts[name]:
                del counts[name]
        media = None if self.media is None else {name: getattr(self.media, name) for name in _MEDIA}
        return {
            "version": VERSION,
            "rhythm": [self.rhythm.window_s, self.rhythm.hop_s, self.rhythm.fps],
            "position": self.position,
            "counts": counts,
            "media": media,
            "linker": pack_linker(self.linker.state()),
            "recent": self.recent.state(),
            "votes": self.votes.state(),
            "tracks": self.tracks.state(),
            "frames": self.frames.state(),
            "stretches": self.stretches.state(),
        }

    def note(self, time_s: float, look: FrameLook, most: int) -> None:
        """Remember what a frame at ``time_s`` of the watch's clock showed, ``most`` faces of it. Its own time is its piece's."""
        counts = self.counts
        faces = self._linked(time_s, look, most)
        is_crowded = look.is_crowded or any(face.logit is not None for face in look.faces[most:])
        counts.crowded += is_crowded
        self.recent.add(time_s, faces, is_crowded=is_crowded)
        self.frames.add(time_s, faces)
        for face, seen in zip(faces, look.faces[:most], strict=True):
            number = counts.faces
            counts.faces += 1
            gone = self.tracks.note(face, number)
            if gone is not None:
                self.votes.leave_out(gone)
            self.votes.add(face)
            if face.logit is not None and seen.crop_HWC is not None:
                self.evidence.offer(face.track, number, face.logit, seen.crop_HWC)
        counts.with_face += bool(faces)
        counts.max_gap_s = max(counts.max_gap_s, time_s - (counts.last_frame_s or 0.0))
        counts.last_frame_s = time_s

    def _linked(self, time_s: float, look: FrameLook, most: int) -> Sequence[Face]:
        seen = look.faces[:most]
        sighting = replace(look.sighting, pts_s=time_s, faces=tuple(face.sighting for face in seen))
        return [
            Face(
                pts_s=time_s,
                box_xyxy=face.sighting.box_xyxy,
                det_prob=face.prob,
                track=track,
                quality=face.quality,
                logit=face.logit,
                too_small=face.too_small,
            )
            for face, track in zip(seen, self.linker.add(sighting), strict=True)
        ]

    def next_grid(self) -> int:
        """Number of the next moment to look at: whole multiples of 1 / fps on the watch's clock."""
        return math.ceil(self.counts.seen_until_s * self.rhythm.fps - 1e-6)
