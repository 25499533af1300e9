"""Whole scans of a demo clip by the tiny network, its export sound or tampered with."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from typer.testing import CliRunner

from optimize.bench.growth import make_crowd
from optimize.commands.parity import app, find_clips
from optimize.parity import NO_FACE, Flip, Judged, has_failed, judge, judge_decoder
from worker.backends.kept import keep_bytes
from worker.backends.onnx import OnnxClassifier
from worker.demo import demo_files
from worker.errors import ConfigError
from worker.model.checkpoint import sha256
from worker.model.graph import EXPORT_VERSION
from worker.settings import Settings, load_settings

CLIPS = [file.path for file in demo_files() if file.path.stem == "untouched"]


def settings_with(checkpoint: Path, cache: Path) -> Settings:
    model = {"checkpoint": checkpoint, "cache_dir": cache, "threads": 1}
    return load_settings(flags={"model": model, "sampling": {"strategy": "uniform", "max_frames": 4}})


def test_sound_backends_pass_and_the_others_say_why_not(tiny_checkpoint: Path, tiny_onnx: Path) -> None:
    settings = settings_with(tiny_checkpoint, tiny_onnx.parents[1])
    eager, onnxruntime, cuda, tensorrt = judge(settings, CLIPS, ["torch", "onnxruntime", "onnxruntime-cuda", "tensorrt"])
    assert (eager.max_dp, eager.passes, eager.flips) == (0.0, True, ())
    assert onnxruntime.passes
    assert onnxruntime.crops == eager.crops > 2
    assert onnxruntime.clips == eager.clips == 1
    assert onnxruntime.max_dp is not None
    assert onnxruntime.max_dp <= 1e-3
    assert "needs" in (cuda.refusal or "") or cuda.passes
    assert "tensorrt" in (tensorrt.refusal or "") or tensorrt.passes


def test_clips_that_nobody_can_scan_prove_nothing(tiny_checkpoint: Path, tiny_onnx: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video")
    settings = settings_with(tiny_checkpoint, tiny_onnx.parents[1])
    (onnxruntime,) = judge(settings, [*CLIPS, broken], ["onnxruntime"])
    assert (onnxruntime.clips, onnxruntime.failure) == (1, "only 1 of 2 clips could be scanned: give it media that decode")


def test_clips_without_faces_prove_nothing_and_nothing_is_looked_for_in_the_graph(
    tiny_checkpoint: Path, tiny_onnx: Path, tmp_path: Path
) -> None:
    grey = tmp_path / "grey.mp4"
    make_crowd(grey, 0, frames=2)

    def export(checkpoint: Path, out: Path) -> None:
        raise AssertionError("exported to look for a node")

    settings = settings_with(tiny_checkpoint, tiny_onnx.parents[1])
    (found,) = judge(settings, [grey], ["onnxruntime"], export=export)
    assert (found.crops, found.clips, found.failure, found.suspect) == (0, 1, NO_FACE, None)
    assert judge_decoder(settings, [grey], "pyav").failure == NO_FACE
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video")
    (unread,) = judge(settings, [broken], ["onnxruntime"], export=export)
    assert unread.failure == "only 0 of 1 clips could be scanned: give it media that decode"


def test_a_tampered_export_is_caught_and_its_node_named(tiny_checkpoint: Path, tiny_onnx: Path, tmp_path: Path) -> None:
    """Its file is whole and has the right name, as if the exporter itself had been wrong: the scores alone betray it."""
    model = onnx.load(tiny_onnx)
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    victim = convolutions[len(convolutions) // 2]
    casts = {node.output[0]: node.input[0] for node in model.graph.node if node.op_type == "Cast"}
    stored = casts.get(victim.input[1], victim.input[1])
    weights = next(tensor for tensor in model.graph.initializer if tensor.name == stored)
    weights.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(numpy_helper.to_array(weights)[::-1]), weights.name))
    folder = tmp_path / "onnx"
    folder.mkdir(mode=0o700)
    kept = keep_bytes(folder, f"{sha256(tiny_checkpoint)}-{EXPORT_VERSION}-", ".onnx", model.SerializeToString())
    assert OnnxClassifier(kept, threads=1).name == "onnxruntime", "it loads"

    def export(checkpoint: Path, out: Path) -> None:
        shutil.copy(tiny_onnx, out)

    (judged,) = judge(settings_with(tiny_checkpoint, tmp_path), CLIPS, ["onnxruntime"], export=export)
    assert "differ by up to" in (judged.failure or "")
    assert judged.suspect is not None
    changed = {victim.output[0]} | {casts_output for casts_output, source in casts.items() if source == stored}
    assert judged.suspect.tensor in changed
    assert has_failed(judged, asked_for=False)


def judged(backend: str, *, refusal: str | None = None, failure: str | None = None) -> Judged:
    return Judged(backend=backend, gate_max=1e-3, gate_mean=1e-3, refusal=refusal, failure=failure)


@pytest.mark.parametrize(
    ("one", "asked_for", "fails"),
    [
        (judged("openvino"), True, False),
        (judged("openvino", refusal="not installed"), False, False),
        (judged("openvino", refusal="not installed"), True, True),
        (judged("onnxruntime", refusal="an op"), False, True),
        (judged("torch", refusal="an op"), False, True),
        (judged("tensorrt", failure="scores differ"), False, True),
    ],
)
def test_what_makes_the_command_fail(one: Judged, asked_for: bool, fails: bool) -> None:
    assert has_failed(one, asked_for=asked_for) is fails


def test_json_tells_everything() -> None:
    told = Judged(backend="x", gate_max=1, gate_mean=1, failure="f", flips=(Flip(clip="a.mp4", eager="fake", verdict="real"),))
    assert json.loads(json.dumps(told.as_json()))["flips"] == [{"clip": "a.mp4", "eager": "fake", "verdict": "real"}]
    assert told.as_json()["passes"] is False


def test_a_decoder_is_held_against_software_and_refused_where_software_took_over(
    tiny_checkpoint: Path, tiny_onnx: Path, tmp_path: Path
) -> None:
    settings = settings_with(tiny_checkpoint, tiny_onnx.parents[1])
    (clip,) = CLIPS
    same = judge_decoder(settings, [clip], "pyav")
    assert (same.passes, same.clips, same.max_dp) == (True, 1, 0.0)
    assert same.crops > 0
    refused = judge_decoder(settings, [clip], "auto")
    assert refused.refusal == f"1 of 1 clips are not decoded by auto ({clip.name}): see veriframe doctor"
    assert has_failed(refused, asked_for=True)
    garbage = tmp_path / "garbage.mp4"
    garbage.write_bytes(b"no video")
    nothing = judge_decoder(settings, [garbage], "pyav")
    assert nothing.failure is not None
    assert not nothing.passes


def test_clips_are_chosen_evenly(tmp_path: Path) -> None:
    for name in ("a.mp4", "b.MOV", "c.mkv", "d.webm", "notes.txt"):
        (tmp_path / name).touch()
    assert [path.name for path in find_clips(tmp_path, None)] == ["a.mp4", "b.MOV", "c.mkv", "d.webm"]
    assert [path.name for path in find_clips(tmp_path, 2)] == ["a.mp4", "c.mkv"]
    assert len(find_clips(None, None)) == len(demo_files())
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match="no video files"):
        find_clips(tmp_path / "empty", None)


def test_an_unknown_backend_is_usage() -> None:
    result = CliRunner().invoke(app, ["--backend", "tpu"])
    assert result.exit_code == 2
    assert "unknown backend tpu" in result.output


def test_a_file_that_could_not_be_written_is_told_before_anything_is_scanned(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["--media", str(tmp_path / "none"), "--json", str(tmp_path / "gone" / "figures.json")])
    assert result.exit_code == 2
    assert "there is no such folder" in result.output


def test_a_full_disk_is_told(tiny_checkpoint: Path, tmp_path: Path) -> None:
    full = tmp_path / "full.json"
    full.symlink_to("/dev/full")
    options = ["--backend", "torch", "--clips", "1", "--frames", "1", "--json", str(full)]
    result = CliRunner().invoke(app, [str(tiny_checkpoint), *options])
    assert result.exit_code == 2
    assert "the figures cannot be written: [Errno 28]" in result.output


def test_the_settings_file_is_read(settings_flags: list[str]) -> None:
    result = CliRunner().invoke(app, ["--clips", "1", *settings_flags])
    assert result.exit_code == 2
    assert "none.safetensors" in result.output
