"""A spec of some length, made of the shipped ones: their declarations in one file."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

from danetc.dsl.diagnostics.diagnostic import Reporter
from danetc.dsl.loading import standard
from danetc.dsl.reading import shipped_specs
from danetc.dsl.syntax.parser import parse
from danetc.dsl.syntax.source import SourceFile
from danetc.editor import analyse


@cache
def long_file(lines: int = 300) -> str:
    """A file without errors, of at least so many lines: networks of the zoo with all they are made of."""
    folder = files("danetc.specs")
    shared = [*folder.joinpath("lib").iterdir(), *folder.joinpath("zoo", "lib").iterdir()]
    zoo = [location for name, location in shipped_specs().items() if name.startswith("zoo/")]
    text, known = "use std\n", set(standard())
    for location in (*sorted(shared, key=lambda item: item.name), *zoo):
        source = SourceFile(location.name, location.read_text(encoding="utf-8"))
        found = parse(source, Reporter()).declarations
        if known.isdisjoint(item.name for item in found):
            more = "".join(f"\n{item.span.text}\n" for item in found)
            if not analyse(text + more).survey.errors:
                text += more
                known.update(item.name for item in found)
        if text.count("\n") >= lines:
            return text
    raise AssertionError("the shipped specs are too short")
