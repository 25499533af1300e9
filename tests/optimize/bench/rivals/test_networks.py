"""In a process of its own: recording puts its own classes into the runtimes."""

from __future__ import annotations

from pathlib import Path

import pytest

from optimize.bench.side import Rival, Side, SideFailed
from worker.demo import FOLDER


def test_what_a_scan_gave_to_its_networks_is_run_again() -> None:
    flags = {"sampling": {"strategy": "uniform", "max_frames": 3, "exhaustive": True}, "model": {"backend": "onnxruntime"}}
    with Side(Rival(name="networks", build="optimize.bench.rivals.networks:build", options={"flags": flags}), threads=2) as side:
        two = side.ask({"path": str(FOLDER / "two_people.mp4")}).reply
        again = side.ask({"path": str(FOLDER / "two_people.mp4")}).reply
        none = side.ask({"path": str(FOLDER / "no_face.mp4")}).reply
    assert two["detect_calls"] == again["detect_calls"] >= 3
    assert two["infer_calls"] == again["infer_calls"] >= 1
    assert min(two["detect_s"], two["infer_s"], two["detect_cpu_s"], two["infer_cpu_s"]) > 0
    assert none["detect_s"] > 0
    assert none["infer_calls"] == 0, "no face was classified"


def test_there_is_no_floor_where_a_network_runs_on_a_card() -> None:
    flags = {"model": {"backend": "onnxruntime"}, "faces": {"backend": "tensorrt"}}
    side = Side(Rival(name="networks", build="optimize.bench.rivals.networks:build", options={"flags": flags}), threads=1)
    with pytest.raises(SideFailed, match="not to be replayed: onnxruntime, faces by tensorrt"), side:
        pass


@pytest.mark.soak
def test_compiled_graphs_that_were_kept_are_run_again_too(tmp_path: Path) -> None:
    pytest.importorskip("openvino", reason="needs openvino: make setup")
    flags = {"sampling": {"strategy": "uniform", "max_frames": 1}, "model": {"backend": "openvino", "cache_dir": str(tmp_path)}}
    for _ in ("compiled", "kept"):
        rival = Rival(name="networks", build="optimize.bench.rivals.networks:build", options={"flags": flags})
        with Side(rival, threads=1) as side:
            assert side.ask({"path": str(FOLDER / "two_people.mp4")}).reply["infer_calls"] >= 1
