"""Facts of a network from its graph alone: counts, kinds, paths; and the text that shows them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, field
from functools import reduce
from typing import NamedTuple

from danetc.compiler.ir.at_node import per_step, products_of, site, weights_of, why_fixed
from danetc.compiler.ir.graph import Graph, Node
from danetc.compiler.ir.ops import OPS, text
from danetc.compiler.ir.ops.user import user_layers
from danetc.dsl.kinds import Kind
from danetc.dsl.neuron.program import NeuronProgram, called_with
from danetc.dsl.record import record


@record
class StageFacts:
    """Facts of a stage.

    Args:
        block_reads: kind of the inputs of all blocks.
        block_gives: kind of the outputs of all blocks (the row "PV" of Table I).
        gives: kind of the stage's output.
        fewest_neurons: smallest number of neurons on a path from the stem's output to the end of
            the stage.
    """

    name: str
    connection: str
    rule: str
    blocks: int
    shape: tuple[int, ...]
    block_reads: str
    block_gives: str
    gives: str
    fewest_neurons: int
    parameters: int


@record
class NeuronFacts:
    """A neuron or activation of a network, with the parameters of its declarations."""

    name: str
    parameters: dict[str, float | bool]
    surrogate: str
    surrogate_parameters: dict[str, float | bool]
    text: str


@record
class Summary:
    """Facts of a network. Operations are those of one image over all its time steps.

    Args:
        macs: multiply-accumulates.
        additions: additions that replace them if the input is spikes of either sign (an upper
            bound: silent inputs cost nothing).
        count_macs: share of ``macs`` with an integer input other than spikes.
        count_additions: additions that could replace ``count_macs`` at most, one for each unit of
            the input.
        products: number of products of values by each other, by their text: in ``q (k^T v)`` keys
            and values are multiplied first.
        fewest_neurons: smallest number of neurons on a path from an input to an output.
        most_neurons: largest number of neurons on such a path.
        user_layers: layers in Python, whose parameters and operations are not counted.
        vocabularies: number of different tokens of each input of tokens.
    """

    name: str
    steps: int
    inputs: dict[str, tuple[int, ...]]
    outputs: dict[str, tuple[int, ...]]
    parameters: int
    neurons_on_main_path: int
    neuron_layers: int
    macs: int
    additions: int
    count_macs: int
    count_additions: int
    products: dict[str, int]
    fewest_neurons: int
    most_neurons: int
    stages: tuple[StageFacts, ...]
    neuron_kinds: tuple[NeuronFacts, ...]
    user_layers: tuple[str, ...] = ()
    vocabularies: dict[str, int] = field(default_factory=dict)

    def as_dict(self) -> dict[str, object]:
        optional = ("user_layers", "vocabularies")
        return {key: x for key, x in asdict(self).items() if x or key not in optional}

    def __str__(self) -> str:
        heads, rows, right = stage_table(self)
        table = [_in_columns([heads, *rows], right)] if rows else []
        facts = _in_columns(lines(self), frozenset())
        return "\n".join([f"{self.name}, T = {self.steps}", *table, facts])


def is_neuron(graph: Graph, node: Node) -> bool:
    """Return True for a layer of neurons, whose declaration has a state or a step function. Others
    are activation functions."""
    return node.op == "neuron" and graph.program(node).is_neuron


def fires(graph: Graph, node: Node) -> bool:
    """Return True for a layer of neurons with a step function, whose gradient is its surrogate's."""
    return node.op == "neuron" and graph.program(node).has_step


def on_main_path(node: Node) -> bool:
    """Return True for stem, branches, interblock modules and head, False for shortcuts."""
    return "shortcut" not in node.scope


def neurons_on_paths(graph: Graph, sources: Iterable[int]) -> dict[int, tuple[int, int]]:
    """Return the fewest and the most neurons on a path from ``sources`` to each node after them.

    Paths through time are not counted.
    """
    found = dict.fromkeys(sources, (0, 0))
    for node in graph.nodes.values():
        ways = [found[i] for i in node.inputs if i in found]
        if ways and node.id not in found:
            fewest, most = zip(*ways, strict=True)
            own = is_neuron(graph, node)
            found[node.id] = min(fewest) + own, max(most) + own
    return found


class Operations(NamedTuple):
    """Number of operations for one image over all time steps (see ``Summary``)."""

    macs: int
    additions: int
    count_macs: int
    count_additions: int


def operations(graph: Graph) -> Operations:
    """Return the operations of layers of weights and of products, by the kinds of factors."""
    macs = additions = count_macs = count_additions = 0
    for node in graph.nodes.values():
        for product in products_of(graph, node):
            varies = any(value.varies for value in OPS[node.op].reads(site(graph, node).values))
            number = product.macs * (graph.steps if varies else 1)
            if any(kind.needs_only_additions for kind in product.kinds):
                additions += number
                continue
            macs += number
            whole = [kind.most for kind in product.kinds if kind.is_integer]
            if whole:
                count_macs += number
                count_additions += number * min(whole)
    return Operations(macs, additions, count_macs, count_additions)


def summarise(graph: Graph) -> Summary:
    """Return all facts of a network."""
    from_stem = neurons_on_paths(graph, [graph.stem_output])
    from_input = neurons_on_paths(graph, [node.id for node in graph.inputs])
    paths = [from_input[id] for id in graph.outputs.values() if id in from_input] or [(0, 0)]
    fewest, most = zip(*paths, strict=True)
    neurons = [node for node in graph.nodes.values() if is_neuron(graph, node)]
    layers = [node for node in graph.nodes.values() if node.op == "neuron"]
    stages = []
    for stage in graph.stages:
        depth = len(stage.scope)
        inside = [node for node in graph.nodes.values() if node.scope[:depth] == stage.scope]
        result = graph[stage.result]
        stages.append(
            StageFacts(
                ".".join(stage.scope),
                stage.connection,
                stage.rule,
                len(stage.blocks),
                result.value.shape,
                _kinds(graph, (block.input for block in stage.blocks)),
                _kinds(graph, (block.output for block in stage.blocks)),
                str(result.value.kind),
                from_stem.get(stage.result, (0, 0))[0],
                sum(weights_of(graph, node) for node in inside),
            )
        )
    return Summary(
        graph.name,
        graph.steps,
        {node.name: node.value.shape for node in graph.inputs},
        {name: graph[id].value.shape for name, id in graph.outputs.items()},
        sum(weights_of(graph, node) for node in graph.nodes.values()),
        sum(on_main_path(node) for node in neurons),
        len(neurons),
        *operations(graph),
        dict(Counter(_product(node) for node in graph.nodes.values() if OPS[node.op].products)),
        min(fewest),
        max(most),
        tuple(stages),
        tuple(map(_facts, dict.fromkeys(map(graph.program, layers)))),
        tuple(f"{node.path} ({node.attrs['place']})" for node in user_layers(graph)),
        {n.name: n.value.kind.high + 1 for n in graph.inputs if n.value.kind.is_token},
    )


def _product(node: Node) -> str:
    what, _ = OPS[node.op].label(node.attrs)
    return what.rstrip(",").replace("ᵀ", "^T")


def _facts(program: NeuronProgram) -> NeuronFacts:
    surrogate = program.surrogate
    text = called_with(program)
    if surrogate is not None:
        text += f", surrogate {called_with(surrogate)}"
    return NeuronFacts(
        program.name,
        dict(program.parameters),
        surrogate.name if surrogate is not None else "",
        dict(surrogate.parameters) if surrogate is not None else {},
        text,
    )


def _kinds(graph: Graph, ids: Iterable[int]) -> str:
    """Return the common kind of several values."""
    return str(reduce(Kind.__or__, (graph[id].value.kind for id in ids)))


def why_not_stepwise(graph: Graph, output: str | None = None) -> str | None:
    """Return the reason why a run over T steps does not contain the results for each smaller T, or None.

    It contains them if the mean of the outputs of steps 1 .. t is the output of a run with T = t, for every t.
    Values that vary over time depend on earlier steps alone; after a mean over time all operations
    must be linear. ``output`` names one of several.
    """
    chosen = graph.outputs[output] if output is not None else next(iter(graph.outputs.values()))
    needed = graph.behind([chosen])
    averaged: set[int] = set()
    timed = False
    for id, node in graph.nodes.items():
        if id not in needed:
            continue
        row = OPS[node.op]
        still = not any(graph[operand].value.varies for operand in node.inputs)
        makes_time = node.value.varies and still and node.op != "repeat"
        timed = timed or per_step(graph, node) or makes_time
        if row.whole_run:
            return f"`{node.path}` ({node.op}) spreads its spikes over all T steps"
        if row.ahead(node.attrs):
            return f"what `{node.path}` ({node.op}) gives at a step depends on later ones"
        if not averaged.isdisjoint(node.inputs):
            if not row.linear:
                return f"`{node.path}` ({node.op}) follows a mean over time and is not linear"
            averaged.add(id)
        elif row.time == "reduces":
            averaged.add(id)
    if not timed:
        return "nothing in the network varies over time, so its output is the same for every T"
    return None


def why_steps_are_fixed(graph: Graph) -> str:
    """Why a model only runs for T = ``graph.steps``; empty if it takes sequences of any length."""
    timeless: set[int] = set()  # values that depend on time only through a mean
    for node in graph.nodes.values():
        if what := why_fixed(graph, node):
            return f"{node.path} has {what} for each of them"
        if OPS[node.op].time in ("reduces", "constant"):
            timeless.add(node.id)
        elif node.inputs and timeless.issuperset(node.inputs):
            if node.value.varies:
                return f"{node.path}, behind a mean over time, runs that long"
            timeless.add(node.id)
    return ""


def why_whole(graph: Graph) -> str:
    """Why a model cannot run step by step; empty if it can."""
    ahead = (node for node in graph.nodes.values() if OPS[node.op].ahead(node.attrs))
    return next((f"what {node.path} gives at a step depends on later ones" for node in ahead), "")


# -- as text --------------------------------------------------------------------------------------

NOTES = (
    "spike: 0 or 1; 0 .. n: whole numbers (of 1/4: times 1/4); a block's: of all blocks of the stage",
    "neurons: the fewest on any path from the stem's output to the stage's end",
)
"""Notes on the table."""


def _in_columns(rows: Sequence[Sequence[str]], right: frozenset[int]) -> str:
    """Return rows as lines, each column as wide as its widest cell."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    aligned = (
        "  ".join(
            cell.rjust(width) if place in right else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )
    return "\n".join(line.rstrip() for line in aligned)


def stage_table(
    summary: Summary,
) -> tuple[tuple[str, ...], list[tuple[str, ...]], frozenset[int]]:
    """Return heads, rows and the columns of numbers of a table with a row for each stage."""
    heads = (
        "stage", "connection", "rule", "blocks", "C x H x W", "block reads", "block gives",
        "stage gives", "neurons", "params",
    )  # fmt: skip
    rows: list[tuple[str, ...]] = [
        (
            stage.name.removeprefix("stages."),
            stage.connection,
            stage.rule,
            str(stage.blocks),
            text(stage.shape),
            stage.block_reads,
            stage.block_gives,
            stage.gives,
            str(stage.fewest_neurons),
            f"{stage.parameters:,}",
        )
        for stage in summary.stages
    ]
    return heads, rows, frozenset({3, 8, 9})


def lines(summary: Summary) -> list[tuple[str, str]]:
    """Return names and texts of lines; a line without a name continues the one before."""
    several = len(summary.inputs) > 1
    takes = (
        f"{f'{name} ' * several}{text(shape)}"
        + (f" of {vocabulary:,} tokens" if (vocabulary := summary.vocabularies.get(name)) else "")
        for name, shape in summary.inputs.items()
    )
    found = [
        ("takes", ", ".join(takes)),
        ("gives", ", ".join(f"{name} {text(shape)}" for name, shape in summary.outputs.items())),
        ("parameters", f"{summary.parameters:,}"),
        (
            "neurons",
            f"{summary.neurons_on_main_path} layers on the main path, {summary.neuron_layers} in all; "
            f"{summary.fewest_neurons} to {summary.most_neurons} on a path from input to output",
        ),
        *(("", kind.text) for kind in summary.neuron_kinds),
    ]
    if summary.products:
        products = (f"{count} x {what}" for what, count in summary.products.items())
        found.append(("attention", ", ".join(products)))
    if summary.user_layers:
        found.append(("not counted", ", ".join(summary.user_layers)))
    counts = ""
    if summary.count_macs:
        counts = (
            f", {summary.count_macs:,} of them by whole numbers "
            f"(or {summary.count_additions:,} additions at most)"
        )
    return [
        *found,
        ("per image", f"{summary.macs:,} multiply-accumulates{counts}"),
        ("", f"{summary.additions:,} additions, where the input is spikes"),
    ]
