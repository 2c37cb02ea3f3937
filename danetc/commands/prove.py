"""``danetc prove``: the paper's propositions on a network."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from danetc.options import json_option, spec_options
from danetc.output.echo import echo, json_text
from danetc.setting import Setting

if TYPE_CHECKING:
    from danetc.tasks.proofs import Proof


@click.command("prove")
@spec_options
@click.option(
    "--numbers/--no-numbers",
    default=True,
    show_default=True,
    help="Check by numbers what is stated of gradients and variances; without, torch is not needed.",
)
@json_option
def command(
    spec: str, network: str | None, settings: dict[str, Setting], numbers: bool, as_json: bool
) -> None:
    """Check the paper's propositions on a network.

    Each is stated for every stage: as a fact of the topology, as a check by numbers (of gradients
    that autograd takes and of variances at initialisation, against their formulas), or as one that
    does not apply, with the reason. Gradients are those of blocks whose last norm starts at 0, at
    T = 1, in float64: with more time steps the reset and the leak add terms. A bound is vacuous
    where the rule that it is about gives less than the plain chain. Numbers are checked for 1,000
    blocks at most.

    Exits with 1 where a check fails, or the spec is wrong.
    """
    from danetc.tasks.networks import compile_spec
    from danetc.tasks.proofs import prove

    graph = compile_spec(spec, network=network, settings=settings).lowered.graph
    if sys.stderr.isatty():
        from danetc.output.console import VisibleConsole

        with VisibleConsole(sys.stderr).status("") as status:
            proof = prove(graph, status.update, numbers=numbers)
    else:
        proof = prove(graph, numbers=numbers)
    if as_json:
        echo(json_text(proof.as_dict()))
    else:
        print_proof(proof, numbers=numbers)
    if not proof.holds:
        raise click.exceptions.Exit(1)


def print_proof(proof: Proof, *, numbers: bool = True) -> None:
    """Print the findings, proposition by proposition."""
    from danetc.tasks.proofs import TITLES

    echo(f"{proof.network}, T = {proof.steps}")
    if proof.steps != 1:
        echo(f"Propositions 1, 3 and 4 are {'checked' if numbers else 'stated'} at T = 1")
    for number, title in TITLES.items():
        found = proof.of(number)
        if not found:
            continue
        echo()
        echo(f"Proposition {number}: {title}" if number.isdigit() else f"Paths: {title}")
        width = max(len(item.part) for item in found)
        for item in found:
            mark = f"{item.status}: " if item.status in ("holds", "vacuous", "fails") else ""
            echo(f"  {item.part.ljust(width)}  {mark}{item.says}")
