"""Operations that the boxes of a picture stand for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from danetc.compiler.draw.block import wirings_of
from danetc.compiler.draw.stage import groups_of
from danetc.compiler.draw.units import Parts, parts, runs
from danetc.compiler.ir.graph import Graph

Members = Mapping[str, tuple[int, ...]]


def members(graph: Graph, level: str) -> Members:
    """Return the node ids that each box stands for, by the box's key.

    If equal blocks are drawn once, a box stands for the operations of all of them. Boxes without
    operations (titles, junctions, equations of the level ``neuron``) are left out.

    Raises DrawError for the level ``block`` of a network without blocks.
    """
    of = parts(graph)
    match level:
        case "network":
            return dict([*_chains(of), *_stages(of)])
        case "stage":
            return dict([*_chains(of), *_groups(of)])
        case "block":
            return dict(_wirings(of))
        case "op":
            return dict([*_operations(of)])
        case _:
            return {}


Found = Iterator[tuple[str, tuple[int, ...]]]


def _chains(of: Parts) -> Found:
    for name, nodes in of.chains.items():
        yield name, tuple(node.id for node in nodes)


def _stages(of: Parts) -> Found:
    for number, stage in enumerate(of.graph.stages):
        yield f"s{number}", _of_blocks(of, number, range(len(stage.blocks)))


def _groups(of: Parts) -> Found:
    for number in range(len(of.graph.stages)):
        for group in groups_of(of, number):
            what = "b" if len(group) == 1 else "more"
            yield f"s{number}{what}{group[0]}", _of_blocks(of, number, group)


def _of_blocks(of: Parts, number: int, indices: Iterable[int]) -> tuple[int, ...]:
    return tuple(node.id for index in indices for node in of.blocks[number, index])


def _wirings(of: Parts) -> Found:
    for i, wiring in enumerate(wirings_of(of)):
        yield from _alike(of, f"w{i}", (wiring.number, wiring.index), wiring.places)


def _operations(of: Parts) -> Found:
    for name, nodes in of.chains.items():
        for node in nodes:
            yield (name if node.op == "input" else f"{name}n{node.id}"), (node.id,)
    for number, stage in enumerate(of.graph.stages):
        for run in runs(stage, number, of):
            places = [(number, index) for index in run]
            yield from _alike(of, f"s{number}b{run[0]}n", places[0], places)


def _alike(
    of: Parts, prefix: str, drawn: tuple[int, int], places: Iterable[tuple[int, int]]
) -> Found:
    """Yield each operation of a drawn block with its counterparts in equal blocks."""
    rows = [of.blocks[place] for place in places]
    for position, node in enumerate(of.blocks[drawn]):
        yield f"{prefix}{node.id}", tuple(row[position].id for row in rows)
