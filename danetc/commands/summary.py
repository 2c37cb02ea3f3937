"""``danetc summary``: what follows from a network's topology."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from danetc.arguments import PRECISIONS
from danetc.dsl.recipe.items.optimizers import COPIES
from danetc.options import json_option, spec_options
from danetc.output.echo import echo, json_text
from danetc.setting import Setting

if TYPE_CHECKING:
    from danetc.compiler.plans.memory import StepMemory


@click.command("summary")
@spec_options
@click.option(
    "--batch",
    type=click.IntRange(1),
    metavar="N",
    help="Also what a training step of N images saves for its backward pass, exactly, "
    "for each backend and memory policy.",
)
@click.option(
    "--precision",
    type=click.Choice(PRECISIONS),
    default="float32",
    show_default=True,
    help="Precision of that step, as a recipe names it.",
)
@click.option(
    "--optimizer",
    type=click.Choice(list(COPIES)),
    default="sgd_momentum",
    show_default=True,
    help="The optimizer of that step.",
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
    """Print parameters, operations and memory of a network.

    For each stage: the kinds of its blocks' inputs and outputs and of its own output (spikes, whole
    numbers, reals), the fewest neurons between the stem and its end, and parameters; operations per
    image. With --batch, also the bytes of tensors that a training step holds when its forward pass
    ends (its peak is more: `danetc train --dry-run` measures that).
    """
    from danetc.tasks.memory_budget import DTYPES, step_memories
    from danetc.tasks.networks import compile_spec

    compiled = compile_spec(spec, network=network, settings=settings)
    plans: list[StepMemory] = []
    if batch is not None:
        plans = step_memories(compiled.graph, batch, DTYPES[precision], optimizer)
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


def _print_memory(plans: Sequence[StepMemory], optimizer: str) -> None:
    """Print what steps hold, one a line."""
    from danetc.compiler.plans.memory import show_size
    from danetc.output.summary import print_table

    echo()
    heads = ("backend", "policy", "saved", "weights", "optimizer", "together")
    rows = [
        (
            plan.backend,
            plan.policy,
            *(show_size(size) for size in (plan.saved, plan.weights, plan.optimizer, plan.total)),
        )
        for plan in plans
    ]
    print_table(heads, rows, right=set(range(2, len(heads))))
    first = plans[0]
    echo(
        f"tensors held when the forward pass of a training step ends: batch {first.batch}, "
        f"{first.dtype}, {optimizer}; the peak of the step is more"
    )
