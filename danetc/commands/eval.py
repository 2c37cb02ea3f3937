"""``danetc eval``: loss and accuracy of a trained network, at its own T and at others."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from danetc.arguments import BACKENDS, MOST_STEPS, PRECISIONS
from danetc.errors import UserError
from danetc.options import (
    allow_changed_option,
    checkpoint_option,
    classes_option,
    data_option,
    evaluate_option,
    json_option,
    split_option,
    subset_seed_option,
)
from danetc.options.completion import complete_pretrained
from danetc.output.echo import echo, json_text
from danetc.output.figures import NAMES, percent, score
from danetc.output.text import note
from danetc.runtime.system.torchrun import under_torchrun

if TYPE_CHECKING:
    from danetc.tasks.evaluate import Evaluated


def _steps(context: click.Context, parameter: click.Parameter, text: str | None) -> tuple[int, ...]:
    if text is None:
        return ()
    try:
        found = tuple(dict.fromkeys(int(part) for part in text.split(",")))
    except ValueError as error:
        raise click.BadParameter(f"`{text}` is no list of numbers such as 1,2,4") from error
    if any(not 1 <= steps <= MOST_STEPS for steps in found):
        raise click.BadParameter(f"T is a number from 1 to {MOST_STEPS}")
    return found


@click.command("eval")
@click.argument("directory", metavar="DIR", shell_complete=complete_pretrained)
@data_option("The data set, as for `train`.  [default: what the run was trained on]")
@classes_option
@subset_seed_option
@split_option
@click.option(
    "--steps", callback=_steps, metavar="T,T,...", help="Run it at each of these numbers of steps."
)
@click.option(
    "--over-time",
    is_flag=True,
    help="The accuracy at every T up to the largest, from one run, where the head permits it.",
)
@evaluate_option
@click.option(
    "--batch",
    type=click.IntRange(1),
    metavar="N",
    help="Images per batch.  [default: the training's]",
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
@click.option(
    "--backend",
    type=click.Choice(BACKENDS),
    help="What runs the network.  [default: the training's]",
)
@click.option(
    "--precision",
    type=click.Choice(PRECISIONS),
    help="Precision of the arithmetic.  [default: the training's]",
)
@click.option(
    "--seed",
    type=click.IntRange(0, 2**63 - 1),
    help="The seed of what a network draws, such as random spikes.  [default: the training's]",
)
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Draw accuracy against T there, as SVG or PNG (needs danetc[plot]).",
)
@allow_changed_option
@json_option
def command(
    directory: str,
    data: str | None,
    steps: tuple[int, ...],
    over_time: bool,
    output: Path | None,
    allow_changed: tuple[str, ...],
    as_json: bool,
    **how: Any,
) -> None:
    """Evaluate the weights in a directory on a data set.

    DIR is a directory of `train`, or pretrained:NAME (`danetc list pretrained`); for trials, mean and
    standard deviation are printed too. Data, preprocessing, loss, backend, precision, batch and seed
    are those of the training's own tests, whose last test accuracy is reproduced; whatever differs is
    printed. --steps runs the network at other numbers of time steps than its own; --over-time takes
    the mean output of the first T steps for each T.
    """
    if under_torchrun():
        raise UserError("danetc eval is one process; run it without torchrun")
    if output is not None:
        from danetc.output.plots import check_plot

        check_plot(output)
        if not over_time and len(steps) < 2:
            raise click.UsageError("a figure of accuracy against T needs --over-time or --steps")
    from danetc.tasks.trained import data_of, open_trained, trials_in

    places = trials_in(directory, allow_changed)
    opened = [open_trained(place, allow_changed) for place in places]
    texts = [data or data_of(trained) for trained in opened]
    from danetc.output.console import image_bar
    from danetc.tasks.evaluate import evaluate_trained
    from danetc.tasks.evaluator import EvaluationRequest

    bar = partial(image_bar, silent=as_json)
    found = [
        evaluate_trained(
            trained, EvaluationRequest(data=text, **how), steps, over_time, bar=bar, say=note
        )
        for trained, text in zip(opened, texts, strict=True)
    ]
    results = [each.as_dict() for each in found]
    if as_json:
        echo(json_text({"split": how["split"], "evaluated": results}))
    else:
        _print(results, how["split"], [line for each in found for line in _conditions(each)])
    if output is not None:
        _plot(output, results)


def _conditions(each: Evaluated) -> Iterator[str]:
    """How it was evaluated, in lines."""
    yield each.described
    if each.unlike_training is not None:
        unlike = "; ".join(each.unlike_training)
        yield (
            f"unlike the tests of the training: {unlike}"
            if unlike
            else "as in the tests of the training"
        )


def _print(results: Sequence[dict[str, Any]], split: str, conditions: Sequence[str]) -> None:
    from danetc.output.summary import print_table

    first = results[0]
    count = max(item["images"] for item in first["results"] + first["over_time"])
    echo(f"{first['network']}: {count:,} images of {first['data']} ({split})")
    for line in dict.fromkeys(conditions):
        echo(line)
    for key, message in (
        ("results", ""),
        ("over_time", "the mean output of the first T steps of one run"),
    ):
        rows = [(result["directory"], *_cells(item)) for result in results for item in result[key]]
        if len(results) > 1:
            rows += list(_summary(results, key))
        if rows:
            echo()
            if message:
                echo(f"{message}:")
            more = tuple(NAMES[name] for name in first[key][0]["scores"])
            heads = ("directory", "T", "top-1", "top-5", "loss", *more)
            print_table(heads, rows, right=set(range(1, len(heads))))
    for result in results:
        for item in (result["results"] + result["over_time"])[:1]:
            if item["skipped"]:
                note(f"{item['skipped']} images of {result['directory']} could not be read")


def _cells(item: dict[str, Any]) -> tuple[str, ...]:
    return (
        str(item["steps"]), percent(item["top1"]), percent(item["top5"]), f"{item['loss']:.4f}",
        *(score(name, value) for name, value in item["scores"].items()),
    )  # fmt: skip


def _summary(results: Sequence[dict[str, Any]], key: str) -> Iterator[tuple[str, ...]]:
    """Mean and sample standard deviation over trials, at each T."""
    for place, item in enumerate(results[0][key]):
        items = [result[key][place] for result in results]
        for label, of in (("mean", statistics.fmean), ("deviation", statistics.stdev)):
            whole: dict[str, Any] = {"steps": item["steps"], "scores": {}}
            for name in ("top1", "top5", "loss"):
                known = item[name] is not None
                whole[name] = of([each[name] for each in items]) if known else None
            for name in item["scores"]:
                whole["scores"][name] = of([each["scores"][name] for each in items])
            yield label, *_cells(whole)


def _plot(output: Path, results: Sequence[dict[str, Any]]) -> None:
    from danetc.output.plots import LinePanel, line_figure
    from danetc.runtime.system.figures import save_figure

    lines = {}
    right = results[0]["results"] + results[0]["over_time"]
    accuracy = right[0]["top1"] is not None
    for result in results:
        for key, what in (("over_time", "mean of the first T steps"), ("results", "a run at T")):
            items = sorted(result[key], key=lambda item: int(item["steps"]))
            if items:
                name = f"{Path(result['directory']).name}, {what}"
                steps = [item["steps"] for item in items]
                values = [100 * item["top1"] if accuracy else item["loss"] for item in items]
                lines[name] = steps, values
    what = "top-1 accuracy [%]" if accuracy else "loss"
    panel = LinePanel("time steps T", what, lines, results[0]["network"], from_zero=True)
    save_figure(line_figure([panel]), output, follow=True)
    echo(f"wrote {output}", err=True)
