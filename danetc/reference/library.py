"""Entries of the standard library, the networks, data sets and codes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from itertools import count

from danetc.dsl.diagnostics import explain
from danetc.dsl.diagnostics.codes import CODES, severity
from danetc.dsl.diagnostics.diagnostic import Reporter
from danetc.dsl.loading import Module, standard
from danetc.dsl.reading import read_source, shipped_specs
from danetc.dsl.syntax.parser import parse
from danetc.dsl.syntax.tree import DECLARATION_KINDS, Declaration, Program
from danetc.pretrained import PREFIX, directory_of, pretrained_names
from danetc.reference import examples
from danetc.reference.entry import Entry, EntryParameter, call, sentence
from danetc.runtime.data.sources import SOURCES

_SENTENCES = re.compile(r"""(.*?\.)\ +(?=[A-Z`"])(.*)""")


def _documentation(
    program: Program, declaration: Declaration
) -> tuple[str, str, Mapping[str, str]]:
    """Return the summary of a declaration, further text, and the meaning of each parameter.

    They are read from the comments above the declaration and at the beginning of its file, before a
    blank line. The latter describes parameters of all declarations, and the last network of the file.
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
    belongs = any(item.span.line == end for item in program.items)  # to the first declaration
    head, shared = _read([] if belongs else [lines[number] for number in range(1, end)])
    text, own = _read([lines[number] for number in range(first, line)])
    if declaration.kind == "network":
        text = head or text
    found = _SENTENCES.fullmatch(text)
    summary, rest = found.groups() if found else (text, "")
    return summary, rest, {**shared, **own}


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


_STAGES = {
    "block": "stage({name}(8), 2) via sew",
    "backbone": "{name} via sew",
    "connection": "stage(basic(8), 2) via {name} -> stage(basic(16), 2, stride = 2) via {name}",
    "rule": "stage(basic(8), 4) via origin by {name}",
}
"""Example stages for each kind of declaration, for comments without an entry `in use`."""


def _example_of(declaration: Declaration, in_use: str | None) -> str | None:
    """Return a spec that uses a declaration of std; None for kinds without examples."""
    name, kind = declaration.name, declaration.kind
    if kind in _STAGES:
        image = "image(3, 64, 64)" if kind == "backbone" else "image(3, 16, 16)"
        stages = in_use or _STAGES[kind].format(name=name)
        preactivation = re.search(r"\beach\s*=\s*spike\b", declaration.span.text)
        return examples.tiny(stages, preactivation is None, input=image)
    if kind in ("neuron", "surrogate"):
        return examples.tiny(**{kind: name})
    if kind == "recipe":
        return f"use std\n\nrecipe example = {name} {{\n  seed = 1\n}}\n"
    return None


def entry_of(module: Module, declaration: Declaration) -> Entry:
    """Return the entry of a declaration of any file; its example is for declarations of std."""
    summary, text, meanings = _documentation(module.program, declaration)
    parameters = tuple(
        EntryParameter(
            item.name,
            "",
            None if item.default is None else item.default.span.text,
            meanings.get(item.name, ""),
        )
        for item in declaration.params
    )
    return Entry(
        declaration.name,
        declaration.kind,
        call(declaration.name, [item.usage for item in parameters]),
        summary,
        parameters,
        text,
        _example_of(declaration, meanings.get("in use")),
        place=f"{declaration.span.source.name}:{declaration.span.line}",
        declaration=declaration.span.text,
    )


def library() -> Iterator[Entry]:
    """Yield the declarations of the standard library, kind by kind."""
    found = [entry_of(each.module, each.declaration) for each in standard().values()]
    yield from sorted(found, key=lambda each: (DECLARATION_KINDS.index(each.kind), each.name))


def networks() -> Iterator[Entry]:
    """Yield the shipped networks by their names."""
    for name, location in shipped_specs().items():
        program = parse(read_source(location), Reporter())
        declared = [item for item in program.declarations if item.kind == "network"][-1]
        summary, text, _ = _documentation(program, declared)
        signature = call(name, [item.span.text for item in declared.params])
        place = f"{name}.danet:{declared.span.line}"
        yield Entry(name, "network", signature, summary, text=text, place=place)


def pretrained() -> Iterator[Entry]:
    """Yield the trained networks with accuracy, data, T and parameters."""
    for name in pretrained_names():
        run, training, whole = (
            json.loads((directory_of(PREFIX + name) / f"{file}.json").read_text(encoding="utf-8"))
            for file in ("run", "training", "summary")
        )
        summary = whole["summary"]
        neurons = " and ".join(each["name"] for each in summary["neuron_kinds"])
        yield Entry(
            PREFIX + name,
            "pretrained network",
            f"danetc eval {PREFIX}{name}",
            f"{training['test_accuracy']:.2%} of the test images of {run['facts']['data']['name']} "
            f"right: {whole['network']}, {neurons}, T = {summary['steps']}, "
            f"{summary['parameters']:,} parameters.",
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
