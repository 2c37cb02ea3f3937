"""``danetc eval``: loss and accuracy of a trained network, at its own T and at others."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from danetc.errors import UserError
from danetc.options import (
    backend_option,
    checkpoint_option,
    classes_option,
    json_option,
    seed_option,
    subset_seed_option,
)
from danetc.output import echo, json_text

if TYPE_CHECKING:
    from danetc.evaluation import Evaluator, Figures, Tick


def _steps(context: click.Context, parameter: click.Parameter, text: str | None) -> tuple[int, ...]:
    if text is None:
        return ()
    try:
        found = tuple(dict.fromkeys(int(part) for part in text.split(",")))
    except ValueError as error:
        raise click.BadParameter(f"`{text}` is no list of numbers such as 1,2,4") from error
    if any(not 1 <= steps <= 10_000 for steps in found):
        raise click.BadParameter("T is a number from 1 to 10000")
    return found


@click.command("eval")
@click.argument("directory", metavar="DIR")
@click.option(
    "--data",
    metavar="NAME[:DIR]",
    help="The data set, as for `train`.  [default: what the run was trained on]",
)
@classes_option
@subset_seed_option
@click.option(
    "--split", type=click.Choice(["test", "train"]), default="test", show_default=True,
    help="Which images; never augmented.",
)  # fmt: skip
@click.option(
    "--steps", callback=_steps, metavar="T,T,...", help="Run it at each of these numbers of steps."
)
@click.option(
    "--over-time",
    is_flag=True,
    help="The accuracy at every T up to the largest, from one run, where the head permits it.",
)
@click.option(
    "--batch", type=click.IntRange(1), metavar="N", help="Images at once.  [default: the recipe's]"
)
@click.option(
    "--workers", type=click.IntRange(0, 1024), default=0, show_default=True,
    help="Processes that read images.",
)  # fmt: skip
@click.option(
    "--train-output",
    metavar="NAME",
    help="The output to evaluate, where the network has several.  [default: the one trained]",
)
@checkpoint_option
@backend_option
@click.option(
    "--precision",
    type=click.Choice(["float32", "mixed", "bf16"]),
    help="Of the arithmetic.  [default: the recipe's]",
)
@seed_option
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Draw accuracy against T there, as SVG or PNG (needs danetc[plot]).",
)
@json_option
def command(
    directory: str,
    data: str | None,
    steps: tuple[int, ...],
    over_time: bool,
    backend: str | None,
    output: Path | None,
    as_json: bool,
    **how: Any,
) -> None:
    """Evaluate the weights in a directory on a data set.

    DIR is a directory of `train`; of trials the mean and the deviation are told too. Images are
    prepared and the loss is taken as in the training. With --steps the network is run at other
    numbers of time steps than its own; with --over-time the mean output of the first T steps is
    taken for each T.
    """
    from danetc.evaluation import Evaluator, open_trained, trials_in
    from danetc.plots import check_plot
    from danetc.training.plan import default_backend

    if output is not None:
        check_plot(output)
        if not over_time and len(steps) < 2:
            raise click.UsageError("a figure of accuracy against T needs --over-time or --steps")
    places = trials_in(directory)
    opened = [open_trained(place) for place in places]
    chosen = backend or default_backend(_note)
    results: list[dict[str, Any]] = []
    for trained in opened:
        text = data or trained.own_data
        if text is None:
            raise UserError(
                f"{trained.path} does not say what it was trained on; name it with --data"
            )
        if trained.record is None:
            _note(f"{trained.path} holds no training: its weights are taken as they are")
        each = Evaluator(trained, text, backend=chosen, **how)
        figures, line = _evaluate(each, steps, over_time)
        for notice in each.notices:
            _note(notice)
        results.append(
            {
                "directory": str(trained.path),
                "data": text,
                "network": each.graph.name,
                "trained_steps": each.steps,
                "checkpoint": how["checkpoint"],
                "precision": each.precision,
                "results": [item.as_dict() for item in figures],
                "over_time": [item.as_dict() for item in line],
            }
        )
    if output is not None:
        _plot(output, results)
    if as_json:
        shared = {"split": how["split"], "backend": chosen}
        echo(json_text({**shared, "evaluated": results}))
        return
    _print(results, how["split"])


def _evaluate(
    each: Evaluator, steps: Sequence[int], over_time: bool
) -> tuple[list[Figures], list[Figures]]:
    """At each T, and at every T up to the largest from one run."""
    alone = steps or (() if over_time else (each.steps,))
    line: list[Figures] = []
    if over_time:
        most = max((*steps, each.steps))
        with _bar(each, f"T = 1 .. {most}", most) as tick:
            line = each.up_to(most, tick)
    figures = []
    for number in alone:
        with _bar(each, f"T = {number}", number) as tick:
            figures.append(each.at(number, tick))
    return figures, line


@contextmanager
def _bar(each: Evaluator, label: str, steps: int) -> Iterator[Tick]:
    """A bar over the images, on a terminal."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    from danetc.console import VisibleConsole

    with Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("images"),
        TimeRemainingColumn(),
        console=VisibleConsole(sys.stderr),
        disable=not sys.stderr.isatty(),
        transient=True,
    ) as progress:
        task = progress.add_task(f"{each.graph.name}, {label}", total=each.images(steps))
        yield lambda images: progress.advance(task, images)


def _print(results: Sequence[dict[str, Any]], split: str) -> None:
    from danetc.report import print_table

    first = results[0]
    count = max(item["images"] for item in first["results"] + first["over_time"])
    echo(f"{first['network']}: {count:,} images of {first['data']} ({split})")
    for key, told in (
        ("results", ""),
        ("over_time", "the mean output of the first T steps of one run"),
    ):
        rows = [(result["directory"], *_cells(item)) for result in results for item in result[key]]
        if len(results) > 1:
            rows += list(_summary(results, key))
        if rows:
            echo()
            if told:
                echo(f"{told}:")
            print_table(("directory", "T", "top-1", "top-5", "loss"), rows, right={1, 2, 3, 4})
    for result in results:
        for item in (result["results"] + result["over_time"])[:1]:
            if item["skipped"]:
                _note(f"{item['skipped']} images of {result['directory']} could not be read")


def _cells(item: dict[str, Any]) -> tuple[str, ...]:
    return (
        str(item["steps"]), f"{item['top1']:.2%}", f"{item['top5']:.2%}", f"{item['loss']:.4f}",
    )  # fmt: skip


def _summary(results: Sequence[dict[str, Any]], key: str) -> Iterator[tuple[str, ...]]:
    """Mean and sample standard deviation over trials, at each T."""
    for place, item in enumerate(results[0][key]):
        columns = [
            [result[key][place][name] for result in results] for name in ("top1", "top5", "loss")
        ]
        for label, of in (("mean", statistics.fmean), ("deviation", statistics.stdev)):
            top1, top5, loss = map(of, columns)
            yield label, str(item["steps"]), f"{top1:.2%}", f"{top5:.2%}", f"{loss:.4f}"


def _plot(output: Path, results: Sequence[dict[str, Any]]) -> None:
    from danetc.plots import plot_lines

    lines = {}
    for result in results:
        for key, what in (("over_time", "mean of the first T steps"), ("results", "a run at T")):
            items = sorted(result[key], key=lambda item: int(item["steps"]))
            if items:
                name = f"{Path(result['directory']).name}, {what}"
                steps = [item["steps"] for item in items]
                lines[name] = steps, [100 * item["top1"] for item in items]
    plot_lines(output, [(results[0]["network"], "time steps T", "top-1 accuracy [%]", lines)])
    echo(f"wrote {output}", err=True)


def _note(text: str) -> None:
    echo(f"note: {text}", err=True)
