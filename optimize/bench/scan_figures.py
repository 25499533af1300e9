"""The figures and charts of a comparison of whole scans."""

from __future__ import annotations

from optimize.bench.document import Chart, Figure
from optimize.bench.ratio import ratio, sum_of_medians
from optimize.bench.scan import FACES_TOLERANCE, STAGES, ClipRuns, Comparison
from optimize.bench.variants import Variant
from worker.types import Json

MIB = 1024**2


def scan_figures(result: Comparison) -> list[Figure]:
    figures: list[Figure] = []
    for one in result.variants:
        for reference in result.references:
            figures += _against(result, one, reference)
        if result.with_floor:
            note = f"held back by {result.held_back_by(one.name)}"
            figures.append(Figure.of(f"{one.name}: time over the floor", result.distance(one.name), note=note))
            figures.append(Figure.of(f"{one.name}: CPU time over the floor's", result.cpu_distance(one.name)))
        if one.name in result.lists:
            figures += _listed(result, one)
        if one.early:
            figures += _saving(result, one.name, one.name.removesuffix(", early decision"))
    for name in [one.name for one in result.variants] + list(result.references):
        figures += _own(result, name)
    return figures


def faces_agree(result: Comparison) -> bool:
    """Whether every exhaustive variant found as many faces as reference b, which looks at the same size, within 2 %."""
    return all(_compares(result, one, reference) for reference in result.references for one in result.variants)


def _compares(result: Comparison, one: Variant, reference: str) -> bool:
    """Reference a looks for smaller faces, and early decision at fewer frames: there other numbers are no mistake."""
    if one.early or not reference.endswith("b"):
        return True
    return result.faces_difference(reference, one.name) <= FACES_TOLERANCE


def _faces(result: Comparison, one: Variant, reference: str) -> str:
    """The note of a ratio to a reference."""
    note = f"faces differ by {result.faces_difference(reference, one.name):.1%}"
    return note if _compares(result, one, reference) else f"{note}: does not compare"


def _against(result: Comparison, one: Variant, reference: str) -> list[Figure]:
    name, note = one.name, _faces(result, one, reference)
    return [
        Figure.of(f"{name}: times as fast as {reference}", result.faster_than(reference, name), note=note),
        Figure.of(f"{name}: CPU time, times less than {reference}", result.cheaper_than(reference, name), note=note),
    ]


def _saving(result: Comparison, name: str, exhaustive: str) -> list[Figure]:
    frames = result.count(name, "frames") / max(result.count(exhaustive, "frames"), 1)
    differ = result.verdicts_differ(name, exhaustive)
    note = f"{frames:.0%} of the frames, {differ} of {len(result.clips)} verdicts differ"
    return [Figure.of(f"{name}: time over every frame's", ratio(result.walls(name), result.walls(exhaustive)), note=note)]


def _listed(result: Comparison, one: Variant) -> list[Figure]:
    """All clips as one list."""
    name = one.name
    note = f"{len(result.clips)} clips, {result.list_verdicts_differ(name)} verdicts differ"
    figures = [Figure.of(f"{name}, as a list: time over one by one", result.list_over_clips(name), note=note)]
    for reference in result.references:
        faster, faces = result.list_faster_than(reference, name), _faces(result, one, reference)
        figures.append(Figure.of(f"{name}, as a list: times as fast as {reference}", faster, note=faces))
    if result.with_floor:
        figures.append(Figure.of(f"{name}, as a list: time over the floor", result.list_distance(name)))
    return figures


def _own(result: Comparison, name: str) -> list[Figure]:
    """A side's speed by itself."""
    frames, faces = result.count(name, "frames"), result.count(name, "faces")
    reply = result.clips[0].answers[name][0].reply
    stages_s = {stage: result.stage_s(name, stage) for stage in STAGES}
    shares = ", ".join(f"{stage} {stage_s / sum(stages_s.values()):.0%}" for stage, stage_s in stages_s.items())
    note = f"of its stages' core-seconds: {shares}" + (f"; {reply['backend']}" if "backend" in reply else "")
    on = "one thread" if reply["stage_threads"] == 1 else f"{reply['stage_threads']} threads"
    detect_s, infer_s = (stages_s[stage] / reply["stage_threads"] for stage in ("detect", "infer"))
    return [
        Figure(
            name=f"{name}: time", value=1e3 * sum_of_medians(result.walls(name)) / max(frames, 1), unit="ms a frame", note=note
        ),
        Figure(name=f"{name}: CPU time", value=1e3 * sum_of_medians(result.cpus(name)) / max(frames, 1), unit="ms a frame"),
        Figure(name=f"{name}: detection on {on}", value=1e3 * detect_s / max(frames, 1), unit="ms a frame"),
        Figure(
            name=f"{name}: classifier on {on}",
            value=faces / infer_s if faces else None,
            unit="crops/s",
            note="" if faces else "no face",
        ),
        Figure(name=f"{name}: memory held after the last clip (PSS)", value=result.pss_bytes[name] / MIB, unit="MiB"),
        Figure(name=f"{name}: start-up with a first scan", value=result.start_up_s[name], unit="s"),
    ]


def scan_charts(result: Comparison) -> list[Chart]:
    names = [one.name for one in result.variants]
    labels = [*names, *result.references]
    seconds = {stage: [(float(place), result.stage_s(name, stage)) for place, name in enumerate(labels)] for stage in STAGES}
    if result.with_floor:
        for name in names:
            for stage in STAGES:
                seconds[stage].append((float(len(labels)), result.floor_stage_s(name, stage)))
            labels.append(f"floor of {name}")
    stages = Chart(title="Stages, all clips", kind="bars", x="", y="core-seconds", series=seconds, labels=labels)
    pairs = [(name, reference) for name in names for reference in result.references]
    if not pairs:
        return [stages]
    bars = [(float(place), result.faster_than(reference, name).value) for place, (name, reference) in enumerate(pairs)]
    pair_labels = [f"{name} over {reference}" for name, reference in pairs]
    return [stages, Chart(title="Times as fast", kind="bars", x="", y="x", series={"": bars}, labels=pair_labels)]


def scan_details(result: Comparison) -> Json:
    """Every run of every clip."""
    return {"clips": [{"path": clip.path.name, "runs": _runs(clip)} for clip in result.clips]}


def _runs(clip: ClipRuns) -> Json:
    return {
        name: [
            {"wall_s": run.wall_s, "cpu_s": run.cpu_s} | {key: value for key, value in run.reply.items() if key != "times_s"}
            for run in runs
        ]
        for name, runs in clip.answers.items()
    }
