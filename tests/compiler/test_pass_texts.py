"""Each pass and each plan on a small graph, as text before and after: ``passes/NAME.txt``.

A file contains cases: a title, the spec, the nodes before and the nodes after. After an intended
change, ``python -m tests.compiler.test_pass_texts`` updates the nodes. Review the difference.
"""

import re
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from danetc.compiler import check_text, graph_of
from danetc.compiler.analysis.verify import verify
from danetc.compiler.ir.graph import Graph
from danetc.compiler.ir.text import write
from danetc.compiler.passes import PIPELINE
from danetc.compiler.passes.fold import plan_factors, plan_folding
from danetc.compiler.passes.fusion_groups import add_epilogues, plan_fusion
from danetc.compiler.passes.recompute import plan_segments

FOLDER = Path(__file__).with_name("passes")
CASE = re.compile(
    r"=== (.*?)\n(.*?)(?:\n--- before\n(.*?)\n--- after\n(.*?))?\n*(?=\n=== |\Z)", re.DOTALL
)


def nodes(graph: Graph) -> str:
    """The nodes and outputs of a graph, without its neurons' programs and its stages."""
    lines = [line.partition("  @")[0] for line in write(graph).splitlines()]
    return "\n".join(
        " ".join(line.split()) for line in lines if line[:1] == "%" or "output" in line
    )


def paths(graph: Graph, ids: tuple[int, ...]) -> str:
    return ", ".join(graph[id].path for id in ids) or "none"


def fusion_groups(graph: Graph) -> str:
    plan = plan_fusion(graph)
    forms = (f"\ngroup of {graph[id].path}: {group.form}" for id, group in plan.groups.items())
    return nodes(plan.graph) + "".join(forms)


def epilogues(graph: Graph) -> str:
    plan = add_epilogues(plan_fusion(graph))
    return f"{nodes(plan.graph)}\nadds: {paths(graph, tuple(sorted(plan.sums)))}"


def fold(graph: Graph) -> str:
    folding = plan_folding(graph)
    verify(folding.graph)
    lines = [nodes(folding.graph)]
    for what in ("folded", "moved", "kept"):
        lines.append(f"{what}: {paths(graph, getattr(folding, what))}")
    for layer, scalings in folding.scalings.items():
        taken = ", ".join(
            f"{graph[item.norm].path} ({'factor and offset' if item.shifts else 'factor'})"
            for item in scalings
        )
        lines.append(f"{graph[layer].path} takes {taken}")
    return "\n".join(lines)


def recompute(graph: Graph) -> str:
    of = plan_segments(graph).of
    names = {id: f"segment {of[id]}" if id in of else "kept" for id in graph.nodes}
    return "\n".join(f"{name:<10} {graph[id].path}" for id, name in names.items())


def factors(graph: Graph) -> str:
    plan = plan_factors(graph)
    lines = [
        f"{graph[layer].path} takes {paths(graph, taken)}" for layer, taken in plan.into.items()
    ]
    lines.append(f"gone: {paths(graph, tuple(sorted({*plan.products, *plan.gone})))}")
    lines += [f"{graph[id].path} stays: {why}" for id, why in plan.kept.items()]
    return "\n".join(lines)


TEXTS: Mapping[str, Callable[[Graph], str]] = {
    **{item.name: lambda graph, item=item: nodes(item.apply(graph)) for item in PIPELINE},  # type: ignore[misc]
    "fusion_groups": fusion_groups,
    "epilogues": epilogues,
    "factors": factors,
    "fold": fold,
    "recompute": recompute,
}


def written(name: str) -> str:
    """The text of the file of a pass, with the current nodes for its specs."""
    texts = []
    for title, spec, _, _ in CASE.findall((FOLDER / f"{name}.txt").read_text("utf-8")):
        graph = graph_of(check_text(f"use std\n{spec}"), passes=())
        after = TEXTS[name](graph)
        texts.append(f"=== {title}\n{spec}\n--- before\n{nodes(graph)}\n--- after\n{after}")
    return "\n\n\n".join(texts) + "\n"


@pytest.mark.parametrize("name", TEXTS)
def test_a_pass_does_what_its_text_shows(name: str) -> None:
    text = (FOLDER / f"{name}.txt").read_text("utf-8")
    assert written(name) == text
    cases = [(title, before, after) for title, _, before, after in CASE.findall(text)]
    assert any(before not in after for _, before, after in cases), "no case changes anything"
    assert all("stay" in title for title, before, after in cases if after.startswith(before))


if __name__ == "__main__":
    for name in TEXTS:
        (FOLDER / f"{name}.txt").write_text(written(name), "utf-8", newline="\n")
