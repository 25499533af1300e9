"""The ways of scanning that are compared: a backend, with carrying or not, of every frame or with early decision."""

from __future__ import annotations

from dataclasses import dataclass

from worker.settings import load_settings
from worker.types import Json

REPLAYED = frozenset({"onnxruntime", "openvino", "openvino-bf16"})
"""Backends whose networks the floor can run again by their runtime alone: those of processors."""


def can_replay(classifier: str, detector: str) -> bool:
    """Whether all networks of a scan can be run again, by the backends that its classifier and its face detector run on."""
    return {classifier, detector} <= REPLAYED


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """``carry`` None: as the settings have it. ``early``: a scan may stop once more frames could not change the verdict."""

    backend: str
    carry: bool | None = None
    early: bool = False

    @property
    def name(self) -> str:
        parts = [self.backend]
        if self.carry is not None:
            parts.append("carrying" if self.carry else "no carrying")
        if self.early:
            parts.append("early decision")
        return ", ".join(parts)

    def flags(self, frames: int) -> Json:
        """Settings by section for evenly spaced frames."""
        flags: Json = {
            "model": {"backend": self.backend},
            "sampling": {"strategy": "uniform", "max_frames": frames, "exhaustive": not self.early},
        }
        return flags if self.carry is None else flags | {"faces": {"carry": self.carry}}


def variants_of(backends: list[str], carry: bool | None, early: bool) -> list[Variant]:
    """Every backend exhaustively, and where ``early`` is wanted, also with it. Raises ConfigError for settings that are none."""
    found = [Variant(backend=backend, carry=carry) for backend in backends]
    found += [Variant(backend=one.backend, carry=carry, early=True) for one in found] if early else []
    for one in found:
        load_settings(flags=one.flags(frames=1))
    return found
