"""Cores by affinity and by control groups, read from folders made up like the kernel's."""

from __future__ import annotations

import math
import os
from pathlib import Path

import pytest

from worker.cores import quota_cores, scan_threads, usable_cores


@pytest.fixture
def own(tmp_path: Path) -> Path:
    return tmp_path / "own"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "cgroup"


def write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text + "\n", "ascii")


@pytest.mark.parametrize(
    ("text", "cores"), [("150000 100000", 1.5), ("max 100000", math.inf), ("", math.inf), ("x y z", math.inf)]
)
def test_a_quota_of_version_2(own: Path, root: Path, text: str, cores: float) -> None:
    write(own, "0::/pod/worker")
    write(root / "pod" / "worker" / "cpu.max", text)
    assert quota_cores(own, root) == cores


def test_the_smallest_quota_on_the_way_up_counts(own: Path, root: Path) -> None:
    write(own, "0::/pod/worker")
    write(root / "pod" / "worker" / "cpu.max", "400000 100000")
    write(root / "pod" / "cpu.max", "200000 100000")
    assert quota_cores(own, root) == 2.0


def test_a_container_that_sees_its_group_as_the_root(own: Path, root: Path) -> None:
    write(own, "0::/../../kubepods/pod7")
    write(root / "cpu.max", "50000 100000")
    assert quota_cores(own, root) == 0.5


@pytest.mark.parametrize("folder", ["cpu", "cpu,cpuacct"])
def test_a_quota_of_version_1(own: Path, root: Path, folder: str) -> None:
    write(own, f"5:memory:/box\n3:{folder}:/box\n0::/")
    write(root / folder / "box" / "cpu.cfs_quota_us", "300000")
    write(root / folder / "box" / "cpu.cfs_period_us", "100000")
    assert quota_cores(own, root) == 3.0
    write(root / folder / "box" / "cpu.cfs_quota_us", "-1")
    assert quota_cores(own, root) == math.inf


def test_no_control_groups_no_quota(own: Path, root: Path) -> None:
    assert quota_cores(own, root) == math.inf
    write(own, "0::/")
    assert quota_cores(own, root) == math.inf


def test_this_process_may_use_some_cores_and_not_more_than_there_are() -> None:
    assert 1 <= usable_cores() <= (os.cpu_count() or 1)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="cores cannot be chosen here")
def test_a_pinned_process_has_one_core() -> None:
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert usable_cores() == 1
    finally:
        os.sched_setaffinity(0, before)


@pytest.mark.parametrize(
    ("cores", "workers", "threads"), [(1, 1, 1), (2, 1, 2), (2, 2, 1), (16, 1, 4), (16, 4, 4), (16, 8, 2), (2, 9, 1)]
)
def test_processes_share_the_cores(cores: int, workers: int, threads: int) -> None:
    assert scan_threads(workers, cores) == threads
