"""Whole scans against the reference pipelines and the floor: the same frames of the same clips, in turns, a process each.

A clip's time is the median over the rounds; a ratio is of the sums over the clips. Start-up (imports, models, a first scan) is
told apart. The floor of a scan: decoding its frames with half-size conversion, and what its networks take by their runtime alone.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from optimize.bench.memory import tree_pss_bytes
from optimize.bench.ratio import Ratio, Runs, ratio, sum_of_medians
from optimize.bench.side import Answered, Asking, Rival
from optimize.bench.turns import open_sides, take_turns
from optimize.bench.variants import Variant, can_replay
from worker.types import Json

FACES_TOLERANCE = 0.02
STAGES = ("decode", "detect", "infer")
RIVALS = "optimize.bench.rivals"
DECODE_FLOOR = "floor of decoding"
NETWORKS = "networks of "
REFERENCE = "reference "


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipRuns:
    """Answers of all sides over one clip. By variant, ``floors``: which side decoded its frames; ``looked_at``: their times."""

    path: Path
    answers: dict[str, tuple[Answered, ...]]
    floors: dict[str, str] = field(default_factory=dict)
    looked_at: dict[str, list[float]] = field(default_factory=dict)


Lists = dict[str, tuple[Answered, ...]]
"""Answers of each variant to all clips as one list, as ``veriframe scan`` does a folder; in turns with that, to the clips one by
one, and what their floors took."""
ONE_BY_ONE = "one by one: "
FLOORS = "floors: "


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """All runs, and what they come to. Names are those of the variants and of ``references`` (``reference a``)."""

    clips: tuple[ClipRuns, ...]
    variants: tuple[Variant, ...]
    references: tuple[str, ...]
    start_up_s: dict[str, float]
    pss_bytes: dict[str, int]
    with_floor: bool
    threads: int
    lists: Lists = field(default_factory=dict)

    def walls(self, name: str) -> Runs:
        return [[run.wall_s for run in clip.answers[name]] for clip in self.clips]

    def cpus(self, name: str) -> Runs:
        return [[run.cpu_s for run in clip.answers[name]] for clip in self.clips]

    def count(self, name: str, key: str) -> int:
        """Frames or faces of one run of every clip."""
        return sum(clip.answers[name][0].reply[key] for clip in self.clips)

    def stage_s(self, name: str, stage: str) -> float:
        """Core-seconds: of every thread that the stage has to itself."""
        return sum_of_medians(
            [[run.reply[f"{stage}_s"] * run.reply["stage_threads"] for run in clip.answers[name]] for clip in self.clips]
        )

    def faster_than(self, reference: str, name: str) -> Ratio:
        """How many times as fast as the reference, by the clock."""
        return ratio(self.walls(reference), self.walls(name))

    def cheaper_than(self, reference: str, name: str) -> Ratio:
        """The same in CPU time."""
        return ratio(self.cpus(reference), self.cpus(name))

    def faces_difference(self, reference: str, name: str) -> float:
        """Share by which the two numbers of faces differ."""
        theirs = self.count(reference, "faces")
        return abs(self.count(name, "faces") - theirs) / max(theirs, 1)

    def floor_stage_s(self, name: str, stage: str) -> float:
        """Core-seconds."""
        if stage == "decode":
            return sum_of_medians([[run.cpu_s for run in clip.answers[clip.floors[name]]] for clip in self.clips])
        return sum_of_medians([[run.reply[f"{stage}_cpu_s"] for run in clip.answers[NETWORKS + name]] for clip in self.clips])

    def distance(self, name: str) -> Ratio:
        """A variant's time over its floor, by the clock."""
        return ratio(self.walls(name), self._floor(name))

    def cpu_distance(self, name: str) -> Ratio:
        floor = [
            [
                decoded.cpu_s + networks.reply["detect_cpu_s"] + networks.reply["infer_cpu_s"]
                for decoded, networks in zip(clip.answers[clip.floors[name]], clip.answers[NETWORKS + name], strict=True)
            ]
            for clip in self.clips
        ]
        return ratio(self.cpus(name), floor)

    def list_over_clips(self, name: str) -> Ratio:
        """All clips as one list, by the clock, over the same clips one by one."""
        return ratio(self._list_walls(name), self._list_walls(ONE_BY_ONE + name))

    def list_distance(self, name: str) -> Ratio:
        """The list's time over the sum of its clips' floors, which were measured again in turns with it: a machine's speed moves
        by more than what is to be seen here while all clips are gone through."""
        return ratio(self._list_walls(name), self._list_walls(FLOORS + name))

    def list_faster_than(self, reference: str, name: str) -> Ratio:
        return ratio(_as_one(self.walls(reference)), self._list_walls(name))

    def list_verdicts_differ(self, name: str) -> int:
        alone = [clip.answers[name][0].reply["verdict"] for clip in self.clips]
        return sum(one != other for one, other in zip(alone, self.lists[name][0].reply["verdicts"], strict=True))

    def held_back_by(self, name: str) -> str:
        """The stage that takes most core-seconds above its floor, or ``rest`` (what no stage counts: hashing, cutting, tracks,
        verdict), or ``idle cores``. On a machine that does other work, its share counts as idle."""
        above = {stage: self.stage_s(name, stage) - self.floor_stage_s(name, stage) for stage in STAGES}
        spent_s = sum_of_medians(self.cpus(name))
        above["rest"] = spent_s - sum(self.stage_s(name, stage) for stage in STAGES)
        above["idle cores"] = self.threads * sum_of_medians(self.walls(name)) - spent_s
        return max(above, key=lambda stage: above[stage])

    def verdicts_differ(self, name: str, other: str) -> int:
        return sum(clip.answers[name][0].reply["verdict"] != clip.answers[other][0].reply["verdict"] for clip in self.clips)

    def _list_walls(self, name: str) -> Runs:
        return [[run.wall_s for run in self.lists[name]]]

    def _floor(self, name: str) -> Runs:
        stages = [self._floor_stage(name, stage) for stage in STAGES]
        return [[sum(parts) for parts in zip(*clip, strict=True)] for clip in zip(*stages, strict=True)]

    def _floor_stage(self, name: str, stage: str) -> Runs:
        if stage == "decode":
            return [[run.wall_s for run in clip.answers[clip.floors[name]]] for clip in self.clips]
        return [[run.reply[f"{stage}_s"] for run in clip.answers[NETWORKS + name]] for clip in self.clips]


def _as_one(runs: Runs) -> Runs:
    """All clips as one item: the sum of each round."""
    return [[sum(clips) for clips in zip(*runs, strict=True)]]


def rivals(variants: Sequence[Variant], references: Sequence[str], *, frames: int) -> list[Rival]:
    """Ours and the references."""
    found = [Rival(name=one.name, build=f"{RIVALS}.scanner:build", options={"flags": one.flags(frames)}) for one in variants]
    return found + [
        Rival(name=REFERENCE + mode, build=f"{RIVALS}.reference:build", options={"mode": mode}) for mode in references
    ]


def floors(variants: Sequence[Variant], *, frames: int) -> list[Rival]:
    """The sides of the floor."""
    networks = f"{RIVALS}.networks:build"
    return [
        Rival(name=DECODE_FLOOR, build=f"{RIVALS}.decoding:build_floor"),
        *(Rival(name=NETWORKS + one.name, build=networks, options={"flags": one.flags(frames)}) for one in variants),
    ]


def compare_clip(path: Path, sides: dict[str, Asking], variants: Sequence[Variant], rounds: int) -> ClipRuns:
    """Scan one clip ``rounds`` times by each side.

    An untimed scan by each variant comes first: it says which frames are looked at, and brings the file into memory. References
    look at the frames of the first variant.
    """
    sides = dict(sides)
    looked_at = {one.name: sides[one.name].ask({"path": str(path)}).reply["times_s"] for one in variants}
    requests: dict[str, Json] = {}
    floors: dict[str, str] = {}
    for name in list(sides):
        if name.startswith(REFERENCE):
            requests[name] = {"path": str(path), "times_s": looked_at[variants[0].name]}
        elif name != DECODE_FLOOR:
            requests[name] = {"path": str(path)}
    if DECODE_FLOOR in sides:
        for one in variants:
            times_s = looked_at[one.name]
            same = (name for name in floors.values() if requests[name]["times_s"] == times_s)
            floors[one.name] = next(same, f"{DECODE_FLOOR} for {one.name}")
            sides[floors[one.name]] = sides[DECODE_FLOOR]
            requests[floors[one.name]] = {"path": str(path), "times_s": times_s}
    return ClipRuns(path=path, answers=take_turns(sides, requests, rounds), floors=floors, looked_at=looked_at)


def compare(
    clips: Sequence[Path],
    variants: Sequence[Variant],
    references: Sequence[str],
    *,
    frames: int,
    rounds: int,
    threads: int,
    with_floor: bool = True,
    on_clip: Callable[[ClipRuns], None] = lambda _: None,
) -> Comparison:
    """Time all sides over all clips. Raises SideFailed if a side cannot start or cannot scan a clip.

    ``with_floor``: also the floor, where every network of ours can be run again.
    """
    with ExitStack() as stack:
        sides = stack.enter_context(open_sides(rivals(variants, references, frames=frames), threads))
        first = _warm_up(sides, clips[0], variants[0].name)
        start_up_s = {name: sides[name].start_up_s + answer.wall_s for name, answer in first.items()}
        ran = [first[one.name].reply for one in variants]
        with_floor = with_floor and all(can_replay(reply["backend"], reply["face_backend"]) for reply in ran)
        if with_floor:
            opened = stack.enter_context(open_sides(floors(variants, frames=frames), threads))
            for side in opened.values():
                side.ask({"path": str(clips[0]), "times_s": ran[0]["times_s"][:1]})
            sides |= opened
        runs = []
        for path in clips:
            runs.append(compare_clip(path, dict(sides), variants, rounds))
            on_clip(runs[-1])
        lists = compare_lists(runs, sides, variants, rounds) if len(clips) > 1 else {}
        pss_bytes = {name: tree_pss_bytes(side.pid) for name, side in sides.items()}
    return Comparison(
        clips=tuple(runs),
        variants=tuple(variants),
        references=tuple(REFERENCE + mode for mode in references),
        start_up_s=start_up_s,
        pss_bytes=pss_bytes,
        with_floor=with_floor,
        threads=threads,
        lists=lists,
    )


class _Floors:
    """The floors of all clips, one after the other."""

    def __init__(self, decoding: Asking, networks: Asking, variant: str, clips: Sequence[ClipRuns]) -> None:
        self._decoding, self._networks, self._variant, self._clips = decoding, networks, variant, clips

    def ask(self, request: Json) -> Answered:
        wall_s = cpu_s = 0.0
        for clip in self._clips:
            path = str(clip.path)
            decoded = self._decoding.ask({"path": path, "times_s": clip.looked_at[self._variant]})
            ran = self._networks.ask({"path": path}).reply
            wall_s += decoded.wall_s + ran["detect_s"] + ran["infer_s"]
            cpu_s += decoded.cpu_s + ran["detect_cpu_s"] + ran["infer_cpu_s"]
        return Answered(wall_s=wall_s, cpu_s=cpu_s, reply={})


def compare_lists(clips: Sequence[ClipRuns], sides: Mapping[str, Asking], variants: Sequence[Variant], rounds: int) -> Lists:
    """All clips at one go, by each variant in turn, each beside its floor where that is among the sides. The clips are in memory:
    every side has just had them."""
    paths = [str(clip.path) for clip in clips]
    asked: dict[str, Asking] = {}
    requests: dict[str, Json] = {}
    for name in (one.name for one in variants):
        asked |= {name: sides[name], ONE_BY_ONE + name: sides[name]}
        requests[name] = {"paths": paths}
        if DECODE_FLOOR in sides:
            asked[FLOORS + name] = _Floors(sides[DECODE_FLOOR], sides[NETWORKS + name], name, clips)
            requests[FLOORS + name] = {}
        requests[ONE_BY_ONE + name] = {"paths": paths, "in_flight": 1}
    return take_turns(asked, requests, rounds)


def _warm_up(sides: Mapping[str, Asking], path: Path, ours: str) -> dict[str, Answered]:
    """The first scan loads what was left for later: it belongs to the start-up. References get one frame."""
    first = {ours: sides[ours].ask({"path": str(path)})}
    request: Json = {"path": str(path), "times_s": first[ours].reply["times_s"][:1]}
    return first | {name: side.ask(request) for name, side in sides.items() if name != ours}


def per_clip(clip: ClipRuns, names: Sequence[str]) -> dict[str, float]:
    """Median seconds of each named side."""
    return {name: statistics.median(run.wall_s for run in clip.answers[name]) for name in names}
