"""From the scored faces of one picture or video to a verdict, or to the reason why there is none."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from worker.types import Coverage, Face, Label, MediaKind, NoVerdict, Reason, Segment, TrackScore, Verdict
from worker.verdict.aggregate import RULES, Evidence, Windows, faces_by_track, segments, track_evidence, votes_in_time
from worker.verdict.calibrate import Calibration, Floats, choose, log_odds_of, probability
from worker.verdict.draws import by_draw, doubt

MOST_PLACES = 200
"""Among how many tracks every number of them is asked whether so many are high together."""
MOST_UNDECODABLE = 0.25
"""Of the scanned window: a video of which more could not be decoded is never ``real``."""
POOLED_TRACK = -1
"""Number of the pseudo-track of all faces whose own track is too short to vote."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What a verdict needs. Plain values; the defaults are those of the decision doc."""

    rule: str = "mean_logit"
    windows: Windows | None = field(default_factory=Windows)
    """How long tracks are searched for a short splice; None leaves them to the rule."""
    calibrations: tuple[Calibration, ...] = ()
    are_inherited: bool = False
    """The calibrations were fitted on the scores of the network's parent: the nearest stands in, and none holds."""
    offsets: Mapping[MediaKind, float] = field(default_factory=dict)
    """Log odds added to those of the calibration, for the user's own footage (``worker.verdict.offset``)."""
    default_thresholds: tuple[float, float] = (0.35, 0.65)
    """(t_real, t_fake) where there is no calibration at all."""
    t_real: float | None = None
    """Overrides the calibration's threshold: below it, real."""
    t_fake: float | None = None
    """Overrides the calibration's threshold: above it, fake."""
    min_votes_video: int = 3
    """Least number of moments at which a track was seen to be judged by itself."""
    min_votes_picture: int = 1
    max_gap_s: float = 10.0
    """A video with a longer unseen stretch is never ``real``."""
    min_quality: float = 0.15
    """Least median quality of the deciding track's voting faces."""
    max_std: float = 4.0
    """Greatest standard deviation of the deciding votes, in logits."""

    def __post_init__(self) -> None:
        if self.rule not in RULES:
            raise ValueError(f"unknown rule {self.rule}; known: {', '.join(RULES)}")
        if min(self.min_votes_video, self.min_votes_picture) < 1:
            raise ValueError("a verdict needs at least one vote")
        if self.t_real is not None and self.t_fake is not None and self.t_real > self.t_fake:
            raise ValueError(f"t_real {self.t_real} above t_fake {self.t_fake}")

    def thresholds(self, calibration: Calibration) -> tuple[float, float]:
        """(t_real, t_fake); a lone override that crosses the other threshold moves it along."""
        real = calibration.t_real if self.t_real is None else self.t_real
        fake = calibration.t_fake if self.t_fake is None else self.t_fake
        if self.t_real is None:
            return min(real, fake), fake
        return real, max(real, fake)


def _grouped(faces: Sequence[Face], min_votes: int) -> dict[int, list[Face]]:
    """Voting faces by track; those of tracks seen at fewer than ``min_votes`` moments together as ``POOLED_TRACK``.

    A film of short shots has many tracks of one or two votes: left out, they would be a hole in every ``real``. The pool itself
    needs ``min_votes`` moments.
    """
    groups: dict[int, list[Face]] = {}
    pool: list[Face] = []
    for number, track in faces_by_track(faces).items():
        if len({face.pts_s for face in track}) >= min_votes:
            groups[number] = track
        else:
            pool += track
    if len({face.pts_s for face in pool}) >= min_votes:
        groups[POOLED_TRACK] = pool
    return groups


def _no_verdict(faces: Sequence[Face]) -> NoVerdict:
    if not faces:
        return NoVerdict(reasons=(Reason.NO_FACE,))
    if not any(face.votes for face in faces):
        return NoVerdict(reasons=(Reason.FACE_TOO_SMALL,))
    return NoVerdict(reasons=(Reason.TOO_FEW_FRAMES,))


def _judge(faces: Sequence[Face], coverage: Coverage, policy: Policy) -> tuple[dict[int, list[Face]], dict[int, Evidence]]:
    picture = coverage.kind is MediaKind.PICTURE
    groups = _grouped(faces, policy.min_votes_picture if picture else policy.min_votes_video)
    return groups, {number: _evidence(number, group, policy) for number, group in groups.items()}


def _evidence(number: int, group: Sequence[Face], policy: Policy) -> Evidence:
    return track_evidence(*votes_in_time(group), policy.rule, None if number == POOLED_TRACK else policy.windows)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scores:
    """``p``: p(fake) of each track; the decisive one's is the score, and is that of the tracks that decide with it; all others
    have less, or 0. ``chances``: of how many tracks the decisive one counts as the highest."""

    p: Mapping[int, float]
    decisive: int
    chances: float


def _scores(
    evidence: Mapping[int, Evidence], quality: Mapping[int, float], calibration: Calibration, held_back: Collection[int]
) -> _Scores:
    """As ``Calibration.together``, each track at its own quality: the k-th highest is that which is worth as much as the highest
    of n / k. A track that is held back is held against the number of all by itself, and lends others no weight. Nor does it take
    any away: where the others are fake by themselves, they decide, however high it is. Of equals it is the highest.

    Poor faces can make a track less of a fake. They do not make one that looks real the decisive one; where it decides all the
    same, they pull it up to undecided too.
    """
    alone = {n: calibration.log_odds(found.logit, 1, found.n_windows) for n, found in evidence.items()}
    order = sorted(evidence, key=lambda n: (alone[n], quality[n], evidence[n].logit, n in held_back), reverse=True)
    alone_N = np.array([alone[n] for n in order])
    temperature_N = np.array([calibration.temperature(quality[n]) for n in order])

    def worth(chances: float) -> tuple[Floats, Floats]:
        """Log odds of each track as the highest of so many, and what they count for beside others."""
        odds_N = calibration.held_against(chances, alone_N)
        pulled_N = calibration.undecided + (odds_N - calibration.undecided) / temperature_N
        return pulled_N, np.minimum(odds_N, pulled_N)

    pulled_N, shown_N = worth(len(order))
    decisive = int(np.argmax(shown_N))
    best, score, chances = shown_N[decisive], pulled_N[decisive], float(len(order))
    counted = np.flatnonzero([n not in held_back for n in order])
    together = np.array([decisive])
    if order[decisive] in held_back:
        best = min(best, log_odds_of(calibration.t_fake))
    for place in _places(len(counted)):
        pulled_N, worth_N = worth(len(order) / place)
        highest = counted[np.argsort(-worth_N[counted], kind="stable")[:place]]
        last = int(highest[-1])
        shown_N[highest] = np.maximum(shown_N[highest], worth_N[last])
        if worth_N[last] > best:
            decisive, together, best, score, chances = last, highest, worth_N[last], pulled_N[last], len(order) / place
    shown_N[together] = score
    decided = probability(float(score))
    below = math.nextafter(decided, 0.0)  # or a track that is held back would be taken for the one that decides
    p = {n: min(probability(float(shown)), below) for n, shown in zip(order, shown_N, strict=True)}
    p |= {order[place]: decided for place in together.tolist()}
    return _Scores(p=p, decisive=order[decisive], chances=chances)


def _places(count: int) -> Sequence[int]:
    """Every place up to ``MOST_PLACES``; of more, as many that grow by one share."""
    if count <= MOST_PLACES:
        return range(1, count + 1)
    return [int(place) for place in np.unique(np.geomspace(1, count, MOST_PLACES).round())]


def _hindrances(quality: float, std: float | None, policy: Policy) -> set[Reason]:
    """Why a track says neither ``fake`` nor ``real``, whatever its score: it is held back."""
    checks = {
        Reason.LOW_QUALITY: quality < policy.min_quality,
        Reason.HIGH_UNCERTAINTY: std is not None and std > policy.max_std,
    }
    return {reason for reason, applies in checks.items() if applies}


def _is_sparse(coverage: Coverage, policy: Policy) -> bool:
    """Whether too much was left unseen for ``real``."""
    window_s = coverage.end_s - coverage.start_s
    is_damaged = coverage.undecodable_s > MOST_UNDECODABLE * window_s
    return coverage.max_gap_s > policy.max_gap_s or is_damaged or coverage.is_crowded


def _reasons(
    score: float, thresholds: tuple[float, float], hindrances: Collection[Reason], is_sparse: bool
) -> tuple[Reason, ...]:
    """Why the score is not taken for ``fake`` or ``real``; empty where it is."""
    t_real, t_fake = thresholds
    checks = {
        Reason.NEAR_THRESHOLD: t_real <= score <= t_fake,
        Reason.SPARSE_COVERAGE: is_sparse and score <= t_fake,
    }
    return tuple(reason for reason in Reason if checks.get(reason) or reason in hindrances)


def decide(faces: Sequence[Face], coverage: Coverage, policy: Policy) -> Verdict | NoVerdict:
    """Judge one video or picture by all its faces, in any order.

    Faces that do not vote are left out; each track seen often enough gives a logit; the calibrated probability of the highest,
    or of several that are high together, is the score. No face: ``no_face``; no face large and sharp enough:
    ``face_too_small``; votes at too few moments: ``too_few_frames``. Below t_real it is real, above t_fake fake, unless the
    deciding faces are poor (``low_quality``), their votes contradict each other (``high_uncertainty``) or, for ``real``, too much
    was left unseen, the smaller faces of a crowd included, or could not be decoded (``sparse_coverage``). A track whose faces are
    poor or votes contradict each other decides only where the others are not fake without it. Where the calibration says so, poor
    faces pull the score to the undecided middle first.
    """
    groups, evidence = _judge(faces, coverage, policy)
    if not evidence:
        return _no_verdict(faces)
    calibration, holds = choose(
        policy.calibrations, coverage.kind, policy.rule, coverage.strategy, coverage.requested, policy.default_thresholds
    )
    thresholds = policy.thresholds(calibration)
    offset = policy.offsets.get(coverage.kind, 0.0)
    calibration = replace(calibration, b=calibration.b + offset, t_real=thresholds[0], t_fake=thresholds[1])
    quality = {n: float(np.median([face.quality for face in groups[n]])) for n in evidence}
    hindrances = {n: _hindrances(quality[n], found.std, policy) for n, found in evidence.items()}
    scores = _scores(evidence, quality, calibration, {n for n, found in hindrances.items() if found})
    p, decisive = scores.p, scores.decisive
    is_sparse = _is_sparse(coverage, policy)
    reasons = {n: _reasons(p[n], thresholds, hindrances[n], is_sparse) for n in p}
    labels = {n: Label.UNCERTAIN if reasons[n] else Label.REAL if p[n] < thresholds[0] else Label.FAKE for n in p}

    def score_odds(found: Evidence) -> float:
        """Log odds of the score, had the decisive track's evidence been this."""
        return calibration.tempered(calibration.log_odds(found.logit, scores.chances, found.n_windows), quality[decisive])

    _, logits_n = votes_in_time(groups[decisive])
    levels = {n: calibration.logit_at(thresholds[1], scores.chances, quality=quality[n]) for n in evidence}
    return Verdict(
        label=labels[decisive],
        score=p[decisive],
        calibrated=holds and not policy.are_inherited,
        reasons=reasons[decisive],
        thresholds=thresholds,
        tracks=tuple(TrackScore(track=n, logit=found.logit, votes=len(groups[n])) for n, found in evidence.items()),
        track_scores=p,
        track_labels=labels,
        segments=_segments(groups, evidence, coverage, levels, labels),
        frame_std=float(logits_n.std(ddof=1)) if len(logits_n) > 1 else None,
        log_odds=calibration.log_odds(evidence[decisive].logit, scores.chances, evidence[decisive].n_windows) - offset,
        offset=offset,
        temperature=calibration.temperature(quality[decisive]),
        doubt=doubt([score_odds(_evidence(decisive, drawn, policy)) for drawn in by_draw(groups[decisive])]),
    )


def _segments(
    groups: Mapping[int, list[Face]],
    evidence: Mapping[int, Evidence],
    coverage: Coverage,
    levels: Mapping[int, float],
    labels: Mapping[int, Label],
) -> dict[int, tuple[Segment, ...]]:
    """Suspicious stretches of the tracks of a video that have one.

    A vote is suspicious above its track's level, the logit at which the calibration says fake; where a window sticks out of a
    long track that is not real all the same, already above the middle between the track's usual logit and that window's.
    """
    if coverage.kind is MediaKind.PICTURE:
        return {}
    found: dict[int, tuple[Segment, ...]] = {}
    for number, group in groups.items():
        own = None if labels[number] is Label.REAL else evidence[number].level
        lowest = levels[number] if own is None else min(levels[number], own)
        found[number] = segments(
            *votes_in_time(group), lowest, start_s=coverage.start_s, end_s=coverage.end_s, apart_s=coverage.apart_s
        )
    return {number: stretches for number, stretches in found.items() if stretches}
