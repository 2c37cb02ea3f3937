"""The options of a grid of trainings: what ``danetc compare`` and ``danetc search`` are asked alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields
from functools import wraps
from pathlib import Path
from typing import Any, cast

import click

from danetc.errors import UserError
from danetc.options import Function, data_option, missing_data
from danetc.options.completion import complete_specs
from danetc.options.training import training_options

_SUBJECTS = (
    click.argument(
        "specs", nargs=-1, metavar="FILE|NAME|PATTERN...", shell_complete=complete_specs
    ),
    data_option(),
    click.option(
        "-n",
        "--network",
        "networks",
        multiple=True,
        metavar="NAME",
        help="Of files with several networks, those of this name alone.  [default: all]",
    ),
)

_ENGINE = (
    click.option(
        "--jobs",
        type=click.IntRange(1, 100_000),
        metavar="N",
        help="How many trainings run at a time.  [default: 1; with ray as many as there is room for]",
    ),
    click.option(
        "--engine",
        type=click.Choice(["local", "ray"]),
        default="local",
        show_default=True,
        help="What trains the runs: processes of this machine, or Ray, on a cluster.",
    ),
    click.option(
        "--address",
        metavar="HOST:PORT",
        help="The cluster of --engine ray; `auto` is the one that this machine belongs to.  "
        "[default: one of this machine is started]",
    ),
    click.option(
        "--cpus",
        type=click.FloatRange(0, min_open=True),
        metavar="N",
        help="Cores of each run with --engine ray.  [default: 1]",
    ),
    click.option(
        "--gpus",
        type=click.FloatRange(0),
        metavar="N",
        help="GPUs of each run with --engine ray, as in 0.5.  [default: 1, where the cluster has any]",
    ),
)

_REPORT = (
    click.option("--only-report", is_flag=True, help="Train nothing: report what is in DIR."),
    click.option(
        "--accuracy",
        type=click.Choice(["last", "best"]),
        default="last",
        show_default=True,
        help="Test accuracy after the last epoch, or of the best one.",
    ),
)


def axes_option(
    metavar: str, text: str, parse: Callable[[str], Any]
) -> Callable[[Function], Function]:
    """``--grid``: the ``axes``, each of what ``parse`` makes of a text or refuses by a ValueError."""

    def axes(context: click.Context, parameter: click.Parameter, texts: Sequence[str]) -> list[Any]:
        try:
            return [parse(each) for each in texts]
        except ValueError as error:
            raise click.BadParameter(str(error), context, parameter) from error

    return click.option("--grid", "axes", multiple=True, metavar=metavar, callback=axes, help=text)


def grid_subjects(command: Function) -> Function:
    """What is trained: specs, their networks and the data. ``grid_options`` takes them."""
    for option in reversed(_SUBJECTS):
        command = option(command)
    return command


def grid_options(output: str, holds: str, example: str) -> Callable[[Function], Function]:
    """How the cells are trained, where, and which accuracy counts.

    The command gets all of it as one ``GridRequest``, ``asked``, and ``only_report``, with which the
    request names the directory and no networks. ``output`` is the default directory, ``holds`` its
    help text, ``example`` a spec for the error where none is given.
    """

    def decorate(command: Function) -> Function:
        @wraps(command)
        def with_request(
            specs: tuple[str, ...], data: str | None, axes: Sequence[Any], only_report: bool,
            **given: Any,
        ) -> Any:  # fmt: skip
            if only_report and (specs or axes):
                raise click.UsageError("--only-report reads DIR alone: leave out specs and --grid")
            if not only_report and not specs:
                raise click.UsageError(f"give at least one spec, as in {example}")
            if not only_report and data is None:
                raise missing_data()
            from danetc.tasks.grid.request import GridRequest
            from danetc.tasks.training.request import TrainingRequest

            training, grid = (
                {each.name: given.pop(each.name) for each in fields(kind) if each.name in given}
                for kind in (TrainingRequest, GridRequest)
            )
            try:
                request: GridRequest[Any] = GridRequest(
                    specs=specs,
                    axes=tuple(axes),
                    training=TrainingRequest(spec="", data=data or "", **training),
                    **grid,
                )
            except UserError as error:
                raise click.UsageError(str(error)) from error
            return command(asked=request, only_report=only_report, **given)

        directory = click.option(
            "-o",
            "--output",
            metavar="DIR",
            type=click.Path(path_type=Path, file_okay=False),
            default=Path(output),
            show_default=True,
            help=holds,
        )
        made = cast("Function", with_request)
        for option in reversed((training_options, directory, *_ENGINE, *_REPORT)):
            made = option(made)
        return made

    return decorate
