"""What an image holds, run: the wheel from the build's context in a fresh environment, laid out and set as the image says."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.deploy.dockerfile import ROOT, chain, environment, in_context, last, read_stages
from tests.worker.queue.receivers import soon
from worker.queue.embedded import EmbeddedRedis
from worker.queue.probes import probes

STAGES = read_stages()
HEALTHY = ROOT / "deploy" / "healthy.py"
LARGE = 1 << 20
"""Files of this size are empty while the wheel is built, since packing them is most of its time, and are put in afterwards."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Installed:
    """``prefix`` stands for /opt/veriframe, ``volumes`` for the folder above those of the image."""

    prefix: Path
    volumes: Path

    def environment(self, **more: str) -> dict[str, str]:
        given = environment(chain(STAGES, "cpu"))
        for folder in last(chain(STAGES, "cpu"), "VOLUME").words:
            (self.volumes / folder[1:]).mkdir(parents=True, exist_ok=True)
            given = {name: value.replace(folder, str(self.volumes / folder[1:])) for name, value in given.items()}
        given["PATH"] = given["PATH"].replace("/opt/veriframe", str(self.prefix))
        ours = {"VERIFRAME_TELEMETRY__HOST": "127.0.0.1", "VERIFRAME_API__HOST": "127.0.0.1"}
        ours["PYTHONDONTWRITEBYTECODE"] = ""  # in the image pip has compiled everything
        return given | ours | {"VERIFRAME_TELEMETRY__PORT": "0", "VERIFRAME_API__PORT": "0"} | more

    def command(self, *arguments: str) -> list[str]:
        """The entry point behind tini."""
        *_, program = last(chain(STAGES, "cpu"), "ENTRYPOINT").words
        return [str(self.prefix / "bin" / program), *arguments]


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the stage `wheel` copies, and of that what .dockerignore lets through."""
    folder = tmp_path_factory.mktemp("context")
    for step in (step for step in STAGES["wheel"].steps if step.name == "COPY" and "from" not in step.flags):
        for source in step.words[:-1]:
            found = (
                [ROOT / source] if (ROOT / source).is_file() else [path for path in (ROOT / source).rglob("*") if path.is_file()]
            )
            for path in found:
                inside = path.relative_to(ROOT)
                if path.is_file() and in_context(inside.as_posix()):
                    (folder / inside).parent.mkdir(parents=True, exist_ok=True)
                    (folder / inside).write_bytes(path.read_bytes() if path.stat().st_size < LARGE else b"")
    return folder


@pytest.fixture(scope="module")
def installed(context: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """Its dependencies are this environment's own, which the same locks made."""
    folder = tmp_path_factory.mktemp("image")
    build = next(step.rest for step in STAGES["wheel"].steps if step.name == "RUN").split()
    assert build[0] == "/tools/bin/python"
    run([sys.executable, *build[1:-1], context], cwd=context, into={"/dist": folder / "dist"})
    prefix = folder / "opt"
    run([sys.executable, "-m", "venv", "--without-pip", prefix])
    (wheel,) = (folder / "dist").glob("veriframe-*.whl")
    install = ["install", "-q", "--no-deps", "--no-index", "--no-compile", wheel]
    run([sys.executable, "-m", "pip", "--python", prefix / "bin" / "python", *install])
    (packages,) = prefix.glob("lib/python3*/site-packages")
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    for path in (path for path in (ROOT / "worker").rglob("*") if path.is_file() and path.stat().st_size >= LARGE):
        inside = packages / path.relative_to(ROOT)
        assert inside.stat().st_size == 0
        inside.unlink()
        inside.symlink_to(path)
    return Installed(prefix=prefix, volumes=folder / "root")


def run(command: list[str | Path], *, cwd: Path | None = None, into: dict[str, Path] | None = None) -> str:
    words = [str((into or {}).get(str(word), word)) for word in command]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("VERIFRAME_", "PYTHON"))}
    done = subprocess.run(words, cwd=cwd, env=environment, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def files_of(prefix: Path) -> set[Path]:
    """But for compiled modules, which pip makes in the image."""
    return {path for path in prefix.rglob("*") if path.is_file() and path.suffix != ".pyc"}


@contextmanager
def running(installed: Installed, log: Path, *arguments: str, **settings: str) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as out:
        process = subprocess.Popen(
            installed.command(*arguments), cwd=installed.volumes, env=installed.environment(**settings), stdout=out, stderr=out
        )
    with process:
        try:
            yield process
        finally:
            process.kill()


def address(log: Path, pattern: str) -> str:
    soon(lambda: re.search(pattern, log.read_text()), within_s=120)
    found = re.search(pattern, log.read_text())
    assert found, log.read_text()
    return found[1]


def healthy(url: str) -> int:
    return subprocess.run([sys.executable, "-I", HEALTHY, url], capture_output=True, timeout=60, check=False).returncode


def test_the_wheel_of_the_context_is_what_runs(installed: Installed) -> None:
    code = "import training, optimize, worker; print(*(m.__file__ for m in (training, optimize, worker)), sep='\\n')"
    found = run([installed.prefix / "bin" / "python", "-I", "-c", code]).split()
    assert all(Path(path).is_relative_to(installed.prefix) for path in found)
    assert run([*installed.command("--version")]).startswith("veriframe ")
    assert not (installed.prefix / "bin" / "pip").exists()


def test_api_and_worker_come_up_and_end_by_sigterm(installed: Installed, redis_server: EmbeddedRedis, tmp_path: Path) -> None:
    settings = {"VERIFRAME_REDIS__URL": redis_server.url, "VERIFRAME_REDIS__NAMESPACE": "deploy"}
    settings["VERIFRAME_MODEL__BACKEND"] = "onnxruntime"
    before = files_of(installed.prefix)
    api_log, worker_log = tmp_path / "api", tmp_path / "worker"
    with (
        running(installed, api_log, "serve", **settings) as api,
        running(installed, worker_log, "worker", "--queue", "live", "--no-courier", **settings) as worker,
    ):
        served = address(api_log, r"listening on (http://127\.0\.0\.1:\d+)")
        shown = address(worker_log, r"(http://127\.0\.0\.1:\d+)/metrics")
        assert healthy(f"{served}/livez") == 0
        assert healthy(f"{shown}/livez") == 0
        with httpx.Client(verify=False, timeout=60) as client:
            assert soon(lambda: client.get(f"{shown}/readyz").status_code == 200, within_s=120), worker_log.read_text()
            assert client.get(f"{served}/readyz").json()["ready"] is True
        for process in (api, worker):
            process.send_signal(signal.SIGTERM)
        assert (api.wait(100), worker.wait(100)) == (0, 0)
        assert healthy(f"{served}/livez") == 1
    assert files_of(installed.prefix) == before, "the root may be read-only"


@pytest.mark.parametrize(("path", "code"), [("/good", 0), ("/bad", 1), ("/none", 1)])
def test_a_health_check_passes_for_200_alone(path: str, code: int) -> None:
    with probes("127.0.0.1", 0, {"/good": lambda: True, "/bad": lambda: False}, setting="test") as port:
        assert healthy(f"http://127.0.0.1:{port}{path}") == code


@pytest.mark.skipif(shutil.which("tini") is None, reason="tini is not installed (Debian's package tini)")
def test_tini_passes_sigterm_on() -> None:
    code = "import signal, sys; signal.signal(15, lambda *_: sys.exit(7)); print('up', flush=True); signal.pause()"
    with subprocess.Popen(["tini", "-s", "--", sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 7
