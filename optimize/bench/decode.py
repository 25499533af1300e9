"""Decoding alone: ours against decord, plain PyAV and the floor, over the same frames; and a minute against half an hour."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from optimize.bench.document import Chart, Figure
from optimize.bench.ratio import Runs, ratio, sum_of_medians
from optimize.bench.side import Answered, Asking, Rival
from optimize.bench.turns import take_turns
from worker.types import Json

OURS = "ours"
RIVALS = {"floor": "build_floor", "PyAV, linear": "build_linear", "decord": "build_decord"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipDecoded:
    path: Path
    answers: Mapping[str, tuple[Answered, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Long:
    """One clip of some length, looked at by ``auto`` with a frame budget."""

    media_s: float
    runs: tuple[Answered, ...]

    @property
    def per_frame(self) -> Runs:
        """Seconds for a distinct frame."""
        return [[run.wall_s / run.reply["frames"] for run in self.runs]]

    @property
    def cpu_per_frame(self) -> Runs:
        return [[run.cpu_s / run.reply["frames"] for run in self.runs]]


def rivals() -> list[Rival]:
    package = "optimize.bench.rivals.decoding"
    ours = Rival(name=OURS, build=f"{package}:build_ours")
    return [ours, *(Rival(name=name, build=f"{package}:{build}") for name, build in RIVALS.items())]


def decode_clip(path: Path, sides: Mapping[str, Asking], *, frames: int, rounds: int) -> ClipDecoded:
    """An untimed pass of ours says which frames are wanted, and brings the file into memory."""
    ours: Json = {"path": str(path), "strategy": "uniform", "max_frames": frames}
    times_s = [round(time_s, 3) for time_s in sides[OURS].ask(ours).reply["times_s"]]
    theirs: Json = {"path": str(path), "times_s": times_s}
    return ClipDecoded(path=path, answers=take_turns(sides, {name: ours if name == OURS else theirs for name in sides}, rounds))


def decode(
    clips: Sequence[Path],
    sides: Mapping[str, Asking],
    *,
    frames: int,
    rounds: int,
    on_clip: Callable[[ClipDecoded], None] = lambda _: None,
) -> list[ClipDecoded]:
    found = []
    for path in clips:
        found.append(decode_clip(path, sides, frames=frames, rounds=rounds))
        on_clip(found[-1])
    return found


def decode_long(clips: Sequence[tuple[Path, float]], ours: Asking, *, frames: int, rounds: int) -> list[Long]:
    """``clips``: paths and seconds, of one content. They take turns; one pass of each is not timed."""
    requests: dict[str, Json] = {str(path): {"path": str(path), "strategy": "auto", "max_frames": frames} for path, _ in clips}
    for request in requests.values():
        ours.ask(request)
    answers = take_turns({path: ours for path in requests}, requests, rounds)
    return [Long(media_s=media_s, runs=answers[str(path)]) for path, media_s in clips]


def decode_figures(found: Sequence[ClipDecoded], long: Sequence[Long]) -> list[Figure]:
    figures: list[Figure] = []
    for name in found[0].answers if found else ():
        frames = sum(clip.answers[name][0].reply["frames"] for clip in found)
        figures.append(
            Figure(
                name=f"{name}: time",
                value=1e3 * sum_of_medians(_walls(found, name)) / frames,
                unit="ms a frame",
                note=f"{frames} frames",
            )
        )
        figures.append(
            Figure(name=f"{name}: CPU time", value=1e3 * sum_of_medians(_cpus(found, name)) / frames, unit="ms a frame")
        )
        if name == "floor":
            figures.append(Figure.of("ours: time over the floor", ratio(_walls(found, OURS), _walls(found, name))))
            figures.append(Figure.of("ours: CPU time over the floor's", ratio(_cpus(found, OURS), _cpus(found, name))))
        elif name != OURS:
            figures.append(Figure.of(f"ours: times as fast as {name}", ratio(_walls(found, name), _walls(found, OURS))))
    for one in long:
        frames = one.runs[0].reply["frames"]
        figures.append(
            Figure(
                name=f"{_minutes(one)}: time",
                value=1e3 * sum_of_medians(one.per_frame),
                unit="ms a distinct frame",
                note=f"{frames} frames",
            )
        )
    if len(long) == 2:
        short, other = long
        what = f"{_minutes(other)} over {_minutes(short)}"
        figures.append(Figure.of(f"{what}: time for a distinct frame", ratio(other.per_frame, short.per_frame)))
        figures.append(Figure.of(f"{what}: CPU time for a distinct frame", ratio(other.cpu_per_frame, short.cpu_per_frame)))
    return figures


def decode_charts(found: Sequence[ClipDecoded], long: Sequence[Long]) -> list[Chart]:
    charts: list[Chart] = []
    if found:
        names = list(found[0].answers)
        bars = [(float(place), sum_of_medians(_walls(found, name))) for place, name in enumerate(names)]
        charts.append(Chart(title="Decoding, all clips", kind="bars", x="", y="seconds", series={"": bars}, labels=names))
    if long:
        bars = [(float(place), 1e3 * sum_of_medians(one.per_frame)) for place, one in enumerate(long)]
        labels = [_minutes(one) for one in long]
        charts.append(Chart(title="By length", kind="bars", x="", y="ms a distinct frame", series={"": bars}, labels=labels))
    return charts


def _minutes(one: Long) -> str:
    return f"clip of {one.media_s / 60:.3g} min"


def _walls(found: Sequence[ClipDecoded], name: str) -> Runs:
    return [[run.wall_s for run in clip.answers[name]] for clip in found]


def _cpus(found: Sequence[ClipDecoded], name: str) -> Runs:
    return [[run.cpu_s for run in clip.answers[name]] for clip in found]
