"""What scores crops, with what a report and a resumed run must know of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from worker.ports import Classifier
from worker.report import Model
from worker.types import Scores, UInt8


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """An open classifier. ``fingerprint`` names the model, the backends that run and every option that can change a result."""

    classifier: Classifier
    model: Model
    fingerprint: str


class Awaited:
    """The classifier of an engine that may still be opening (``worker.ports.Classifier``): the first to need it waits."""

    def __init__(self, engine: Callable[[], Engine]) -> None:
        self._engine = engine

    @property
    def name(self) -> str:
        return self._engine().classifier.name

    def scores(self, crops_FHWC: UInt8) -> Scores:
        return self._engine().classifier.scores(crops_FHWC)
