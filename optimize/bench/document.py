"""What a measurement leaves: figures with the machine and command that gave them, as JSON and as rows of a Markdown table."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter, ValidationError

from optimize.bench.machine import Machine, describe_machine
from optimize.bench.ratio import Ratio
from worker.errors import ConfigError
from worker.types import Json

HISTORY_HEAD = (
    "| date | commit | machine | command | figure | value |",
    "|---|---|---|---|---|---|",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One number. ``low`` and ``high``: its 95 % interval; ``value`` None: not measured, and ``note`` says why."""

    name: str
    value: float | None
    unit: str
    low: float | None = None
    high: float | None = None
    note: str = ""

    @classmethod
    def of(cls, name: str, found: Ratio, unit: str = "x", note: str = "") -> Figure:
        if not all(math.isfinite(number) for number in (found.value, found.low, found.high) if number is not None):
            return cls(name=name, value=None, unit=unit, note="nothing to divide by")
        return cls(name=name, value=found.value, low=found.low, high=found.high, unit=unit, note=note)

    def __str__(self) -> str:
        if self.value is None:
            return f"unmeasured: {self.note}" if self.note else "unmeasured"
        bounds = "" if self.low is None or self.high is None else f" [{_short(self.low)}, {_short(self.high)}]"
        return f"{_short(self.value)}{bounds} {self.unit}".rstrip() + (f" ({self.note})" if self.note else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """``series``: points (x, y) of each line; of bars, x counts ``labels``, and the series are stacked."""

    title: str
    kind: Literal["lines", "bars"]
    x: str
    y: str
    series: dict[str, list[tuple[float, float]]]
    labels: list[str] = field(default_factory=list)
    logarithmic: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """One run of one bench. ``details``: whatever else it knows, such as every single time."""

    bench: str
    command: str
    at: str
    machine: Machine
    figures: tuple[Figure, ...]
    charts: tuple[Chart, ...] = ()
    details: Json = field(default_factory=dict)

    def as_json(self) -> Json:
        return asdict(self)

    def write(self, path: Path) -> None:
        path.write_text(json.dumps(self.as_json(), indent=2, allow_nan=False, default=str) + "\n", encoding="utf-8")


class Started:
    """The machine and the time as a measurement begins: its own load is not in the load average."""

    def __init__(self, bench: str, command: str) -> None:
        self._bench, self._command = bench, command
        self._at = datetime.now(UTC).isoformat(timespec="seconds")
        self.machine = describe_machine()

    def document(self, figures: Sequence[Figure], charts: Sequence[Chart] = (), details: Json | None = None) -> Document:
        """A figure that is no finite number is told as unmeasured, and is left out of the charts."""
        return Document(
            bench=self._bench,
            command=self._command,
            at=self._at,
            machine=self.machine,
            figures=tuple(_finite(figure) for figure in figures),
            charts=tuple(replace(chart, series=_finite_points(chart.series)) for chart in charts),
            details=details or {},
        )


def _finite(figure: Figure) -> Figure:
    if figure.value is None or math.isfinite(figure.value):
        return figure
    return replace(figure, value=None, low=None, high=None, note="no finite number")


def _finite_points(series: dict[str, list[tuple[float, float]]]) -> dict[str, list[tuple[float, float]]]:
    return {name: [point for point in points if all(map(math.isfinite, point))] for name, points in series.items()}


def read_document(path: Path) -> Document:
    """What ``Document.write`` wrote. Raises ConfigError for anything else."""
    try:
        return TypeAdapter(Document).validate_json(path.read_bytes(), strict=True)
    except OSError as exc:
        raise ConfigError(f"{path}: not figures of veriframe bench: {exc.strerror}") from exc
    except ValidationError as exc:
        first = exc.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise ConfigError(f"{path}: not figures of veriframe bench: {where}: {first['msg']}") from exc


def history_rows(documents: Iterable[Document], only: Sequence[str] = ("",)) -> list[str]:
    """One Markdown row for each figure with a text of ``only`` in its name, below ``HISTORY_HEAD``."""
    rows = []
    for told in documents:
        machine = told.machine
        where = f"{machine.cpu}, {machine.cores} cores"
        if machine.gpu:
            where += f", {machine.gpu}"
        if machine.load_average:
            where += f", load {machine.load_average[0]:g}"
        start = (told.at[:10], machine.commit or machine.veriframe, where, f"`{told.command}`")
        wanted = (figure for figure in told.figures if any(text in figure.name for text in only))
        rows += ["| " + " | ".join(_cell(text) for text in (*start, figure.name, str(figure))) + " |" for figure in wanted]
    return rows


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _short(value: float) -> str:
    """Three significant digits, large numbers whole."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
