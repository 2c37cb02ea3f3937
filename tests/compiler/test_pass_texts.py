"""Each pass and each plan on a small graph, as text before and after: ``passes/NAME.txt``.

A file holds cases: a title, the spec, the nodes before and the nodes after. After a change that is
meant, ``python -m tests.compiler.test_pass_texts`` writes before and after anew; read the difference.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from danetc.compiler import check_text, graph_of
from danetc.compiler.analysis.verify import verify
from danetc.compiler.ir.graph import Graph
from danetc.compiler.ir.text import write
from danetc.compiler.passes import PIPELINE
from danetc.compiler.passes.fold import plan_factors, plan_folding
from danetc.compiler.passes.fusion_groups import FusionPlan, add_epilogues, plan_fusion
from danetc.compiler.passes.recompute import plan_segments

FOLDER = Path(__file__).with_name("passes")
_TITLE, _BEFORE, _AFTER = "=== ", "--- before", "--- after"


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
    return nodes(plan.graph) + "".join(_group(graph, plan, id) for id in plan.groups)


def _group(graph: Graph, plan: FusionPlan, id: int) -> str:
    return f"\ngroup of {graph[id].path}: {plan.groups[id].form}"


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
    lines = []
    for node in graph.nodes.values():
        lines.append(f"{f'segment {of[node.id]}' if node.id in of else 'kept':<10} {node.path}")
    return "\n".join(lines)


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


@dataclass(frozen=True)
class Case:
    title: str
    spec: str
    before: str
    after: str

    @property
    def text(self) -> str:
        return "\n".join((_TITLE + self.title, self.spec, _BEFORE, self.before, _AFTER, self.after))


def read(name: str) -> list[Case]:
    cases = []
    text = (FOLDER / f"{name}.txt").read_text("utf-8")
    for part in text.removeprefix(_TITLE).split(f"\n{_TITLE}"):
        head, _, after = part.strip("\n").partition(f"\n{_AFTER}\n")
        head, _, before = head.partition(f"\n{_BEFORE}\n")
        title, _, spec = head.partition("\n")
        cases.append(Case(title, spec, before, after))
    return cases


def worked_out(name: str, case: Case) -> Case:
    """The case with what the compiler makes of its spec."""
    graph = graph_of(check_text(f"use std\n{case.spec}"), passes=())
    return Case(case.title, case.spec, nodes(graph), TEXTS[name](graph))


@pytest.mark.parametrize("name", TEXTS)
def test_a_pass_does_what_its_text_shows(name: str) -> None:
    cases = read(name)
    for case in cases:
        assert worked_out(name, case).text == case.text
    assert any(case.before not in case.after for case in cases), "no case changes anything"
    unchanged = [case for case in cases if case.after.startswith(case.before)]
    assert all("stay" in case.title for case in unchanged)


def test_every_module_of_passes_has_its_text() -> None:
    files = {path.stem for path in FOLDER.glob("*.txt")}
    assert files == set(TEXTS)
    folder = Path(__file__).parents[2] / "compiler" / "passes"
    modules = {path.stem for path in folder.glob("*.py")} - {"__init__"}
    of_pipeline = {item.apply.__module__.rpartition(".")[2] for item in PIPELINE}
    assert modules - of_pipeline <= set(TEXTS)


if __name__ == "__main__":
    for name in TEXTS:
        cases = [worked_out(name, case).text for case in read(name)]
        (FOLDER / f"{name}.txt").write_text("\n\n\n".join(cases) + "\n", "utf-8", newline="\n")
