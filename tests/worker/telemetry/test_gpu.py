"""GPUs by a program that answers as NVIDIA's does. Not verified on hardware."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from worker.telemetry.exposition import Exposition
from worker.telemetry.gpu import PROGRAM, Gpu, NvidiaSmi, find_gpus

CARDS = "0, 1024, 81920, 37\n1, 0, 81920, [N/A]\n2, [Insufficient Permissions], [Insufficient Permissions], [N/A]\n"
EXPECTED = (
    Gpu(index="0", used_bytes=1 << 30, total_bytes=80 << 30, busy=0.37),
    Gpu(index="1", used_bytes=0, total_bytes=80 << 30, busy=None),
    Gpu(index="2", used_bytes=None, total_bytes=None, busy=None),
)

Program = Callable[[str], str]


@pytest.fixture
def program(tmp_path: Path) -> Program:
    def make(script: str) -> str:
        path = tmp_path / PROGRAM
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        return str(path)

    return make


def test_cards_are_read(program: Program) -> None:
    asked = "--query-gpu=index,memory.used,memory.total,utilization.gpu --format=csv,noheader,nounits"
    path = program(f'test "$*" = "{asked}" && printf "{CARDS}"')
    assert NvidiaSmi(path).gpus() == EXPECTED


@pytest.mark.parametrize("script", ["exit 9", "echo No devices were found", "exec sleep 60", "echo [N/A], 5, 5, 5"])
def test_one_that_cannot_be_asked_is_none_and_said_once(program: Program, script: str, caplog: pytest.LogCaptureFixture) -> None:
    probe = NvidiaSmi(program(script), timeout_s=0.2)
    with caplog.at_level(logging.WARNING):
        assert probe.gpus() == ()
        assert probe.gpus() == ()
    assert len(caplog.messages) == 1


def test_without_a_driver_there_is_no_probe(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    path = program(f'printf "{CARDS}"')
    monkeypatch.setenv("PATH", "/nowhere")
    assert find_gpus() is None
    monkeypatch.setenv("PATH", str(Path(path).parent))
    found = find_gpus()
    assert found is not None
    assert found.gpus() == EXPECTED


class Cards:
    def gpus(self) -> tuple[Gpu, ...]:
        return EXPECTED


def test_cards_are_told_with_the_rest(tmp_path: Path) -> None:
    families = text_string_to_metric_families(Exposition(tmp_path, Cards())().decode())
    told = {(s.name, *sorted(s.labels.values())): s.value for family in families for s in family.samples}
    assert told == {
        ("veriframe_gpu_memory_bytes", "0", "used"): 1 << 30,
        ("veriframe_gpu_memory_bytes", "0", "total"): 80 << 30,
        ("veriframe_gpu_memory_bytes", "1", "used"): 0,
        ("veriframe_gpu_memory_bytes", "1", "total"): 80 << 30,
        ("veriframe_gpu_utilisation_ratio", "0"): 0.37,
    }
