from __future__ import annotations

from collections.abc import Sequence

import pytest

from optimize.bench.rivals.recording import Stage, stage_of


@pytest.mark.parametrize(
    ("shape", "stage"),
    [
        (["n", "h", "w", 3], "detect"),
        (["n", 24, 24, 3], "detect"),
        ([None, 3, 48, 48], "detect"),
        (["faces", 224, 224, 3], "infer"),
        ([None, 16, 112, 112], "infer"),
        ([None, 1280], "infer"),
    ],
)
def test_networks_belong_to_a_stage_by_what_they_take(shape: Sequence[int | str | None], stage: Stage) -> None:
    assert stage_of(shape) == stage
