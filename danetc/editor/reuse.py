"""Networks of an earlier check that an edit of the file leaves as they were.

A network depends on its declaration and on all declarations that the words of its text lead to. If
they all have the same text as before, the network is the same; only its spans have moved.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Mapping
from dataclasses import replace

from danetc.compiler.frontend.program import Reused, Survey
from danetc.compiler.ir.graph import Graph, Node
from danetc.compiler.lowering.values import ArgumentOrigin
from danetc.dsl.loading import NETWORK, Module, is_library
from danetc.dsl.syntax.source import Span

Move = Callable[[Span], Span]


def unchanged(earlier: Survey, module: Module) -> Mapping[str, Reused]:
    """Return the networks of an earlier check that have not changed, with their new spans."""
    before = earlier.module
    if before is None:
        return {}
    bad = [item.span.start for item in earlier.errors if item.span.source is before.source]
    found: dict[str, Reused] = {}
    for name, lowered in earlier.lowered.items():
        pairs = _reached(name, before, module)
        # An error in a block is reported for the first network that uses the block.
        if pairs and not any(old.start <= at < old.end for old, _ in pairs for at in bad):
            move = _move(pairs)
            trace = earlier.traces[name]
            notes = [(move(span), id, feed) for span, id, feed in trace.notes]
            again = replace(
                lowered,
                graph=_moved(lowered.graph, move),
                used={id: move(span) for id, span in lowered.used.items()},
                written_at={id: move(span) for id, span in lowered.written_at.items()},
                resets={
                    id: tuple(ArgumentOrigin(move(it.span), it.name, it.value) for it in origins)
                    for id, origins in lowered.resets.items()
                },
                says={key: move(span) for key, span in lowered.says.items()},
            )
            found[name] = again, replace(trace, notes=notes)
    return found


def _reached(name: str, before: Module, now: Module) -> list[tuple[Span, Span]] | None:
    """Return the old and new spans of all declarations that a network reads; None if any changed."""
    pairs: list[tuple[Span, Span]] = []
    seen, waiting = {name}, [name]
    while waiting:
        name = waiting.pop()
        for key in (name, NETWORK + name):
            old, new = before.names.get(key), now.names.get(key)
            if old is None or new is None:
                if old is not new:
                    return None
            elif old.module is before and new.module is now:
                if old.declaration.span.text != new.declaration.span.text:
                    return None
                pairs.append((old.declaration.span, new.declaration.span))
                words = set(re.findall(r"\w+", new.declaration.span.text)) - seen
                seen |= words
                waiting += words
            elif old.declaration is not new.declaration or not is_library(old.module.source):
                return None
    return pairs


def _move(pairs: list[tuple[Span, Span]]) -> Move:
    pairs = sorted(pairs, key=lambda pair: pair[0].start)
    starts = [old.start for old, _ in pairs]
    shifts = [new.start - old.start for old, new in pairs]
    source, target = pairs[0][0].source, pairs[0][1].source

    def move(span: Span) -> Span:
        if span.source is not source:
            return span
        shift = shifts[bisect_right(starts, span.start) - 1]
        return Span(target, span.start + shift, span.end + shift)

    return move


def _moved(graph: Graph, move: Move) -> Graph:
    nodes = {
        id: Node(id, it.op, it.inputs, it.attrs, it.value, it.scope, it.name, move(it.origin))
        for id, it in graph.nodes.items()
    }
    return replace(
        graph,
        nodes=nodes,
        stages=tuple(replace(stage, origin=move(stage.origin)) for stage in graph.stages),
        weight_layers={key: _moved(each, move) for key, each in graph.weight_layers.items()},
    )
