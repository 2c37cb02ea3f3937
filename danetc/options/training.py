"""The options of a training, alone or in a grid."""

from __future__ import annotations

import click

from danetc.options import (
    Function,
    allow_changed_option,
    backend_option,
    classes_option,
    deny_warnings_option,
    init_option,
    memory_option,
    set_option,
    subset_seed_option,
)

_TRAINING = (
    click.option(
        "--recipe",
        metavar="NAME",
        help="A recipe that the file sees.  [default: the file's own, else the one named as the "
        "data]",
    ),
    set_option,
    click.option(
        "--seed",
        type=click.IntRange(0, 2**32 - 1),
        help="The seed of all random numbers.  [default: the recipe's]",
    ),
    click.option(
        "--seeds",
        type=click.IntRange(1, 1000),
        metavar="N",
        help="How many trials to run, with seed, seed + 1, ...  [default: the recipe's trials; 1 with "
        "--seed]",
    ),
    classes_option,
    subset_seed_option,
    click.option(
        "--on-unreadable",
        type=click.Choice(["stop", "skip"]),
        default="stop",
        show_default=True,
        help="What to do about a file that cannot be read.",
    ),
    init_option,
    click.option(
        "--train-output",
        metavar="NAME",
        help="The output that the loss is computed on, where the network has several.",
    ),
    click.option(
        "--deterministic/--fastest",
        default=True,
        help="On a GPU: deterministic kernels, or the fastest.",
    ),
    backend_option,
    memory_option,
    click.option(
        "--channels-last",
        is_flag=True,
        help="Store feature maps with channels last: faster on a GPU, and for large images on a "
        "CPU.",
    ),
    deny_warnings_option,
    allow_changed_option,
)


def training_options(command: Function) -> Function:
    """What decides a training, of one network (``train``) as of each cell of a grid (``compare``).

    Beside the spec, its network and the data.
    """
    for option in reversed(_TRAINING):  # the last decorator is the first line of --help
        command = option(command)
    return command
