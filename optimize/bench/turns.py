"""Rivals take turns over one item, so that a busy minute of the machine falls on all of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager

from optimize.bench.side import Answered, Asking, Rival, Side
from worker.types import Json


def take_turns(sides: Mapping[str, Asking], requests: Mapping[str, Json], rounds: int) -> dict[str, tuple[Answered, ...]]:
    """Each side of ``requests`` answers its request ``rounds`` times; who begins changes with every round."""
    names = list(requests)
    answers: dict[str, list[Answered]] = {name: [] for name in names}
    for number in range(rounds):
        first = number % len(names) if names else 0
        for name in names[first:] + names[:first]:
            answers[name].append(sides[name].ask(requests[name]))
    return {name: tuple(given) for name, given in answers.items()}


@contextmanager
def open_sides(rivals: Iterable[Rival], threads: int) -> Iterator[dict[str, Side]]:
    """One process for each rival, by its name. Raises SideFailed where one cannot start."""
    with ExitStack() as stack:
        yield {rival.name: stack.enter_context(Side(rival, threads=threads)) for rival in rivals}
