"""Reads deploy/Dockerfile and .dockerignore: stages, their instructions, and which files of the checkout they can see."""

from __future__ import annotations

import fnmatch
import json
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One instruction, its flags (``--from=x``) apart from the rest."""

    name: str
    flags: dict[str, str]
    rest: str

    @property
    def words(self) -> list[str]:
        """Of the exec form or of a plain line."""
        return [str(word) for word in json.loads(self.rest)] if self.rest.startswith("[") else shlex.split(self.rest)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    name: str
    base: str
    steps: tuple[Step, ...]


def read_stages(path: Path = ROOT / "deploy" / "Dockerfile") -> dict[str, Stage]:
    stages: dict[str, Stage] = {}
    for step in _steps(path.read_text()):
        if step.name == "FROM":
            base, _, name = step.words
            stages[name] = Stage(name=name, base=base, steps=())
        else:
            stage = stages[name]
            stages[name] = Stage(name=name, base=stage.base, steps=(*stage.steps, step))
    return stages


def _steps(text: str) -> Iterator[Step]:
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    for line in re.sub(r"\\\n", " ", "\n".join(lines)).splitlines():
        if line.strip():
            name, rest = line.split(None, 1)
            flags: dict[str, str] = {}
            while match := re.match(r"--([a-z-]+)=(\S+)\s+", rest):
                flags[match[1]] = match[2]
                rest = rest[match.end() :]
            yield Step(name=name, flags=flags, rest=rest.strip())


def chain(stages: dict[str, Stage], name: str) -> list[Step]:
    """All steps that make a target, those of its base stages first."""
    stage = stages[name]
    return [*(chain(stages, stage.base) if stage.base in stages else []), *stage.steps]


def last(steps: list[Step], name: str) -> Step:
    return [step for step in steps if step.name == name][-1]


def environment(steps: list[Step]) -> dict[str, str]:
    pairs = (word.partition("=") for step in steps if step.name == "ENV" for word in step.words)
    return {name: value for name, _, value in pairs}


def in_context(relative: str) -> bool:
    """Whether the build sees this path: the last pattern of .dockerignore that names it, or a folder above, decides."""
    path = PurePosixPath(relative)
    seen = True
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        pattern = line.removeprefix("!")
        if pattern and not pattern.startswith("#") and any(_names(pattern, part) for part in (path, *path.parents[:-1])):
            seen = line.startswith("!")
    return seen


def _names(pattern: str, path: PurePosixPath) -> bool:
    if pattern.startswith("**/"):
        return fnmatch.fnmatchcase(path.name, pattern[3:])
    parts = PurePosixPath(pattern).parts
    return len(parts) == len(path.parts) and all(map(fnmatch.fnmatchcase, path.parts, parts))
