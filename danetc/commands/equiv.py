"""``danetc equiv``: whether two specs describe one network."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from danetc.options import deny_warnings_option, json_option, set_option
from danetc.output.echo import echo, json_text
from danetc.setting import Setting

if TYPE_CHECKING:
    from danetc.compiler.ir.graph import Graph, Node
    from danetc.tasks.equivalence import Verdict

SHOWN = 10


@click.command("equiv")
@click.argument("left", metavar="A")
@click.argument("right", metavar="B")
@click.option(
    "-n",
    "--network",
    "networks",
    multiple=True,
    metavar="NAME",
    help="The network to take from both files; given twice, that of A and that of B.",
)
@set_option
@click.option(
    "--numbers/--no-numbers",
    default=True,
    show_default=True,
    help="Where the graphs differ, compare a training step of both.",
)
@deny_warnings_option
@json_option
def command(
    left: str,
    right: str,
    networks: tuple[str, ...],
    settings: dict[str, Setting],
    numbers: bool,
    as_json: bool,
) -> None:
    """Say whether two specs describe one network.

    Names, the order of declarations and the way in which sums are written do not count. The answer
    is `equal`, with the layers that correspond; `equal in numbers`, where the graphs differ but a
    training step in float64 on random input gives the same outputs and gradients; or `different`,
    with the first operation that differs and its place in both specs. --set holds for both.

    Exits with 0 where they are equal, 1 where they are different or a spec is wrong (the error then
    says so), 2 for wrong usage.
    """
    from danetc.tasks.equivalence import equivalence
    from danetc.tasks.networks import compile_spec

    if len(networks) > 2:
        raise click.UsageError("-n is given once for both specs, or twice")
    first, second = (networks[0], networks[-1]) if networks else (None, None)

    def graph(spec: str, network: str | None) -> Graph:
        return compile_spec(spec, network=network, settings=settings).lowered.graph

    graphs = graph(left, first), graph(right, second)
    if sys.stderr.isatty():
        from danetc.output.console import VisibleConsole

        with VisibleConsole(sys.stderr).status("comparing the graphs") as status:
            verdict = equivalence(*graphs, numbers=numbers, on_progress=status.update)
    else:
        verdict = equivalence(*graphs, numbers=numbers)
    if as_json:
        echo(json_text(verdict.as_dict()))
    else:
        print_verdict(verdict)
    if verdict.word == "different":
        raise click.exceptions.Exit(1)


def print_verdict(verdict: Verdict) -> None:
    """Print a verdict for people."""
    echo(f"{verdict.left.name} and {verdict.right.name}: {verdict.word}")
    if verdict.same is not None:
        _print_same(verdict)
    else:
        _print_difference(verdict)
    if verdict.numbers is not None:
        _print_numbers(verdict)
    elif verdict.skipped is not None:
        echo(f"no numbers compared: {verdict.skipped}")


def _print_same(verdict: Verdict) -> None:
    assert verdict.same is not None
    pairs = verdict.pairs()
    renamed = [(a.path, b.path) for a, b in pairs if a.path != b.path]
    names = f"{len(renamed)} under other names" if renamed else "all under the same names"
    echo(f"{len(pairs)} layers with weights correspond, {names}")
    for a, b in renamed[:SHOWN]:
        echo(f"  {a} = {b}")
    if len(renamed) > SHOWN:
        echo(f"  ... and {len(renamed) - SHOWN} more (--json has all)")
    if verdict.same.to_the_bit:
        echo("forward results are the same bit for bit, gradients to rounding")
    else:
        echo("additions stand in another order: results are the same to rounding")


def _print_difference(verdict: Verdict) -> None:
    difference = verdict.difference
    assert difference is not None
    echo(difference.reason)
    for graph, node in ((verdict.left, difference.left), (verdict.right, difference.right)):
        if node is None:
            echo(f"  {graph.name}: all has a counterpart")
        else:
            echo(f"  {graph.name}: {node.path}, {node.origin}{_stage(graph, node)}")


def _stage(graph: Graph, node: Node) -> str:
    """The stage of a node: its connection and rule, and where it is written."""
    for stage in graph.stages:
        if node.scope[: len(stage.scope)] == stage.scope:
            return f" (via {stage.connection} by {stage.rule}, {stage.origin})"
    return ""


def _print_numbers(verdict: Verdict) -> None:
    assert verdict.numbers is not None
    seen = verdict.numbers.agreement
    size = " x ".join(map(str, seen.size))
    echo(
        f"a training step with the same weights (by {verdict.numbers.by}) in float64, T = "
        f"{verdict.left.steps}, input {size}:"
    )
    echo(
        f"  outputs differ by {seen.outputs:.1e}, gradients by {seen.gradients:.1e} of the largest"
    )
    if seen.same and seen.silent:
        echo(
            f"  which proves nothing: `{seen.silent[0]}`"
            + (f" and {len(seen.silent) - 1} more" if seen.silent[1:] else "")
            + " did not take part (always or never fires, or has no gradient)"
        )
