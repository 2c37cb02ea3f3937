"""The paper's propositions for a graph: where they apply, and what they predict.

Facts of the graph are computed here, and checks by numbers (``danetc.runtime.checks.propositions``)
are planned for each stage, or refused with a reason.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import replace

from danetc.compiler.analysis.initial_values import (
    in_branch,
    initial_values,
    last_norms,
    with_zeros,
)
from danetc.compiler.analysis.summary import fires
from danetc.compiler.ir.at_node import weights
from danetc.compiler.ir.graph import Block, Graph, Node, Stage
from danetc.compiler.ir.ops import OPS
from danetc.compiler.ir.rule_forms import OutputOf, shown
from danetc.compiler.ir.segment import SegmentError, segment
from danetc.dsl.neuron.program import NeuronProgram
from danetc.dsl.record import record


class NotApplicable(Exception):
    """A proposition does not apply to a stage. ``str()`` is the reason, read after "because"."""


# -- Propositions 1 and 4: gradients between blocks that start as the identity ---------------------


@record
class GradientPlan:
    """Blocks of a stage after the first one, with the last norm of each branch at 0.

    Args:
        graph: takes the output O^0 of block 0 and returns, for each block i from 1 on, the input of
            its interblock neuron (``drive1``, ...) and its output (``out1``, ...).
        programs: those neurons; None if a block has no module after the join.
        dense: True if the input of block i is the sum of all blocks before it, False if it is the
            last one.
    """

    graph: Graph
    programs: tuple[NeuronProgram | None, ...]
    dense: bool

    @property
    def neurons(self) -> int:
        """Number of interblock neurons between the first and the last block."""
        return sum(program is not None for program in self.programs)


def plan_chain(graph: Graph, stage: Stage) -> GradientPlan:
    """Proposition 1 for a stage. Raises NotApplicable.

    On a chain of blocks that start as the identity, dO^{l+k}/dO^l is the product of the surrogate
    derivatives of the k interblock neurons (Eq. 3), and 1 where there are none.
    """
    for i, block in enumerate(stage.blocks[1:], 1):
        if stage.terms(block.feed) != {OutputOf(i - 1): 1.0}:
            hint = "; Proposition 4 is about such stages" if _is_dense(stage) else ""
            raise NotApplicable(
                f"rule {stage.rule} feeds block {i} with {shown(block.feed)}, not with the block "
                f"before it{hint}"
            )
    return _plan(graph, stage, dense=False)


def plan_dense(graph: Graph, stage: Stage) -> GradientPlan:
    """Proposition 4 for a stage. Raises NotApplicable.

    Where block i is fed by the sum of all blocks before it, dO^{l+k}/dO^l =
    g_{l+k} * prod over i = l+1 .. l+k-1 of (1 + g_i), which is at least g_{l+k}.
    """
    if not _is_dense(stage):
        i, block = next((i, b) for i, b in _fed(stage) if not _is_sum_of_all(stage, i))
        raise NotApplicable(
            f"rule {stage.rule} feeds block {i} with {shown(block.feed)}, not with the sum of all "
            "blocks before it"
        )
    return _plan(graph, stage, dense=True)


def _fed(stage: Stage) -> Iterator[tuple[int, Block]]:
    return enumerate(stage.blocks[1:], 1)


def _is_dense(stage: Stage) -> bool:
    return all(_is_sum_of_all(stage, i) for i, _ in _fed(stage))


def _is_sum_of_all(stage: Stage, i: int) -> bool:
    return stage.terms(stage.blocks[i].feed) == {OutputOf(j): 1.0 for j in range(i)}


def _plan(graph: Graph, stage: Stage, *, dense: bool) -> GradientPlan:
    if len(stage.blocks) < 2:
        raise NotApplicable("the stage has one block")
    last = last_norms(graph)
    norms = {_zeroed(last.get(block.scope), stage, i, block) for i, block in _fed(stage)}
    start = with_zeros(replace(graph, steps=1), norms)
    known = initial_values(start)
    outputs: dict[str, int] = {}
    programs: list[NeuronProgram | None] = []
    for i, block in _fed(stage):
        if known[block.join] != known[block.input]:
            what = known[block.join]
            gives = f"gives {what:g}" if isinstance(what, float) else "is not its input"
            raise NotApplicable(
                f"block {i} is not the identity where its branch gives 0: before its interblock "
                f"modules it {gives}"
            )
        neuron = _interblock(graph, stage, i, block)
        if neuron is not None:
            outputs[f"drive{i}"] = neuron.inputs[0]
        outputs[f"out{i}"] = block.output
        programs.append(None if neuron is None else graph.program(neuron))
    try:
        part = segment(start, stage.blocks[0].output, outputs)
    except SegmentError as error:
        raise NotApplicable(str(error)) from error
    return GradientPlan(part, tuple(programs), dense)


def _zeroed(norm: Node | None, stage: Stage, i: int, block: Block) -> int:
    """Return the last norm of a block, which can make the block start as its shortcut."""
    if norm is None:
        raise NotApplicable(f"block {i} has no norm that could start at 0")
    if not in_branch(block, norm) and block.after:
        raise NotApplicable(
            f"the last norm of a block stands after the addition (`{norm.path}`), where starting it "
            "at 0 silences the block: `zero_init` is an error for connection "
            f"{stage.connection}"
        )
    return norm.id


def _interblock(graph: Graph, stage: Stage, i: int, block: Block) -> Node | None:
    """Return the spiking neuron after a block's join, or None if there are no modules."""
    found: list[Node] = []
    node = graph[block.output]
    while node.id != block.join:
        if len(node.inputs) != 1:
            raise NotApplicable(f"after the join of block {i} stands `{node.path}`, a {node.op}")
        found.append(node)
        node = graph[node.inputs[0]]
    if not found:
        return None
    if len(found) > 1 or not fires(graph, found[0]):
        modules = " -> ".join(item.op for item in reversed(found))
        raise NotApplicable(
            f"after the join of block {i} stands {modules}, not a spiking neuron alone"
        )
    return found[0]


# -- Proposition 2: surrogate factors --------------------------------------------------------------


@record
class Factors:
    """Smallest and largest number of spiking neurons on paths from a layer's weights to the loss.

    Every one of them multiplies the gradient by its surrogate derivative (Eqs. 5, 7). A neuron's
    own weights pass through that neuron.
    """

    path: str
    fewest: int
    most: int


def surrogate_factors(graph: Graph) -> Mapping[int, Factors]:
    """Return the surrogate factors on paths from each node with weights to the outputs, by id.

    Only paths through layers are counted: a path through time has more factors.
    """
    ways: dict[int, tuple[int, int]] = dict.fromkeys(graph.outputs.values(), (0, 0))
    result: dict[int, Factors] = {}
    for node in reversed(list(graph.nodes.values())):
        if node.id not in ways:
            continue
        fewest, most = ways[node.id]
        own = int(fires(graph, node))
        for operand in node.inputs:
            low, high = ways.get(operand, (fewest + own, most + own))
            ways[operand] = min(low, fewest + own), max(high, most + own)
        if weights(graph, node):
            result[node.id] = Factors(node.path, fewest + own, most + own)
    return dict(reversed(result.items()))


# -- Proposition 3: the variance of the inputs of blocks ------------------------------------------


@record
class VariancePlan:
    """Addends of the inputs of a stage's blocks at initialisation.

    Args:
        graph: takes the stage's input and returns ``in1``, ``in2``, ...
        squares: for each block from 1 on, the sum of the squared weights of the norms in its input.
        entry: for each of them, the squared factor of the stage's input (0 if the opening block has
            a projection, where the variance starts again).
    """

    graph: Graph
    squares: tuple[float, ...]
    entry: tuple[float, ...]

    @property
    def starts_again(self) -> bool:
        return not any(self.entry)


def plan_variance(graph: Graph, stage: Stage) -> VariancePlan:
    """Proposition 3 for a stage. Raises NotApplicable.

    Where norms are added up (PA-A), the input of block l has the variance of the sum of their
    squared weights so far.
    """
    if len(stage.blocks) < 2:
        raise NotApplicable("the stage has one block")
    users = graph.users()
    squares: list[float] = []
    entries: list[float] = []
    for i, block in _fed(stage):
        if not any(fires(graph, graph[user]) for user in users[block.input]):
            readers = sorted({graph[user].op for user in users[block.input]} - {"add"})
            raise NotApplicable(
                f"no neuron reads what is passed to block {i} (it goes to {' and '.join(readers)})"
            )
        square = entry = 0.0
        for id, factor in _addends(graph, block.input, stage.entry).items():
            node = graph[id]
            if id == stage.entry:
                entry = factor**2
            elif OPS[node.op].norm is not None:
                square += (factor * float(node.attrs["init"] or 0.0)) ** 2
            else:
                raise NotApplicable(
                    f"block {i} reads a sum with `{node.path}` in it, a {node.op}, not of norms "
                    "alone"
                )
        squares.append(square)
        entries.append(entry)
    outputs = {f"in{i}": block.input for i, block in _fed(stage)}
    try:
        part = segment(replace(graph, steps=1), stage.entry, outputs)
    except SegmentError as error:
        raise NotApplicable(str(error)) from error
    return VariancePlan(part, tuple(squares), tuple(entries))


def _addends(graph: Graph, id: int, entry: int) -> Mapping[int, float]:
    """Return the terms of a sum and their factors, through nested sums and multiples."""
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
