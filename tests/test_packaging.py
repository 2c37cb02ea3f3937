"""The package on disk against what pyproject.toml packs."""

from __future__ import annotations

import ast
import re
import runpy
import sys
import tomllib
from importlib.resources import files
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
SETUPTOOLS = SETTINGS["tool"]["setuptools"]
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
    project = SETTINGS["project"]
    extras = project[
        "optional-dependencies"
    ]  # those for users; a command says so where one is absent
    declared = [
        *project["dependencies"],
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

    assert danetc.__version__ == SETTINGS["project"]["version"]
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
    assert metadata == SETTINGS["project"]
