"""Commands on several runs: compare, search, report."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import click

from danetc import arguments as arg
from danetc.commands.parser import Answer, require
from danetc.commands.trainings import save_figures
from danetc.output.echo import echo, json_text, note
from danetc.output.table import show
from danetc.requests import ComparisonRequest, GridRequest, SearchRequest

if TYPE_CHECKING:
    from danetc.tasks.grid.results import GridResults


PAGE = arg.Option("FILE.html", parse=arg.file_place(".html", ".htm"))


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

    def report() -> GridResults:
        from danetc.tasks.grid.plot import FIGURES, across, draw
        from danetc.tasks.grid.results import read_results

        results = read_results(folder, request.accuracy, request.select_on)
        across(results, x)
        _print_grid(results, columns, form)
        places = (plot or folder / "accuracy.svg", training_plot or folder / "training.svg")
        draws = (partial(draw, results, name, x) for name in FIGURES)
        save_figures(zip(places, draws, strict=True), follow=False)
        return results

    if _reports(request, only_report):
        if dry_run:
            raise click.UsageError("--only-report only reads DIR: leave out --dry-run")
        report()
        return
    from danetc.tasks.grid import comparison

    runs = comparison.checked_runs(request, quiet=quiet)
    if dry_run:
        _print_grid(comparison.planned(runs, request), columns, form)
        return
    if print_commands:
        lines = comparison.commands(runs, request)
        echo(json_text(lines) if form == "json" else "\n".join(lines))
        return
    stopped = comparison.train_grid(runs, request, quiet=quiet)
    if stopped is not None:
        shown = f"`danetc compare -o {folder} --only-report` shows the results so far"
        echo(f"danetc: stopped; the same command resumes, and {shown}", err=True)
        raise click.exceptions.Exit(stopped)
    comparison.refuse_failed(report(), len(runs), folder)


def _reports(request: GridRequest, only_report: bool) -> bool:
    """Return ``only_report``. Raises a usage error if the other arguments contradict it."""
    if not only_report:
        require("specs", "data")
    elif request.specs or request.grid:
        raise click.UsageError("--only-report only reads DIR: leave out specs and --grid")
    return only_report


def _print_grid(results: GridResults, columns: tuple[str, ...], form: str) -> None:
    from danetc.tasks.grid.results import table

    made = table(results, columns)
    if form == "json":
        echo(json_text(results.as_dict()))
    else:
        show(made, form)
    if form == "table" and (differences := results.paired()):
        text = results.measure.text
        echo(f"\ndifferences of {results.measure.head}, paired by seed, with 95 % intervals:")
        for each in differences:
            interval = f"[{text(each.low)}, {text(each.high)}]"
            echo(f"{each.cell} - {each.minus}: {text(each.mean)} {interval}, {each.seeds} seeds")


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

    `--predict paths` trains nothing. It ranks combinations by the fewest neurons on a path; see
    results/experiments for how well that predicts accuracy.

    \b
    danetc search net.danet --grid rule=chain,densely_additive --grid width=8..64:8 --data digits,val=0.1
    danetc search net.danet --grid width=8..64 --front --sampler nsga2 --data digits,val=0.1
    danetc search net.danet --grid recipe.optimizer.lr=1e-4..0.1:log --pruner median --data digits,val=0.1

    Args:
        only_report: Train nothing: report what is in DIR.
        plot: File for the figure of accuracy against operations. [default: DIR/front.svg, with
            danetc[plot]]
    """
    from danetc.tasks.searching.results import front_figure, read_search, table

    if not _reports(request, only_report):
        from danetc.tasks.searching.search import refuse_empty, run_search

        stopped = run_search(request, quiet=quiet)
        if stopped is not None:
            echo("danetc: stopped; the same command resumes", err=True)
            raise click.exceptions.Exit(stopped)
    found = read_search(request.folder)
    if form == "json":
        echo(json_text(found.as_dict()))
    else:
        show(table(found), form)
    place = plot or request.folder / "front.svg"
    save_figures([(place, partial(front_figure, found))], follow=False)
    if not only_report:
        refuse_empty(found)


def report_command(
    paths: Annotated[tuple[Path, ...], arg.Option("RUN")],
    *,
    output: Annotated[Path, PAGE] = Path("report.html"),
    data: arg.Data | None = None,
    device: arg.Device | None = None,
) -> Answer:
    """Show runs side by side on one HTML page.

    A RUN is a directory that `train` or `build` wrote, or a folder of several runs: trials, or the
    folder of `compare`. The page shows the networks on every level, with firing rates or gradient
    stability as colour, curves, tables and specs, and the figures of `compare`. It needs no network
    connection and no other file.

    Measures are those in RUN/measures.json (`danetc measure RUN --data DATA -o RUN`). With --data,
    missing ones are measured now and saved there. `danetc eval RUN --per-class` adds the accuracy of each
    class and the confusion matrix.

    Args:
        output: File of the page.
        data: Data on which runs without measures.json are measured.
        device: Device for these measurements. [default: the accelerator if there is one, else cpu]
    """
    from danetc.runtime.system.files import replace_file
    from danetc.tasks.reporting.figures import grid_figures
    from danetc.tasks.reporting.page import make_page
    from danetc.tasks.reporting.runs import open_runs

    runs = open_runs(paths)
    if data is not None:
        from danetc.tasks.reporting.runs import measured

        runs = [run if run.measures else measured(run, data, device) for run in runs]
    page = make_page(runs, note, grid_figures(paths, note))
    replace_file(output, page.encode(), follow=True)

    def show() -> None:
        if bare := sum(run.measures is None for run in runs):
            note(f"{bare} of {len(runs)} runs have no measures.json; --data measures these runs")
        for run in runs:
            for message in run.notes:
                note(f"{run.path}: {message}")
        count = f"{len(runs)} run{'s' * (len(runs) != 1)}"
        echo(f"wrote {output}: {count}, {len(page) / 1024:,.0f} KB")

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
