"""Detection of stages, which are sequences of equal blocks or blocks connected by a rule."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from fractions import Fraction

from danetc.compiler.importing.blocks import (
    FoundBlock,
    Steps,
    Weights,
    plain_block,
    residual_block,
    weights_of,
)
from danetc.compiler.importing.expressions import Unwritten, of_kind, standard
from danetc.compiler.importing.flows import Part, Region
from danetc.compiler.importing.naming import NamedBlock, Naming
from danetc.compiler.ir.graph import Node
from danetc.compiler.ir.ops import OPS
from danetc.compiler.ir.segment import SegmentError, segment
from danetc.dsl.record import record

LEAST_PLAIN = 3
"""Fewest convolutions of a network without joins that is written as stages."""


@record(slots=False)
class StageOfBlocks:
    """``blocks`` blocks in sequence, wired by a connection and fed by a rule.

    It is made of the parts of the network from ``first`` up to ``end``.
    """

    block: NamedBlock
    blocks: int
    stride: int
    connection: str
    rule: str
    entry: int
    exit: int
    first: int
    end: int

    @property
    def text(self) -> str:
        stride = f", stride = {self.stride}" if self.stride != 1 else ""
        return f"stage({self.block.text}, {self.blocks}{stride})"

    @property
    def own(self) -> tuple[str, ...]:
        """The block and the connection, if std does not have them."""
        return tuple(n for n in (self.block.name, self.connection) if n not in standard())

    def wired(self, value: str) -> str:
        """Write a value of stages with the connection and the rule of this one."""
        rule = "" if self.rule == "chain" else f" by {self.rule}"
        return f"(({value}) via {self.connection}{rule})"


Piece = Part | StageOfBlocks


def exit_of(piece: Piece) -> int:
    return piece.id if isinstance(piece, Node) else piece.exit


def stages_of(naming: Naming, parts: Sequence[Part], source: int) -> list[Piece]:
    """Return the parts of a network with stages in place of the parts that they are made of."""
    joins = any(isinstance(part, Region) for part in parts)
    stages = _Residual(naming, parts).stages() if joins else _plain(naming, parts, source)
    pieces: list[Piece] = []
    at = 0
    for stage in sorted(stages, key=lambda item: item.first):
        pieces += [*parts[at : stage.first], stage]
        at = stage.end
    return [*pieces, *parts[at:]]


def _plain(naming: Naming, parts: Sequence[Part], source: int) -> list[StageOfBlocks]:
    """Return stages of a chain of operations, if its convolutions are wired alike."""
    steps = [part for part in parts if isinstance(part, Node)]
    places = [place for place, step in enumerate(steps) if step.op == "conv"]
    found: list[FoundBlock] = []
    for first in places:
        end = _light_until(steps, first + 1)
        entry = source if first == 0 else steps[first - 1].id
        block = plain_block(naming.dialect, steps[first:end], entry)
        if block is None:
            return []
        found.append(replace(block, first=first, end=end))
    found = _merged(found)
    alike = len(found) >= LEAST_PLAIN and len({block.wiring for block in found}) == 1
    return _staged(naming, found) if alike else []


def _staged(naming: Naming, found: Sequence[FoundBlock]) -> list[StageOfBlocks]:
    """Return stages of blocks in sequence that are alike."""
    graph = naming.dialect.graph
    runs: list[tuple[str, list[FoundBlock]]] = []
    for block in found:
        name = naming.connection(block.wiring, len(block.weights))
        same_shape = graph[block.entry].value.shape == graph[block.exit].value.shape
        if runs and same_shape and runs[-1][0] == name:
            last = runs[-1][1][-1]
            if last.end == block.first and last.weights == block.weights:
                runs[-1][1].append(block)
                continue
        runs.append((name, [block]))
    strided = {_relative(b.weights): b.strided for b in found if b.strided is not None}
    stages = []
    for name, blocks in runs:
        block, last = blocks[0], blocks[-1]
        place = strided.get(_relative(block.weights)) if block.strided is None else block.strided
        named = naming.block(block.weights, place, graph[block.entry].value.shape[0])
        stages.append(
            StageOfBlocks(
                named, len(blocks), block.stride, name, "chain", block.entry, last.exit,
                block.first, last.end,
            )
        )  # fmt: skip
    return stages


def _relative(weights: Sequence[Weights]) -> tuple[object, ...]:
    """Return weights in units of their first width."""
    unit = weights[0].width
    return tuple((Fraction(item.width, unit), replace(item, width=0)) for item in weights)


def _merged(found: Sequence[FoundBlock]) -> list[FoundBlock]:
    """Complete the wiring of each block by those of the others."""
    kinds: list[FoundBlock] = []
    kind_of: list[int] = []
    for block in found:
        for place, known in enumerate(kinds):
            merged = known.wiring.merged(block.wiring)
            if merged is not None and len(known.weights) == len(block.weights):
                kinds[place] = replace(known, wiring=merged)
                kind_of.append(place)
                break
        else:
            kind_of.append(len(kinds))
            kinds.append(block)
    return [replace(b, wiring=kinds[k].wiring) for b, k in zip(found, kind_of, strict=True)]


def _light_until(parts: Sequence[Part], first: int) -> int:
    """Return the end of the steps from a place on that a connection may have after its join: norms,
    neurons, functions."""
    for end in range(first, len(parts)):
        part = parts[end]
        if isinstance(part, Region) or part.op in {"flatten", "global_avgpool", "repeat"}:
            return end
        row = OPS[part.op]
        if row.weighted or row.window is not None or row.time in {"reduces", "mixes", "creates"}:
            return end
    return len(parts)


class _Residual:
    """Stages of a network with joins."""

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
        self.ends = self._ends()

    def stages(self) -> list[StageOfBlocks]:
        found = _merged([self._with_steps_after(b, at) for at, b in self.blocks.items() if b])
        regions = [place for place, block in self.blocks.items() if block is None]
        dense = [stage for place in regions if (stage := self._dense(place, found)) is not None]
        taken = {place for stage in dense for place in range(stage.first, stage.end)}
        rest = [block for block in found if block.first not in taken]
        return [*dense, *_staged(self.naming, rest)]

    # -- steps after a join --------------------------------------------------------------------------

    def _with_steps_after(self, block: FoundBlock, first: int) -> FoundBlock:
        end = self.ends[first]
        wiring = replace(block.wiring, after=self._texts(first + 1, end))
        exit = exit_of(self.parts[end - 1])
        return replace(block, wiring=wiring, exit=exit, first=first, end=end)

    def _texts(self, first: int, end: int) -> Steps:
        steps = (part for part in self.parts[first:end] if isinstance(part, Node))
        return tuple(map(self.dialect.step, steps))

    def _ends(self) -> dict[int, int]:
        """Return the end of each region, including the steps of its connection after the join.

        Between two blocks in sequence these are all steps. After the last block they are as many as
        elsewhere, and if no blocks are in sequence, as many as make a connection of std.
        """
        following = {place: _light_until(self.parts, place + 1) for place in self.blocks}
        between = {place for place, end in following.items() if end in self.blocks}
        gaps = Counter(self._texts(place + 1, following[place]) for place in between)
        usual = gaps.most_common(1)[0][0] if gaps else self._usual(following)
        found = {}
        for place, end in following.items():
            until = min(end, place + 1 + len(usual))
            same = self._texts(place + 1, until) == usual
            found[place] = end if place in between else until if same else place + 1
        return found

    def _usual(self, following: dict[int, int]) -> Steps:
        """Return the longest sequence of steps after each join that makes a connection of std."""
        texts = [self._texts(place + 1, end) for place, end in following.items()]
        first = next((block for block in self.blocks.values() if block is not None), None)
        shared = () if first is None else texts[0]
        while shared:
            if all(text[: len(shared)] == shared for text in texts):
                assert first is not None
                wiring = replace(first.wiring, after=shared)
                if self.naming.standard_connection(wiring, len(first.weights)) is not None:
                    break
            shared = shared[:-1]
        return shared

    # -- rules other than the chain ------------------------------------------------------------------

    def _dense(self, place: int, found: Sequence[FoundBlock]) -> StageOfBlocks | None:
        """Return the stage that a region consists of, possibly with the block before it."""
        region = self.parts[place]
        assert isinstance(region, Region)
        convs = [weights_of(self.graph[id]) for id in region.nodes if self.graph[id].op == "conv"]
        for opening in self._openings(place, region, found):
            count, rest = divmod(len(convs), len(opening.weights))
            if rest or convs != [*opening.weights] * count:
                continue
            blocks = count + (opening.first != place)
            stops = {self.ends[place]: blocks, place + 1: blocks}
            following = next((item for item in found if item.first == self.ends[place]), None)
            if following is not None and following.weights == opening.weights:
                stops = {following.end: blocks + 1, **stops}
            stage = self._ruled(opening, stops)
            if stage is not None:
                return stage
        return None

    def _ruled(self, opening: FoundBlock, stops: dict[int, int]) -> StageOfBlocks | None:
        """Return the stage from a block up to one of ``stops``, which have a number of blocks each, if
        a rule of std feeds it."""
        naming, entry = self.naming, opening.entry
        connection = naming.connection(opening.wiring, len(opening.weights))
        channels = self.graph[entry].value.shape[0]
        block = naming.block(opening.weights, opening.strided, channels)
        for stop, blocks in stops.items():
            exit = exit_of(self.parts[stop - 1])
            try:
                part = segment(self.graph, entry, {"out": exit})
            except SegmentError:
                continue
            for rule in of_kind("rule"):
                if not rule.params and rule.name != "chain":
                    stage = StageOfBlocks(
                        block, blocks, opening.stride, connection, rule.name, entry, exit,
                        opening.first, stop,
                    )  # fmt: skip
                    if naming.same(stage.wired(stage.text), part):
                        return stage
        return None

    def _openings(
        self, place: int, region: Region, found: Sequence[FoundBlock]
    ) -> Iterator[FoundBlock]:
        """Return candidates for the first block of a stage: the block right before, or one without a
        shortcut that the region begins with."""
        yield from (block for block in found if block.end == place)
        users = self.graph.users()
        for start in users[region.entry]:
            chain: list[Node] = []
            id = start
            while id in region.nodes and len(self.graph[id].inputs) == 1:
                chain.append(self.graph[id])
                if len(users[id]) != 1:
                    break
                id = users[id][0]
            try:
                block = plain_block(self.dialect, chain, region.entry) if chain else None
            except Unwritten:
                continue
            if block is not None:
                yield replace(block, first=place)
