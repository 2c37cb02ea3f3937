"""Entries of the standard library, the networks, data sets and codes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import count

from danetc.dsl.diagnostics import explain
from danetc.dsl.diagnostics.codes import CODES, severity
from danetc.dsl.diagnostics.diagnostic import Reporter
from danetc.dsl.loading import standard
from danetc.dsl.modules import Module
from danetc.dsl.reading import read_source, shipped_specs
from danetc.dsl.syntax.parser import parse
from danetc.dsl.syntax.tree import DECLARATION_KINDS, Declaration, Program
from danetc.pretrained import PREFIX, directory_of, pretrained_names
from danetc.reference import examples
from danetc.reference.entry import Entry, EntryParameter, call, sentence
from danetc.runtime.data.sources import SOURCES


@dataclass(frozen=True, slots=True)
class Documentation:
    """Documentation of a declaration: its first sentence, further text, and a line for parameters."""

    summary: str
    rest: str
    parameters: Mapping[str, str]


_SENTENCES = re.compile(r"""(.*?\.)\ +(?=[A-Z`"])(.*)""")


def documentation(program: Program, declaration: Declaration) -> Documentation:
    """Return the documentation of a declaration, from the comment above it and that of its file.

    The comment of a file is at its beginning, before a blank line; its parameters are those of all
    declarations. The comment of a network that is the last of a file may be that of the file, too.
    """
    lines = {
        item.span.line: item.text.removeprefix("#").removeprefix(" ")
        for item in program.comments
        if not item.span.source.line(item.span.line)[: item.span.column - 1].strip()
    }
    first = line = declaration.span.line
    while first - 1 in lines:
        first -= 1
    end = next(number for number in count(1) if number not in lines)
    whole = any(
        item.span.line == end for item in program.items
    )  # a comment of the first declaration
    head, shared = _read([] if whole else [lines[number] for number in range(1, end)])
    text, own = _read([lines[number] for number in range(first, line)])
    if declaration.kind == "network":
        text = head or text
    found = _SENTENCES.fullmatch(text)
    summary, rest = found.groups() if found else (text, "")
    return Documentation(summary, rest, {**shared, **own})


def _read(lines: list[str]) -> tuple[str, dict[str, str]]:
    """Return the text of a comment, and the entries of its list of parameters."""
    text: list[str] = []
    parameters: dict[str, str] = {}
    name = ""
    for line in lines:
        if line.startswith("- ") and ": " in line:
            name, _, said = line[2:].partition(": ")
            parameters[name] = said
        elif name and line.startswith("  "):
            parameters[name] += " " + line.strip()
        else:
            name = ""
            text.append(line)
    return " ".join(" ".join(text).split()), parameters


IN_USE = "in use"
"""Entry of a list of parameters with the stages that show a declaration."""

_STAGES = {
    "block": "stage({name}(8), 2) via sew",
    "backbone": "{name} via sew",
    "connection": "stage(basic(8), 2) via {name} -> stage(basic(16), 2, stride = 2) via {name}",
    "rule": "stage(basic(8), 4) via origin by {name}",
}
"""Stages that show a declaration, by its kind."""


def example_of(declaration: Declaration, said: Documentation) -> str | None:
    """Return a spec that uses a declaration of std; None for kinds without examples."""
    name, kind = declaration.name, declaration.kind
    in_use = said.parameters.get(IN_USE)
    if kind in _STAGES:
        image = "image(3, 64, 64)" if kind == "backbone" else "image(3, 16, 16)"
        stages = in_use or _STAGES[kind].format(name=name)
        preactivation = re.search(r"\beach\s*=\s*spike\b", declaration.span.text)
        return examples.tiny(stages=stages, image=image, fires=preactivation is None)
    if kind == "neuron":
        return examples.tiny(neuron=name)
    if kind == "surrogate":
        return examples.tiny(surrogate=name)
    if kind == "recipe":
        return f"use std\n\nrecipe example = {name} {{\n  seed = 1\n}}\n"
    return None


def entry_of(module: Module, declaration: Declaration) -> Entry:
    """Return the entry of a declaration of any file, from its signature and comments."""
    said = documentation(module.program, declaration)
    parameters = tuple(
        EntryParameter(
            item.name,
            "",
            None if item.default is None else item.default.span.text,
            said.parameters.get(item.name, ""),
        )
        for item in declaration.params
    )
    return Entry(
        declaration.name,
        declaration.kind,
        call(declaration.name, [item.usage for item in parameters]),
        said.summary,
        parameters,
        said.rest,
        place=f"{declaration.span.source.name}:{declaration.span.line}",
        declaration=declaration.span.text,
    )


def library() -> Iterator[Entry]:
    """Yield the declarations of the standard library, kind by kind."""
    found = [(each.module, each.declaration) for each in standard().values()]
    found.sort(key=lambda each: (DECLARATION_KINDS.index(each[1].kind), each[1].name))
    for module, declaration in found:
        said = documentation(module.program, declaration)
        yield replace(entry_of(module, declaration), example=example_of(declaration, said))


def networks() -> Iterator[Entry]:
    """Yield the shipped networks by their names."""
    for name, location in shipped_specs().items():
        program = parse(read_source(location), Reporter())
        declared = [item for item in program.declarations if item.kind == "network"][-1]
        said = documentation(program, declared)
        shown = ", ".join(item.span.text for item in declared.params)
        yield Entry(
            name,
            "network",
            f"{name}({shown})" if shown else name,
            said.summary,
            text=said.rest,
            place=f"{name}.danet:{declared.span.line}",
        )


def pretrained() -> Iterator[Entry]:
    """Yield the trained networks with accuracy, data, T and parameters."""
    for name in pretrained_names():
        place = directory_of(PREFIX + name)
        read = {
            each: json.loads((place / f"{each}.json").read_text(encoding="utf-8"))
            for each in ("run", "training", "summary")
        }
        summary = read["summary"]["summary"]
        neurons = " and ".join(each["name"] for each in summary["neuron_kinds"])
        yield Entry(
            PREFIX + name,
            "pretrained network",
            f"danetc eval {PREFIX}{name}",
            f"{read['training']['test_accuracy']:.2%} of the test images of "
            f"{read['run']['facts']['data']['name']} right: {read['summary']['network']}, "
            f"{neurons}, T = {summary['steps']}, {summary['parameters']:,} parameters.",
        )


def data() -> Iterator[Entry]:
    """Yield the kinds of data sets."""
    for name, row in SOURCES.items():
        yield Entry(name, "data", f"--data {row.usage}", sentence(row.meaning))


def codes() -> Iterator[Entry]:
    """Yield all codes, with the text of the page and its fixed spec as the example."""
    for code, title in CODES.items():
        text = explain.page(code).partition("\n")[2].strip()
        _, fixed = explain.examples(code)
        yield Entry(code, severity(code), code, sentence(title), text=text, example=fixed)
