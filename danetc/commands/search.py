"""``danetc search``: trials that Optuna draws, a table and a figure of their results."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import click

from danetc.errors import UserError
from danetc.options import form_option, quiet_option
from danetc.options.grid import axes_option, grid_options, grid_subjects
from danetc.output.echo import echo, json_text
from danetc.output.text import note

if TYPE_CHECKING:
    from danetc.tasks.grid.request import GridRequest
    from danetc.tasks.searching.results import Searched
    from danetc.tasks.searching.space import Dimension


def _dimension(text: str) -> Dimension:
    from danetc.tasks.searching.space import parse_dimension

    return parse_dimension(text)


@click.command("search")
@grid_subjects
@axes_option(
    "NAME=V,V,...|LOW..HIGH[:STEP|:log]",
    "What is searched: an axis as in `danetc compare`, as in rule=chain,densely_additive, or a range, "
    "as in width=8..64:8 or recipe.optimizer.lr=1e-4..0.1:log. Can be repeated.",
    _dimension,
)
@click.option(
    "--trials",
    type=click.IntRange(1),
    default=20,
    show_default=True,
    metavar="N",
    help="How many trials there shall be; those count that DIR holds already.",
)
@click.option(
    "--front",
    is_flag=True,
    help="Have operations (MACs and additions for one image) as a second objective.",
)
@click.option(
    "--sampler",
    type=click.Choice(["tpe", "random", "grid", "nsga2"]),
    default="tpe",
    show_default=True,
    help="What draws the values of a trial.",
)
@click.option(
    "--sampler-seed",
    type=click.IntRange(0, 2**31 - 1),
    default=0,
    show_default=True,
    help="The seed of the sampler.",
)
@click.option(
    "--pruner",
    type=click.Choice(["none", "median", "hyperband"]),
    default="none",
    show_default=True,
    help="What ends a trial after an epoch, by its test accuracy there and that of others.",
)
@grid_options(
    "runs/search",
    "The directory of the search, with search.db and a folder for each cell.",
    "net.danet",
)
@click.option(
    "--plot",
    metavar="OUT.svg|OUT.png",
    type=click.Path(path_type=Path),
    help="Where the figure of accuracy against operations goes.  [default: DIR/front.svg, with "
    "danetc[plot]]",
)
@form_option
@quiet_option
def command(
    asked: GridRequest[Dimension],
    trials: int,
    front: bool,
    sampler: str,
    sampler_seed: int,
    pruner: str,
    only_report: bool,
    plot: Path | None,
    form: str,
    quiet: bool,
) -> None:
    """Search networks and settings with Optuna.

    A trial is a cell of `danetc compare` with one seed, trained in DIR/CELL/seed-K; `danetc compare
    -o DIR --only-report` reads it too. The same command resumes where it was stopped or killed. A
    combination that cannot be built is a pruned trial, with the reason. The objective is the accuracy
    on the test images, so the best accuracy is an optimistic one.

    \b
    danetc search net.danet --grid rule=chain,densely_additive --grid width=8..64:8 --data digits
    danetc search net.danet --grid width=8..64 --front --sampler nsga2 --data digits
    danetc search net.danet --grid recipe.optimizer.lr=1e-4..0.1:log --pruner median --data digits
    """
    if plot is not None:
        from danetc.output.plots import check_plot

        check_plot(plot)
    if only_report:
        _report(asked.folder, plot, form)
        return
    from danetc.tasks.searching.search import SearchRequest, refuse_empty, run_search

    try:
        request = SearchRequest(
            **vars(asked),
            trials=trials,
            sampler=sampler,
            sampler_seed=sampler_seed,
            pruner=pruner,
            front=front,
        )
    except UserError as error:
        raise click.UsageError(str(error)) from error
    stopped = run_search(request, quiet=quiet)
    if stopped is not None:
        echo("danetc: stopped; the same command resumes", err=True)
        raise click.exceptions.Exit(stopped)
    refuse_empty(_report(asked.folder, plot, form))


def _report(output: Path, plot: Path | None, form: str) -> Searched:
    """Print the table, and draw the figure where that can be done."""
    from danetc.output.table import show
    from danetc.runtime.system.figures import can_plot, save_figure
    from danetc.tasks.searching.results import front_figure, read_search, table

    found = read_search(output)
    if form == "json":
        echo(json_text(found.as_dict()))
    else:
        show(table(found), form, sys.stdout)
    counts = Counter(row.state for row in found.trials)
    listed = ", ".join(f"{count} {state}" for state, count in counts.items())
    echo(f"trials: {listed or 'none'}", err=True)
    if not can_plot():
        note("there is no figure: pip install 'danetc[plot]'")
        return found
    figure = front_figure(found)
    if figure is not None:
        place = plot or output / "front.svg"
        save_figure(figure, place)
        echo(f"figure: {place}", err=True)
    return found
