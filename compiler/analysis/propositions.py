"""The paper's propositions for a graph: checks of their premises, and plans for numerical checks.

``danetc.runtime.checks.propositions`` executes the plan of each stage.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import replace
from math import inf, nan

from danetc.compiler.analysis.initial_values import (
    first_output,
    in_branch,
    initial_values,
    last_norms,
)
from danetc.compiler.analysis.summary import fires, summarise
from danetc.compiler.ir.at_node import weights
from danetc.compiler.ir.graph import Block, Graph, Node, Stage
from danetc.compiler.ir.ops import OPS
from danetc.compiler.ir.rule_forms import OutputOf, shown
from danetc.compiler.ir.segment import SegmentError, segment
from danetc.dsl.neuron.opcodes import ConstantError
from danetc.dsl.neuron.program import NeuronProgram
from danetc.dsl.record import record


class NotApplicable(Exception):
    """Raised if a proposition does not apply to a stage. ``str()`` completes "because ..."."""


# -- Propositions 1 and 4: gradients of a stage whose blocks start as the identity -----------------


@record
class GradientPlan:
    """Blocks 1, 2, ... of a stage, with an initial weight of 0 for the last norm of each branch.

    Args:
        graph: Takes the output O^0 of block 0. Returns the input of the interblock neuron
            (``drive1``, ...) and the output (``out1``, ...) of each block, and ``result``, the
            output of the stage.
        programs: Interblock neurons; None if a block has no module after the join.
        terms: Outputs that blocks 1, 2, ... and the result add up, with their factors.
    """

    graph: Graph
    programs: tuple[NeuronProgram | None, ...]
    terms: tuple[Mapping[int, float], ...]

    @property
    def neurons(self) -> int:
        """Number of interblock neurons between the first and the last block."""
        return sum(program is not None for program in self.programs)

    @property
    def fewest(self) -> tuple[float, ...]:
        """Minimum number of later blocks on a path from each block to the result, or inf."""
        *blocks, result = self.terms
        found = [inf] * (len(blocks) + 1)
        for j in reversed(range(len(found))):
            later = (found[i] + 1 for i, terms in enumerate(blocks, 1) if j in terms)
            found[j] = 0.0 if j in result else min(later, default=inf)
        return tuple(found)

    def bound(self) -> str:
        """Return the lower bound of the gradient; g1 is the derivative of block 1's neuron."""
        *blocks, result = self.terms
        if self.fewest[0] == 0:
            return f"at least {result[0]:g}"
        if self.fewest[0] > 1:
            return f"at least that of the shortest paths, through {self.fewest[0]:g} blocks"
        parts = []
        for i, terms in enumerate(blocks, 1):
            if factor := result.get(i, 0.0) * terms.get(0, 0.0):
                g = f"{f'{factor:g} * ' * (factor != 1)}g{i}"
                parts.append(g if self.programs[i - 1] else f"{factor:g}")
        equality = " (with two blocks, the bound is an equality)"
        return parts[0] + equality if len(blocks) == 1 else f"at least {' + '.join(parts)}"


def plan_chain(graph: Graph, stage: Stage) -> GradientPlan:
    """Plan the check of Proposition 1 for a stage. Raises NotApplicable.

    On a chain of blocks that start as the identity, dO^{l+k}/dO^l is the product of the surrogate
    derivatives of the k interblock neurons (Eq. 3), or 1 without such neurons. The proof assumes
    that these neurons return their input spikes.
    """
    sums = _sums(stage)
    for i, (says, terms) in enumerate(sums):
        if terms != {i: 1.0}:
            last = "block before it" if i + 1 < len(sums) else "last block"
            raise NotApplicable(f"{says}, not the {last} alone")
    plan = _plan(graph, stage, sums)
    kind = graph[stage.blocks[0].output].value.kind
    spikes = sorted({0.0, 1.0, kind.low * kind.unit, kind.high * kind.unit})
    for i, program in enumerate(plan.programs, 1):
        if program is not None and any(item.random for item in program.learnables):
            raise NotApplicable(f"the interblock neuron of block {i} starts at random numbers")
        for x in spikes if program else ():
            try:
                given = first_output(program, x)
            except (ConstantError, OverflowError):
                given = nan
            if given != x:
                raise NotApplicable(
                    f"the interblock neuron of block {i} returns {given:g} for an input of {x:g}; "
                    "the proof assumes that it fires exactly where its input is a spike"
                )
    return plan


def plan_dense(graph: Graph, stage: Stage) -> GradientPlan:
    """Plan the check of Proposition 4 for a stage. Raises NotApplicable.

    If blocks and the stage add up outputs with nonnegative factors, the derivative of the stage's
    result by O^l is the sum over all paths of the products of the derivatives on a path. If no
    derivative is negative, the shortest paths are a lower bound. For Eq. 11, this is the bound of
    Eq. 12, g_{n-1}; for Listing 1 it is 1.
    """
    sums = _sums(stage)
    paths = [1] + [0] * len(sums)
    for i, (says, terms) in enumerate(sums, 1):
        if min(terms.values(), default=0.0) < 0:
            raise NotApplicable(f"{says}, with a negative factor")
        paths[i] = sum(paths[j] for j in terms)
    if paths[-1] < min(2, len(stage.blocks) - 1):
        many = "a single path" if paths[-1] else "no path"
        raise NotApplicable(
            f"rule {stage.rule} leaves {many} from block 0 to the result of the stage"
        )
    return _plan(graph, stage, sums)


def _fed(stage: Stage) -> Iterator[tuple[int, Block]]:
    return enumerate(stage.blocks[1:], 1)


def _sums(stage: Stage) -> list[tuple[str, Mapping[int, float]]]:
    """Return the inputs of the shortcuts of blocks 1, 2, ..., and the result of the stage.

    Each is a description and the factors of the outputs that are added up, by block.
    """
    if len(stage.blocks) < 2:
        raise NotApplicable("the stage has one block")
    forms = [(f"feeds block {i} with", block.feeds[-1][1]) for i, block in _fed(stage)]
    found: list[tuple[str, Mapping[int, float]]] = []
    for what, form in [*forms, ("gives", stage.result_form)]:
        says = f"rule {stage.rule} {what} {shown(form)}"
        terms = stage.terms(form) or {}
        sums = {source.block: f for source, f in terms.items() if isinstance(source, OutputOf)}
        if not sums or len(sums) < len(terms):
            raise NotApplicable(f"{says}, which is not a sum of earlier blocks with fixed factors")
        found.append((says, {block: factor for block, factor in sums.items() if factor}))
    return found


def _plan(graph: Graph, stage: Stage, sums: list[tuple[str, Mapping[int, float]]]) -> GradientPlan:
    last = last_norms(graph)
    norms = {_zeroed(last.get(block.scope), stage, i, block) for i, block in _fed(stage)}
    nodes = {
        id: replace(node, attrs={**node.attrs, "init": 0.0}) if id in norms else node
        for id, node in graph.nodes.items()
    }
    start = replace(graph, steps=1, nodes=nodes)
    known = initial_values(start)
    outputs: dict[str, int] = {}
    programs: list[NeuronProgram | None] = []
    for i, block in _fed(stage):
        if known[block.join] != known[block.feeds[-1][0]]:
            what = known[block.join]
            gives = f"is {what:g}" if isinstance(what, float) else "is not its input"
            raise NotApplicable(
                f"block {i} does not start as the identity with its last norm at 0: the input of "
                f"its interblock modules {gives}"
            )
        neuron = _interblock(graph, stage, i, block)
        if neuron is not None:
            outputs[f"drive{i}"] = neuron.inputs[0]
        outputs[f"out{i}"] = block.output
        programs.append(None if neuron is None else graph.program(neuron))
    try:
        part = segment(start, stage.blocks[0].output, {**outputs, "result": stage.result})
    except SegmentError as error:
        raise NotApplicable(f"{error} the blocks after block 0") from error
    return GradientPlan(part, tuple(programs), tuple(terms for _, terms in sums))


def _zeroed(norm: Node | None, stage: Stage, i: int, block: Block) -> int:
    """Return the last norm of a block. With a weight of 0, the block must equal its shortcut."""
    if norm is None:
        raise NotApplicable(f"block {i} has no norm that could start at 0")
    if not in_branch(block, norm) and block.after:
        raise NotApplicable(
            f"the last norm of a block follows the addition (`{norm.path}`), where a weight of 0 "
            f"silences the block: `zero_init` is an error for connection {stage.connection}"
        )
    return norm.id


def _interblock(graph: Graph, stage: Stage, i: int, block: Block) -> Node | None:
    """Return the spiking neuron after a block's join, or None if there are no modules."""
    found: list[Node] = []
    node = graph[block.output]
    while node.id != block.join:
        if node.op == "neuron" and graph.program(node).draws:
            raise NotApplicable(f"the interblock neuron of block {i} draws random numbers")
        if len(node.inputs) != 1:
            raise NotApplicable(f"`{node.path}` after the join of block {i} is a {node.op}")
        found.append(node)
        node = graph[node.inputs[0]]
    if not found:
        return None
    if len(found) > 1 or not fires(graph, found[0]):
        modules = " -> ".join(item.op for item in reversed(found))
        raise NotApplicable(f"block {i} has {modules} after its join, not a single spiking neuron")
    return found[0]


# -- Proposition 2: surrogate factors --------------------------------------------------------------


def surrogate_factors(graph: Graph) -> Mapping[int, tuple[int, int]]:
    """Return the fewest and the most spiking neurons on paths from each node with weights to the
    outputs, by id.

    Each neuron multiplies the gradient by its surrogate derivative (Eqs. 5, 7). The weights of a
    neuron are followed by that neuron. Only paths through layers are counted: a path through time
    has more factors.
    """
    ways: dict[int, tuple[int, int]] = dict.fromkeys(graph.outputs.values(), (0, 0))
    result: dict[int, tuple[int, int]] = {}
    for node in reversed(list(graph.nodes.values())):
        if node.id not in ways:
            continue
        fewest, most = ways[node.id]
        own = int(fires(graph, node))
        for operand in node.inputs:
            low, high = ways.get(operand, (fewest + own, most + own))
            ways[operand] = min(low, fewest + own), max(high, most + own)
        if weights(graph, node):
            result[node.id] = fewest + own, most + own
    return dict(reversed(result.items()))


def factors_on_paths(graph: Graph) -> list[dict[str, object]]:
    """Return the numbers of neurons on paths from the weights of each part to the loss, and from the
    stem's output to the end of each stage."""
    parts: dict[str, list[tuple[str, int, int]]] = {}
    for id, factors in surrogate_factors(graph).items():
        parts.setdefault(_part(graph, graph[id]), []).append((graph[id].path, *factors))
    from_stem = {stage.name: stage.fewest_neurons for stage in summarise(graph).stages}
    rows: list[dict[str, object]] = []
    for part, layers in parts.items():
        _, fewest, most = zip(*layers, strict=True)
        says = (
            f"{_between(fewest)} on the shortest path from its weights to the loss, {_between(most)} on "
            "the longest"
        )
        row: dict[str, object] = {"part": part}
        row |= {"fewest": [min(fewest), max(fewest)], "most": [min(most), max(most)]}
        if part in from_stem:
            row["fewest_from_stem"] = from_stem[part]
            says += f"; {from_stem[part]} on the shortest from the stem's output to its end"
        each = [{"path": path, "fewest": low, "most": high} for path, low, high in layers]
        rows.append({**row, "says": says, "layers": each})
    return rows


def _part(graph: Graph, node: Node) -> str:
    """Return the stage of a node, or the part of the network outside stages."""
    stage = graph.stage_of(node)
    return ".".join(node.scope[:1] if stage is None else stage.scope) or node.name


def _between(numbers: tuple[int, ...]) -> str:
    low, high = min(numbers), max(numbers)
    return str(low) if low == high else f"{low} to {high}"


# -- Proposition 3: firing rates of the first neurons of blocks ------------------------------------


@record
class RatePlan:
    """First neurons of a stage's blocks, and the addends of their inputs at initialisation.

    Args:
        graph: Takes the input of the stage. Returns the input of blocks 1, 2, ... and the output of
            their first neuron (``in1``, ``spikes1``, ...).
        squares: For each block, the sum of the squared weights of the norms in its input.
        entry: For each block, the squared factor of the stage's input (0 if block 0 has a
            projection).
    """

    graph: Graph
    squares: tuple[float, ...]
    entry: tuple[float, ...]


def plan_rates(graph: Graph, stage: Stage) -> RatePlan:
    """Plan the check of Proposition 3 for a stage. Raises NotApplicable.

    If the outputs of norms are added up (PA-A), the variance of the input of block l is the sum of
    their squared weights. The paper concludes that the firing rate of its first neuron grows with
    l.
    """
    users = graph.users()
    squares: list[float] = []
    entries: list[float] = []
    outputs: dict[str, int] = {}
    before: Mapping[int, float] = {}
    for i, block in _fed(stage):
        readers = [graph[user] for user in users[block.input]]
        neurons = [reader.id for reader in readers if fires(graph, reader)]
        if not neurons:
            names = " and ".join(sorted({reader.op for reader in readers} - {"add"}))
            raise NotApplicable(f"no neuron reads the input of block {i}, but {names}")
        addends = _addends(graph, block.input, stage.entry)
        for id in addends:
            if id != stage.entry and OPS[graph[id].op].norm is None:
                raise NotApplicable(
                    f"block {i} reads a sum that contains `{graph[id].path}`, a {graph[id].op}, "
                    "besides norms"
                )
        if any(abs(addends.get(id, 0.0)) < abs(factor) for id, factor in before.items()):
            raise NotApplicable(f"block {i} does not read everything that block {i - 1} reads")
        norms = [(graph[id], factor) for id, factor in addends.items() if id != stage.entry]
        squares.append(sum((f * float(norm.attrs["init"] or 0.0)) ** 2 for norm, f in norms))
        entries.append(addends.get(stage.entry, 0.0) ** 2)
        outputs |= {f"in{i}": block.input, f"spikes{i}": neurons[0]}
        before = addends
    if len(stage.blocks) < 3:
        raise NotApplicable("the stage has fewer than two blocks after its opening block")
    try:
        return RatePlan(segment(graph, stage.entry, outputs), tuple(squares), tuple(entries))
    except SegmentError as error:
        raise NotApplicable(f"{error} the stage") from error


def _addends(graph: Graph, id: int, entry: int) -> Mapping[int, float]:
    """Return the terms of a sum and their factors; nested sums and multiples are expanded."""
    terms: defaultdict[int, float] = defaultdict(float)
    reached = {id: 1.0}
    for node in reversed(list(graph.nodes.values())):
        factor = reached.get(node.id)
        if factor is None:
            continue
        if node.id != entry and node.op == "add":
            factors = [1.0] * len(node.inputs)
        elif node.id != entry and node.op == "affine" and node.attrs["offset"] == 0.0:
            factors = [float(node.attrs["factor"] or 0.0)]
        else:
            terms[node.id] += factor
            continue
        for operand, own in zip(node.inputs, factors, strict=True):
            reached[operand] = reached.get(operand, 0.0) + own * factor
    return terms
