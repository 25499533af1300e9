from __future__ import annotations

from pathlib import Path

import av
import pytest

from optimize.bench.soak import FPS, HEIGHT, WIDTH, loop_clip, make_clip
from worker.demo import FOLDER
from worker.errors import ConfigError


def test_looped_clip_has_every_frame_again_at_rising_times(tmp_path: Path) -> None:
    source, target = FOLDER / "swapped.mp4", tmp_path / "long.mp4"
    lasts_s = loop_clip(source, target, 11.0)
    with av.open(str(source)) as container:
        once = sum(1 for _ in container.decode(video=0))
    with av.open(str(target)) as container:
        frames = list(container.decode(video=0))
        assert container.duration is not None
        assert container.duration / av.time_base == pytest.approx(lasts_s, abs=0.1)
    assert lasts_s == pytest.approx(12.0, abs=0.05)
    assert len(frames) == 5 * once
    times = [frame.time for frame in frames]
    assert times == sorted(set(times))
    assert (frames[3].to_ndarray() == frames[3 + 4 * once].to_ndarray()).all()


@pytest.mark.parametrize(
    ("name", "why"), [("nowhere.mp4", "No such file"), ("words.mp4", "Invalid data"), ("sound.mp4", "it has no video stream")]
)
def test_what_is_no_video_is_not_looped(tmp_path: Path, name: str, why: str) -> None:
    (tmp_path / "words.mp4").write_text("no video")
    with av.open(str(tmp_path / "sound.mp4"), "w", format="wav") as container:
        container.add_stream("pcm_s16le", rate=8000).layout = "mono"
        container.start_encoding()
    with pytest.raises(ConfigError, match=f"{name} cannot be repeated: .*{why}"):
        loop_clip(tmp_path / name, tmp_path / "long.mp4", 1.0)


def test_made_clip_is_720p(tmp_path: Path) -> None:
    make_clip(tmp_path / "made.mp4", seconds=0.4)
    with av.open(str(tmp_path / "made.mp4")) as container:
        frames = list(container.decode(video=0))
    assert [(frame.width, frame.height) for frame in frames] == [(WIDTH, HEIGHT)] * round(0.4 * FPS)
