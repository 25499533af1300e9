from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Literal

import av
import numpy as np
import psutil
import pytest

from worker.errors import DecodeCrash
from worker.frames.boot import boot
from worker.frames.decord import is_installed
from worker.frames.limits import Limits
from worker.frames.sandbox import SandboxedFrames
from worker.types import SamplingRequest, Strategy

HERE = Path(__file__).parent
OPENER = "hostile:open_misbehaving"


def test_a_process_that_was_started_before_is_used_and_owned(tmp_path: Path) -> None:
    path = tmp_path / "two.json"
    path.write_text(json.dumps({"width": 8, "height": 8, "n_frames": 2}))
    booted = boot(OPENER, [HERE])
    with SandboxedFrames(Limits(), opener=OPENER, import_path=[HERE], booted=booted) as frames:
        with frames.open(path) as media:
            assert len(list(media.frames(SamplingRequest(strategy=Strategy.UNIFORM, max_frames=9)))) == 2
        assert frames.zygote_pid == booted.process.pid
    assert booted.process.poll() is not None, "it ended with its owner"
    booted.kill()  # whoever started it may still ask


def test_it_ends_where_nobody_took_it() -> None:
    booted = boot()
    booted.kill()
    assert booted.process.wait(timeout=60.0) != 0


def test_it_can_be_the_first_step() -> None:
    """Nothing heavy is imported: that is what it is for."""
    told = "import sys, worker.frames.boot; print(*sorted({'numpy', 'cv2', 'pydantic', 'onnxruntime', 'av'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", told], cwd=HERE.parents[2], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_a_decoder_told_to_use_one_thread_has_one(tmp_path: Path) -> None:
    """Libraries beside FFmpeg would start some of their own for pictures as large as these."""
    path = tmp_path / "large.mp4"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 1280, 720, "yuv444p"
        for level in range(4):
            frame = av.VideoFrame.from_ndarray(np.full((720, 1280, 3), 40 * level, np.uint8), format="rgb24")
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    with SandboxedFrames(Limits()) as decoders, decoders.open(path) as media:
        assert len(list(media.frames(SamplingRequest(strategy=Strategy.UNIFORM, max_frames=9)))) == 4
        assert psutil.Process(media.child_pid).num_threads() == 1


@pytest.mark.parametrize("decoder", ["auto", "decord"])
def test_decord_is_loaded_once_it_is_asked_for(decoder: Literal["auto", "decord"], tmp_path: Path) -> None:
    if not is_installed():
        pytest.skip("needs decord: make setup")
    path = tmp_path / "grey.mp4"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        out.mux(stream.encode(av.VideoFrame.from_ndarray(np.full((64, 64, 3), 90, np.uint8), format="rgb24")))
        out.mux(stream.encode())
    with SandboxedFrames(Limits(), decoder=decoder) as decoders, decoders.open(path) as media:
        assert media.info.decoder == decoder.replace("auto", "pyav")
        loaded = [mapped.path for mapped in psutil.Process(decoders.zygote_pid).memory_maps() if "decord" in mapped.path]
        assert bool(loaded) == (decoder == "decord")


def test_a_decord_that_does_not_load_is_told_and_ends_no_other_file(tmp_path: Path) -> None:
    (tmp_path / "no_decord.py").write_text(
        "from hostile import open_misbehaving\n"
        "from worker.frames import decord\n"
        "def warm_up():\n"
        "    decord.import_early = lambda: object().bool\n"
    )
    path = tmp_path / "two.json"
    path.write_text(json.dumps({"width": 8, "height": 8, "n_frames": 2}))
    options: dict[str, Any] = {"opener": "no_decord:open_misbehaving", "import_path": [HERE, tmp_path], "decoder": "decord"}
    with SandboxedFrames(Limits(), **options) as frames:
        with pytest.raises(DecodeCrash, match="decord is installed but does not load: AttributeError"), frames.open(path):
            pass
        zygote_pid = frames.zygote_pid
        with pytest.raises(DecodeCrash), frames.open(path):
            pass
        assert frames.zygote_pid == zygote_pid, "it lives on"
