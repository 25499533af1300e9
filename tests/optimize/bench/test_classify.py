from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from optimize.bench.classify import (
    COMPILES_LONG,
    ON_CPU,
    ON_CUDA,
    Classified,
    classify,
    classify_charts,
    classify_figures,
    cut_crops,
    lacking,
    open_those_that_start,
    rival,
)
from optimize.bench.side import Answered
from worker.demo import FOLDER
from worker.types import Json


@dataclass
class FakeClassifier:
    """Takes ``crop_s`` for each crop, twice that in CPU time; its logits are ``shift`` off."""

    crop_s: float
    shift: float = 0.0
    held_bytes: int | None = None
    """For each crop of a batch."""
    asked: list[Json] = field(default_factory=list)

    def ask(self, request: Json) -> Answered:
        self.asked.append(request)
        logits = [self.shift] * request["count"] if request.get("scores") else None
        held = None if self.held_bytes is None else self.held_bytes * request["batch"]
        reply = {"crops": request["count"], "memory_bytes": held, "logits": logits}
        return Answered(wall_s=self.crop_s * request["count"], cpu_s=2 * self.crop_s * request["count"], reply=reply)


def measured() -> Classified:
    sides = {"eager": FakeClassifier(0.02), "onnxruntime": FakeClassifier(0.01, shift=0.04)}
    return classify(sides, batches=(1, 8), crops=16, rounds=2, unmeasured={"tensorrt": "no NVIDIA GPU here"})


def test_every_batch_size_is_run_once_unmeasured_and_then_in_turns() -> None:
    eager = FakeClassifier(0.02)
    classify({"eager": eager}, batches=(4, 32), crops=16, rounds=2)
    sizes = [(request["batch"], request["count"]) for request in eager.asked]
    assert sizes == [(8, 16), (4, 4), (4, 16), (4, 16), (32, 32), (32, 32), (32, 32)]


@pytest.mark.parametrize(("threads", "batch", "count"), [(2, 8, 64), (2, 64, 128), (8, 32, 256), (3, 8, 72)])
def test_every_thread_has_as_many_batches_to_score(threads: int, batch: int, count: int) -> None:
    eager = FakeClassifier(0.02)
    classify({"eager": eager}, batches=(batch,), crops=64, rounds=1, threads=threads)
    assert eager.asked[-1] == {"batch": batch, "count": count}


def test_figures_compare_with_eager_and_onnxruntime_and_say_what_was_not_measured() -> None:
    figures = {figure.name: figure for figure in classify_figures(measured())}
    assert figures["onnxruntime: batch 8"].value == pytest.approx(100)
    assert figures["onnxruntime: CPU time"].value == pytest.approx(20)
    assert figures["onnxruntime: times as fast as eager"].value == pytest.approx(2)
    assert figures["eager: CPU time, times less than onnxruntime"].value == pytest.approx(0.5)
    assert figures["onnxruntime: largest |dp| to eager"].value == pytest.approx(0.01, rel=0.01)
    assert str(figures["tensorrt"]) == "unmeasured: no NVIDIA GPU here"


def test_memory_on_the_gpu_is_the_most_of_all_batch_sizes() -> None:
    sides = {"eager": FakeClassifier(0.02, held_bytes=1 << 20), "tensorrt": FakeClassifier(0.01)}
    found = classify(sides, batches=(1, 8), crops=16, rounds=1)
    memory = {figure.name: figure.value for figure in classify_figures(found) if "memory" in figure.name}
    assert memory == {"eager: memory that PyTorch held on the GPU": 8}


def test_charts_have_a_point_for_each_batch_size() -> None:
    speed, cpu = classify_charts(measured())
    assert speed.series["onnxruntime"] == [(1, pytest.approx(100)), (8, pytest.approx(100))]
    assert cpu.series["eager"] == [(1, pytest.approx(40)), (8, pytest.approx(40))]


def test_without_a_gpu_nothing_of_cuda_is_tried() -> None:
    assert {lacking(kind, "cuda", "no NVIDIA GPU here") for kind in ON_CUDA} == {"no NVIDIA GPU here"}
    assert lacking("eager", "cpu", "no NVIDIA GPU here") is None
    assert lacking("onnxruntime", "cuda", None) is None


def test_torch_compile_is_measured_on_a_cpu_only_where_it_is_named() -> None:
    assert lacking("compile", "cpu", None, is_named=False) == COMPILES_LONG
    assert lacking("compile", "cpu", None, is_named=True) in (None, "torch.compile needs a C compiler")
    assert lacking("compile", "cuda", None, is_named=False) != COMPILES_LONG
    assert lacking("eager", "cpu", None, is_named=False) is None


@pytest.mark.soak
def test_real_crops_score_alike_on_eager_onnxruntime_and_the_runtime_alone() -> None:
    kinds = ("eager", "onnxruntime", "onnxruntime alone", "tensorrt")
    with cut_crops([FOLDER / "two_people.mp4"], 4, 1) as cut:
        crops_FHWC = np.load(cut)
        with open_those_that_start([rival(kind, cut, "cpu") for kind in kinds], 1) as (sides, failed):
            found = classify(sides, batches=(2,), crops=4, rounds=1, unmeasured=failed)
    assert (crops_FHWC.shape, crops_FHWC.dtype) == ((4, 224, 224, 3), np.uint8)
    assert not cut.exists()
    assert set(found.runs) <= set(ON_CPU) | {"tensorrt"}
    assert found.off("onnxruntime").max() < 1e-3
    assert found.off("onnxruntime alone").max() < 1e-3
    if "tensorrt" in failed:  # a machine with a card and an artefact has it
        assert "tensorrt" in failed["tensorrt"] or "in its place" in failed["tensorrt"]


def test_clips_are_named_in_the_sides_options() -> None:
    assert rival("eager", Path("crops.npy"), "cpu").options == {"kind": "eager", "crops": "crops.npy", "device": "cpu"}
