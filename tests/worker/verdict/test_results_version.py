"""Verdicts on a fixed table of votes: who changes what they say counts ``RESULTS_VERSION`` up."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from dataclasses import replace

from tests.worker.verdict.test_decide import POLICY, coverage, face
from worker.compose import RESULTS_VERSION
from worker.types import MediaKind, NoVerdict, Verdict
from worker.verdict.decide import Policy, decide

DIGESTS = dict.fromkeys(range(5, 11), "876dba6ea9521a941ebe8b9a1ababaaa08f6f90dfeb869b7d4732a1265aab327")


def outcomes() -> Iterator[str]:
    """Of 200 clips and pictures of one to three tracks, each with calibrations, their parent's, and without."""
    chance = random.Random(0)
    for case in range(200):
        kind = MediaKind.PICTURE if case % 5 == 0 else MediaKind.VIDEO
        faces = []
        for track in range(chance.randint(1, 3)):
            mean, quality = chance.uniform(-5, 5), chance.uniform(0.05, 1)
            for moment in range(1 if kind is MediaKind.PICTURE else chance.randint(1, 40)):
                logit = None if chance.random() < 0.1 else mean + chance.uniform(-3, 3)
                faces.append(face(0.5 * moment, logit, track, quality))
        looked = coverage(max_gap_s=chance.uniform(0, 12), kind=kind)
        for policy in (Policy(), POLICY, replace(POLICY, are_inherited=True)):
            yield told(decide(faces, looked, policy))


def told(found: Verdict | NoVerdict) -> str:
    """Numbers to five places: how a machine rounds is no other result."""
    reasons = [reason.value for reason in found.reasons]
    if isinstance(found, NoVerdict):
        return f"none {reasons}"
    tracks = [(track, f"{score:.5f}", found.track_labels[track].value) for track, score in found.track_scores.items()]
    stretches = [
        (track, f"{one.start_s:.5f} {one.end_s:.5f} {one.max_logit:.5f}")
        for track, all_ in found.segments.items()
        for one in all_
    ]
    score = f"{found.score:.5f} {found.calibrated} {found.thresholds} {found.temperature:.5f}"
    return f"{found.label.value} {score} {reasons} {tracks} {stretches}"


def test_other_verdicts_have_another_version() -> None:
    digest = hashlib.sha256("\n".join(outcomes()).encode()).hexdigest()
    assert digest == DIGESTS[RESULTS_VERSION], "other verdicts: count RESULTS_VERSION up, and add the new digest"
