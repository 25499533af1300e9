"""Which tracks of a report decide its score, and in which order they are shown for that."""

from __future__ import annotations

from worker.report import Report, Track


def is_pooled(report: Report) -> bool:
    """Whether the score is that of all faces together whose own track is too short to be judged: it is above every track's."""
    return report.score is not None and all(track.score is None or track.score < report.score for track in report.tracks)


def ranked(report: Report) -> list[Track]:
    """Judged tracks by score, then the others by the number of faces; where those decide together, they come first, by their
    worst face."""
    pooled = is_pooled(report)

    def place(track: Track) -> tuple[int, float, int]:
        if track.score is not None:
            return 1, -track.score, track.id
        if pooled and track.votes:
            return 0, -max((one.score for one in track.evidence), default=0.0), track.id
        return 2, -track.votes, track.id

    return sorted(report.tracks, key=place)
