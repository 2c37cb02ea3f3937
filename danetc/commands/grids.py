"""Commands on several runs: compare, search, report."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import click

from danetc import arguments as arg
from danetc.commands.parser import Answer, require
from danetc.errors import UserError
from danetc.output.echo import echo, json_text, note
from danetc.requests import ComparisonRequest, GridRequest, SearchRequest

if TYPE_CHECKING:
    from danetc.tasks.grid.results import GridResults
    from danetc.tasks.searching.results import SearchResult


def compare_command(
    request: ComparisonRequest,
    *,
    print_commands: bool = False,
    dry_run: bool = False,
    only_report: bool = False,
    columns: Annotated[tuple[str, ...], arg.Option("NAME,...", separator=",")] = (),
    x: Annotated[str | None, arg.Option("NAME")] = None,
    plot: arg.Plot | None = None,
    training_plot: arg.Plot | None = None,
    form: Annotated[arg.Form, arg.Option(flag="--format")] = "table",
    quiet: bool = False,
) -> None:
    """Train a grid of networks and compare their results.

    A cell is a spec with a value on each axis. It is trained with every seed, as `danetc train` does,
    in DIR/CELL/seed-K, each run in a process of its own. The same command resumes after it was
    stopped or killed. If a run fails, the others continue, and the exit status is 1.

    \b
    danetc compare origin_r20 danet_c_r20 --grid depth=20,56 --data digits --set image=8
    danetc compare 'specs/*_r18.danet' --grid classes=5,20 --data folder:DIR --recipe imagenet_5_20
    danetc compare net.danet --grid rule=chain,densely_additive --grid steps=1,4 --data digits
    danetc compare -o DIR --only-report --columns wiring --format latex

    Args:
        print_commands: Print the command of each run that is not done, to be run elsewhere; train
            nothing.
        dry_run: Print the cells with their parameters and epochs x T; write nothing.
        only_report: Train nothing: report what is in DIR.
        columns: Comma-separated axes or facts that become columns: network, connection, rule, wiring
            (connection by rule), depth, classes, recipe, T.
        x: Axis or fact on the x axis of the figures. [default: the depth]
        plot: File for the figure of test accuracy. [default: DIR/accuracy.svg, with danetc[plot]]
        training_plot: File for the figure of training loss and accuracy. [default: DIR/training.svg]
    """
    folder = request.folder
    plots = (plot or folder / "accuracy.svg", training_plot or folder / "training.svg")
    if _reports(request, only_report):
        if dry_run:
            raise click.UsageError("--only-report only reads DIR: leave out --dry-run")
        _report_grid(request, columns, x, plots, form)
        return
    from danetc.tasks.grid.comparison import (
        checked_runs,
        commands,
        planned,
        refuse_failed,
        train_grid,
    )

    runs = checked_runs(request, quiet=quiet)
    if dry_run:
        _print_grid(planned(runs, request), columns, form)
        return
    if print_commands:
        lines = commands(runs, request)
        echo(json_text(lines) if form == "json" else "\n".join(lines))
        return
    stopped = train_grid(runs, request, quiet=quiet)
    if stopped is not None:
        shown = f"`danetc compare -o {folder} --only-report` shows the results so far"
        echo(f"danetc: stopped; the same command resumes, and {shown}", err=True)
        raise click.exceptions.Exit(stopped)
    refuse_failed(_report_grid(request, columns, x, plots, form), len(runs), folder)


def _reports(request: GridRequest, only_report: bool) -> bool:
    """Return ``only_report``. Raises a usage error if the other arguments contradict it."""
    if not only_report:
        require("specs", "data")
    elif request.specs or request.grid:
        raise click.UsageError("--only-report only reads DIR: leave out specs and --grid")
    return only_report


def _report_grid(
    request: ComparisonRequest,
    columns: tuple[str, ...],
    x: str | None,
    plots: tuple[Path, Path],
    form: str,
) -> GridResults:
    """Print the table of a grid, and draw its figures if matplotlib is installed."""
    from danetc.tasks.grid.plot import FIGURES, across, draw
    from danetc.tasks.grid.results import read_results

    results = read_results(request.folder, request.accuracy, request.select_on)
    across(results, x)
    _print_grid(results, columns, form)
    for name, place in zip(FIGURES, plots, strict=True):
        if not _save(partial(draw, results, name, x), place):
            break
    return results


def _print_grid(results: GridResults, columns: tuple[str, ...], form: str) -> None:
    from danetc.output.table import show
    from danetc.tasks.grid.results import table

    made = table(results, columns)
    if form == "json":
        echo(json_text(results.as_dict()))
    else:
        show(made, form, sys.stdout)
    if form == "table" and (differences := results.paired()):
        text = results.measure.text
        echo(f"\ndifferences of {results.measure.head}, paired by seed, with 95 % intervals:")
        for each in differences:
            interval = f"[{text(each.low)}, {text(each.high)}]"
            echo(f"{each.cell} - {each.minus}: {text(each.mean)} {interval}, {each.seeds} seeds")


def _save(draw: Callable[[], Any], place: Path) -> bool:
    """Save a figure, if there is anything to show. Return False if matplotlib is missing."""
    from danetc.runtime.system.figures import can_plot, save_figure

    if not can_plot():
        note("there are no figures: pip install 'danetc[plot]'")
        return False
    figure = draw()
    if figure is not None:
        save_figure(figure, place)
        echo(f"figure: {place}", err=True)
    return True


def search_command(
    request: SearchRequest,
    *,
    only_report: bool = False,
    plot: arg.Plot | None = None,
    form: Annotated[arg.Form, arg.Option(flag="--format")] = "table",
    quiet: bool = False,
) -> None:
    """Search networks and settings with Optuna.

    A trial is a cell of `danetc compare` with one seed, trained in DIR/CELL/seed-K; `danetc compare
    -o DIR --only-report` reads it, too. The same command resumes after it was stopped or killed. A
    combination that cannot be built is a pruned trial, with the reason. The objective is the accuracy
    on the validation images (`,val=0.1`), which is optimistic for the best trial; each trial is tested
    once, at its end.

    \b
    danetc search net.danet --grid rule=chain,densely_additive --grid width=8..64:8 --data digits,val=0.1
    danetc search net.danet --grid width=8..64 --front --sampler nsga2 --data digits,val=0.1
    danetc search net.danet --grid recipe.optimizer.lr=1e-4..0.1:log --pruner median --data digits,val=0.1

    Args:
        only_report: Train nothing: report what is in DIR.
        plot: File for the figure of accuracy against operations. [default: DIR/front.svg, with
            danetc[plot]]
    """
    folder = request.folder
    if _reports(request, only_report):
        _report_search(folder, plot, form)
        return
    from danetc.tasks.searching.search import refuse_empty, run_search

    stopped = run_search(request, quiet=quiet)
    if stopped is not None:
        echo("danetc: stopped; the same command resumes", err=True)
        raise click.exceptions.Exit(stopped)
    refuse_empty(_report_search(folder, plot, form))


def _report_search(folder: Path, plot: Path | None, form: str) -> SearchResult:
    """Print the table of a search, and draw its figure if matplotlib is installed."""
    from danetc.output.table import show
    from danetc.tasks.searching.results import front_figure, read_search, table

    found = read_search(folder)
    if form == "json":
        echo(json_text(found.as_dict()))
    else:
        show(table(found), form, sys.stdout)
    counts = Counter(row.state for row in found.trials)
    listed = ", ".join(f"{count} {state}" for state, count in counts.items())
    echo(f"trials: {listed or 'none'}", err=True)
    _save(lambda: front_figure(found), plot or folder / "front.svg")
    return found


def report_command(
    paths: Annotated[tuple[Path, ...], arg.Option("RUN")],
    *,
    output: Annotated[Path, arg.Option("FILE.html")] = Path("report.html"),
    data: arg.Data | None = None,
    device: arg.Device | None = None,
) -> Answer:
    """Show runs side by side on one HTML page.

    A RUN is a directory that `train` or `build` wrote, or a folder of several runs: trials, or the
    folder of `compare`. The page shows the networks on every level, with firing rates or gradient
    stability as colour, curves, tables and specs, and the figures of `compare`. It needs no network
    connection and no other file.

    Measures are those in RUN/measures.json (`danetc measure RUN --data DATA -o RUN`). With --data,
    missing ones are measured now and saved there.

    Args:
        output: File of the page.
        data: Data on which runs without measures.json are measured.
        device: Device for these measurements. [default: the accelerator if there is one, else cpu]
    """
    from danetc.runtime.system.files import replace_file
    from danetc.tasks.reporting import grid_figures, make_page, open_runs

    if output.suffix.lower() not in (".html", ".htm"):
        raise click.UsageError(f"the name of the page ends in .html: {output}")
    if output.is_dir():
        raise UserError(f"{output} is a folder; name the page in it")
    if not output.parent.is_dir():
        raise UserError(f"{output}: there is no folder {output.parent}")
    runs = open_runs(paths)
    if data is not None:
        from danetc.tasks.reporting.runs import measured

        runs = [run if run.measures else measured(run, data, device) for run in runs]
    page = make_page(runs, note, grid_figures(paths, note))
    replace_file(output, page.encode(), follow=True)

    def show() -> None:
        if bare := sum(run.measures is None for run in runs):
            note(
                f"runs without measures.json, whose pictures have no colours: {bare} of {len(runs)}; "
                "--data measures them"
            )
        for run in runs:
            for message in run.notes:
                note(f"{run.path}: {message}")
        size = f"{len(page) / 1024:,.0f} KB"
        echo(f"wrote {output}: {len(runs)} run{'s' * (len(runs) != 1)}, {size}")

    record = {
        "output": str(output),
        "bytes": len(page.encode("utf-8")),
        "runs": [
            {
                "label": run.label,
                "path": str(run.path),
                "network": run.graph.name,
                "epochs": len(run.epochs),
                "measured": run.measures is not None,
                "notes": list(run.notes),
            }
            for run in runs
        ],
    }
    return Answer(record, show)
