"""The ways of scanning that are compared: a backend, with carrying or not, of every frame or with early decision."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from worker.errors import ConfigError
from worker.settings import Settings
from worker.types import Json


def settings_know(section: str, key: str) -> bool:
    """Whether this version has the setting."""
    kind: Any = Settings.model_fields[section].annotation
    return key in kind.model_fields


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
        """Settings by section for evenly spaced frames. Raises ConfigError where this version lacks what is asked."""
        sampling: Json = {"strategy": "uniform", "max_frames": frames}
        if settings_know("sampling", "exhaustive"):
            sampling["exhaustive"] = not self.early
        elif self.early:
            raise ConfigError("this version has no early decision: leave out --early")
        return {"sampling": sampling} | self.model_flags()

    def model_flags(self) -> Json:
        """Those about networks alone. Raises ConfigError."""
        flags: Json = {"model": {"backend": self.backend}}
        if self.carry is not None:
            if not settings_know("faces", "carry"):
                raise ConfigError("this version does not carry faces: leave out --carry and --no-carry")
            flags["faces"] = {"carry": self.carry}
        return flags


def variants_of(backends: list[str], carry: bool | None, early: bool) -> list[Variant]:
    """Every backend exhaustively, and where ``early`` is wanted, also with it. Raises ConfigError for settings that are none."""
    from worker.settings import load_settings

    found = [Variant(backend=backend, carry=carry) for backend in backends]
    found += [Variant(backend=one.backend, carry=carry, early=True) for one in found] if early else []
    for one in found:
        load_settings(flags=one.flags(frames=1))
    return found
