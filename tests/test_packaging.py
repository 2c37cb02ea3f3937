"""The package list and package data of pyproject.toml against the disk."""

from __future__ import annotations

import tomllib
from importlib.resources import files
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
SETUPTOOLS = SETTINGS["tool"]["setuptools"]
FOLDERS = {  # the rooms at the top and the packages they are
    "cli": "danetc",
    "dsl": "danetc.dsl",
    "compiler": "danetc.compiler",
    "runtime": "danetc.runtime",
    "specs": "danetc.specs",
}


def packages_on_disk() -> dict[str, str]:
    """Each folder with an __init__.py: the package's name and its folder."""
    found = {}
    for top, package in FOLDERS.items():
        for init in (ROOT / top).rglob("__init__.py"):
            folder = init.parent.relative_to(ROOT)
            found[".".join([package, *folder.parts[1:]])] = folder.as_posix()
    return found


def test_every_package_is_listed_once() -> None:
    assert sorted(SETUPTOOLS["packages"]) == sorted(packages_on_disk())


def test_every_package_is_where_the_list_says() -> None:
    assert SETUPTOOLS["package-dir"] == packages_on_disk()


def test_every_module_is_in_a_package() -> None:
    folders = set(packages_on_disk().values())
    for top in FOLDERS:
        for module in (ROOT / top).rglob("*.py"):
            assert module.parent.relative_to(ROOT).as_posix() in folders, module


def test_every_other_file_is_package_data() -> None:
    listed = {
        path
        for package, patterns in SETUPTOOLS["package-data"].items()
        for pattern in patterns
        for path in (ROOT / SETUPTOOLS["package-dir"][package]).glob(pattern)
    }
    on_disk = {
        path
        for top in FOLDERS
        for path in (ROOT / top).rglob("*")
        if path.is_file() and path.suffix != ".py" and "__pycache__" not in path.parts
    }
    assert on_disk == listed


@pytest.mark.parametrize(
    ("package", "name"),
    [
        ("danetc", "py.typed"),
        ("danetc.dsl", "danet.lark"),
        ("danetc.dsl.std", "neurons.danet"),
        ("danetc.dsl.explain", "E0101.md"),
        ("danetc.specs", "danet_c_r50.danet"),
    ],
)
def test_data_is_found_as_a_resource(package: str, name: str) -> None:
    assert files(package).joinpath(name).is_file()


def test_every_import_is_a_dependency() -> None:
    """What the package imports comes from the standard library, itself or its dependencies."""
    import ast
    import sys

    project = SETTINGS["project"]
    extras = [
        requirement
        for name, requirements in project["optional-dependencies"].items()
        if name != "dev"  # an extra for users; a command says so where one is absent
        for requirement in requirements
    ]
    declared = {
        requirement.split(">")[0].split("<")[0].split("[")[0].strip()
        for requirement in [*project["dependencies"], *extras]
    }
    names = {
        "sklearn": "scikit-learn",
        "PIL": "pillow",
    }  # where the import has another name than the package
    allowed = declared | {"danetc"} | set(sys.stdlib_module_names)
    for top in FOLDERS:
        for module in (ROOT / top).rglob("*.py"):
            for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
                imported: list[str] = []
                if isinstance(node, ast.Import):
                    imported = [alias.name for alias in node.names]
                elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
                    imported = [node.module]
                for name in imported:
                    root = name.split(".")[0]
                    assert names.get(root, root) in allowed, f"{module} imports {name}"


def test_versions_agree() -> None:
    import danetc

    assert danetc.__version__ == SETTINGS["project"]["version"]
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {danetc.__version__}\n" in citation
