"""The documentation leads somewhere: links, headings, files, commands and settings that it names are there."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
import yaml
from packaging.requirements import Requirement

from worker.cli import app
from worker.queue.requests import RequestSource
from worker.report import Model, Sampling, Source, Watch
from worker.settings import Settings

ROOT = Path(__file__).parents[1]
PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")])
LINK = re.compile(r"(?<!`)\[[^\]\[]*\]\(([^()\s]+)\)")
CODE = re.compile(r"```.*?```", re.DOTALL)
HEADING = re.compile(r"^#{1,6} +(.+?) *$", re.MULTILINE)
COMMAND = re.compile(r"(?:^|[`\s(])veriframe ([a-z]+(?:-[a-z]+)*)(?=[\s`.,;)])")
TARGET = re.compile(r"`make ([a-z-]+)|^make ([a-z-]+)", re.MULTILINE)
SETTING = re.compile(r"`([a-z]+)\.([a-z0-9_]+)`")
NOT_COMMANDS = frozenset(
    {
        "looks",
        "is",
        "will",
        "has",
        "does",
        "says",
        "never",
        "keeps",
        "against",
        "and",
        "forgets",
        "on",
        "in",
        "from",
        "version",
        "defends",
    }
)
"""Words that follow the project's name in a sentence."""
PARTS = {
    "sampling": Sampling.model_fields,
    "model": Model.model_fields | {"safetensors": "a file's name"},
    "watch": Watch.model_fields,
} | {"source": Source.model_fields | RequestSource.model_fields}
"""Parts of a report and of a request that are called like a section of the settings."""


def anchors(text: str) -> set[str]:
    """As GitHub makes them from headings."""
    found: set[str] = set()
    for heading in HEADING.findall(CODE.sub("", text)):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        found.add(re.sub(r"[^\w\- ]", "", plain).replace(" ", "-"))
    return found


def broken(page: Path) -> Iterator[str]:
    for link in LINK.findall(CODE.sub("", page.read_text("utf-8"))):
        if link.startswith(("http://", "https://", "mailto:")):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        if not target.exists() or (anchor and target.suffix == ".md" and anchor not in anchors(target.read_text("utf-8"))):
            yield link


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    assert list(broken(page)) == []


def test_commands_exist() -> None:
    known = set(typer.main.get_command(app).list_commands(typer.Context(typer.main.get_command(app))))  # type: ignore[attr-defined]
    for page in PAGES:
        named = set(COMMAND.findall(page.read_text("utf-8"))) - NOT_COMMANDS
        assert named <= known, f"{page.name}: {sorted(named - known)}"


def test_make_targets_exist() -> None:
    known = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for page in PAGES:
        named = {first or second for first, second in TARGET.findall(page.read_text("utf-8"))}
        assert named <= known, f"{page.name}: {sorted(named - known)}"


def test_what_the_shell_commands_of_a_page_use_is_set_by_them() -> None:
    for page in PAGES:
        blocks = re.findall(r"^ *```(\w*)\n(.*?)^ *```", page.read_text("utf-8"), re.DOTALL | re.MULTILINE)
        shell = "".join(block for language, block in blocks if language in ("", "sh"))
        used, given = (set(re.findall(pattern, shell)) for pattern in (r"\$\{?([A-Za-z_]\w*)", r"(?:^|[\s;(])([A-Za-z_]\w*)="))
        assert used <= given, f"{page.name}: {sorted(used - given)}"


def test_no_page_has_it_installed_by_its_name_alone() -> None:
    """It is on no package index: whoever took the name there would be installed in its place."""
    named = re.compile(r"pip install [^`\n]*?(?<![\w-])veriframe(?![\w-])")
    assert [page.name for page in PAGES if named.search(page.read_text("utf-8"))] == []


def test_settings_exist() -> None:
    sections = dict(Settings())
    for page in PAGES:
        for section, key in SETTING.findall(page.read_text("utf-8")):
            if section in sections and key not in PARTS.get(section, {}):
                assert key in type(sections[section]).model_fields, f"{page.name}: {section}.{key}"


def test_the_runbook_runs_commands_in_containers_so_that_lists_can_be_piped_to_them() -> None:
    said = (ROOT / "docs" / "runbook.md").read_text("utf-8")
    prefixes = re.findall(r"`(docker compose [^`]* exec|kubectl exec) ([^`]*) veriframe [^`]*`", said)
    assert [(tool.split()[0], flags.split()[0]) for tool, flags in prefixes] == [("docker", "-T"), ("kubectl", "-i")]


def test_the_runbook_drains_workers_before_the_api_that_tells_when_they_are_done() -> None:
    said = (ROOT / "docs" / "runbook.md").read_text("utf-8").partition("- **All of it**")[2].partition("\n## ")[0]
    steps = ("paused-replicas=0", "stop worker watch", "veriframe jobs stats", "stop api courier", "paused-replicas- ")
    places = [said.find(step) for step in steps]
    assert -1 not in places
    assert places == sorted(places)
    services = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text())["services"]
    stopped = set(" ".join(re.findall(r"compose\.yaml stop ([a-z ]+)`", said)).split())
    assert stopped == {"worker", "watch", "api", "courier"} <= set(services)
    files = [ROOT / "deploy" / "k8s" / "shared" / f"{name}.yaml" for name in ("api", "courier")]
    deployments = [next(iter(yaml.safe_load_all(file.read_text()))) for file in files]
    assert set(re.findall(r"deployment/(\w+)", said)) == {one["metadata"]["name"] for one in deployments}
    assert set(re.findall(r"--replicas=([1-9])", said)) == {str(one["spec"]["replicas"]) for one in deployments}


def test_a_link_to_nowhere_is_told(tmp_path: Path) -> None:
    page = tmp_path / "a.md"
    page.write_text("# One `two`\n\n[a](#one-two) [b](#three) [c](gone.md) [d](a.md#four) [e](a.md)\n\n```\n[f](gone.md)\n```\n")
    assert list(broken(page)) == ["#three", "gone.md", "a.md#four"]


def test_every_dependency_says_what_it_is_for_and_the_locks_are_counted() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    parts = [
        project["project"]["dependencies"],
        *project["project"]["optional-dependencies"].values(),
        *project["dependency-groups"].values(),
    ]
    page = (ROOT / "docs" / "dependencies.md").read_text("utf-8")
    wanted = {Requirement(text).name for part in parts for text in part}
    assert sorted(name for name in wanted if not re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", page, re.IGNORECASE)) == []
    for lock, told in re.findall(r"\(`(requirements[a-z-]*\.lock)`\) \| (\d+) \|", page):
        names = re.findall(r"^([\w.-]+)==", (ROOT / lock).read_text(), re.MULTILINE)
        assert len(set(names)) == int(told), lock
