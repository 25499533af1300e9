"""Whether more frames could still change a verdict: a bound over what remains, from the votes seen so far.

The seen frames must be spread over the whole clip (``turn``). Then a track's votes are a sample of those that the
full budget would give, and its mean moves as the mean of a finite population does. docs/decisions/0011-early-decision.md tells
why, and what it saves.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist

import numpy as np

from worker.types import Coverage, Face, Label, MediaKind, NoVerdict, Verdict
from worker.verdict.aggregate import faces_by_track
from worker.verdict.decide import POOLED_TRACK, Policy, decide

TURNS = 6
_TURN_OF = (0, 2, 4, 1, 3, 5)
"""Of the places in a group of six frames: the first at once, then the one three places on, and so forth."""
_GROUPS = 512
_MOVED = random.Random(0).getrandbits(_GROUPS - 1) << 1
"""Groups whose turns begin three places on, a bit each, drawn once and for all; never the first: any file has a turn 0."""
RISK = 0.01
"""Chance that one track's mean moves further than allowed for, on either side."""
USUAL_STD = 1.0
"""Spread of one track's votes, in logits, before any was seen ..."""
WEIGHT = 4.0
"""... and how many votes that guess is worth: three votes that agree by chance do not settle a clip."""
LOOKS_REAL = -9.0
"""Logit of a face that was not seen: it counts among the tracks, and lends a fake no weight."""
SLACK = 0.75
"""The votes' deviation must lie below, and the quality above, its limit by this factor."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """What is left to be seen."""

    share: float
    """Of the frames of the full budget, a second pass included, how many were looked at; above 0, at most 1."""
    hidden: int
    """Most frames in a row, between two that were looked at or at an end, that were not."""
    closer_look: bool = False
    """Whether a second pass would follow, or a splice or a crowd may hide: then nothing but ``fake`` is settled."""


def turn(place: int) -> int:
    """When the frame at this place of a first pass is looked at: 0, at once, to TURNS - 1, last.

    Turns 0 and 1 together are every third frame. Which of the two that lie three apart comes first was drawn for each group:
    evenly spaced frames would show one and the same moment of a loop, over and over, and the bound takes the seen ones for a
    random sample.
    """
    group, within = divmod(place, TURNS)
    return _TURN_OF[(within + TURNS // 2 * (_MOVED >> group % _GROUPS & 1)) % TURNS]


def reach(logits_n: Sequence[float], share: float) -> float:
    """How far the mean of all votes may lie from that of the seen ones, which are ``share`` of all."""
    x_n = np.asarray(logits_n, np.float64)
    freedom = WEIGHT + len(x_n) - 1
    variance = (WEIGHT * USUAL_STD**2 + float(((x_n - x_n.mean()) ** 2).sum())) / freedom
    return student_quantile(1.0 - RISK / 2.0, freedom) * math.sqrt(variance * (1.0 - share) / len(x_n))


def student_quantile(p: float, freedom: float) -> float:
    """Quantile of Student's t for p >= 0.5 (Cornish and Fisher's expansion; up to p 0.995 within 1.3 % from 4 degrees up)."""
    z = NormalDist().inv_cdf(p)
    terms = (
        z,
        (z**3 + z) / 4.0,
        (5.0 * z**5 + 16.0 * z**3 + 3.0 * z) / 96.0,
        (3.0 * z**7 + 19.0 * z**5 + 17.0 * z**3 - 15.0 * z) / 384.0,
    )
    return sum(term / freedom**power for power, term in enumerate(terms))


def is_settled(faces: Sequence[Face], coverage: Coverage, policy: Policy, outlook: Outlook) -> bool:
    """Whether the full budget would give the verdict of ``faces`` too, at a risk of ``RISK`` for each track.

    It is asked whether ``fake`` stays when the votes of every track are moved down, and ``real`` when they are moved up, as far
    as their mean may still move; also when faces of tracks seen too rarely to be judged count by themselves, as they may come to
    do; when long tracks are not searched; and when the limits of quality and deviation are stricter. ``real`` must also stay when
    those tracks alone are moved that are held back, as they might come to be the highest, and is settled only where nothing can
    hide between two looked-at frames that would be seen often enough there to be judged by itself. Where something can, ``fake``
    must also stay beside one more track that looks real. What shows only now and then, each time between looked-at frames, can
    hide anyway: no bound holds for it but to look at all (the decision's limits). Only the rule ``mean_logit`` has such a bound;
    a picture has nothing left to be seen, and what is uncertain deserves all frames.
    """
    found = decide(faces, coverage, policy)
    label = _label(found)
    can_hide = outlook.hidden >= policy.min_votes_video
    if policy.rule != "mean_logit" or coverage.kind is MediaKind.PICTURE or label not in (Label.FAKE, Label.REAL):
        return False
    if label is Label.REAL and (can_hide or outlook.closer_look):
        return False
    sign = -1.0 if label is Label.FAKE else 1.0
    reaches = {n: sign * reach(_logits(track), outlook.share) for n, track in faces_by_track(faces).items()}
    plain = [replace(face, draws_N=None) for face in faces]  # draws do not move a verdict
    moved = [face if face.logit is None else replace(face, logit=face.logit + reaches[face.track]) for face in plain]
    if can_hide:
        moved += _hidden_face(1 + max(reaches), policy)
    strict = replace(policy, max_std=policy.max_std * SLACK, min_quality=min(1.0, policy.min_quality / SLACK))
    judges = [
        judge
        for limits in (strict, policy)  # tracks that only the stricter hold back lend others weight, which may end a real
        for judge in (limits, replace(limits, windows=None), replace(limits, windows=None, min_votes_video=1))
    ]
    for judge in judges:
        if _label(decide(moved, coverage, judge)) is not label:
            return False
        if label is Label.REAL:
            now = found if judge is policy else decide(plain, coverage, judge)
            if not _stays_real(now, plain, moved, coverage, judge):
                return False
    return True


def _hidden_face(track: int, policy: Policy) -> list[Face]:
    """Votes of one more track that looks real: as few as are judged, in a moment that was not looked at."""
    times_s = [1e-3 * i for i in range(policy.min_votes_video)]
    box = (0.0, 0.0, 0.0, 0.0)
    return [Face(pts_s=t, box_xyxy=box, det_prob=1.0, track=track, quality=1.0, logit=LOOKS_REAL) for t in times_s]


def _stays_real(
    found: Verdict | NoVerdict, seen: Sequence[Face], moved: Sequence[Face], coverage: Coverage, judge: Policy
) -> bool:
    """Whether what was found is real, and stays so where those tracks alone move that are held back: the highest of all, they
    would take it away."""
    labels = found.track_labels if isinstance(found, Verdict) else {}
    if Label.UNCERTAIN not in labels.values():
        return _label(found) is Label.REAL
    faces = [
        then if labels.get(now.track, labels.get(POOLED_TRACK)) is Label.UNCERTAIN else now
        for now, then in zip(seen, moved, strict=True)
    ]
    return _label(decide(faces, coverage, judge)) is Label.REAL


def _label(verdict: Verdict | NoVerdict) -> Label | None:
    return verdict.label if isinstance(verdict, Verdict) else None


def _logits(faces: Iterable[Face]) -> list[float]:
    return [face.logit for face in faces if face.logit is not None]
