from __future__ import annotations

from dataclasses import dataclass

from optimize.bench.side import Answered
from optimize.bench.turns import take_turns
from worker.types import Json


@dataclass
class FakeSide:
    name: str
    asked: list[str]

    def ask(self, request: Json) -> Answered:
        self.asked.append(self.name)
        return Answered(wall_s=float(len(self.asked)), cpu_s=0, reply=request)


def test_who_begins_changes_with_every_round() -> None:
    asked: list[str] = []
    sides = {name: FakeSide(name, asked) for name in "abc"}
    answers = take_turns(sides, {"a": {"x": 1}, "b": {"x": 2}}, rounds=3)
    assert "".join(asked) == "ab" + "ba" + "ab"
    assert [answer.reply["x"] for answer in answers["b"]] == [2, 2, 2]
    assert [answer.wall_s for answer in answers["a"]] == [1, 4, 5]
