"""Fixtures that more than one folder of tests needs, and how test processes share the machine."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from redis import Redis

from worker.cores import usable_cores
from worker.queue.connection import connect
from worker.queue.embedded import EmbeddedRedis

SHARED = Path(__file__).resolve().parents[2] / "shared"
SIDE_BY_SIDE = "PYTEST_XDIST_WORKER" in os.environ

if SIDE_BY_SIDE:  # the test processes fill the cores: numeric libraries, not loaded yet, are to use one in each
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OPENCV_FOR_THREADS_NUM"):
        os.environ.setdefault(variable, "1")

if (
    signal.getsignal(signal.SIGINT) is signal.SIG_IGN
):  # started in the background of a script: Ctrl-C is what some tests are about
    signal.signal(signal.SIGINT, signal.default_int_handler)

gc.disable()  # what is imported stays: to look through it again and again takes an eighth of the time of collecting

settings.register_profile("untimed", deadline=None)  # how long an example takes says what else the machine is doing
settings.load_profile("untimed")

# Nor is anything measured before a test's scan: what "auto" would choose depends on the machine, and on what else it is doing.
os.environ.setdefault("VERIFRAME_MODEL__BACKEND", "onnxruntime")


def pytest_collection_finish() -> None:
    """From here on garbage is collected, among what tests make alone."""
    gc.freeze()
    gc.enable()


def pytest_xdist_auto_num_workers() -> int:
    """Test processes for ``-n logical``: half as many again as cores, since a test that waits for a process needs none."""
    return usable_cores() + usable_cores() // 2


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The labelled media beside the repository; tests that need them skip, with the reason, where they are absent."""
    folder = SHARED / "data"
    if not folder.is_dir():
        pytest.skip("needs the labelled media in ../shared/data, which are not on this machine")
    return folder


@pytest.fixture(scope="session")
def shared_tmp(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A temporary folder of this test run that processes running tests side by side have in common."""
    own = tmp_path_factory.getbasetemp()
    folder = (own.parent if SIDE_BY_SIDE else own) / "shared"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedRedis]:
    """A real server of this test process. Leave it running and as it is; its ``url`` is for processes that a test starts."""
    with EmbeddedRedis(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def redis(redis_server: EmbeddedRedis) -> Iterator[Redis]:
    """A client of that server, emptied; answers are bytes."""
    with connect(url=redis_server.url, timeout_s=10, patience_s=10) as client:
        client.flushall()
        yield client


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[EmbeddedRedis]:
    """A server with AOF that the test may kill, pause and restart."""
    with EmbeddedRedis(tmp_path / "own-redis", appendonly=True) as server:
        yield server
