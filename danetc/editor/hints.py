"""Values of the expressions of a file, and inlay hints with their shapes and kinds.

An expression in a block has a value for each use of the block, and one in a shared file has values
in the networks of the files that use it. A hint shows the first value and tells if others differ.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from math import prod

from danetc.compiler.ir.graph import Value
from danetc.compiler.ir.ops import OPS
from danetc.compiler.lowering.builder import Trace
from danetc.dsl.syntax import tree as s
from danetc.dsl.syntax.source import SourceFile, Span
from danetc.editor.analysis import Analysis

MOST = 500
"""Maximum number of values of one expression."""


@dataclass(frozen=True)
class Reached:
    """Value of an expression in a network. ``before_id`` is the node of the layer's input."""

    network: str
    trace: Trace
    id: int
    before_id: int | None

    @property
    def value(self) -> Value:
        return self.trace.nodes[self.id].value

    @property
    def before(self) -> Value | None:
        return None if self.before_id is None else self.trace.nodes[self.before_id].value

    @property
    def scope(self) -> str:
        """Scope of the node, such as ``stages.0.blocks.1.branch``."""
        return ".".join(self.trace.nodes[self.id].scope)

    def neurons(self) -> tuple[int, int]:
        """Return the number of layers of neurons before this value, and the number of neurons."""
        nodes, carries = self.trace.nodes, self.trace.carries
        seen, waiting = {self.id}, [self.id]
        while waiting:
            node = nodes[waiting.pop()]
            more = {carries[node.id]} if node.id in carries else {*node.inputs}
            waiting += more - seen
            seen |= more
        layers = [nodes[id] for id in seen if OPS[nodes[id].op].time == "neuron"]
        return len(layers), sum(prod(node.value.shape) for node in layers)


Place = tuple[int, int]
"""Start and end of an expression."""


class PlaceValues:
    """Values of the expressions of a file in its networks, or in those of a file that uses it."""

    def __init__(self, analysis: Analysis, others: Sequence[Analysis] = ()) -> None:
        self._found: defaultdict[Place, dict[tuple[str, int], Reached]] = defaultdict(dict)
        for each in (analysis, *(other for other in others if other is not analysis)):
            same: dict[SourceFile, bool] = {}
            for network, trace in each.survey.traces.items():
                for span, id, before in trace.notes:
                    source = span.source
                    if source not in same:
                        same[source] = _is_same(source, analysis.source)
                    if same[source]:
                        reached = self._found[span.start, span.end]
                        reached.setdefault((network, id), Reached(network, trace, id, before))
            if self._found:
                break

    def at(self, span: Span) -> tuple[Reached, ...]:
        """Return at most MOST values of an expression, in the order of the networks."""
        found = self._found.get((span.start, span.end), {})
        return tuple(islice(found.values(), MOST))


def _is_same(a: SourceFile, b: SourceFile) -> bool:
    return a is b or (a.name == b.name and a.text == b.text)


@dataclass(frozen=True)
class InlayHint:
    """Text to show at ``offset``, and its tooltip."""

    offset: int
    text: str
    tooltip: str


def shown(value: Value) -> str:
    """Return a text such as ``64 x 112 x 112 spike`` or ``64 x 56 x 56 in 0 .. 2``."""
    kind = str(value.kind)
    size = " x ".join(map(str, value.shape))
    return f"{size} in {kind}" if ".." in kind else f"{size} {kind}"


def inlay_hints(
    analysis: Analysis, others: Sequence[Analysis] = (), within: Span | None = None
) -> tuple[InlayHint, ...]:
    """Return the hints of a file or a part of it. ``others`` are files that may use this one."""
    values = PlaceValues(analysis, others)
    found: dict[int, InlayHint] = {}
    for place, offset in _places(analysis):
        if within is None or within.start <= offset <= within.end:
            reached = values.at(place)
            if reached and _tells(reached[0], place):
                found[offset] = _hint(offset, reached)
    return tuple(_once(analysis.text, [found[offset] for offset in sorted(found)]))


def _once(text: str, hints: Sequence[InlayHint]) -> Iterator[InlayHint]:
    """Yield the hints. Of equal hints that are only separated by `)`, yield the last."""
    for number, hint in enumerate(hints):
        after = hints[number + 1] if number + 1 < len(hints) else None
        between = "" if after is None else text[hint.offset : after.offset]
        if after is None or hint.text != after.text or between.strip(" )"):
            yield hint


def _tells(reached: Reached, place: Span) -> bool:
    """True if a layer changes the shape or kind, or if a value without input is not a name."""
    before = reached.before
    if before is None:
        return not place.text.isidentifier()
    return shown(before) != shown(reached.value)


def _hint(offset: int, reached: Sequence[Reached]) -> InlayHint:
    texts = list(dict.fromkeys(shown(each.value) for each in reached))
    more = f"; the first of {len(reached)} uses" if len(texts) > 1 else ""
    first = reached[0]
    varies = "varies from step to step" if first.value.varies else "the same at all time steps"
    tooltip = f"{texts[0]}, {varies}; network {first.network}{more}"
    return InlayHint(offset, texts[0] + (f" (1st of {len(reached)})" if more else ""), tooltip)


def _places(analysis: Analysis) -> Iterator[tuple[Span, int]]:
    """Yield the spans of values with the offsets of their hints."""
    for item in analysis.program.declarations:
        roots = [line.value for line in item.body or () if isinstance(line, s.Define)]
        if item.value is not None and item.body is None:
            roots.append(item.value)
        for root in roots:
            flows = (each for each in s.walk(root) if isinstance(each, s.Flow))
            for step in (step for flow in flows for step in flow.steps):
                subject = step
                while isinstance(subject, s.Via | s.By | s.With):
                    subject = subject.subject  # the trace contains the value of the subject
                yield subject.span, step.span.end
            if not isinstance(root, s.Flow | s.Name):
                yield root.span, root.span.end
