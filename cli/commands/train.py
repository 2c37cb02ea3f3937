"""``danetc train``: a network trained by a recipe, in one process."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click
from danetc.errors import UserError
from danetc.options import (
    Setting,
    backend_option,
    init_option,
    json_option,
    memory_option,
    network_option,
    set_option,
    spec_argument,
)


@click.command("train")
@spec_argument
@click.option("--data", required=True, metavar="NAME", help="The data set, as in digits.")
@network_option
@click.option(
    "--recipe",
    metavar="NAME",
    help="A recipe that the file sees.  [default: the file's own, else the one named as the data]",
)
@click.option(
    "-o",
    "--output",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="The model directory to write.  [default: runs/NETWORK]",
)
@set_option
@click.option(
    "--seed", type=click.IntRange(0, 2**32 - 1), help="Of all that is random.  [default: recipe's]"
)
@init_option
@backend_option
@memory_option
@click.option(
    "--channels-last",
    is_flag=True,
    help="Maps lie in memory with channels last: faster on a GPU, and for large images on a CPU.",
)
@click.option(
    "--min-accuracy",
    type=click.FloatRange(0, 1),
    metavar="SHARE",
    help="Exit with 1 if the last test accuracy is lower, as in 0.9.",
)
@click.option("-q", "--quiet", is_flag=True, help="Show no progress.")
@json_option
def command(
    spec: str,
    data: str,
    network: str | None,
    recipe: str | None,
    output: Path | None,
    settings: dict[str, Setting],
    seed: int | None,
    init: str | None,
    backend: str | None,
    memory: str | int,
    channels_last: bool,
    min_accuracy: float | None,
    quiet: bool,
    as_json: bool,
) -> None:
    """Train a network on a data set by a recipe.

    Writes a model directory with the weights so far after each epoch, and training.json with
    every figure. Settings of the recipe are set by their path, as in --set recipe.epochs=5. With
    --json, progress goes to standard error and training.json is printed.
    """
    from danetc.progress import TrainingProgress
    from danetc.training import run

    with TrainingProgress(sys.stderr if as_json else sys.stdout, quiet=quiet) as progress:
        directory, record = run(
            spec,
            data=data,
            network=network,
            recipe=recipe,
            output=output,
            settings=settings,
            seed=seed,
            init=init,
            backend=backend,
            memory=memory,
            channels_last=channels_last,
            observer=progress,
            note=lambda line: click.echo(f"note: {line}", err=True),
        )
    if as_json:
        click.echo(json.dumps(record, indent=2))
    else:
        click.echo(f"test accuracy {record['test_accuracy']:.2%}; written to {directory}")
    if min_accuracy is not None and record["test_accuracy"] < min_accuracy:
        raise UserError(
            f"the test accuracy of {record['test_accuracy']:.2%} is below {min_accuracy:.2%}"
        )
