"""``danetc train``: a network trained by a recipe, in one process or under torchrun."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from danetc.arguments import look_at_data
from danetc.errors import UserError
from danetc.options import (
    data_option,
    json_option,
    missing_data,
    network_option,
    quiet_option,
)
from danetc.options.completion import complete_specs
from danetc.options.training import training_options
from danetc.output.echo import echo, json_text
from danetc.output.text import note
from danetc.runtime.system.torchrun import is_first
from danetc.setting import Setting

if TYPE_CHECKING:
    from danetc.tasks.training.request import TrainingRequest


@click.command("train")
@click.argument("spec", metavar="FILE|NAME", required=False, shell_complete=complete_specs)
@data_option()
@click.option(
    "--from",
    "again",
    metavar="RUN.JSON",
    type=click.Path(path_type=Path),
    help="Repeat a run bit-identically, in place of FILE and --data (where they are now).",
)
@network_option
@training_options
@click.option(
    "-o",
    "--output",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="The directory of the run. One that exists is resumed.  [default: runs/NETWORK]",
)
@click.option("--fresh", is_flag=True, help="Start over; an existing run is moved aside.")
@click.option("--override", is_flag=True, help="Resume a run although its settings have changed.")
@click.option(
    "--checkpoint-every",
    type=click.IntRange(0),
    metavar="N",
    help="Save the state every N steps, in addition to every 5 minutes and every epoch.",
)
@click.option("--no-code", is_flag=True, help="Refuse a recipe that runs a file of Python.")
@click.option(
    "--allow-code",
    multiple=True,
    metavar="FILE.py:NAME",
    help="With --from: run this function of a loss, although only the record names it. Can be repeated.",
)
@click.option(
    "--min-accuracy",
    type=click.FloatRange(0, 1),
    metavar="SHARE",
    help="Exit with 1 if the last test accuracy is lower, as in 0.9.",
)
@click.option(
    "--dry-run",
    is_flag=True,
    help="Print the whole plan and, after ten timed steps of each phase, the time; write nothing.",
)
@quiet_option
@json_option
def command(
    again: Path | None,
    dry_run: bool,
    min_accuracy: float | None,
    quiet: bool,
    as_json: bool,
    checkpoint_every: int | None,
    settings: dict[str, Setting],
    **asked: Any,
) -> None:
    """Train a network on a data set by a recipe.

    Writes a model directory with the weights so far after each epoch, training.json with every
    figure, and checkpoints. The same command runs under torchrun, and resumes bit-identically where
    it was stopped or killed; --from repeats the run of a run.json. `batch` is the global batch size.
    Settings of the recipe are set by their path, as in --set recipe.epochs=5. With --json, progress
    goes to standard error and training.json is printed.
    """
    from danetc.runtime.system.machine import keep_freed_memory
    from danetc.tasks.training.printing import print_training, result
    from danetc.tasks.training.progress import TrainingProgress
    from danetc.tasks.training.request import TrainingRequest
    from danetc.tasks.training.trials import run

    if checkpoint_every is not None:
        settings = {**settings, "recipe.checkpoint_every": checkpoint_every}
    context = click.get_current_context()
    if again is not None:
        request = _repeated(context, again)
    else:
        if asked["spec"] is None:
            raise click.UsageError("Missing argument 'FILE|NAME'.", context)
        if asked["data"] is None:
            raise missing_data()
        request = TrainingRequest(settings=settings, **asked)
    keep_freed_memory()
    if dry_run:
        with _endings():
            _dry_run(request, quiet=quiet, as_json=as_json)
        return
    stream = sys.stderr if as_json else sys.stdout
    with TrainingProgress(stream, quiet=quiet, silent=as_json) as progress, _endings():
        directory, record = run(request, observer=progress, note=progress.note)
    if not is_first():
        return
    if as_json:
        echo(json_text(record))
    else:
        if not quiet:
            print_training(record)
        echo(f"{result(record)}; written to {directory}")
    if min_accuracy is None:
        return
    if record["test_accuracy"] is None:
        raise UserError(
            "--min-accuracy is of classes, and the network learns numbers; leave it out"
        )
    if record["test_accuracy"] < min_accuracy:
        raise UserError(
            f"the test accuracy of {record['test_accuracy']:.2%} is below {min_accuracy:.2%}"
        )


WITH_FROM = (
    "again", "data", "output", "fresh", "allow_changed", "no_code", "allow_code", "dry_run",
    "min_accuracy", "quiet",
    "as_json",
)  # fmt: skip
"""What changes nothing of a run that is repeated."""


def _repeated(context: click.Context, again: Path) -> TrainingRequest:
    """The request of an earlier run. Options that would make it another one are refused."""
    from click.core import ParameterSource

    from danetc.tasks.training.repeat import request_of

    for name in context.params:
        given = context.get_parameter_source(name) is ParameterSource.COMMANDLINE
        if given and name not in WITH_FROM:
            raise click.UsageError(
                f"--from repeats a run as it was: leave out {name.replace('_', '-')}", context
            )
    values = context.params
    request = request_of(
        again,
        values["output"],
        values["data"],
        fresh=values["fresh"],
        allow_changed=values["allow_changed"],
        no_code=values["no_code"],
        allow_code=values["allow_code"],
    )
    look_at_data(request.data, f"\n{again} names these data; say where they are with --data")
    return request


@contextmanager
def _endings() -> Iterator[None]:
    """A training that a signal has stopped, and one that rank 0 reports, as exit statuses."""
    from danetc.runtime.training.distributed import FailedElsewhere
    from danetc.runtime.training.signals import Stopped

    try:
        yield
    except Stopped as stopped:
        if is_first():
            echo(f"danetc: {stopped}", err=True)
        raise click.exceptions.Exit(stopped.status) from stopped
    except FailedElsewhere as error:
        raise click.exceptions.Exit(1) from error


def _dry_run(request: TrainingRequest, *, quiet: bool, as_json: bool) -> None:
    """Print the plan, then its time; with JSON, both at once."""
    from danetc.runtime.kernels.announcing import Silent, announced_by, announcer
    from danetc.runtime.training.signals import Stopped
    from danetc.tasks.training.dry_run import TIMED, dry_run, print_plan, print_time

    def planned(record: dict[str, Any]) -> None:
        if not as_json:
            print_plan(record)
        if not quiet:
            note(f"timing {TIMED} steps of each phase")

    try:
        with announced_by(Silent() if quiet or as_json else announcer()):
            record = dry_run(request, note=note, planned=planned)
    except Stopped as stopped:
        if is_first():
            echo("danetc: stopped before the time was known", err=True)
        raise click.exceptions.Exit(stopped.status) from stopped
    if is_first():
        if as_json:
            echo(json_text(record))
        else:
            print_time(record)
