from __future__ import annotations

from pathlib import Path

import pytest

from optimize.bench.clips import chosen_clips, find_clips
from worker.errors import ConfigError


def test_clips_are_chosen_evenly_and_always_the_same(tmp_path: Path) -> None:
    for number in range(10):
        (tmp_path / f"{number}.mp4").touch()
    (tmp_path / "notes.txt").touch()
    assert [path.name for path in find_clips(tmp_path, 3)] == ["1.mp4", "5.mp4", "8.mp4"]
    assert len(find_clips(tmp_path, 50)) == len(find_clips(tmp_path)) == 10


def test_demo_clips_serve_where_there_is_no_folder(tmp_path: Path) -> None:
    assert [path.name for path in chosen_clips(None, 1)] == ["two_people.mp4"]
    with pytest.raises(ConfigError, match="no video files"):
        chosen_clips(tmp_path)
