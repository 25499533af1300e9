"""The demonstration clips and the answer that is expected of each; made by ``worker.demo.build`` from public-domain portraits.

They show what the scanner does; they measure nothing, and no training, threshold or calibration ever sees them.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from worker.types import Label

FOLDER = Path(__file__).parent
EXPECTATIONS = FOLDER / "expectations.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoFile:
    """One clip. ``expected`` is the right answer (not what some model says), ``people`` the number of people shown."""

    path: Path
    expected: Label
    people: int
    shows: str


def demo_files() -> tuple[DemoFile, ...]:
    """The clips in the order in which they are to be shown."""
    listed = json.loads(EXPECTATIONS.read_text(encoding="utf-8"))["files"]
    return tuple(
        DemoFile(path=FOLDER / entry["file"], expected=Label(entry["expected"]), people=entry["people"], shows=entry["shows"])
        for entry in listed
    )
