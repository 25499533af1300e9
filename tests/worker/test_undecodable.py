"""What could not be decoded is in the report, and a large share of it takes ``real`` away."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.worker.grey_media import Clip, scanner
from worker.types import Label, Reason


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "clip.mp4"
    path.write_bytes(b"clip")
    return path


@pytest.mark.parametrize(
    ("clip", "window_s", "undecodable_s", "label"),
    [
        (Clip(), (0.0, None), 0.0, Label.REAL),
        (Clip(lost_share=0.2), (0.0, None), 0.8, Label.REAL),
        (Clip(lost_share=0.3), (0.0, None), 1.2, Label.UNCERTAIN),
        (Clip(missing_s=0.8), (0.0, None), 0.8, Label.REAL),
        (Clip(missing_s=1.6), (0.0, None), 1.6, Label.UNCERTAIN),
        (Clip(missing_s=1.6), (0.0, 2.0), 0.0, Label.REAL),
        (Clip(missing_s=2.0, lost_share=0.5), (1.0, 3.0), 1.5, Label.UNCERTAIN),
        (Clip(fails_after=16), (0.0, None), 2.06, Label.UNCERTAIN),
        (Clip(swap_s=(0.0, 4.0), lost_share=0.9), (0.0, None), 3.6, Label.FAKE),
    ],
)
def test_more_than_a_quarter_takes_real_away(
    file: Path, clip: Clip, window_s: tuple[float, float | None], undecodable_s: float, label: Label
) -> None:
    report = scanner(clip, window_s=window_s).scan(file).report
    assert report.sampling is not None
    assert report.sampling.undecodable_s == pytest.approx(undecodable_s, abs=0.01)
    assert report.verdict is label
    assert [reason.code for reason in report.reasons] == ([Reason.SPARSE_COVERAGE] if label is Label.UNCERTAIN else [])
