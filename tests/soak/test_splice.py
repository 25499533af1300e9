"""A ten-second face swap in a 20-minute real video, at ten seeded places. Minutes long: `make soak` runs it."""

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

SPLIT = Path(__file__).parents[2] / "training" / "splits" / "v1.csv"
UNITS = 120
"""Ten seconds each: 20 minutes."""
PLACES = 10

pytestmark = [pytest.mark.soak, pytest.mark.timeout(1800)]


def held_out_pairs(data: Path) -> list[tuple[Path, Path]]:
    """(original, face swap) of FF++ clips that were not trained on, seeded. Swaps are Deepfakes and FaceSwap; Face2Face and
    NeuralTextures move the original's own face."""
    with SPLIT.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["source"] == "ffpp" and row["split"] == "heldout"]
    originals = {match[1]: data / row["path"] for row in rows if (match := re.search(r"youtube_(\d{3})", row["path"]))}
    pairs = [
        (originals[match[1]], data / row["path"])
        for row in rows
        if row["label"] == "fake"
        and (match := re.search(r"(?:deepfakes|faceswap)_(\d{3})_\d{3}\.", row["path"]))
        and match[1] in originals
    ]
    return random.Random(0).sample(sorted(pairs), PLACES)


@pytest.fixture(scope="module")
def scanner() -> Iterator[Scanner]:
    with build_scanner(load_settings()) as opened:
        yield opened


@pytest.fixture(scope="module")
def reports(scanner: Scanner, shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> list[tuple[int, Report, Report]]:
    """(second at which the swap begins, report, report with --max-frames 32) for each place."""
    places = random.Random(1)
    folder = tmp_path_factory.mktemp("splice")
    found: list[tuple[int, Report, Report]] = []
    with build_scanner(load_settings(flags={"sampling": {"max_frames": 32}})) as thin:
        for real, fake in held_out_pairs(shared_data):
            before = places.randrange(1, UNITS - 1)
            video = folder / "video.mp4"
            encode_unit(real, folder / "real.mp4", seconds=10)
            encode_unit(fake, folder / "fake.mp4", seconds=10)
            splice(folder / "real.mp4", folder / "fake.mp4", video, real_units_before=before, real_units_after=UNITS - 1 - before)
            found.append((10 * before, scanner.scan(video).report, thin.scan(video).report))
            report = found[-1][1]
            segments = [(part.start_ms // 1000, part.end_ms // 1000) for part in report.segments]
            print(f"{fake.stem} at {10 * before} s: {report.verdict} {report.score} {segments} in {report.timings_ms}")
    return found


def test_the_swap_is_found_at_8_of_10_places(reports: list[tuple[int, Report, Report]]) -> None:
    hits = sum(
        report.verdict is Label.FAKE
        and any(part.start_ms < 1000 * (start + 10) and part.end_ms > 1000 * start for part in report.segments)
        for start, report, _ in reports
    )
    assert len(reports) == PLACES
    assert hits >= 8


def test_32_frames_of_it_are_never_called_real(reports: list[tuple[int, Report, Report]]) -> None:
    for _, _, thin in reports:
        assert thin.verdict is not Label.REAL
        assert thin.sampling is not None
        assert thin.sampling.decoded <= 32
        if thin.verdict is Label.UNCERTAIN:
            assert Reason.SPARSE_COVERAGE in [reason.code for reason in thin.reasons]
