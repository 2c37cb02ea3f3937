"""``danetc summary``: what follows from a network's topology."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from danetc.dsl.recipe.schema import COPIES
from danetc.options import (
    PRECISIONS,
    Setting,
    json_option,
    spec_options,
)
from danetc.output.echo import echo, json_text

if TYPE_CHECKING:
    from danetc.compiler.plans.memory import MemoryPlan


@click.command("summary")
@spec_options
@click.option(
    "--batch",
    type=click.IntRange(1),
    metavar="N",
    help="Predict the memory of a training step of N images, for each backend and memory policy.",
)
@click.option(
    "--precision",
    type=click.Choice(PRECISIONS),
    default="float32",
    show_default=True,
    help="Of that step, as a recipe names it.",
)
@click.option(
    "--optimizer",
    type=click.Choice(list(COPIES)),
    default="sgd_momentum",
    show_default=True,
    help="Of that step.",
)
@json_option
def command(
    spec: str,
    network: str | None,
    settings: dict[str, Setting],
    batch: int | None,
    precision: str,
    optimizer: str,
    as_json: bool,
) -> None:
    """Print what follows from a network's topology.

    Stage by stage: what its blocks read and give and what it gives (spikes, whole numbers, reals),
    the fewest neurons between the stem and its end, and parameters; operations per image. With
    --batch, also the predicted peak of a training step's tensors on a CPU.
    """
    from danetc.tasks.memory import DTYPES, predictions
    from danetc.tasks.networks import compile_spec

    compiled = compile_spec(spec, network=network, settings=settings)
    plans: list[MemoryPlan] = []
    if batch is not None:
        plans = predictions(compiled.graph, batch, DTYPES[precision], optimizer)
    if as_json:
        record = compiled.summary.as_dict()
        if batch is not None:
            record = {**record, "memory": [plan.as_dict() for plan in plans]}
        echo(json_text(record))
        return
    from danetc.output.summary import print_summary

    print_summary(compiled.summary)
    if plans:
        _print_memory(plans, optimizer)


def _print_memory(plans: Sequence[MemoryPlan], optimizer: str) -> None:
    """Print the predictions, one a line."""
    from danetc.compiler.plans.memory import show_size
    from danetc.output.summary import print_table

    echo()
    heads = ("backend", "policy", "peak", "weights", "optimizer", "gradients", "saved", "other")
    rows = [
        (
            plan.backend,
            plan.policy,
            *(
                show_size(size)
                for size in (
                    plan.total,
                    plan.weights,
                    plan.optimizer,
                    plan.gradients,
                    plan.saved,
                    plan.transient,
                )
            ),
        )
        for plan in plans
    ]
    print_table(heads, rows, right=set(range(2, len(heads))))
    first = plans[0]
    echo(
        f"predicted tensors at the peak of a training step on a CPU: batch {first.batch}, "
        f"{first.dtype}, {optimizer}"
    )
