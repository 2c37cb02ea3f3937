"""Stages: blocks in a row that are alike, or that a rule of std feeds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from fractions import Fraction

from danetc.compiler.importing.blocks import (
    FoundBlock,
    Steps,
    Weights,
    WrittenConnection,
    around,
    plain_block,
    residual_block,
    strides_of,
    weights_of,
)
from danetc.compiler.importing.library import of_kind
from danetc.compiler.importing.naming import NamedBlock, Naming
from danetc.compiler.importing.neurons import Unwritten
from danetc.compiler.importing.spine import Part, Region, SingleStep
from danetc.compiler.importing.trees import call, number
from danetc.compiler.ir.graph import Node
from danetc.compiler.ir.ops import OPS
from danetc.compiler.ir.segment import SegmentError, segment
from danetc.dsl.record import record
from danetc.dsl.syntax import tree as s

LEAST_PLAIN = 3
"""Convolutions in a row from which a network without joins is written as stages."""


@record(slots=False)
class StageOfBlocks:
    """``blocks`` blocks in a row, wired by a connection and fed by a rule."""

    block: NamedBlock
    blocks: int
    stride: int
    connection: str
    rule: str
    entry: int
    exit: int

    @property
    def expr(self) -> s.Expr:
        more = {"stride": number(self.stride)} if self.stride != 1 else {}
        return call("stage", self.block.expr, number(self.blocks), **more)


Piece = SingleStep | Region | StageOfBlocks


def stages_of(naming: Naming, parts: Sequence[Part], source: int) -> list[Piece]:
    """The parts of a network with stages in place of what they are made of."""
    if any(isinstance(part, Region) for part in parts):
        return _Residual(naming, parts).pieces()
    return _plain(naming, parts, source)


# -- blocks that are alike -------------------------------------------------------------------------


@record(slots=False)
class _Found:
    """A block and the parts that it is made of, from ``first`` up to ``end``."""

    block: FoundBlock
    first: int
    end: int


def _named(
    naming: Naming, found: Sequence[_Found], connections: Sequence[str]
) -> list[StageOfBlocks]:
    """Stages of the blocks of one run; ``connections`` are their names, block by block."""
    graph = naming.dialect.graph
    runs: list[list[int]] = []
    for number_, item in enumerate(found):
        entry, exit = (graph[id].value.shape for id in (item.block.entry, item.block.exit))
        before = found[runs[-1][-1]] if runs else None
        alike = (
            before is not None
            and before.end == item.first
            and connections[number_] == connections[runs[-1][-1]]
            and before.block.weights == item.block.weights
            and entry == exit
        )
        runs = [*runs[:-1], [*runs[-1], number_]] if alike else [*runs, [number_]]
    strided = {
        _relative(item.block.weights): item.block.strided
        for item in found
        if item.block.strided is not None
    }
    stages = []
    for run in runs:
        first, last = found[run[0]].block, found[run[-1]].block
        place = first.strided
        if place is None:
            place = strided.get(_relative(first.weights))
        channels = graph[first.entry].value.shape[0]
        block = naming.block(first.weights, place, channels)
        stages.append(
            StageOfBlocks(
                block, len(run), first.stride, connections[run[0]], "chain", first.entry, last.exit
            )
        )
    return stages


def _relative(weights: Sequence[Weights]) -> tuple[object, ...]:
    """Weights whatever their width is."""
    unit = weights[0].width
    return tuple((Fraction(item.width, unit), replace(item, width=0)) for item in weights)


def _merged(found: Sequence[_Found]) -> list[WrittenConnection]:
    """The wiring of each block, with all that others of its kind show of it."""
    kinds: list[tuple[WrittenConnection, int]] = []
    kind_of: list[int] = []
    for item in found:
        layers = len(item.block.weights)
        for place, (known, many) in enumerate(kinds):
            merged = known.merged(item.block.wiring) if many == layers else None
            if merged is not None:
                kinds[place] = merged, layers
                kind_of.append(place)
                break
        else:
            kind_of.append(len(kinds))
            kinds.append((item.block.wiring, layers))
    return [kinds[place][0] for place in kind_of]


def _is_light(node: Node) -> bool:
    """Whether a node may follow a join inside of a connection: norms, neurons, functions."""
    row = OPS[node.op]
    moves = row.weighted or row.window is not None or row.time in {"reduces", "mixes", "creates"}
    return not moves and node.op not in {"flatten", "global_avgpool", "repeat", "as_map"}


# -- networks without joins ------------------------------------------------------------------------


def _plain(naming: Naming, parts: Sequence[Part], source: int) -> list[Piece]:
    """A chain of operations: its convolutions with what follows them are blocks."""
    steps = [part for part in parts if isinstance(part, SingleStep)]
    places = [i for i, step in enumerate(steps) if step.node.op == "conv"]
    if len(places) < LEAST_PLAIN:
        return [*parts]
    found: list[_Found] = []
    for first in places:
        end = first + 1
        while end < len(steps) and _is_light(steps[end].node):
            end += 1
        entry = source if first == 0 else steps[first - 1].node.id
        block = plain_block(naming.dialect, steps[first:end], entry)
        if block is None:
            return [*parts]
        found.append(_Found(block, first, end))
    wirings = _merged(found)
    if len(set(wirings)) > 1:
        return [*parts]
    names = [naming.connection(wiring, 1) for wiring in wirings]
    return _replaced(steps, found, _named(naming, found, names))


def _replaced(
    parts: Sequence[Part], found: Sequence[_Found], stages: Sequence[StageOfBlocks]
) -> list[Piece]:
    """Parts, with stages in place of the blocks that they are made of."""
    starts = {item.block.entry: item.first for item in found}
    ends = {item.block.exit: item.end for item in found}
    pieces: list[Piece] = []
    at = 0
    for stage in stages:
        pieces += parts[at : starts[stage.entry]]
        pieces.append(stage)
        at = ends[stage.exit]
    return [*pieces, *parts[at:]]


# -- networks with joins ---------------------------------------------------------------------------


class _Residual:
    def __init__(self, naming: Naming, parts: Sequence[Part]) -> None:
        self.naming = naming
        self.dialect = naming.dialect
        self.graph = naming.dialect.graph
        self.parts = parts
        self.blocks = {
            place: residual_block(self.dialect, part)
            for place, part in enumerate(parts)
            if isinstance(part, Region)
        }

    def pieces(self) -> list[Piece]:
        ends = self._ends()
        found: list[_Found] = []
        for place, block in self.blocks.items():
            if block is not None:
                end = ends[place]
                after = self._texts(place + 1, end)
                wiring = replace(block.wiring, after=after)
                exit = self._exit(place, end)
                found.append(_Found(replace(block, wiring=wiring, exit=exit), place, end))
        wirings = _merged(found)
        dense: list[tuple[int, int, StageOfBlocks]] = []
        for place, block in self.blocks.items():
            if block is None:
                stage = self._dense(place, ends, found, wirings)
                if stage is not None:
                    dense.append(stage)
        taken = {place for first, end, _ in dense for place in range(first, end)}
        left = [number_ for number_, item in enumerate(found) if item.first not in taken]
        found, wirings = [found[i] for i in left], [wirings[i] for i in left]
        names = [
            self.naming.connection(wiring, len(item.block.weights))
            for item, wiring in zip(found, wirings, strict=True)
        ]
        chains = _named(self.naming, found, names)
        starts = {item.block.entry: item.first for item in found}
        stops = {item.block.exit: item.end for item in found}
        every = [*dense, *((starts[st.entry], stops[st.exit], st) for st in chains)]
        pieces: list[Piece] = []
        at = 0
        for first, end, stage_ in sorted(every, key=lambda item: item[0]):
            pieces += self.parts[at:first]
            pieces.append(stage_)
            at = end
        return [*pieces, *self.parts[at:]]

    # -- what follows a join -------------------------------------------------------------------------

    def _texts(self, first: int, end: int) -> Steps:
        steps = (part for part in self.parts[first:end] if isinstance(part, SingleStep))
        return tuple(self.dialect.call(step.node) for step in steps)

    def _exit(self, place: int, end: int) -> int:
        """The value that a region and what follows it up to ``end`` give."""
        part = self.parts[max(place, end - 1)]
        return part.node.id if isinstance(part, SingleStep) else part.exit

    def _following(self, place: int) -> tuple[int, bool]:
        """Where what may follow a region's join ends, and whether the next region begins there."""
        end = place + 1
        while end < len(self.parts):
            part = self.parts[end]
            if isinstance(part, Region) or not _is_light(part.node):
                break
            end += 1
        return end, end < len(self.parts) and isinstance(self.parts[end], Region)

    def _ends(self) -> dict[int, int]:
        """For each region where the steps end that its connection has behind the join.

        Between two blocks in a row they are all that stands there. Behind the last block of a row
        they are as many as elsewhere; where no two are in a row, as many as make a connection of std.
        """
        following = {place: self._following(place) for place in self.blocks}
        gaps = Counter(
            self._texts(place + 1, end) for place, (end, next_) in following.items() if next_
        )
        usual = gaps.most_common(1)[0][0] if gaps else self._usual(following)
        found: dict[int, int] = {}
        for place, (end, next_) in following.items():
            many = len(usual)
            if next_:
                found[place] = end
            elif self._texts(place + 1, min(end, place + 1 + many)) == usual:
                found[place] = place + 1 + many
            else:
                found[place] = place + 1
        return found

    def _usual(self, following: dict[int, tuple[int, bool]]) -> Steps:
        texts = [self._texts(place + 1, end) for place, (end, _) in following.items()]
        shared = 0
        while all(len(item) > shared for item in texts) and len(
            {item[shared] for item in texts}
        ) == 1:  # fmt: skip
            shared += 1
        first = next((block for block in self.blocks.values() if block is not None), None)
        for many in range(shared, 0, -1):
            if first is None:
                break
            wiring = replace(first.wiring, after=texts[0][:many])
            if self.naming.standard_connection(wiring, len(first.weights)) is not None:
                return texts[0][:many]
        return ()

    # -- rules other than the chain ------------------------------------------------------------------

    def _dense(
        self,
        place: int,
        ends: dict[int, int],
        found: Sequence[_Found],
        wirings: Sequence[WrittenConnection],
    ) -> tuple[int, int, StageOfBlocks] | None:
        """A region that is the blocks of a stage, with the block before it or without."""
        region = self.parts[place]
        assert isinstance(region, Region)
        convs = [self.graph[id] for id in region.nodes if self.graph[id].op == "conv"]
        for first, wiring, opening in self._openings(place, found, wirings):
            layers = len(opening.weights)
            if len(convs) % layers:
                continue
            periods = {
                tuple(map(weights_of, convs[i : i + layers])) for i in range(0, len(convs), layers)
            }
            if periods != {opening.weights}:
                continue
            start = self.parts[first]
            assert isinstance(start, Region)
            blocks = len(convs) // layers + (first != place)
            stops = [(ends[place], blocks), (place + 1, blocks)]
            following = next((item for item in found if item.first == ends[place]), None)
            if following is not None and following.block.weights == opening.weights:
                stops.insert(0, (following.end, blocks + 1))
            stage = self._ruled(first, wiring, opening, stops, start.entry)
            if stage is not None:
                return stage
        return None

    def _ruled(
        self,
        first: int,
        wiring: WrittenConnection,
        opening: FoundBlock,
        stops: Sequence[tuple[int, int]],
        entry: int,
    ) -> tuple[int, int, StageOfBlocks] | None:
        """The blocks from ``first`` up to one of ``stops``, each with their number, if a rule of std
        feeds them."""
        naming = self.naming
        channels = self.graph[entry].value.shape[0]
        before = len(naming.declarations)
        connection = naming.connection(wiring, len(opening.weights))
        block = naming.block(opening.weights, opening.strided, channels)
        for stop, blocks in dict.fromkeys(stops):
            exit = self._exit(first, stop)
            try:
                part = segment(self.graph, entry, {"out": exit})
            except SegmentError:
                continue
            for rule in of_kind("rule"):
                if rule.params or rule.name == "chain":
                    continue
                stage = StageOfBlocks(
                    block, blocks, opening.stride, connection, rule.name, entry, exit
                )
                via = s.By(s.Via(stage.expr, s.Name(connection)), s.Name(rule.name))
                if naming.same(via, part):
                    return first, stop, stage
        naming.forget(before)
        return None

    def _openings(
        self, place: int, found: Sequence[_Found], wirings: Sequence[WrittenConnection]
    ) -> Iterator[tuple[int, WrittenConnection, FoundBlock]]:
        """What the first block of a stage may be: the block right before, or one that the region
        begins with, which has no shortcut."""
        for item, wiring in zip(found, wirings, strict=True):
            if item.end == place:
                yield item.first, wiring, item.block
        region = self.parts[place]
        assert isinstance(region, Region)
        inside = set(region.nodes)
        users = self.graph.users()
        for start in users[region.entry]:
            chain: list[Node] = []
            id = start
            while id in inside and len(self.graph[id].inputs) == 1:
                chain.append(self.graph[id])
                if len(users[id]) != 1:
                    break
                id = users[id][0]
            convs = [node for node in chain if node.op == "conv"]
            strides = strides_of(convs) if convs else None
            if strides is None or any(n.op != "conv" and OPS[n.op].weighted for n in chain):
                continue
            try:
                wired = around(self.dialect, chain)
            except Unwritten:
                continue
            if wired is not None:
                wiring = WrittenConnection(*wired, None, (), s.Name("branch"))
                weights = tuple(map(weights_of, convs))
                yield (
                    place,
                    wiring,
                    FoundBlock(weights, *strides, wiring, region.entry, region.exit),
                )
