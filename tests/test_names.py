"""A class has a name of its own: whoever reads one knows which it is."""

from __future__ import annotations

import ast
from collections import defaultdict

from tests.test_imports import modules

MIRRORED = "danetc.compiler.emit.python.prelude"
"""The text of model.py: its classes are called as those of the runtime that they are equal to."""


def test_no_public_class_has_the_name_of_another_and_no_module_that_of_its_folder() -> None:
    found: defaultdict[str, list[str]] = defaultdict(list)
    for name, path in modules().items():
        assert name.count(".") < 2 or name.split(".")[-1] != name.split(".")[-2], name
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and not name.startswith(MIRRORED):
                found[node.name].append(name)
    public = {name: places for name, places in found.items() if not name.startswith("_")}
    assert {name: places for name, places in public.items() if len(places) > 1} == {}
