"""The package on disk and continuous integration elsewhere against pyproject.toml."""

from __future__ import annotations

import ast
import re
import runpy
import shutil
import subprocess
import sys
import tomllib
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT, SETUPTOOLS = SETTINGS["project"], SETTINGS["tool"]["setuptools"]
PACKAGE = ROOT / "danetc"
ROOMS = ("dsl", "compiler", "runtime", "specs")  # folders at the top, linked into the package


def files_on_disk(pattern: str) -> list[Path]:
    """The files of the package, those behind its links included, by their place in it."""
    tops = [PACKAGE, *(PACKAGE / room for room in ROOMS)]  # rglob does not follow links
    return [
        path
        for top in tops
        for path in top.rglob(pattern)
        if path.is_file() and "__pycache__" not in path.parts
    ]


def is_data(path: Path) -> bool:
    """Whether it is packed as a file: what is no module, and the model.py of a trained network."""
    return path.suffix != ".py" or path.parent.parent == PACKAGE / "pretrained"


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_is_a_relative_link(room: str) -> None:
    link = PACKAGE / room
    assert link.is_symlink(), f"{link} is no link: was the clone made with links switched on?"
    assert link.readlink() == Path("..") / room


def test_every_module_is_in_a_package() -> None:
    for module in files_on_disk("*.py"):
        assert is_data(module) or (module.parent / "__init__.py").is_file(), module


def test_every_other_file_is_package_data() -> None:
    listed = {
        path
        for package, patterns in SETUPTOOLS["package-data"].items()
        for pattern in patterns
        for path in ROOT.joinpath(*package.split(".")).glob(pattern)
    }
    assert {path for path in files_on_disk("*") if is_data(path)} == listed


def test_data_is_found_as_a_resource() -> None:
    for package, name in (
        ("danetc", "py.typed"),
        ("danetc.dsl.syntax", "danet.lark"),
        ("danetc.dsl.diagnostics.explain", "E0101.md"),
        ("danetc.specs", "danet_c_r50.danet"),
        ("danetc.pretrained", "danet_c_small_digits/weights.safetensors"),
    ):
        assert files(package).joinpath(name).is_file()


def test_every_import_is_a_dependency() -> None:
    """What the package imports comes from the standard library, itself or its dependencies."""
    extras = PROJECT["optional-dependencies"]  # a command says so where one is absent
    declared = [
        *PROJECT["dependencies"],
        *(x for name in extras.keys() - {"dev"} for x in extras[name]),
    ]
    allowed = {re.match(r"[\w-]+", each)[0] for each in declared}  # type: ignore[index]
    allowed |= {"danetc", "IPython", "PIL", *sys.stdlib_module_names}
    assert {"ipython", "pillow"} <= allowed  # the packages of the two with another name
    for module in files_on_disk("*.py"):
        for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module or ""]
            for name in names:
                assert name.partition(".")[0] in allowed, f"{module} imports {name}"


def test_versions_agree() -> None:
    import danetc

    assert danetc.__version__ == PROJECT["version"]
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {danetc.__version__}\n" in citation


def test_links_on_the_page_of_a_release_are_whole() -> None:
    """PyPI shows README.md away from the other files; `.github/urls.py` writes addresses into it."""
    urls = runpy.run_path(str(ROOT / ".github" / "urls.py"))
    text = urls["with_whole_links"](
        (ROOT / "README.md").read_text(encoding="utf-8"), "owner/name", "v1"
    )
    found = re.findall(r"(!?)\[[^]]*\]\(([^)\s]+)\)", text)
    files = [
        each for each in found if re.match(r"https://\S+/owner/name/(blob/)?v1/[^#]+", each[1])
    ]
    assert len(files) > 20
    assert sum("raw." in target for _, target in files) == sum(bang == "!" for bang, _ in found) > 2
    assert all(target.startswith("https://") for _, target in found)
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
    """As pyproject.toml, CITATION.cff and CHANGELOG.md write it."""
    version = PROJECT["version"]
    checks = re.findall(r'grep -qx? "(.*)" (\S+)$', commands("test"), re.MULTILINE)
    assert [file for _, file in checks] == ["pyproject.toml", "CITATION.cff", "CHANGELOG.md"]
    for pattern, file in checks:
        line = pattern.replace("${TAG#v}", version).replace('\\"', '"')
        assert re.search(line, (ROOT / file).read_text("utf-8"), re.MULTILINE), (file, line)


def test_an_image_is_made_of_what_a_wheel_is_made_of() -> None:
    """The folders of the package, and the files that pyproject.toml names."""
    lines = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    kept = {line[1:] for line in lines if line.startswith("!")}
    links = {path.name for path in (ROOT / "danetc").iterdir() if path.is_symlink()}
    files = {"pyproject.toml", PROJECT["readme"], "LICENSE"}
    assert kept == links | files | {"danetc"}
