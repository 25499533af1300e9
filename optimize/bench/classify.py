"""The classifier alone: crops a second against batch size, CPU time for each crop, and how far scores lie from eager float32."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from optimize.bench.document import Chart, Figure
from optimize.bench.ratio import Runs, ratio, sum_of_medians
from optimize.bench.side import Answered, Asking, Rival, Side, SideFailed
from optimize.bench.turns import take_turns
from worker.extras import missing
from worker.model.checkpoint import load_spec
from worker.model.packaged import default_checkpoint
from worker.types import Json

BATCHES = (1, 2, 4, 8, 16, 32, 64)
EAGER = "eager"
ALONE = ("onnxruntime alone", "openvino fp32 alone", "openvino bf16 alone")
ON_CPU = (EAGER, "compile", "onnxruntime", "openvino", "openvino-bf16", *ALONE)
ON_CUDA = (EAGER, "compile", "onnxruntime-cuda", "tensorrt", "torch-tensorrt")
COMPILES_LONG = "torch.compile can compile for many minutes on a CPU: measured with --runtime eager --runtime compile"
COMPILERS = ("cc", "gcc", "g++", "clang")
COMPARED_BATCH = 8
"""The batch of a scan, at which sides are compared."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Classified:
    """Runs by side and batch size, logits of all crops by side, and why the others were not measured."""

    runs: Mapping[str, Mapping[int, tuple[Answered, ...]]]
    logits: Mapping[str, Sequence[float]]
    unmeasured: Mapping[str, str] = field(default_factory=dict)

    def walls(self, name: str, batch: int) -> Runs:
        """Seconds for one crop; each is one item."""
        return [[run.wall_s / run.reply["crops"] for run in self.runs[name][batch]]]

    def cpus(self, name: str, batch: int) -> Runs:
        return [[run.cpu_s / run.reply["crops"] for run in self.runs[name][batch]]]

    def off(self, name: str) -> npt.NDArray[np.float64]:
        """|p - p of eager| of each crop."""
        return np.abs(_probability(self.logits[name]) - _probability(self.logits[EAGER]))


def lacking(kind: str, device: str, cuda_missing: str | None, *, is_named: bool = True) -> str | None:
    """Why a side cannot be measured here, or is not where nobody named it; None where it can be tried."""
    if device == "cuda" and cuda_missing is not None:
        return cuda_missing
    if kind == "compile" and device == "cpu" and not is_named:
        return COMPILES_LONG
    if kind == "compile" and not any(shutil.which(name) for name in COMPILERS):
        return "torch.compile needs a C compiler"
    if kind.startswith("openvino") and missing(("openvino",)):
        return "openvino is not installed"
    return None


@contextmanager
def cut_crops(clips: Sequence[Path], count: int, threads: int) -> Iterator[Path]:
    """A file of crops from the clips as the bundled checkpoint has them, gone afterwards. Raises SideFailed where they show no
    face, ModelError where there is no checkpoint."""
    crop = load_spec(default_checkpoint()).crop
    options: Json = {"margin": crop.margin, "size": crop.size}
    with tempfile.TemporaryDirectory(prefix="veriframe-bench-") as folder:
        out = Path(folder, "crops.npy")
        with Side(Rival(name="crops", build="optimize.bench.rivals.crops:build", options=options), threads=threads) as side:
            side.ask({"paths": [str(path) for path in clips], "count": count, "out": str(out)})
        yield out


def rival(kind: str, crops: Path, device: str) -> Rival:
    options: Json = {"kind": kind, "crops": str(crops), "device": device}
    return Rival(name=kind, build="optimize.bench.rivals.classifier:build", options=options)


@contextmanager
def open_those_that_start(rivals: Sequence[Rival], threads: int) -> Iterator[tuple[dict[str, Side], dict[str, str]]]:
    """Sides that could start and score once, and why the others could not: backends of other machines are no reason to stop."""
    opened: dict[str, Side] = {}
    failed: dict[str, str] = {}
    try:
        for one in rivals:
            side = Side(one, threads=threads)
            try:
                side.__enter__()
                opened[one.name] = side
                side.ask({"batch": COMPARED_BATCH, "count": COMPARED_BATCH})
            except SideFailed as exc:
                failed[one.name] = str(exc).removeprefix(f"{one.name}: ")
                if (dropped := opened.pop(one.name, None)) is not None:
                    dropped.__exit__(None, None, None)
        yield opened, failed
    finally:
        for side in opened.values():
            side.__exit__(None, None, None)


def classify(
    sides: Mapping[str, Asking],
    *,
    batches: Sequence[int],
    crops: int,
    rounds: int,
    threads: int = 1,
    unmeasured: Mapping[str, str] | None = None,
    on_batch: Callable[[int], None] = lambda batch: None,
) -> Classified:
    """``crops`` are scored in every batch size by every side, ``rounds`` times; each batch size is run once unmeasured before.

    As many more as give each of the ``threads``, which take whole batches, the same number of them.
    """
    runs: dict[str, dict[int, tuple[Answered, ...]]] = {name: {} for name in sides}
    logits = {
        name: side.ask({"batch": COMPARED_BATCH, "count": crops, "scores": True}).reply["logits"] for name, side in sides.items()
    }
    for batch in batches:
        take_turns(sides, {name: {"batch": batch, "count": batch} for name in sides}, 1)
        turn = batch * threads
        requests: dict[str, Json] = {name: {"batch": batch, "count": -(-crops // turn) * turn} for name in sides}
        for name, answers in take_turns(sides, requests, rounds).items():
            runs[name][batch] = answers
        on_batch(batch)
    return Classified(runs=runs, logits=logits, unmeasured=unmeasured or {})


def classify_figures(found: Classified) -> list[Figure]:
    figures: list[Figure] = []
    for name, by_batch in found.runs.items():
        at = COMPARED_BATCH if COMPARED_BATCH in by_batch else next(iter(by_batch))
        speeds = {batch: 1 / sum_of_medians(found.walls(name, batch)) for batch in by_batch}
        best = max(speeds, key=lambda batch: speeds[batch])
        figures.append(Figure(name=f"{name}: batch {at}", value=speeds[at], unit="crops/s"))
        figures.append(Figure(name=f"{name}: best", value=speeds[best], unit="crops/s", note=f"batch {best}"))
        figures.append(Figure(name=f"{name}: CPU time", value=1e3 * sum_of_medians(found.cpus(name, at)), unit="ms a crop"))
        for other in (EAGER, "onnxruntime"):
            if other in found.runs and other != name:
                figures.append(
                    Figure.of(f"{name}: times as fast as {other}", ratio(found.walls(other, at), found.walls(name, at)))
                )
                faster = ratio(found.cpus(other, at), found.cpus(name, at))
                figures.append(Figure.of(f"{name}: CPU time, times less than {other}", faster))
        if name != EAGER and EAGER in found.logits:
            off = found.off(name)
            figures.append(
                Figure(name=f"{name}: largest |dp| to eager", value=float(off.max()), unit="", note=f"mean {off.mean():.2g}")
            )
        held = [run.reply["memory_bytes"] for runs in by_batch.values() for run in runs]
        if None not in held:
            figures.append(Figure(name=f"{name}: memory that PyTorch held on the GPU", value=max(held) / 1024**2, unit="MiB"))
    figures += [Figure(name=name, value=None, unit="crops/s", note=why) for name, why in found.unmeasured.items()]
    return figures


def classify_charts(found: Classified) -> list[Chart]:
    def series(per_crop: Callable[[str, int], Runs], scale: float, power: int) -> dict[str, list[tuple[float, float]]]:
        return {
            name: [(float(batch), scale * sum_of_medians(per_crop(name, batch)) ** power) for batch in by_batch]
            for name, by_batch in found.runs.items()
        }

    return [
        Chart(title="Speed", kind="lines", x="batch", y="crops/s", series=series(found.walls, 1.0, -1), logarithmic=True),
        Chart(title="CPU time", kind="lines", x="batch", y="ms a crop", series=series(found.cpus, 1e3, 1), logarithmic=True),
    ]


def _probability(logits_F: Sequence[float]) -> npt.NDArray[np.float64]:
    return np.asarray(1 / (1 + np.exp(-np.asarray(logits_F, np.float64))))
