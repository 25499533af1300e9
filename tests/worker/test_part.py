"""A scan of a part of a video: its report says so."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.worker.grey_media import Clip, scanner
from worker.types import MediaKind, SamplingRequest


@pytest.mark.parametrize(
    ("window", "told"),
    [
        ({"start_s": 0.5, "end_s": 2.75}, (0.5, 2.75)),
        ({"start_s": 0.5}, (0.5, 4.0)),
        ({"start_s": 0.5, "end_s": 9.0}, (0.5, 4.0)),
        ({"end_s": 2.75}, (0.0, 2.75)),
        ({}, (None, None)),
        ({"end_s": 4.0}, (None, None)),
    ],
)
def test_a_report_names_the_part_that_alone_was_scanned(
    file: Path, window: dict[str, float], told: tuple[float | None, float | None]
) -> None:
    report = scanner(Clip()).scan(file, request=SamplingRequest(**window)).report
    assert report.sampling is not None
    assert report.media is not None
    assert (report.sampling.start_s, report.sampling.end_s) == told
    assert report.media.duration_s == 4.0


def test_a_picture_has_no_parts(file: Path) -> None:
    clip = Clip(duration_s=0.0, kind=MediaKind.PICTURE)
    report = scanner(clip).scan(file, request=SamplingRequest(start_s=0.0, end_s=5.0)).report
    assert report.sampling is not None
    assert (report.sampling.start_s, report.sampling.end_s) == (None, None)
