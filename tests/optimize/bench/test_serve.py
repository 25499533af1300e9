from __future__ import annotations

import hashlib
import os
from pathlib import Path

import av
import pytest

from optimize.bench.serve import Served, as_named, copies, serve, serve_charts, serve_figures, serve_settings
from optimize.bench.variants import Variant
from worker.demo import FOLDER
from worker.errors import ConfigError, ModelError

CLIPS = [FOLDER / "untouched.mp4", FOLDER / "no_face.mp4"]


def a_round(workers: int, took_s: float) -> Served:
    return Served(
        workers=workers,
        videos=4,
        took_s=took_s,
        cpu_s=2.0,
        scan_s=(1.0, 2.0, 3.0, 4.0),
        with_waiting_s=(2.0, 3.0, 4.0, 5.0),
        backends=("openvino-bf16",),
    )


def test_copies_are_of_other_bytes_and_still_decode(tmp_path: Path) -> None:
    made = copies(CLIPS, 5, tmp_path)
    assert len({hashlib.sha256(path.read_bytes()).hexdigest() for path in made}) == 5
    with av.open(str(made[4])) as again, av.open(str(CLIPS[0])) as once:
        assert sum(1 for _ in again.decode(video=0)) == sum(1 for _ in once.decode(video=0))


def test_other_formats_are_not_copied(tmp_path: Path) -> None:
    (tmp_path / "clip.webm").touch()
    with pytest.raises(ConfigError, match="cannot be copied"):
        copies([tmp_path / "clip.webm"], 2, tmp_path)


def test_two_clips_of_the_same_bytes_are_told(tmp_path: Path) -> None:
    for name in ("a.webm", "b.webm"):
        (tmp_path / name).write_bytes(b"same")
    with pytest.raises(ConfigError, match=r"a\.webm and .*b\.webm are the same"):
        copies([tmp_path / "a.webm", tmp_path / "b.webm"], 2, tmp_path)


def test_figures_tell_throughput_latency_and_what_a_second_worker_gives() -> None:
    served = [a_round(1, 4.0), a_round(2, 2.5), a_round(2, 2.0), a_round(1, 4.0)]
    figures = {figure.name: figure for figure in serve_figures(served)}
    assert figures["1 worker: videos"].value == 1.0
    assert figures["1 worker: videos"].note == "4 videos, 2 rounds; openvino-bf16"
    assert figures["1 worker: scan, 50 % within"].value == 2.5
    assert figures["2 workers: CPU time"].value == 0.5
    assert figures["2 workers on 2 cores: times as fast as 1 on 1"].value == pytest.approx(4 / 2.25)
    throughput, latency = serve_charts(served)
    assert throughput.labels == ["1", "2"]
    assert latency.series["workers: 1"][-1] == (4.0, 1.0)


def test_more_workers_than_cores_are_refused() -> None:
    with pytest.raises(ConfigError, match="as many cores"):
        serve(CLIPS, videos=1, workers=[len(os.sched_getaffinity(0)) + 1], rounds=1, flags={})


def test_a_checkpoint_that_is_missing_is_told_before_a_worker_starts(tmp_path: Path) -> None:
    flags = {"model": {"checkpoint": str(tmp_path / "none.safetensors")}}
    with pytest.raises(ModelError, match=r"none\.safetensors: No such file"):
        serve(CLIPS, videos=1, workers=[1], rounds=1, flags=flags)


def test_scans_follow_the_environment_and_the_queue_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = {
        "MODEL__CACHE_DIR": str(tmp_path),
        "MODEL__THREADS": "2",
        "FACES__MIN_FACE_PX": "50",
        "REDIS__PASSWORD": "secret",
        "QUEUE__MAX_BACKLOG": "1",
        "ARTIFACTS__URL": "s3://bucket",
    }
    for key, value in told.items():
        monkeypatch.setenv(f"VERIFRAME_{key}", value)
    settings = serve_settings("redis://127.0.0.1:1/0", tmp_path, Variant(backend="tensorrt").flags(2))
    assert (settings.model.backend, settings.model.cache_dir, settings.faces.min_face_px) == ("tensorrt", tmp_path, 50)
    assert (settings.model.threads, settings.decode.threads) == (1, 1)
    assert (settings.redis.password, settings.artifacts.url) == (None, None)
    assert (settings.queue.max_backlog, settings.queue.media_roots) == (100_000, (tmp_path,))


def test_another_backend_than_the_one_named_does_not_count() -> None:
    assert as_named(["tensorrt-fp16", "tensorrt-fp16"], "tensorrt") == ("tensorrt-fp16",)
    assert as_named(["onnxruntime"], "auto") == ("onnxruntime",)
    with pytest.raises(ConfigError, match="onnxruntime ran in the place of tensorrt"):
        as_named(["tensorrt-fp16", "onnxruntime"], "tensorrt")


@pytest.mark.soak
def test_videos_go_through_the_real_queue() -> None:
    served = serve(CLIPS, videos=4, workers=[1], rounds=1, flags=Variant(backend="onnxruntime").flags(2))
    assert [(one.workers, one.videos, len(one.scan_s), one.backends) for one in served] == [(1, 4, 4, ("onnxruntime",))]
    assert min(served[0].scan_s) > 0
    assert all(waiting >= own for own, waiting in zip(served[0].scan_s, served[0].with_waiting_s, strict=True))


@pytest.mark.soak
def test_a_clip_that_cannot_be_scanned_is_named(tmp_path: Path) -> None:
    (tmp_path / "words.mp4").write_text("no video")
    with pytest.raises(ConfigError, match=r"words\.mp4 was not scanned: not a video"):
        serve([CLIPS[1], tmp_path / "words.mp4"], videos=2, workers=[1], rounds=1, flags=Variant(backend="onnxruntime").flags(1))
