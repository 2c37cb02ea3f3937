"""A class has a name of its own: whoever reads one knows which it is."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Mapping
from functools import cache

from tests.test_imports import modules

MIRRORED = "danetc.compiler.emit.python.prelude"
"""The text of model.py: its classes are called as those of the runtime that they are equal to."""


@cache
def classes() -> Mapping[str, list[str]]:
    """The modules that define each public class."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    for name, path in modules().items():
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                found[node.name].append(name)
    return found


def test_no_public_class_has_the_name_of_another() -> None:
    several = {
        name: places
        for name, found in classes().items()
        if len(places := [each for each in found if not each.startswith(MIRRORED)]) > 1
    }
    assert not several


def test_no_module_is_called_as_the_folder_it_stands_in() -> None:
    named = [
        name for name in modules() if len(parts := name.split(".")) > 2 and parts[-1] == parts[-2]
    ]
    assert not named
