"""Continuous integration elsewhere: what it runs is what pyproject.toml promises.

(That GitHub can read the files is seen to by `make lint`.)
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
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
