"""What is submitted: good media and bad, real clips and drills, duplicates, twins, cancelled ones; what is to come of each."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from tests.chaos.media import CLIPS, drill_bytes, sha256_of
from tests.chaos.scanner import score_of
from worker.queue.requests import RequestSource, ScanRequest

OWNERS = ("acme", "globex")
LOST = ("internal", "lease_lost")
CLIP_NAMES = ("untouched.mp4", "swapped.mp4", "no_face.mp4", "two_people.mp4")
SHARES = {
    "good": 46,
    "duplicate": 12,
    "slow": 5,
    "flaky": 4,
    "path": 5,
    "clip": 12,
    "twin": 5,
    "cancel": 2,
    "kill": 2,
    "crash": 2,
    "bug": 1,
    "gone": 2,
    "noise": 1,
    "stall": 1,
}
NEED_THE_REAL_SCANNER = ("clip", "noise")
KILL_THEIR_PROCESS = ("kill", "crash", "bug")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """One submission. ``expected`` is what the auditor is told; ``times`` above 1: submitted again under the same key."""

    kind: str
    owner: str
    request: ScanRequest
    expected: dict[str, Any]
    times: int = 1
    cancel: bool = False

    @property
    def is_good(self) -> bool:
        """Whether it may be a victim: it completes, whatever befalls it once."""
        return bool(self.expected["states"] == ["completed"])


@dataclass(slots=True, kw_only=True)
class Mix:
    """An endless stream of wishes, the same for the same seed."""

    random: random.Random
    media_port: int
    receiver_port: int
    media: Path
    verdicts: Mapping[str, str]
    """Of the clips, by a scan that nothing disturbs; empty: the real scanner is left out."""
    left_out: tuple[str, ...] = ()
    _number: int = 0
    _duplicated: str = ""
    _left: int = 0
    _kinds: list[str] = field(default_factory=list)

    def __iter__(self) -> Iterator[Wish]:
        while True:
            yield self._next()

    def _next(self) -> Wish:
        self._number += 1
        if self._left:  # the rest of a burst of the same bytes
            self._left -= 1
            return self._wish("duplicate", f"text/{quote(self._duplicated)}")
        kind = self._kind()
        words = f"{kind} {self._number} sleep:0.2"
        if kind == "duplicate":
            self._duplicated, self._left = words, 2
        if kind == "clip":
            return self._wish(kind, f"clip/{self.random.choice(list(self.verdicts))}/{self._number}")
        if kind in ("noise", "gone", "stall"):
            return self._wish(kind, f"{kind}/{self._number}")
        if kind in ("kill", "crash", "bug"):
            return self._wish(kind, f"text/{quote(f'{self._number} {kind}')}")
        if kind == "cancel":
            return self._wish(kind, f"text/{quote(f'{self._number} sleep:30')}")
        return self._wish(kind, f"{kind if kind in ('slow', 'flaky') else 'text'}/{quote(words)}")

    def _kind(self) -> str:
        """Each share of kinds once before any comes again, so that a short run has them all as well."""
        if not self._kinds:
            left_out = self.left_out if self.verdicts else (*self.left_out, *NEED_THE_REAL_SCANNER)
            for kind, share in SHARES.items():
                if kind not in left_out:
                    self._kinds += [kind] * -(-share // (1 if self.verdicts else 4))
            self.random.shuffle(self._kinds)
        return self._kinds.pop()

    def _wish(self, kind: str, path: str) -> Wish:
        owner = self.random.choice(OWNERS)
        has_callback = self.random.random() < 0.6
        source = RequestSource(url=f"http://127.0.0.1:{self.media_port}/{path}")
        if kind == "path":
            file = self.media / f"{self._number}.txt"
            file.write_bytes(drill_bytes(words_of(path)))
            source = RequestSource(path=str(file))
        key = f"key {self._number}" if kind == "twin" or self.random.random() < 0.1 else None
        request = ScanRequest(
            source=source,
            external_id=f"post {self._number}",
            idempotency_key=key,
            priority=self.random.choices(("live", "batch", "low"), (1, 3, 1))[0],
            callback_url=f"http://127.0.0.1:{self.receiver_port}/hook/{owner}" if has_callback else None,
        )
        return Wish(
            kind=kind,
            owner=owner,
            request=request,
            expected=expected(kind, path, self.verdicts),
            times=2 if kind == "twin" else 1,
            cancel=kind == "cancel",
        )


def real_verdicts() -> dict[str, str]:
    """What the real scanner says of each clip."""
    paths = [str(CLIPS / name) for name in CLIP_NAMES]
    command = [sys.executable, "-m", "worker.cli", "scan", "--format", "jsonl", *paths]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    return {Path(report["source"]["path"]).name: report["verdict"] for report in map(json.loads, told)}


def words_of(path: str) -> str:
    return unquote(path.partition("/")[2])


def expected(kind: str, path: str, verdicts: Mapping[str, str]) -> dict[str, Any]:
    """``states`` and ``codes`` that it may end with; verdict, score and bytes of a result."""
    codes = {
        "kill": LOST,
        "crash": ("decode_crash", *LOST),
        "bug": LOST,
        "gone": ("fetch_gone",),
        "noise": ("unsupported", "corrupt"),
        "stall": ("fetch_timeout", *LOST),
    }
    told: dict[str, Any] = {"kind": kind, "states": ["completed"], "codes": [], "verdict": None, "score": None}
    told["sha256"] = sha256_of(path)
    if kind in codes:
        return {**told, "states": ["failed"], "codes": list(codes[kind]), "sha256": None}
    if kind == "clip":
        return {**told, "verdict": verdicts[path.split("/")[1]]}
    if kind == "cancel":
        return {**told, "states": ["cancelled"]}
    score = score_of(drill_bytes(words_of(path)))
    return {**told, "verdict": "fake" if score > 0.5 else "real", "score": score}
