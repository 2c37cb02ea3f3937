"""Stages: blocks in sequence that are alike, or that a rule of std feeds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from fractions import Fraction

from danetc.compiler.importing.blocks import (
    FoundBlock,
    Steps,
    Weights,
    WrittenConnection,
    plain_block,
    residual_block,
    weights_of,
)
from danetc.compiler.importing.expressions import Unwritten, of_kind
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
    """``blocks`` blocks in sequence, wired by a connection and fed by a rule."""

    block: NamedBlock
    blocks: int
    stride: int
    connection: str
    rule: str
    entry: int
    exit: int

    @property
    def text(self) -> str:
        stride = f", stride = {self.stride}" if self.stride != 1 else ""
        return f"stage({self.block.text}, {self.blocks}{stride})"

    def wired(self, value: str) -> str:
        """Write a value of stages with the connection and the rule of this one."""
        rule = "" if self.rule == "chain" else f" by {self.rule}"
        return f"(({value}) via {self.connection}{rule})"


Piece = Part | StageOfBlocks


@record(slots=False)
class _Found:
    """A block, or a stage, and the parts that it is made of: from ``first`` up to ``end``."""

    block: FoundBlock
    first: int
    end: int


_Placed = tuple[int, int, StageOfBlocks]
"""A stage and its parts, from the first up to the end."""


def stages_of(naming: Naming, parts: Sequence[Part], source: int) -> list[Piece]:
    """Return the parts of a network with stages in place of the parts that they are made of."""
    stages = _Residual(naming, parts).stages() if any(isinstance(part, Region) for part in parts) else _plain(naming, parts, source)  # fmt: skip
    pieces: list[Piece] = []
    at = 0
    for first, end, stage in sorted(stages, key=lambda item: item[0]):
        pieces += [*parts[at:first], stage]
        at = end
    return [*pieces, *parts[at:]]


def exit_of(part: Piece) -> int:
    return part.id if isinstance(part, Node) else part.exit


def _staged(
    naming: Naming, found: Sequence[_Found], wirings: Sequence[WrittenConnection]
) -> list[_Placed]:
    """Return stages of blocks in sequence that are alike."""
    graph = naming.dialect.graph
    names = [
        naming.connection(wiring, len(item.block.weights))
        for item, wiring in zip(found, wirings, strict=True)
    ]
    runs: list[list[int]] = []
    for number, item in enumerate(found):
        entry, exit = (graph[id].value.shape for id in (item.block.entry, item.block.exit))
        last = runs[-1][-1] if runs else None
        alike = (
            last is not None
            and found[last].end == item.first
            and names[last] == names[number]
            and found[last].block.weights == item.block.weights
            and entry == exit
        )
        if alike:
            runs[-1].append(number)
        else:
            runs.append([number])
    strided = {
        _relative(item.block.weights): item.block.strided
        for item in found
        if item.block.strided is not None
    }
    stages = []
    for run in runs:
        first, last_ = found[run[0]], found[run[-1]]
        block = first.block
        place = block.strided
        if place is None:
            place = strided.get(_relative(block.weights))
        named = naming.block(block.weights, place, graph[block.entry].value.shape[0])
        stage = StageOfBlocks(
            named, len(run), block.stride, names[run[0]], "chain", block.entry, last_.block.exit
        )
        stages.append((first.first, last_.end, stage))
    return stages


def _relative(weights: Sequence[Weights]) -> tuple[object, ...]:
    """Return weights in units of their first width."""
    unit = weights[0].width
    return tuple((Fraction(item.width, unit), replace(item, width=0)) for item in weights)


def _merged(found: Sequence[_Found]) -> list[WrittenConnection]:
    """Return the wiring of each block, completed by those of other blocks."""
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


def _is_light(part: Part) -> bool:
    """Return True for steps that may follow a join inside of a connection: norms, neurons, functions."""
    if isinstance(part, Region):
        return False
    row = OPS[part.op]
    moves = row.weighted or row.window is not None or row.time in {"reduces", "mixes", "creates"}
    return not moves and part.op not in {"flatten", "global_avgpool", "repeat"}


def _light_until(parts: Sequence[Part], first: int) -> int:
    """Return the end of the light steps from a place on."""
    return next((end for end in range(first, len(parts)) if not _is_light(parts[end])), len(parts))


def _plain(naming: Naming, parts: Sequence[Part], source: int) -> list[_Placed]:
    """Return stages of a chain of operations, if its convolutions are wired alike."""
    steps = [part for part in parts if isinstance(part, Node)]
    places = [place for place, step in enumerate(steps) if step.op == "conv"]
    if len(places) < LEAST_PLAIN:
        return []
    found: list[_Found] = []
    for first in places:
        end = _light_until(steps, first + 1)
        entry = source if first == 0 else steps[first - 1].id
        block = plain_block(naming.dialect, steps[first:end], entry)
        if block is None:
            return []
        found.append(_Found(block, first, end))
    wirings = _merged(found)
    return [] if len({*wirings}) > 1 else _staged(naming, found, wirings)


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

    def stages(self) -> list[_Placed]:
        found = [
            self._with_steps_after(block, place)
            for place, block in self.blocks.items()
            if block is not None
        ]
        wirings = _merged(found)
        dense = [
            stage
            for place, block in self.blocks.items()
            if block is None and (stage := self._dense(place, found, wirings)) is not None
        ]
        taken = {place for first, end, _ in dense for place in range(first, end)}
        left = [pair for pair in zip(found, wirings, strict=True) if pair[0].first not in taken]
        blocks, names = [item for item, _ in left], [wiring for _, wiring in left]
        return [*dense, *_staged(self.naming, blocks, names)]

    # -- steps after a join --------------------------------------------------------------------------

    def _with_steps_after(self, block: FoundBlock, place: int) -> _Found:
        end = self.ends[place]
        wiring = replace(block.wiring, after=self._texts(place + 1, end))
        return _Found(replace(block, wiring=wiring, exit=exit_of(self.parts[end - 1])), place, end)

    def _texts(self, first: int, end: int) -> Steps:
        return tuple(
            self.dialect.step(part) for part in self.parts[first:end] if isinstance(part, Node)
        )

    def _ends(self) -> dict[int, int]:
        """Return for each region the end of the steps that its connection has after the join.

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
        """Return the most steps that follow all joins and make a connection of std."""
        texts = [self._texts(place + 1, end) for place, end in following.items()]
        first = next((block for block in self.blocks.values() if block is not None), None)
        shared = texts[0]
        while any(text[: len(shared)] != shared for text in texts):
            shared = shared[:-1]
        while shared and first is not None:
            wiring = replace(first.wiring, after=shared)
            if self.naming.standard_connection(wiring, len(first.weights)) is not None:
                return shared
            shared = shared[:-1]
        return ()

    # -- rules other than the chain ------------------------------------------------------------------

    def _dense(
        self, place: int, found: Sequence[_Found], wirings: Sequence[WrittenConnection]
    ) -> _Placed | None:
        """Return the stage whose blocks a region is, with the block before it or without."""
        region = self.parts[place]
        assert isinstance(region, Region)
        convs = [weights_of(self.graph[id]) for id in region.nodes if self.graph[id].op == "conv"]
        for first, wiring, opening in self._openings(place, found, wirings):
            count, rest = divmod(len(convs), len(opening.weights))
            if rest or convs != [*opening.weights] * count:
                continue
            blocks = count + (first != place)
            stops = [(self.ends[place], blocks), (place + 1, blocks)]
            following = next((item for item in found if item.first == self.ends[place]), None)
            if following is not None and following.block.weights == opening.weights:
                stops.insert(0, (following.end, blocks + 1))
            stage = self._ruled(first, wiring, opening, stops)
            if stage is not None:
                return stage
        return None

    def _ruled(
        self,
        first: int,
        wiring: WrittenConnection,
        opening: FoundBlock,
        stops: Iterable[tuple[int, int]],
    ) -> _Placed | None:
        """Return the stage from ``first`` up to one of ``stops``, which have a number of blocks each,
        if a rule of std feeds it."""
        naming, start = self.naming, self.parts[first]
        assert isinstance(start, Region)
        known = [*naming.declarations]
        connection = naming.connection(wiring, len(opening.weights))
        channels = self.graph[start.entry].value.shape[0]
        block = naming.block(opening.weights, opening.strided, channels)
        for stop, blocks in dict.fromkeys(stops):
            exit = exit_of(self.parts[stop - 1])
            try:
                part = segment(self.graph, start.entry, {"out": exit})
            except SegmentError:
                continue
            for rule in of_kind("rule"):
                if not rule.params and rule.name != "chain":
                    stage = StageOfBlocks(
                        block, blocks, opening.stride, connection, rule.name, start.entry, exit
                    )
                    if naming.same(stage.wired(stage.text), part):
                        return first, stop, stage
        naming.forget(known)
        return None

    def _openings(
        self, place: int, found: Sequence[_Found], wirings: Sequence[WrittenConnection]
    ) -> Iterator[tuple[int, WrittenConnection, FoundBlock]]:
        """Return candidates for the first block of a stage: the block right before, or one without a
        shortcut that the region begins with."""
        for item, wiring in zip(found, wirings, strict=True):
            if item.end == place:
                yield item.first, wiring, item.block
        region = self.parts[place]
        assert isinstance(region, Region)
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
                yield place, block.wiring, block
