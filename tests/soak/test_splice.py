"""A ten-second face swap in a 20-minute real video. Minutes long: `make soak` runs it."""

from __future__ import annotations

import csv
import random
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.soak.splice import encode_unit, splice
from worker.compose import build_scanner
from worker.pipeline import Scanner
from worker.report import Report
from worker.settings import load_settings
from worker.types import Label, Reason

SPLIT = Path(__file__).parents[2] / "training" / "splits" / "v2.csv"
UNITS = 120
"""Ten seconds each: 20 minutes."""
PLACES = 10

pytestmark = [pytest.mark.soak, pytest.mark.timeout(1800)]


def held_out_pairs(data: Path) -> list[tuple[Path, Path]]:
    """(original, face swap) of all FF++ clips that were not trained on. Swaps are Deepfakes and FaceSwap; Face2Face and
    NeuralTextures move the original's own face."""
    with SPLIT.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["source"] == "ffpp" and row["split"] == "heldout"]
    originals = {match[1]: data / row["path"] for row in rows if (match := re.search(r"youtube_(\d{3})", row["path"]))}
    pairs: list[tuple[Path, Path]] = []
    for row in rows:
        match = re.search(r"(?:deepfakes|faceswap)_(\d{3})_\d{3}\.", row["path"])
        if row["label"] == "fake" and match and match[1] in originals:
            pairs.append((originals[match[1]], data / row["path"]))
    return sorted(pairs)


@pytest.fixture(scope="module")
def scanner() -> Iterator[Scanner]:
    with build_scanner(load_settings()) as opened:
        yield opened


def scan_spliced(scanner: Scanner, real: Path, fake: Path, before: int, folder: Path) -> Report:
    """Scan 20 minutes of the looped real clip with ten seconds of the fake one after ``before`` times ten seconds."""
    video = folder / "video.mp4"
    for clip in (real, fake):
        if not (folder / clip.name).exists():
            encode_unit(clip, folder / clip.name, seconds=10)
    splice(folder / real.name, folder / fake.name, video, real_units_before=before, real_units_after=UNITS - 1 - before)
    report = scanner.scan(video).report
    segments = [(part.start_ms // 1000, part.end_ms // 1000) for part in report.segments]
    print(f"{fake.stem} at {10 * before} s: {report.verdict} {report.score} {segments[:5]} in {report.timings_ms}")
    return report


def is_found(report: Report, before: int) -> bool:
    """Fake, and a segment overlaps the swap."""
    overlap = any(part.start_ms < 10_000 * (before + 1) and part.end_ms > 10_000 * before for part in report.segments)
    return report.verdict is Label.FAKE and overlap


def test_a_swap_is_found_at_8_of_10_places(scanner: Scanner, shared_data: Path, tmp_path: Path) -> None:
    """One pair at ten seeded places; with 32 frames none of them is ever called real.

    Weak by itself: looped content makes the places alike, so this is close to one observation, of an easy swap.
    """
    real, fake = random.Random(0).sample(held_out_pairs(shared_data), PLACES)[0]
    places = random.Random(1).sample(range(1, UNITS - 1), PLACES)
    hits = 0
    with build_scanner(load_settings(flags={"sampling": {"max_frames": 32}})) as thin_scanner:
        for before in places:
            hits += is_found(scan_spliced(scanner, real, fake, before, tmp_path), before)
            thin = thin_scanner.scan(tmp_path / "video.mp4").report
            assert thin.verdict is not Label.REAL
            assert thin.sampling is not None
            assert thin.sampling.decoded <= 32
            if thin.verdict is Label.UNCERTAIN:
                assert Reason.SPARSE_COVERAGE in [reason.code for reason in thin.reasons]
    print(f"found at {hits} of {PLACES} places")
    assert hits >= 8


def test_8_in_10_swaps_of_all_held_out_pairs_are_found(scanner: Scanner, shared_data: Path, tmp_path: Path) -> None:
    """Every held-out pair, each at a seeded place: what the promise of 8 in 10 is about."""
    places = random.Random(2)
    pairs = held_out_pairs(shared_data)
    hits = 0
    for real, fake in pairs:
        before = places.randrange(1, UNITS - 1)
        hits += is_found(scan_spliced(scanner, real, fake, before, tmp_path), before)
    print(f"found {hits} of {len(pairs)} swaps")
    assert hits >= 0.8 * len(pairs)


def test_originals_without_a_swap_are_seldom_called_fake(scanner: Scanner, shared_data: Path, tmp_path: Path) -> None:
    """Looped and encoded alike: what is found above is worth no more than this is rare. 5 % of 21 is one."""
    originals = sorted({real for real, _ in held_out_pairs(shared_data)})
    found = [scan_spliced(scanner, real, real, UNITS // 2, tmp_path).verdict for real in originals]
    counts = ", ".join(f"{found.count(label)} {label}" for label in (Label.FAKE, Label.UNCERTAIN, Label.REAL))
    print(f"{len(found)} originals: {counts}")
    assert found.count(Label.FAKE) <= 1
