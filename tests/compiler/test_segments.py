"""Segments of the policy ``recompute``: what runs again in the backward pass."""

from __future__ import annotations

from functools import cache

from danetc.compiler.frontend.program import check_file, check_text, graph_of
from danetc.compiler.ir.graph import Graph
from danetc.compiler.passes.fusion_groups import plan_fusion
from danetc.compiler.passes.recompute import block_of, plan_segments


@cache
def network(spec: str) -> Graph:
    return graph_of(check_file(spec), None, {"image": 64, "steps": 4, "width": 64})


def segments_of(spec: str) -> dict[tuple[str, ...], int | None]:
    """For each block the segment of its nodes."""
    graph = plan_fusion(network(spec)).graph
    plan = plan_segments(graph)
    found: dict[tuple[str, ...], set[int | None]] = {}
    for node in graph.nodes.values():
        block = block_of(node)
        if block is not None:
            found.setdefault(block, set()).add(plan.of.get(node.id))
    assert all(len(each) == 1 for each in found.values())
    return {block: each.pop() for block, each in found.items()}


def test_segments_follow_each_other() -> None:
    for spec in ("sew_r18", "danet_a_r50", "danet_c_r50"):
        numbers = [n for n in segments_of(spec).values() if n is not None]
        assert numbers == sorted(numbers)


def test_spikes_enter_one_block_and_analog_values_several() -> None:
    assert len(set(segments_of("sew_r50").values()) - {None}) == 13
    assert 4 <= len(set(segments_of("danet_a_r50").values()) - {None}) < 13


def test_late_stages_compute_much_for_little() -> None:
    left = {block[1] for block, number in segments_of("sew_r50").items() if number is None}
    assert left == {"3"}


def test_what_is_in_no_segment() -> None:
    graph = network("danet_c_r50")
    plan = plan_segments(graph)
    left = (node for node in graph.nodes.values() if node.id not in plan.of)
    outside = {node.op for node in left if block_of(node) is None}  # of late stages all is left
    # Running sums are counts: a segment keeps the sum itself. The head keeps next to nothing.
    assert outside == {
        "input", "add", "global_avgpool", "mean_over_time", "flatten", "linear"
    }  # fmt: skip
    assert plan.random == frozenset()


def test_a_step_between_stages_is_in_no_segment() -> None:
    text = """use std
network n {
  input = events(2, 8, 8); steps = 2; neuron = IF; surrogate = atan
  stem = conv(4) -> norm -> spike
  stages = (stage(basic(4), 1) -> avgpool(2) -> stage(basic(4), 1)) via sew
  head = avgpool -> mean_over_time -> linear(5)
}
"""
    graph = plan_fusion(graph_of(check_text(text))).graph
    of = plan_segments(graph).of
    assert {node.op for node in graph.nodes.values() if node.id not in of} >= {"avgpool"}
