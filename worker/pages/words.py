"""What verdicts, reasons, codes and states mean, in plain words: what pages say to the people who must act on them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from worker.pages.timeline import moment
from worker.report import Report
from worker.resume import LASTING_ERRORS
from worker.types import Label, MediaKind, Reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """``mark``: a sign that does not need its colour. ``next_step``: what to do about it."""

    name: str
    mark: str
    means: str
    next_step: str = ""


VERDICTS: Final[dict[Label, Words]] = {
    Label.FAKE: Words(
        name="Fake",
        mark="▲",
        means="At least one face looks swapped, re-enacted or generated. This is a reason to look closely, not a proof.",
        next_step="Look at the moments shown below, and at where the media come from, before you act. Real media are "
        "called fake, too: the model card says how often.",
    ),
    Label.REAL: Words(
        name="Real",
        mark="●",
        means="No sign of manipulated faces was found in the frames that were looked at. This does not prove that the media are "
        "genuine.",
        next_step="Manipulations of other kinds, or of a kind that the model has never seen, would not show here.",
    ),
    Label.UNCERTAIN: Words(
        name="Uncertain",
        mark="◆",
        means="Faces were judged, but not clearly enough to call them fake or real.",
        next_step="A person should decide. A copy of better quality, or a scan of more frames, may settle it.",
    ),
    Label.NOT_APPLICABLE: Words(
        name="Not applicable",
        mark="○",
        means="No face could be judged well enough, so there is neither a verdict nor a score.",
        next_step="This says nothing about whether the media are genuine.",
    ),
}

SOME_STRETCHES: Final = "Some stretches look suspicious."
REAL_WITH_STRETCHES: Final = replace(
    VERDICTS[Label.REAL],
    means="Some stretches look suspicious (marked below), but no face does as a whole. This does not prove that the media are "
    "genuine.",
    next_step=f"Look at those stretches before you rely on it. {VERDICTS[Label.REAL].next_step}",
)
UNCERTAIN_ALL_SEEN: Final = replace(
    VERDICTS[Label.UNCERTAIN], next_step="A person should decide. A copy of better quality may settle it."
)
"""Of pictures, and of videos of which no frame was left out."""
UNCERTAIN_CROWD: Final = replace(
    VERDICTS[Label.UNCERTAIN], next_step="A person should decide. Cut-outs of the crowd, scanned by themselves, may settle it."
)
UNCERTAIN_CROWD_WATCHED: Final = replace(
    VERDICTS[Label.UNCERTAIN],
    next_step="A person should decide. A recording of the crowd, or cut-outs of it, scanned by themselves, may settle it.",
)

STATUSES: Final[dict[str, Words]] = {
    "queued": Words(name="Waiting", mark="…", means="The scan has not begun yet."),
    "running": Words(name="Running", mark="…", means="The scan is under way; there is no result yet."),
    "completed": Words(name="Completed", mark="✓", means="The scan has ended with a result."),
    "failed": Words(name="Failed", mark="✕", means="The scan could not be done, so nothing is known about the media."),
    "cancelled": Words(name="Cancelled", mark="✕", means="Somebody cancelled the scan; nothing is known about the media."),
}

REASONS: Final[dict[Reason, str]] = {
    Reason.NO_FACE: "No face was found in the frames that were looked at.",
    Reason.FACE_TOO_SMALL: "There are faces, but all of them are too small, blurred, dark or bright to be judged.",
    Reason.TOO_FEW_FRAMES: "Faces were seen at too few moments to be judged.",
    Reason.NEAR_THRESHOLD: "The score lies between the two thresholds, where the model is wrong too often to say either.",
    Reason.LOW_QUALITY: "The faces that decide are of poor quality: blurred, small, strongly compressed, dark or bright.",
    Reason.SPARSE_COVERAGE: "Too much was not seen: a fake could lie between the frames that were looked at, in what could "
    "not be decoded, or among the smaller faces of a crowd.",
    Reason.HIGH_UNCERTAINTY: "The scores of single moments contradict each other.",
}

ERRORS: Final[dict[str, str]] = {
    "unsupported": "This cannot be read as a video or picture.",
    "corrupt": "The file is damaged: nothing in it could be decoded.",
    "empty": "The file is empty, or has no frames in the part that was to be scanned.",
    "too_large": "The file, or its picture, is larger than the limits allow.",
    "too_long": "The video is longer than the limits allow.",
    "decode_timeout": "Decoding took too long and was ended.",
    "decode_crash": "The decoder died of this file. It runs apart, so nothing else was harmed.",
    "out_of_memory": "Decoding needed more memory than it may have.",
    "fetch_refused": "The address, path or protocol is one that is not fetched from.",
    "fetch_auth": "The server wants a sign-in that is not set up here.",
    "fetch_geo": "The server does not give this out in the place where the scanner runs.",
    "fetch_gone": "There is nothing at this place, or not any more.",
    "fetch_rate_limited": "The server asks to come back later.",
    "fetch_timeout": "The server did not answer, or the transfer did not end, in time.",
    "lease_lost": "The worker lost this scan to another one, or went away with it.",
    "queue_full": "Too much is waiting, or a limit of this account is reached.",
    "conflict": "The state that the scan is in does not allow it.",
    "unreadable_record": "Another version of veriframe stored this, and this one cannot read it.",
    "damaged_record": "What the queue keeps of this scan is damaged.",
    "bad_request": "The request is not one that can be understood.",
    "no_such_scan": "There is no such scan, or it belongs to someone else.",
    "unauthorized": "There is no key, or none that is valid.",
    "forbidden": "This key may not do that.",
    "bad_signature": "The message was not signed with the agreed secret, or not lately.",
    "redis_down": "The queue's database cannot be reached.",
    "storage_full": "There is no room left where files are kept.",
    "storage_down": "The place where files are kept does not answer.",
    "source_unreadable": "The file is not there, or may not be read.",
    "config": "A setting is wrong.",
    "model": "There is no usable model.",
    "internal": "Something went wrong inside veriframe; its log says more.",
}

GAP_CAUSES: Final[dict[str, str]] = {
    "not_served": "was not served any more when it was asked for",
    "unreadable": "could not be decoded",
    "behind": "was left out to keep up with the stream",
    "outage": "there was no connection",
}

ENDINGS: Final[dict[str, str]] = {
    "ended": "The stream ended.",
    "lost": "The stream was lost: nothing more came, or it could not be kept or read any further.",
    "max_duration": "The longest time that was to be watched was over.",
    "stopped": "The watch was stopped.",
}

STOPPED_BY: Final[dict[str, str]] = {
    "verdict": "More frames could not have changed the verdict, so they were not looked at.",
    "media": "The file is damaged or cut off: what could be decoded before that was looked at.",
}

HUMAN: Final = "A person decided this verdict. The score, tracks and reasons below are still what the model found."
UNCALIBRATED: Final = (
    "No calibration covers this kind of scan: the score orders media by suspicion, but is no probability that they are fake."
)
NOT_CALIBRATED: Final = "The score is not calibrated."
POOLED: Final = (
    "No track decides by itself: this is the score of all faces together whose own tracks are too short to be judged alone."
)
NOT_RETAINED: Final = "not retained"
RETENTION: Final = (
    "Pictures are kept only where, and as long as, retention is switched on. Where what was followed as one track was parted at "
    "the end, a frame may be missing all the same, or one of hundreds of faces. Pictures belong to the scan that made this "
    "result; one that took it over, as the bytes were the same, has none."
)

LIMITS: Final[tuple[str, ...]] = (
    "Only faces are judged. Other manipulations (voices, text, backgrounds, cuts, false captions) are not looked for.",
    "A score is a model's estimate. On media unlike those it was trained and calibrated on, it may be far off.",
    "Real media are sometimes called fake, and fakes real. Nobody should be judged by this result alone.",
    "Strong compression, small or blurred faces, filters and make-up make mistakes more likely.",
    "Only some frames of a video are looked at. What lies between them is not seen.",
    "A track is a face that could be followed from frame to frame. Two tracks may be one person, and what was taken for a face "
    "may be none.",
)


def headline(report: Report) -> Words:
    """The verdict in words; of a scan that has none, its state."""
    if report.verdict is None:
        return STATUSES[report.status]
    if report.verdict is Label.REAL and report.segments:
        return REAL_WITH_STRETCHES
    if report.verdict is Label.UNCERTAIN and _is_sparse_by_a_crowd(report):
        return UNCERTAIN_CROWD_WATCHED if report.kind == "watch" else UNCERTAIN_CROWD
    if report.verdict is Label.UNCERTAIN and _is_all_seen(report):
        return UNCERTAIN_ALL_SEEN
    return VERDICTS[report.verdict]


def _is_all_seen(report: Report) -> bool:
    """Whether there are no more frames to look at."""
    is_picture = report.media is not None and report.media.kind is MediaKind.PICTURE
    return is_picture or (report.sampling is not None and report.sampling.max_gap_s == 0)


def _is_sparse_by_a_crowd(report: Report) -> bool:
    return _crowd(report) is not None and any(reason.code is Reason.SPARSE_COVERAGE for reason in report.reasons)


def tone(report: Report) -> str:
    """Suffix of the CSS class of a report's headline: a verdict, ``failed`` or ``pending``."""
    if report.verdict is not None:
        return report.verdict.value
    return "failed" if report.status in ("failed", "cancelled") else "pending"


def reasons(report: Report) -> tuple[str, ...]:
    """Why there is no plain verdict, a sentence each."""
    return tuple(REASONS[reason.code] for reason in report.reasons)


def second_try(report: Report) -> tuple[str, ...]:
    """Of a failure, what another try would give, a sentence each; nothing where nobody knows: a busy machine or a server may
    have been the reason, and a file that was not there (``unsupported``) may come."""
    if report.error is None:
        return ()
    is_lasting = report.error.code in LASTING_ERRORS - {"unsupported"}
    hope = "A second try may help." if report.error.retryable else "A second try would give the same." if is_lasting else ""
    return tuple(said for said in (hope, "All tries are used up." if report.dead else "") if said)


def left_out(report: Report) -> tuple[str, ...]:
    """What of the file the verdict is not about, a sentence each."""
    return tuple(said for said in (_part(report), _more_videos(report), _undecodable(report), _crowd(report)) if said)


def _part(report: Report) -> str | None:
    """Where only a part of the video was to be looked at, which."""
    sampling, media = report.sampling, report.media
    if media is None or sampling is None or sampling.start_s is None or sampling.end_s is None:
        return None
    start, end = (moment(round(1000 * at_s)) for at_s in (sampling.start_s, sampling.end_s))
    return f"Only {start} to {end} of {moment(round(1000 * media.duration_s))} was scanned."


def _more_videos(report: Report) -> str | None:
    count = report.media.more_videos if report.media else 0
    if not count:
        return None
    return f"The file holds {count} more video {'stream' if count == 1 else 'streams'}; only one was scanned."


def _undecodable(report: Report) -> str | None:
    sampling, media = report.sampling, report.media
    if media is None or sampling is None or not sampling.undecodable_s:
        return None
    window_s = (media.duration_s if sampling.end_s is None else sampling.end_s) - (sampling.start_s or 0.0)
    lost_s = max(sampling.undecodable_s, 0.1)  # never "about 0.0 s"
    return f"About {lost_s:.1f} s of {window_s:.1f} s could not be decoded: the file is damaged or cut off."


def _crowd(report: Report) -> str | None:
    if report.sampling is None or not report.sampling.crowded:
        return None
    return "Only the largest faces of a crowd were looked at; there are others that could be judged."


def error(code: str) -> str:
    """The sentence of an error's code; codes of other versions have that of ``internal``."""
    return ERRORS.get(code, ERRORS["internal"])
