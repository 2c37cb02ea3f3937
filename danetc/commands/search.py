"""``danetc search``: trials that Optuna draws, a table and a figure of their results."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from danetc.options import (
    complete_specs,
    data_option,
    form_option,
    missing_data,
    quiet_option,
    training_options,
)
from danetc.output.echo import echo, json_text
from danetc.output.text import note

if TYPE_CHECKING:
    from danetc.tasks.searching.results import Searched
    from danetc.tasks.searching.space import Dimension


def _space(
    context: click.Context, parameter: click.Parameter, texts: Sequence[str]
) -> tuple[Dimension, ...]:
    from danetc.tasks.searching.space import parse_dimension

    try:
        return tuple(parse_dimension(text) for text in texts)
    except ValueError as error:
        raise click.BadParameter(str(error), context, parameter) from error


@click.command("search")
@click.argument("specs", nargs=-1, metavar="FILE|NAME|PATTERN...", shell_complete=complete_specs)
@data_option()
@click.option(
    "--grid",
    "space",
    multiple=True,
    metavar="NAME=V,V,...|LOW..HIGH[:STEP|:log]",
    callback=_space,
    help="What is searched: an axis as in `danetc compare`, as in rule=chain,densely_additive, or a range, "
    "as in width=8..64:8 or recipe.optimizer.lr=1e-4..0.1:log. Can be repeated.",
)
@click.option(
    "-n",
    "--network",
    "networks",
    multiple=True,
    metavar="NAME",
    help="Of files with several networks, those of this name alone.  [default: all]",
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
@training_options
@click.option(
    "-o",
    "--output",
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("runs/search"),
    show_default=True,
    help="The directory of the search, with search.db and a folder for each cell.",
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
@click.option("--address", metavar="HOST:PORT", help="The cluster of --engine ray.")
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
@click.option("--only-report", is_flag=True, help="Train nothing: report what is in DIR.")
@click.option(
    "--accuracy",
    type=click.Choice(["last", "best"]),
    default="last",
    show_default=True,
    help="Test accuracy after the last epoch, or of the best one.",
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
    specs: tuple[str, ...],
    data: str | None,
    space: tuple[Dimension, ...],
    networks: tuple[str, ...],
    trials: int,
    front: bool,
    sampler: str,
    sampler_seed: int,
    pruner: str,
    output: Path,
    jobs: int | None,
    engine: str,
    address: str | None,
    cpus: float | None,
    gpus: float | None,
    only_report: bool,
    accuracy: Any,
    plot: Path | None,
    form: str,
    as_json: bool,
    quiet: bool,
    **asked: Any,
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
    form = "json" if as_json else form
    if plot is not None:
        from danetc.output.plots import check_plot

        check_plot(plot)
    if only_report:
        if specs or space:
            raise click.UsageError("--only-report reads DIR alone: leave out specs and --grid")
        _report(output, plot, form)
        return
    if not specs:
        raise click.UsageError("give at least one spec, as in net.danet")
    if data is None:
        raise missing_data()
    if front and pruner != "none":
        raise click.UsageError("a pruner goes by one objective: leave out --pruner or --front")
    if engine == "local" and any(each is not None for each in (address, cpus, gpus)):
        raise click.UsageError("--address, --cpus and --gpus are those of --engine ray")
    from danetc.tasks.grid.engines import EngineRequest
    from danetc.tasks.searching.call import refuse_empty
    from danetc.tasks.searching.loop import SearchRequest, search
    from danetc.tasks.training.request import TrainingRequest

    request = SearchRequest(
        specs=specs,
        networks=networks,
        space=space,
        trials=trials,
        sampler=sampler,
        sampler_seed=sampler_seed,
        pruner=pruner,
        front=front,
        accuracy=accuracy,
        engine=EngineRequest(engine, jobs, address, cpus, gpus),
    )
    base = TrainingRequest(spec="", data=data, output=output, **asked)
    stopped = search(request, base, output, quiet=quiet)
    if stopped is not None:
        echo("danetc: stopped; the same command resumes", err=True)
        raise click.exceptions.Exit(stopped)
    refuse_empty(_report(output, plot, form))


def _report(output: Path, plot: Path | None, form: str) -> Searched:
    """Print the table, and draw the figure where that can be done."""
    from danetc.output.table import show
    from danetc.runtime.measure.plots import can_plot, save_figure
    from danetc.tasks.searching.results import read_search
    from danetc.tasks.searching.shown import front_figure, table

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
