"""Import directions: dsl <- compiler, runtime <- danetc, without cycles; and what is packaged.

Imports only for types and imports inside functions count like all others: they may hide a cycle but
do not remove it.
"""

from __future__ import annotations

import ast
import re
import runpy
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import networkx as nx
import pytest
import yaml

import danetc

ROOT = Path(__file__).parents[1]
FOLDERS = ("dsl", "compiler", "runtime", "specs")  # at the top, linked into the package
LINKED = [("danetc", folder) for folder in FOLDERS]

BELOW: Mapping[str, frozenset[str]] = {
    "dsl": frozenset({"dsl"}),
    "runtime": frozenset({"dsl", "runtime"}),
    "compiler": frozenset({"dsl", "compiler"}),
    "compiler.emit": frozenset({"dsl", "compiler", "runtime"}),
    "specs": frozenset({"specs"}),
}
"""The parts that modules of a part may import; modules of the package itself may import all."""


def _name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    inside = parts if parts[0] == "danetc" else ("danetc", *parts)
    return ".".join(inside).removesuffix(".__init__")


@cache
def modules() -> Mapping[str, Path]:
    """Every module of the package with its file. (The model.py of a trained network is not one.)"""
    found = (path for folder in ("danetc", *FOLDERS) for path in (ROOT / folder).rglob("*.py"))
    own = (path for path in found if path.relative_to(ROOT).parts[:2] not in LINKED)
    return {_name(path): path for path in own if (path.parent / "__init__.py").is_file()}


def _imported(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "an import says the whole name"
            assert node.module is not None
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in modules() else node.module


@cache
def graph() -> nx.DiGraph[str]:
    result = nx.DiGraph()
    for name, path in modules().items():
        result.add_node(name)
        found = set(_imported(ast.parse(path.read_text(encoding="utf-8"))))
        result.add_edges_from((name, other) for other in found & modules().keys() - {name})
    return result


def part(name: str) -> str:
    """The part that a module belongs to: the longest one with its own rules."""
    inside = name.removeprefix("danetc.")
    fitting = [each for each in BELOW if inside == each or inside.startswith(f"{each}.")]
    return max(fitting, key=len, default="danetc")


def test_the_walk_sees_the_house() -> None:
    assert graph().has_edge("danetc.compiler.lowering.builder", "danetc.compiler.ir.graph")
    assert {part(name) for name in modules()} == {*BELOW, "danetc"}


def test_no_import_runs_in_a_circle() -> None:
    circles = [sorted(each) for each in nx.strongly_connected_components(graph()) if len(each) > 1]
    assert not circles


@pytest.mark.parametrize("upper", BELOW)
def test_imports_run_downwards(upper: str) -> None:
    for name, other in graph().edges:
        assert part(name) != upper or part(other).partition(".")[0] in BELOW[upper], (name, other)


def test_the_graph_knows_neither_who_makes_it_nor_who_reads_it() -> None:
    """Tasks, which are also called from Python, do not import the command line."""
    inside, tasks = ("danetc.compiler.ir", "danetc.dsl"), ("danetc.tasks.", "danetc.output.")
    for name, other in graph().edges:
        assert not name.startswith(inside[0]) or other.startswith(inside), (name, other)
        assert not (name.startswith(tasks) and other.startswith("danetc.commands")), (name, other)


# -- the package on disk and continuous integration elsewhere against pyproject.toml ---------------


SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT, SETUPTOOLS = SETTINGS["project"], SETTINGS["tool"]["setuptools"]
PACKAGE = ROOT / "danetc"


def files_on_disk(pattern: str) -> list[Path]:
    """The files of the package, including those behind its links, by their path in the package."""
    tops = [PACKAGE, *(PACKAGE / room for room in FOLDERS)]  # rglob does not follow links
    found = [path for top in tops for path in top.rglob(pattern)]
    return [path for path in found if path.is_file() and "__pycache__" not in path.parts]


def is_data(path: Path) -> bool:
    """Whether a file is packed as data: it is not a module, or is the model.py of a trained network."""
    return path.suffix != ".py" or path.parent.parent == PACKAGE / "pretrained"


def test_a_room_is_a_relative_link() -> None:
    for link in (PACKAGE / room for room in FOLDERS):
        assert link.is_symlink(), f"{link} is no link: was the clone made with links switched on?"
        assert link.readlink() == Path("..") / link.name


def test_every_file_is_a_module_of_a_package_or_package_data() -> None:
    listed = {
        path
        for package, patterns in SETUPTOOLS["package-data"].items()
        for pattern in patterns
        for path in ROOT.joinpath(*package.split(".")).glob(pattern)
    }
    found = files_on_disk("*")
    assert {path for path in found if is_data(path)} == listed >= {PACKAGE / "py.typed"}
    for path in found:
        assert is_data(path) or (path.parent / "__init__.py").is_file(), path


def test_every_import_is_a_dependency() -> None:
    extras = PROJECT["optional-dependencies"]  # a command reports a missing extra
    declared = [PROJECT["dependencies"], *(extras[name] for name in extras.keys() - {"dev"})]
    allowed = {re.match(r"[\w-]+", each)[0] for few in declared for each in few}  # type: ignore[index]
    allowed |= {"danetc", "IPython", "PIL", *sys.stdlib_module_names}
    assert {"ipython", "pillow"} <= allowed  # the packages of IPython and PIL
    for module in files_on_disk("*.py"):
        for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            for name in [node.module] if isinstance(node, ast.ImportFrom) else names:
                assert name.partition(".")[0] in allowed, f"{module} imports {name}"


def test_versions_agree() -> None:
    assert danetc.__version__ == PROJECT["version"]
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {danetc.__version__}\n" in citation


def test_links_on_the_page_of_a_release_are_whole() -> None:
    """PyPI shows README.md without the other files; `.github/urls.py` writes full addresses into it."""
    urls = runpy.run_path(str(ROOT / ".github" / "urls.py"))
    text = urls["with_whole_links"]((ROOT / "README.md").read_text("utf-8"), "owner/name", "v1")
    found = re.findall(r"(!?)\[[^]]*\]\(([^)\s]+)\)", text)
    targets = [target for _, target in found]
    files = [x for x in targets if re.match(r"https://\S+/owner/name/(blob/)?v1/[^#]+", x)]
    assert len(files) > 20
    assert sum("raw." in target for target in files) == sum(bang == "!" for bang, _ in found) > 2
    assert all(target.startswith("https://") for target in targets)
    project = urls["with_urls"]((ROOT / "pyproject.toml").read_text("utf-8"), "Owner/name", "v1")
    metadata = tomllib.loads(project)["project"]
    assert metadata.pop("urls")["Documentation"] == "https://owner.github.io/name/"
    assert metadata == PROJECT


# -- continuous integration elsewhere runs what pyproject.toml promises ----------------------------


WORKFLOWS = ROOT / ".github" / "workflows"
JOBS: dict[str, Any] = {
    name: job
    for file in ("test.yml", "pages.yml", "release.yml")
    for name, job in yaml.safe_load((WORKFLOWS / file).read_text("utf-8"))["jobs"].items()
}


def commands(job: str) -> str:
    return "\n".join(step.get("run", "") for step in JOBS[job]["steps"])


def test_every_version_of_python_that_is_promised() -> None:
    classifiers = "\n".join(PROJECT["classifiers"])
    promised = re.findall(r"Programming Language :: Python :: (3\.\d+)", classifiers)
    assert promised[0] == PROJECT["requires-python"].removeprefix(">=")
    for job in ("linux", "macos", "windows"):
        assert JOBS[job]["strategy"]["matrix"]["python"] == promised
    runners = " ".join(job["runs-on"] for job in JOBS.values()).replace("ubuntu", "linux")
    for system in re.findall(r"Operating System.* (\w+)$", classifiers, re.MULTILINE):
        assert system.lower() in runners


def test_the_oldest_torch_that_is_admitted_and_the_newest() -> None:
    named = dict(re.findall(r'"(torch|torchvision)==([\d.]+)\.\*"', commands("linux")))
    assert set(named) == {"torch", "torchvision"}
    assert {f"{name}>={version}" for name, version in named.items()} <= {*PROJECT["dependencies"]}
    torches = {entry["torch"] for entry in JOBS["linux"]["strategy"]["matrix"]["include"]}
    assert torches | {*JOBS["linux"]["strategy"]["matrix"]["torch"]} == {"oldest", "newest"}


@pytest.mark.skipif(shutil.which("sed") is None, reason="there is no sed")
def test_the_lowest_versions_are_those_of_all_dependencies() -> None:
    (sed,) = re.findall(r"^sed .* (?=\|)", commands("lowest"), re.MULTILINE)
    lines = subprocess.run(sed, shell=True, cwd=ROOT, capture_output=True, text=True, check=True)
    wanted = [each.partition(",")[0].replace(">=", "==") for each in PROJECT["dependencies"]]
    assert lines.stdout.splitlines() == wanted


def test_what_is_run_is_there() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    for job in JOBS:
        text = commands(job)
        for line in re.findall(r"^make (.*)$", text, re.MULTILINE):
            assert {word for word in line.split() if "/" not in word} <= targets
        for path in re.findall(r"\btests/[\w./]+", text):
            assert (ROOT / path).exists(), path
    assert "core.symlinks true" in commands("windows")
    assert JOBS["windows"]["steps"][0]["run"].startswith("git config"), "before it is checked out"


def test_a_release_asks_for_the_version_where_it_stands() -> None:
    version = PROJECT["version"]
    checks = re.findall(r'grep -qx? "(.*)" (\S+)$', commands("test"), re.MULTILINE)
    assert [file for _, file in checks] == ["pyproject.toml", "CITATION.cff", "CHANGELOG.md"]
    for pattern, file in checks:
        line = pattern.replace("${TAG#v}", version).replace('\\"', '"')
        assert re.search(line, (ROOT / file).read_text("utf-8"), re.MULTILINE), (file, line)


def test_an_image_is_made_of_what_a_wheel_is_made_of() -> None:
    lines = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    kept = {line[1:] for line in lines if line.startswith("!")}
    links = {path.name for path in (ROOT / "danetc").iterdir() if path.is_symlink()}
    files = {"pyproject.toml", PROJECT["readme"], "LICENSE"}
    assert kept == links | files | {"danetc"}
