"""``veriframe`` with a scanner of the tests' own behind the port; run as a script, so that slots can import it by name.

What a file holds says what becomes of it: ``fake``, ``real``, ``uncertain``, ``slow`` (takes a minute), ``wait PATH`` (until PATH
exists), ``broken``, ``gone PATH`` (cannot be opened until PATH exists), ``bug`` (the scanner raises),
``unopened`` (its classifier cannot be opened), ``kill`` (its process dies), ``kill PATH`` (only once: PATH is made) or
``mute PATH`` (once, its process closes its pipe and lives on). Each scan appends its file's name to $FAKE_LOG.
"""

from __future__ import annotations

import hashlib
import os
import signal
import stat
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from worker.assemble import failed_report
from worker.content import Content
from worker.engine import EngineFailed
from worker.errors import ModelError, SourceError
from worker.report import ErrorItem, Evidence, Media, Report, Source, Timings, Track, new_id, now
from worker.settings import Settings
from worker.types import Label, MediaKind, Reason


@dataclass(frozen=True)
class FakeResult:
    report: Report
    crops: Mapping[str, bytes] = field(default_factory=dict)


class FakeScanner:
    def __init__(self, settings: Settings) -> None:
        self.fingerprint = f"fake, {settings.sampling.max_frames} frames"
        self.max_bytes = settings.decode.max_bytes

    def scan(self, path: Path, *, content: Content | None = None, on_progress: Callable[[Any], None] | None = None) -> FakeResult:
        if log := os.environ.get("FAKE_LOG"):
            with Path(log).open("a") as file:
                file.write(path.name.encode("ascii", "backslashreplace").decode() + "\n")
        word, _, argument = path.read_bytes().decode("utf-8", "replace").strip().partition(" ")
        if word == "bug":
            raise RuntimeError("a bug in the scanner")
        if word == "unopened":
            raise EngineFailed from ModelError("the classifier cannot be opened")
        if word == "slow":
            time.sleep(60)
        if word == "wait":
            wait_for(Path(argument))
        if word == "kill" and not (argument and Path(argument).exists()):
            if argument:
                Path(argument).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if word == "mute" and not Path(argument).exists():
            Path(argument).write_text(str(os.getpid()))
            for handle in range(3, 256):
                with suppress(OSError):
                    if stat.S_ISSOCK(os.fstat(handle).st_mode):
                        os.close(handle)
            time.sleep(60)
        if word == "gone" and not Path(argument).exists():
            job = Report(id=new_id(), source=Source.of(path), created_at=now(), status="running")
            return FakeResult(failed_report(job, SourceError("cannot open it"), content))
        return scanned(path, word)


def wait_for(path: Path, timeout_s: float = 30.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not path.exists():
        if time.monotonic() > deadline:
            raise TimeoutError(path)
        time.sleep(0.02)


def scanned(path: Path, word: str) -> FakeResult:
    base = Report(id=new_id(), source=Source.of(path), created_at=now(), finished_at=now(), status="completed")
    if word == "broken":
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        error = ErrorItem(code="corrupt", message="=nothing\x1b[31m in it", retryable=False, sha256=sha256)
        return FakeResult(base.model_copy(update={"status": "failed", "error": error}))
    label = Label.FAKE if word == "fake" else Label.UNCERTAIN if word == "uncertain" else Label.REAL
    score = {Label.FAKE: 0.9, Label.UNCERTAIN: 0.5}.get(label, 0.1)
    evidence = tuple(
        Evidence(t_ms=t_ms, box=(0, 0, 9, 9), score=s, crop=f"t{t_ms}.jpg") for t_ms, s in ((5000, score), (65_000, score - 0.1))
    )
    track = Track(id=0, score=score, frames=2, votes=2, start_ms=5000, end_ms=65_000, evidence=evidence)
    media = Media(
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        kind=MediaKind.VIDEO,
        duration_s=70,
        fps=25,
        width=64,
        height=64,
        codec="h264",
        container="mp4",
        decoder="pyav",
    )
    reasons = ({"code": Reason.NEAR_THRESHOLD},) if label is Label.UNCERTAIN else ()
    timings = Timings(decode=1, detect=1, infer=1, total=1500)
    report = Report.model_validate(
        base.model_dump()
        | {"verdict": label, "score": score, "tracks": (track,), "media": media, "reasons": reasons, "timings_ms": timings}
    )
    return FakeResult(report, {f"t{t_ms}.jpg": b"\xff\xd8" + bytes(str(t_ms), "ascii") for t_ms in (5000, 65_000)})


@contextmanager
def build(settings: Settings) -> Iterator[FakeScanner]:
    """Opens a scanner; refuses a missing checkpoint as the real one does."""
    if settings.model.checkpoint is not None and not settings.model.checkpoint.exists():
        raise ModelError(f"no such model: {settings.model.checkpoint}")
    try:
        yield FakeScanner(settings)
    finally:
        if log := os.environ.get("FAKE_LOG"):
            with Path(log).open("a") as file:
                file.write("closed\n")


if __name__ == "__main__":
    from worker.cli import main

    sys.argv[0] = "veriframe"
    main(build)
