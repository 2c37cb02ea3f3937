"""``danetc compare``: a grid of trainings, a table and two figures of their results."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from danetc.options import form_option, quiet_option
from danetc.options.grid import axes_option, grid_options, grid_subjects
from danetc.output.echo import echo, json_text
from danetc.output.text import note

if TYPE_CHECKING:
    from danetc.tasks.grid.cells import Axis
    from danetc.tasks.grid.request import GridRequest
    from danetc.tasks.grid.results import GridResults


def _axis(text: str) -> Axis:
    from danetc.tasks.grid.cells import parse_axis

    return parse_axis(text)


def _columns(
    context: click.Context, parameter: click.Parameter, text: str | None
) -> tuple[str, ...]:
    return () if text is None else tuple(dict.fromkeys(name.strip() for name in text.split(",")))


@click.command("compare")
@grid_subjects
@axes_option(
    "NAME=V,V,...",
    "What is varied: classes, recipe, backbone, depth, connection, rule, recipe.PATH, or any "
    "parameter or setting of the networks, as in steps=1,4. Can be repeated.",
    _axis,
)
@grid_options(
    "runs/compare",
    "The directory of the grid, with a folder for each cell. Finished runs are not repeated.",
    "'specs/*_r20.danet'",
)
@click.option(
    "--print-commands",
    is_flag=True,
    help="Print the command of each run that is not done, to be run elsewhere; train nothing.",
)
@click.option(
    "--fresh",
    is_flag=True,
    help="Start runs over whose settings have changed; the old ones are moved aside.",
)
@click.option("--override", is_flag=True, help="Resume runs although their settings have changed.")
@click.option(
    "--dry-run",
    is_flag=True,
    help="Print the cells and, after some timed steps of each, the time; write nothing.",
)
@click.option(
    "--columns",
    metavar="NAME,...",
    callback=_columns,
    help="Comma-separated axes or facts that become columns: network, connection, rule, wiring (connection by rule), "
    "depth, classes, recipe, T.",
)
@click.option("--x", metavar="NAME", help="The x axis of the figures.  [default: the depth]")
@click.option(
    "--plot",
    metavar="OUT.svg|OUT.png",
    type=click.Path(path_type=Path),
    help="Where the figure of test accuracy goes.  [default: DIR/accuracy.svg, with danetc[plot]]",
)
@click.option(
    "--training-plot",
    metavar="OUT.svg|OUT.png",
    type=click.Path(path_type=Path),
    help="Where the figure of training loss and accuracy goes.  [default: DIR/training.svg]",
)
@form_option
@quiet_option
def command(
    asked: GridRequest[Axis],
    print_commands: bool,
    dry_run: bool,
    only_report: bool,
    columns: tuple[str, ...],
    x: str | None,
    plot: Path | None,
    training_plot: Path | None,
    form: str,
    quiet: bool,
) -> None:
    """Train a grid of networks and compare their results.

    A cell is a spec with a value on each axis; it is trained with every seed, as `danetc train`
    does, in DIR/CELL/seed-K, each run in a process of its own. The same command resumes where it was
    stopped or killed. If a run fails, the others continue, and the exit status is 1.

    \b
    danetc compare origin_r20 danet_c_r20 --grid depth=20,56 --data digits --set image=8
    danetc compare 'specs/*_r18.danet' --grid classes=5,20 --data folder:DIR --recipe imagenet_5_20
    danetc compare net.danet --grid rule=chain,densely_additive --grid steps=1,4 --data digits
    danetc compare -o DIR --only-report --columns wiring --format latex
    """
    for place in (plot, training_plot):
        if place is not None:
            from danetc.output.plots import check_plot

            check_plot(place)
    folder = asked.folder
    plots = (plot or folder / "accuracy.svg", training_plot or folder / "training.svg")
    if only_report:
        if dry_run:
            raise click.UsageError("--only-report reads DIR alone: leave out --dry-run")
        _report(asked, columns, x, plots, form)
        return
    from danetc.tasks.grid.comparison import checked_runs, commands, refuse_failed, train_grid

    runs = checked_runs(asked, quiet=quiet)
    if dry_run:
        from danetc.tasks.grid.dry_run import dry_run_grid

        dry_run_grid(runs, quiet=quiet, as_json=form == "json")
        return
    if print_commands:
        lines = commands(runs, asked)
        echo(json_text(lines) if form == "json" else "\n".join(lines))
        return
    stopped = train_grid(runs, asked, quiet=quiet)
    if stopped is not None:
        echo(f"danetc: stopped; the same command resumes, and {_ask(folder)}", err=True)
        raise click.exceptions.Exit(stopped)
    refuse_failed(_report(asked, columns, x, plots, form), len(runs), folder)


def _ask(output: Path) -> str:
    return f"`danetc compare -o {output} --only-report` shows what is there"


def _report(
    asked: GridRequest[Axis],
    columns: tuple[str, ...],
    x: str | None,
    plots: tuple[Path, Path],
    form: str,
) -> GridResults:
    """Print the table, and draw the figures where that can be done."""
    from danetc.output.table import show
    from danetc.runtime.system.figures import can_plot, save_figure
    from danetc.tasks.grid.plot import FIGURES, across
    from danetc.tasks.grid.results import read_results
    from danetc.tasks.grid.table import as_csv, table

    results = read_results(asked.folder, asked.accuracy, asked.training.allow_changed)
    made = table(results, columns)
    across(results, x)
    match form:
        case "json":
            echo(json_text(results.as_dict()))
        case "csv":
            echo(as_csv(results), nl=False)
        case _:
            show(made, form, sys.stdout)
    if can_plot():
        for draw, place in zip(FIGURES.values(), plots, strict=True):
            figure = draw(results, x)
            if figure is not None:
                save_figure(figure, place)
                echo(f"figure: {place}", err=True)
    else:
        note("there are no figures: pip install 'danetc[plot]'")
    return results
