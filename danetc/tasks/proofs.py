"""Propositions of the paper on a network: facts of its graph, and numerical checks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Literal

from danetc.compiler.analysis.propositions import (
    Factors,
    GradientPlan,
    NotApplicable,
    plan_chain,
    plan_dense,
    plan_variance,
    surrogate_factors,
)
from danetc.compiler.analysis.summary import summarise
from danetc.compiler.ir.graph import Graph, Node, Stage
from danetc.compiler.ir.segment import resized
from danetc.dsl.kinds import ANALOG
from danetc.errors import UserError
from danetc.tasks.inputs import taken

Status = Literal["fact", "holds", "vacuous", "fails", "does not apply"]
"""``vacuous``: a bound that holds but is below the gradient without the rule."""

TITLES: Mapping[str, str] = {
    "1": "interblock modules disrupt gradients",
    "2": "every neuron on a path multiplies the gradient by a surrogate derivative",
    "3": "the variance of what blocks read grows within a stage",
    "4": "dense addition bounds gradients from below",
    "paths": "fewest neurons from the stem's output to the end of each stage",
}
"""The four propositions, and the claim as a property of paths, in this order."""

MOST_BLOCKS = 1_000
"""Largest number of blocks of all stages whose gradients and variances are checked."""
IMAGES = 2
GRADIENT_SIZE = 6
"""Height and width of the maps on which gradients are compared; the formulas hold for each pixel."""

VARIANCE_IMAGES = 16
VARIANCE_SIZE = 4
SHOWN = 3
CHANNELS = 256
"""Number of channels that variances are averaged over; narrow stages use networks of several seeds."""


Found = tuple[Status, str, dict[str, object]]
"""Status, text for people and numbers of a proposition for a part of a network."""


def prove(
    graph: Graph, on_progress: Callable[[str], object] = lambda what: None, *, numbers: bool = True
) -> dict[str, Any]:
    """Apply every proposition to a graph as written (``graph_of(..., passes=())``).

    Return the record that ``danetc prove --json`` prints. Without ``numbers``, only facts that follow
    from the topology are stated. Imports torch only if there is something to check numerically.
    ``on_progress`` gets the next step. Raises UserError for numerical checks of more than
    ``MOST_BLOCKS`` blocks.
    """
    stages = {".".join(stage.scope): stage for stage in graph.stages}
    blocks = sum(len(stage.blocks) for stage in graph.stages)
    if numbers and blocks > MOST_BLOCKS:
        raise UserError(
            f"{graph.name} has {blocks:,} blocks, and gradients and variances are checked by numbers "
            f"for {MOST_BLOCKS:,} at most; --no-numbers (numbers=False) states what follows from the "
            "topology"
        )
    found: list[tuple[str, str, Found]] = []
    for number, check in (("1", _chain), ("3", _variance), ("4", _dense)):
        if not stages:
            why_not = "does not apply, because the network has no stages"
            found.append((number, graph.name, ("does not apply", why_not, {})))
        for name, stage in stages.items():
            on_progress(f"Proposition {number}, {name}")
            try:
                found.append((number, name, check(graph, stage, numbers)))
            except NotApplicable as why:
                because = f"does not apply, because {why}"
                found.append((number, name, ("does not apply", because, {})))
    found += [("2", part, each) for part, each in _factors(graph).items()]
    for each in summarise(graph).stages:
        fewest = each.fewest_neurons
        found.append(("paths", each.name, ("fact", str(fewest), {"fewest_neurons": fewest})))
    findings = [
        {
            "proposition": number,
            "title": title,
            "part": part,
            "status": status,
            "says": says,
            **record,
        }
        for number, title in TITLES.items()
        for proposition, part, (status, says, record) in found
        if proposition == number
    ]
    holds = all(finding["status"] != "fails" for finding in findings)
    return {"network": graph.name, "steps": graph.steps, "holds": holds, "findings": findings}


# -- Propositions 1 and 4 --------------------------------------------------------------------------


def _chain(graph: Graph, stage: Stage, numbers: bool) -> Found:
    plan = plan_chain(graph, stage)
    what = "1 everywhere"
    if plan.neurons:
        neurons = _many(plan.neurons, "interblock neuron")
        what = f"the product of the surrogate derivatives of {neurons}"
    return _gradients(stage, plan, what, numbers)


def _dense(graph: Graph, stage: Stage, numbers: bool) -> Found:
    plan = plan_dense(graph, stage)
    return _gradients(stage, plan, "g_last * product of (1 + g), never below g_last", numbers)


def _gradients(stage: Stage, plan: GradientPlan, formula: str, numbers: bool) -> Found:
    """Compare the gradients of blocks with their formula."""
    says = f"over {_many(len(stage.blocks) - 1, 'block')} the gradient is {formula}"
    record: dict[str, object] = {"interblock_neurons": plan.neurons}
    if not numbers:
        return "fact", says, record
    import torch

    from danetc.compiler.emit.fx import emit
    from danetc.runtime.checks.propositions import check_gradients
    from danetc.runtime.model.signature import random_input

    graph = _smaller(plan.graph, GRADIENT_SIZE)
    value, generator = taken(graph), torch.Generator().manual_seed(0)
    x = random_input(value.kind, (1, IMAGES, *value.shape), generator, torch.float64)
    found = check_gradients(emit(graph).double(), x, plan.programs, dense=plan.dense)
    holds, worse, places = found.holds, [], []
    record |= {"least": found.least, "most": found.most, "error": found.error}
    for place in found.places:
        key = place.where.replace(" ", "_")
        record[key] = place.gradient
        places.append(f"{place.where} {place.gradient:.3g}")
        if plan.dense:
            record[f"{key}_in_a_chain"] = place.chain
            places[-1] += f" (in a chain {place.chain:.3g})"
            worse += [place.where] * place.less_than_chain
    if plan.neurons:
        says += f": {', '.join(places)}"
    if plan.dense:
        holds = holds and found.bounded
        record |= {"least_ratio_to_bound": found.ratio, "vacuous": worse}
        if worse:
            says += f"; the rule gives less than the chain {' and '.join(worse)}"
    agrees = f"agrees to {found.error:.0e}" if found.holds else f"is off by {found.error:.1e}"
    says += f"; autograd {agrees if found.error else 'agrees exactly'}"
    return "vacuous" if holds and worse else "holds" if holds else "fails", says, record


def _many(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"


def _smaller(graph: Graph, size: int) -> Graph:
    """Return the graph for maps of at most this size, if it takes such maps."""
    shape = taken(graph).shape
    if len(shape) != 3:
        return graph
    return resized(graph, min(size, shape[1]), min(size, shape[2])) or graph


# -- Proposition 3 ---------------------------------------------------------------------------------


def _variance(graph: Graph, stage: Stage, numbers: bool) -> Found:
    plan = plan_variance(graph, stage)
    start = "starts again at the opening block"
    if not plan.starts_again:
        start = "continues from the stage's input"
    record: dict[str, object] = {"starts_again": plan.starts_again}
    if not numbers:
        squares = _cut([f"{square:g}" for square in plan.squares])
        says = f"{start}; squared weights of the norms, added up: {squares}"
        return "fact", says, {**record, "squared_weights": list(plan.squares)}
    from danetc.compiler.emit.fx import emit
    from danetc.runtime.checks.propositions import check_variances

    part = _smaller(plan.graph, VARIANCE_SIZE)
    source = part.input  # the proposition is of real numbers, also if spikes enter the stage
    entry = replace(source, value=replace(source.value, kind=ANALOG))
    part = replace(part, nodes={**part.nodes, source.id: entry})
    seeds = min(32, max(1, CHANNELS // source.value.shape[0]))
    models = [lambda seed=seed: emit(part, seed) for seed in range(seeds)]
    size = (1, VARIANCE_IMAGES, *source.value.shape)
    found = check_variances(models, size, plan.squares, plan.entry)
    series = [f"{m:.2f} ({p:.2f})" for m, p in zip(found.measured, found.predicted, strict=True)]
    values = {"measured": list(found.measured), "predicted": list(found.predicted)}
    says = f"{start}; measured (predicted): {_cut(series)}"
    record |= {**values, "error": found.error}
    return "holds" if found.holds else "fails", says, record


def _cut(series: list[str]) -> str:
    """Return a series as text, without the middle of a long one."""
    if len(series) > 2 * SHOWN:
        series = [*series[:SHOWN], "...", *series[-SHOWN:]]
    return ", ".join(series)


# -- Proposition 2 and paths -----------------------------------------------------------------------


def _factors(graph: Graph) -> dict[str, Found]:
    """Return the surrogate factors of each part of the network."""
    parts: dict[str, list[Factors]] = {}
    for id, found in surrogate_factors(graph).items():
        parts.setdefault(_part(graph, graph[id]), []).append(found)
    findings: dict[str, Found] = {}
    for part, layers in parts.items():
        fewest, most = [layer.fewest for layer in layers], [layer.most for layer in layers]
        says = (
            f"from its weights to the loss: {_range(fewest)} on the shortest way, {_range(most)} on "
            "the longest"
        )
        each = [{"path": item.path, "fewest": item.fewest, "most": item.most} for item in layers]
        ranges = {"fewest": [min(fewest), max(fewest)], "most": [min(most), max(most)]}
        findings[part] = "fact", says, {**ranges, "layers": each}
    return findings


def _part(graph: Graph, node: Node) -> str:
    """Return the stage of a node, or the part of the network outside stages."""
    for stage in graph.stages:
        if node.scope[: len(stage.scope)] == stage.scope:
            return ".".join(stage.scope)
    return node.scope[0] if node.scope else node.name


def _range(numbers: list[int]) -> str:
    low, high = min(numbers), max(numbers)
    return str(low) if low == high else f"{low} to {high}"
