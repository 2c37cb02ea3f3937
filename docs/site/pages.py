"""Reference pages as Markdown, each generated from a topic of the tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from textwrap import wrap

from danetc.compiler import check_text, graph_of
from danetc.compiler.ir.ops.shapes import text as shape_text
from danetc.dsl.diagnostics.diagnostic import Reporter
from danetc.dsl.syntax.parser import parse
from danetc.dsl.syntax.source import SourceFile
from danetc.reference import Entry, EntryParameter, topic
from danetc.tasks.reporting.page import make_page
from danetc.tasks.reporting.runs import open_runs
from docs.site import diagrams, equations, pictures


@dataclass(frozen=True, slots=True)
class GeneratedPage:
    """A page of the reference: its title, introduction and topics."""

    title: str
    text: str
    topics: tuple[str, ...]


PAGES: Mapping[str, GeneratedPage] = {
    "words": GeneratedPage(
        "Words",
        "What the grammar reserves, what declares, and the names that places know.",
        ("keywords", "words", "network-settings", "axes"),
    ),
    "operations": GeneratedPage(
        "Operations",
        "The layers of flows. A layer stands behind `->`; one without arguments needs no parentheses. "
        "In the examples `a` and `b` are spikes of 8 x 16 x 16. The kind of a value is what is known of its numbers: "
        "spikes are 0 or 1, counts whole numbers in a range, analog values real numbers.",
        ("operations",),
    ),
    "functions": GeneratedPage(
        "Functions and first weights",
        "What every spec can call: inputs, stages, joins, numbers; and what weights start from.",
        ("functions", "first-weights"),
    ),
    "equations": GeneratedPage(
        "Functions of equations",
        "What the equations of neurons and surrogates can call.",
        ("equations",),
    ),
    "neurons": GeneratedPage(
        "Neurons", "The neurons of the standard library, with `use std`.", ("neurons",)
    ),
    "surrogates": GeneratedPage(
        "Surrogates",
        "What stands for the derivative of `heaviside`. The pictures show it around the threshold.",
        ("surrogates",),
    ),
    "connections": GeneratedPage(
        "Connections", "How a block is wired: `BACKBONE via CONNECTION`.", ("connections",)
    ),
    "rules": GeneratedPage("Rules", "What feeds each block of a stage: `... by RULE`.", ("rules",)),
    "blocks": GeneratedPage("Blocks", "What the weights of a block are.", ("blocks",)),
    "backbones": GeneratedPage("Backbones", "Which blocks a network has.", ("backbones",)),
    "settings": GeneratedPage(
        "Settings of recipes",
        "What a recipe, and each phase of it, can set.",
        ("settings",),
    ),
    "items": GeneratedPage(
        "Optimizers, schedules, losses, augmentations",
        "What settings of recipes take.",
        ("optimizers", "schedules", "changes", "losses", "gradients", "augmentations", "parts"),
    ),
    "recipes": GeneratedPage("Recipes", "The recipes of the standard library.", ("recipes",)),
    "networks": GeneratedPage(
        "Networks",
        "The networks that come with danetc, by the names that commands take.",
        ("networks", "pretrained"),
    ),
    "data": GeneratedPage("Data", "What `--data` takes.", ("data",)),
    "errors": GeneratedPage("Errors", "Every error, with a wrong and a fixed spec.", ("errors",)),
    "warnings": GeneratedPage(
        "Warnings",
        "What builds and is seldom meant. `# allow W0101` at a statement allows one there.",
        ("warnings",),
    ),
}
"""Generated pages by name, in the order of the navigation."""


def grammar() -> str:
    """Return the grammar page, with a railroad diagram for each rule."""
    parts = [
        "# Grammar",
        "Each rule as a diagram: read from left to right along the lines. Round boxes are written as they "
        "stand, square ones are other rules. A comment runs from `#` to the end of its line; ends of lines "
        "mean nothing else. `NAME` is a letter or `_`, then letters, digits and `_`; `NUMBER` has a digit on "
        "each side of its point; `STRING` stands in double quotes, on one line.",
    ]
    for name, tree in diagrams.rules().items():
        svg = diagrams.diagram(name, tree).strip()
        parts += [f"## {name} {{ #{name} }}", diagrams.RULES[name]]
        parts += [f'<div class="railroad">{svg}</div>']
    return "\n\n".join(parts) + "\n"


def index() -> str:
    """Return the index page of the reference."""
    rows = [
        f"| [{page.title}]({name}.md) | {sum(len(topic(each)) for each in page.topics)} | {page.text} |"
        for name, page in PAGES.items()
    ]
    return (
        "# Reference\n\n"
        "Generated from the tables that the compiler reads: what stands here is what it does. "
        "`danetc explain NAME` prints the same in a terminal.\n\n"
        "| page | names | what it has |\n|---|--:|---|\n"
        f"| [Grammar](grammar.md) | {len(diagrams.RULES)} | Every statement as a railroad diagram. |\n"
        + "\n".join(rows)
        + "\n| [What a spec means](../semantics.md) | | The semantics, to the last rounding. |\n"
    )


def page(name: str) -> str:
    """Return a generated page."""
    row = PAGES[name]
    parts = [f"# {row.title}", row.text]
    for each in row.topics:
        for entry in topic(each):
            parts += entry_parts(entry)
    return "\n\n".join(parts) + "\n"


def anchor(entry: Entry) -> str:
    return f"{entry.kind}-{entry.name}".replace(" ", "-").replace("/", "-").lower()


EQUATIONS = ("neuron", "surrogate", "rule", "connection", "block")
"""Kinds whose declarations consist of equations."""


def entry_parts(entry: Entry) -> Iterator[str]:
    """Return the section of an entry."""
    if entry.kind in ("error", "warning"):
        yield f"## {entry.name}: {_small(entry.summary)} {{ #{entry.name.lower()} }}"
        yield entry.text.replace("\n## ", "\n### ")
        return
    yield f"## `{entry.name}` {{ #{anchor(entry)} }}"
    if entry.signature != entry.name:
        yield f"```danet\n{signature(entry)}\n```"
    yield entry.summary
    if entry.parameters:
        yield parameters(entry.parameters)
    if entry.text:
        yield entry.text
    if entry.declaration and entry.kind in EQUATIONS:
        yield f'<div class="equations">{_equations(entry)}</div>'
    if pictures.has_picture(entry):
        source = pictures.name_of(entry).removeprefix("reference/")
        yield f"![{entry.name}, drawn by danetc]({source}){{ .topology loading=lazy }}"
    if entry.example:
        yield "Example" + _gives(entry) + ":"
        yield f"```danet\n{entry.example.strip()}\n```"
    if entry.declaration:
        text = "\n".join(f"    {line}" for line in entry.declaration.splitlines())
        yield f'??? note "Its text, in {entry.place}"\n    ```danet\n{text}\n    ```'
    if entry.paper:
        yield f"From: {entry.paper}."
    if entry.kind == "pretrained network":
        yield f"[Model card]({card_of(entry).removeprefix('reference/')}): its topology, training and settings."


def card_of(entry: Entry) -> str:
    """Return the place of the model card of a pretrained network, a page of ``danetc report``."""
    return f"reference/cards/{entry.name.partition(':')[2]}.html"


def card(entry: Entry) -> str:
    """Return the model card of a pretrained network."""
    return make_page(open_runs([Path(entry.name)]))


def signature(entry: Entry) -> str:
    """Return the syntax of an entry, over several lines if it is long."""
    return "\n".join(
        wrap(
            entry.signature,
            78,
            subsequent_indent="  ",
            break_long_words=False,
            break_on_hyphens=False,
        )
    )


def _small(text: str) -> str:
    return text[:1].lower() + text[1:].rstrip(".")


def parameters(rows: tuple[EntryParameter, ...]) -> str:
    """Return a table of parameters."""
    heads = ("parameter", "what it is", "takes", "default")
    cells = [(f"`{row.name}`", row.meaning, row.takes, _default(row)) for row in rows]
    used = [n for n in range(len(heads)) if n == 1 or any(cell[n] for cell in cells)]
    lines = [[heads[n] for n in used], ["---"] * len(used)]
    lines += [[_cell(row[n]) for n in used] for row in cells]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _default(row: EntryParameter) -> str:
    if row.default is None:
        return "required" if row.takes else ""
    return f"`{row.default}`" if row.default else ""


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _equations(entry: Entry) -> str:
    program = parse(SourceFile(entry.name, entry.declaration), Reporter())
    (declaration,) = program.declarations
    return equations.mathml(declaration)


def _gives(entry: Entry) -> str:
    """Return the output of an example's network, according to its graph."""
    if entry.kind not in ("operation", "function"):
        return ""
    assert entry.example is not None
    graph = graph_of(check_text(entry.example, entry.name))
    found = [graph.nodes[node].value for node in graph.outputs.values()]
    shown = [
        f"{shape_text(value.shape)}, {value.kind}, {'varying' if value.varies else 'static'}"
        for value in found
    ]
    return f", whose output is {' and '.join(shown)}"
