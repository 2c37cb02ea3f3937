"""A summary as people read it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from danetc.dsl.diagnostics.visible import visible
from danetc.output.columns import in_parts, terminal_width
from danetc.output.echo import echo

if TYPE_CHECKING:
    from danetc.compiler.analysis.summary import Summary


def print_summary(summary: Summary) -> None:
    """Print a network's facts: a table of its stages, then the figures of the whole."""
    echo(f"{summary.name}, T = {summary.steps}")
    echo()
    heads = (
        "stage", "connection", "rule", "blocks", "C x H x W", "block reads", "block gives",
        "stage gives", "neurons", "params",
    )  # fmt: skip
    rows = [
        (
            stage.name.removeprefix("stages."),
            stage.connection,
            stage.rule,
            str(stage.blocks),
            _size(stage.shape),
            stage.block_reads,
            stage.block_gives,
            stage.gives,
            str(stage.fewest_neurons),
            f"{stage.parameters:,}",
        )
        for stage in summary.stages
    ]
    if rows:
        print_table(heads, rows, right={3, 8, 9})
        echo(
            "spike: 0 or 1; 0 .. n: whole numbers (of 1/4: times 1/4); a block's: of all blocks of the stage"
        )
        echo("neurons: the fewest on any path from the stem's output to the stage's end")
        echo()
    gives = ", ".join(f"{name} {_size(shape)}" for name, shape in summary.outputs.items())
    main, every = summary.neurons_on_main_path, summary.neuron_layers
    for what, value in (
        ("takes", _size(summary.input)),
        ("gives", gives),
        ("parameters", f"{summary.parameters:,}"),
        ("neurons", f"{main} layers on the main path, {every} in all"),
        *(("", kind.text) for kind in summary.neuron_kinds),
        *(
            (
                (
                    "attention",
                    ", ".join(f"{count} x {what}" for what, count in summary.products.items()),
                ),
            )
            if summary.products
            else ()
        ),
        ("per image", f"{summary.macs:,} multiply-accumulates{_of_counts(summary)}"),
        ("", f"{summary.additions:,} additions, where the input is spikes"),
    ):
        echo(f"{what:<11} {visible(value)}".rstrip())


def _of_counts(summary: Summary) -> str:
    if not summary.count_macs:
        return ""
    return (
        f", {summary.count_macs:,} of them by whole numbers "
        f"(or {summary.count_additions:,} additions at most)"
    )


def _size(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))


def print_table(heads: tuple[str, ...], rows: Sequence[tuple[str, ...]], right: set[int]) -> None:
    """Columns as wide as their widest cell, the numbers of ``right`` to the right.

    What is wider than the terminal is printed in parts, each with the first column.
    """
    heads = tuple(map(visible, heads))
    rows = [tuple(map(visible, row)) for row in rows]
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    for place, part in enumerate(in_parts(widths, terminal_width())):
        if place:
            echo()
        for row in (heads, tuple("-" * width for width in widths), *rows):
            cells = (
                row[n].rjust(widths[n]) if n in right else row[n].ljust(widths[n]) for n in part
            )
            echo("  ".join(cells).rstrip())
