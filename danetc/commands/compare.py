"""``danetc compare``: a grid of trainings, a table and two figures of their results."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from danetc.errors import UserError
from danetc.options import (
    complete_specs,
    data_option,
    dry_run_seconds_option,
    form_option,
    missing_data,
    quiet_option,
    training_options,
)
from danetc.output.echo import echo, json_text
from danetc.output.text import note

if TYPE_CHECKING:
    from danetc.tasks.grid.cells import Axis
    from danetc.tasks.grid.results import Comparison


def _axes(context: click.Context, parameter: click.Parameter, texts: Sequence[str]) -> list[Axis]:
    from danetc.tasks.grid.cells import parse_axis

    try:
        return [parse_axis(text) for text in texts]
    except ValueError as error:
        raise click.BadParameter(str(error), context, parameter) from error


def _columns(
    context: click.Context, parameter: click.Parameter, text: str | None
) -> tuple[str, ...]:
    return () if text is None else tuple(dict.fromkeys(name.strip() for name in text.split(",")))


@click.command("compare")
@click.argument("specs", nargs=-1, metavar="FILE|NAME|PATTERN...", shell_complete=complete_specs)
@data_option()
@click.option(
    "--grid",
    "axes",
    multiple=True,
    metavar="NAME=V,V,...",
    callback=_axes,
    help="What is varied: classes, recipe, backbone, depth, connection, rule, recipe.PATH, or any "
    "parameter or setting of the networks, as in steps=1,4. Can be repeated.",
)
@click.option(
    "-n",
    "--network",
    "networks",
    multiple=True,
    metavar="NAME",
    help="Of files with several networks, those of this name alone.  [default: all]",
)
@training_options
@click.option(
    "-o",
    "--output",
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("runs/compare"),
    show_default=True,
    help="The directory of the grid, with a folder for each cell. Finished runs are not repeated.",
)
@click.option(
    "--jobs",
    type=click.IntRange(1, 100_000),
    metavar="N",
    help="How many trainings run at a time.  [default: 1; with ray as many as there is room for]",
)
@click.option(
    "--engine",
    type=click.Choice(["local", "ray"]),
    default="local",
    show_default=True,
    help="What trains the runs: processes of this machine, or Ray, on a cluster.",
)
@click.option(
    "--address",
    metavar="HOST:PORT",
    help="The cluster of --engine ray; `auto` is the one that this machine belongs to.  "
    "[default: one of this machine is started]",
)
@click.option(
    "--cpus",
    type=click.FloatRange(0, min_open=True),
    metavar="N",
    help="Cores of each run with --engine ray.  [default: 1]",
)
@click.option(
    "--gpus",
    type=click.FloatRange(0),
    metavar="N",
    help="GPUs of each run with --engine ray, as in 0.5.  [default: 1, where the cluster has any]",
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
@dry_run_seconds_option
@click.option("--only-report", is_flag=True, help="Train nothing: report what is in DIR.")
@click.option(
    "--accuracy",
    type=click.Choice(["last", "best"]),
    default="last",
    show_default=True,
    help="Test accuracy after the last epoch, or of the best one.",
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
    specs: tuple[str, ...],
    data: str | None,
    axes: list[Axis],
    networks: tuple[str, ...],
    output: Path,
    jobs: int | None,
    engine: str,
    address: str | None,
    cpus: float | None,
    gpus: float | None,
    print_commands: bool,
    dry_run: bool,
    dry_run_seconds: float,
    only_report: bool,
    accuracy: Any,
    columns: tuple[str, ...],
    x: str | None,
    plot: Path | None,
    training_plot: Path | None,
    form: str,
    as_json: bool,
    quiet: bool,
    **asked: Any,
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
    form = "json" if as_json else form
    for place in (plot, training_plot):
        if place is not None:
            from danetc.output.plots import check_plot

            check_plot(place)
    plots = (plot or output / "accuracy.svg", training_plot or output / "training.svg")
    if only_report:
        if specs or axes or dry_run:
            raise click.UsageError("--only-report reads DIR alone: leave out specs and --grid")
        _report(output, accuracy, columns, x, plots, form, asked["allow_changed"])
        return
    if not specs:
        raise click.UsageError("give at least one spec, as in 'specs/*_r20.danet'")
    if data is None:
        raise missing_data()
    if asked["fresh"] and asked["override"]:
        raise click.UsageError("choose one of --fresh and --override")
    if engine == "local" and any(each is not None for each in (address, cpus, gpus)):
        raise click.UsageError("--address, --cpus and --gpus are those of --engine ray")
    from danetc.tasks.grid.comparison import checked_runs, commands, compare
    from danetc.tasks.grid.engines import EngineRequest
    from danetc.tasks.training.request import TrainingRequest

    base = TrainingRequest(spec="", data=data, output=output, **asked)
    runs = checked_runs(specs, networks, axes, base, output, quiet=quiet)
    if dry_run:
        from danetc.tasks.grid.dry_run import dry_run_grid

        dry_run_grid(runs, seconds=dry_run_seconds, quiet=quiet, as_json=form == "json")
        return
    if print_commands:
        lines = commands(runs, axes, base, output)
        echo(json_text(lines) if form == "json" else "\n".join(lines))
        return
    where = EngineRequest(engine, jobs, address, cpus, gpus)
    stopped = compare(runs, axes, base, output, engine=where, quiet=quiet)
    if stopped is not None:
        echo(f"danetc: stopped; the same command resumes, and {_ask(output)}", err=True)
        raise click.exceptions.Exit(stopped)
    comparison = _report(output, accuracy, columns, x, plots, form, asked["allow_changed"])
    failed = sum(len(row.errors) for row in comparison.rows)
    if failed:
        listed = "\n".join(
            f"{row.name} seed {seed}: {text}"
            for row in comparison.rows
            for seed, text in row.errors.items()
        )
        raise UserError(f"{failed} of {len(runs)} runs failed; logs are in {output}\n{listed}")


def _ask(output: Path) -> str:
    return f"`danetc compare -o {output} --only-report` shows what is there"


def _report(
    output: Path,
    accuracy: Any,
    columns: tuple[str, ...],
    x: str | None,
    plots: tuple[Path, Path],
    form: str,
    allow_changed: tuple[str, ...],
) -> Comparison:
    """Print the table, and draw the figures where that can be done."""
    from danetc.output.table import show
    from danetc.runtime.measure.plots import can_plot, save_figure
    from danetc.tasks.grid.plot import FIGURES, across
    from danetc.tasks.grid.results import read_comparison
    from danetc.tasks.grid.table import as_csv, flat, pivoted

    comparison = read_comparison(output, accuracy, allow_changed)
    table = pivoted(comparison, columns) if columns else flat(comparison)
    across(comparison, x)
    match form:
        case "json":
            echo(json_text(comparison.as_dict()))
        case "csv":
            echo(as_csv(comparison), nl=False)
        case _:
            show(table, form, sys.stdout)
    if can_plot():
        for draw, place in zip(FIGURES.values(), plots, strict=True):
            figure = draw(comparison, x)
            if figure is not None:
                save_figure(figure, place)
                echo(f"figure: {place}", err=True)
    else:
        note("there are no figures: pip install 'danetc[plot]'")
    return comparison
