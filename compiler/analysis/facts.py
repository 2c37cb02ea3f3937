"""A summary as people read it: a table of the stages, and lines of facts. For terminal and notebook."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import NamedTuple

from danetc.compiler.analysis.summary import Summary, summarise
from danetc.compiler.ir.graph import Graph

NOTES = (
    "spike: 0 or 1; 0 .. n: whole numbers (of 1/4: times 1/4); a block's: of all blocks of the stage",
    "neurons: the fewest on any path from the stem's output to the stage's end",
)
"""What a reader of the table should know."""


class ModelSummary(Summary):
    """Facts of a network that print as ``danetc summary`` prints them."""

    def __str__(self) -> str:
        table = stage_table(self)
        head = [f"{self.name}, T = {self.steps}"]
        rows = [_in_columns([table.heads, *table.rows], table.right)] if table.rows else []
        return "\n".join([*head, *rows, _in_columns(lines(self), frozenset())])


def described(graph: Graph) -> ModelSummary:
    """The facts of a graph."""
    found = summarise(graph)
    return ModelSummary(**{each.name: getattr(found, each.name) for each in fields(found)})


def _in_columns(rows: Sequence[Sequence[str]], right: frozenset[int]) -> str:
    """Rows as lines, each column as wide as its widest cell."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    texts = (
        "  ".join(
            cell.rjust(width) if place in right else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )
    return "\n".join(text.rstrip() for text in texts)


class StageTable(NamedTuple):
    """Heads and rows; ``right`` are the columns of numbers."""

    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    right: frozenset[int]


def stage_table(summary: Summary) -> StageTable:
    """A row for each stage; no rows where a network has none."""
    heads = (
        "stage", "connection", "rule", "blocks", "C x H x W", "block reads", "block gives",
        "stage gives", "neurons", "params",
    )  # fmt: skip
    rows = tuple(
        (
            stage.name.removeprefix("stages."),
            stage.connection,
            stage.rule,
            str(stage.blocks),
            size(stage.shape),
            stage.block_reads,
            stage.block_gives,
            stage.gives,
            str(stage.fewest_neurons),
            f"{stage.parameters:,}",
        )
        for stage in summary.stages
    )
    return StageTable(heads, rows, frozenset({3, 8, 9}))


def lines(summary: Summary) -> list[tuple[str, str]]:
    """What a line is of, and what it says; without a name it goes on with the one before."""
    several = len(summary.inputs) > 1
    takes = (f"{f'{name} ' * several}{size(shape)}" for name, shape in summary.inputs.items())
    found = [
        ("takes", ", ".join(takes)),
        ("gives", ", ".join(f"{name} {size(shape)}" for name, shape in summary.outputs.items())),
        ("parameters", f"{summary.parameters:,}"),
        (
            "neurons",
            f"{summary.neurons_on_main_path} layers on the main path, {summary.neuron_layers} in all",
        ),
        *(("", kind.text) for kind in summary.neuron_kinds),
    ]
    if summary.products:
        products = (f"{count} x {what}" for what, count in summary.products.items())
        found.append(("attention", ", ".join(products)))
    return [
        *found,
        ("per image", f"{summary.macs:,} multiply-accumulates{_of_counts(summary)}"),
        ("", f"{summary.additions:,} additions, where the input is spikes"),
    ]


def _of_counts(summary: Summary) -> str:
    if not summary.count_macs:
        return ""
    return (
        f", {summary.count_macs:,} of them by whole numbers "
        f"(or {summary.count_additions:,} additions at most)"
    )


def size(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
