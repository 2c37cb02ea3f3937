"""``danetc data``: what a data set is, and samples of it as a network will see them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from danetc.arguments import MOST_STEPS
from danetc.errors import UserError
from danetc.options import (
    DataType,
    classes_option,
    json_option,
    quiet_option,
    seed_option,
    subset_seed_option,
)
from danetc.options.completion import complete_data
from danetc.output.echo import echo, json_text

if TYPE_CHECKING:
    from danetc.tasks.data_report import DataReport

SHOWN = 24
"""Rows of classes that are printed; --json has all."""


@click.command("data")
@click.argument("source", metavar="DATA", type=DataType(), shell_complete=complete_data)
@click.option(
    "--recipe",
    metavar="FILE|NAME[:RECIPE]",
    help="Show samples as the recipe of this spec augments them, and say whether its network can "
    "learn them.",
)
@click.option(
    "--steps",
    type=click.IntRange(1, MOST_STEPS),
    metavar="T",
    help="Into how many frames recordings of events are cut.  [default: the recipe's]",
)
@classes_option
@subset_seed_option
@seed_option
@click.option(
    "-o",
    "--output",
    metavar="OUT.png",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the picture of the samples there.",
)
@quiet_option
@json_option
def command(
    source: str,
    recipe: str | None,
    steps: int | None,
    classes: int | None,
    subset_seed: int,
    seed: int,
    output: Path | None,
    quiet: bool,
    as_json: bool,
) -> None:
    """Say what a data set is, and show samples of it.

    DATA is what `train --data` takes: a name, a file, a folder, or your own code. Printed are shapes
    and values, and how often each class is; on a terminal, samples as a network will see them, after
    the augmentation of --recipe.
    """
    from danetc.tasks.data_report import data

    if output is not None and output.suffix.lower() != ".png":
        raise UserError(f"the picture is a PNG, so its name ends in .png: {output}")
    if output is not None and not output.absolute().parent.is_dir():
        raise UserError(f"{output}: there is no such folder")
    report = data(
        source, recipe=recipe, steps=steps, classes=classes, subset_seed=subset_seed, seed=seed
    )
    if as_json:
        echo(json_text(report.record))
    else:
        _print(report)
        if sys.stdout.isatty() and not quiet:
            _show(report)
    if output is not None:
        report.picture().save(output, "PNG")
        if not quiet:
            echo(f"wrote {output}", err=True)


def _print(report: DataReport) -> None:
    from danetc.output.columns import print_columns
    from danetc.output.summary import print_table
    from danetc.tasks.data_report import facts

    print_columns(list(facts(report.record)))
    rows = [_row(row) for row in report.record["labels"][:SHOWN]]
    echo()
    what = {"classes": "class", "pixels": "class of pixels", "numbers": "number"}
    print_table(("", what[report.record["target"]], "train", "test"), rows, right={0, 2, 3})
    more = len(report.record["labels"]) - SHOWN
    if more > 0:
        echo(f"... and {more} more")


def _row(row: dict[str, Any]) -> tuple[str, ...]:
    return str(row["number"]), row["name"], _count(row["train"]), _count(row["test"])


def _count(value: Any) -> str:
    """How often a class is, or from where to where a number goes."""
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value['smallest']:.4g} .. {value['largest']:.4g}, mean {value['mean']:.4g}"


def _show(report: DataReport) -> None:
    """The picture in a terminal that shows colours."""
    from rich.text import Text

    from danetc.output.columns import terminal_width
    from danetc.output.console import VisibleConsole
    from danetc.output.samples import in_terminal

    console = VisibleConsole(sys.stdout)
    if console.color_system not in ("truecolor", "256"):
        return
    echo()
    for line in in_terminal(report.picture(), min(160, terminal_width() or 80)):
        console.print(Text.assemble(*line), soft_wrap=True)
