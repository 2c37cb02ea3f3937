"""Propositions of the paper on a network: facts of its graph, and numerical checks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

from danetc.compiler.analysis.propositions import (
    Factors,
    GradientPlan,
    NotApplicable,
    VariancePlan,
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

if TYPE_CHECKING:
    from danetc.runtime.checks.propositions import GradientCheck, VarianceCheck

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


@dataclass(frozen=True)
class PropositionResult:
    """Result of a proposition for a part of a network: ``says`` for people, ``numbers`` for programs."""

    proposition: str
    part: str
    status: Status
    says: str
    numbers: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Proof:
    """All results of a network. ``steps`` is its own T; checks run at T = 1."""

    network: str
    steps: int
    findings: tuple[PropositionResult, ...]

    @property
    def holds(self) -> bool:
        """True if no check fails."""
        return all(finding.status != "fails" for finding in self.findings)

    def of(self, proposition: str) -> tuple[PropositionResult, ...]:
        return tuple(item for item in self.findings if item.proposition == proposition)

    def as_dict(self) -> dict[str, object]:
        """Return the record that ``--json`` prints."""
        return {
            "network": self.network,
            "steps": self.steps,
            "holds": self.holds,
            "findings": [
                {
                    "proposition": item.proposition,
                    "title": TITLES[item.proposition],
                    "part": item.part,
                    "status": item.status,
                    "says": item.says,
                    **item.numbers,
                }
                for item in self.findings
            ],
        }


def prove(
    graph: Graph,
    on_progress: Callable[[str], object] = lambda what: None,
    *,
    numbers: bool = True,
) -> Proof:
    """Apply every proposition to a graph as written (``graph_of(..., passes=())``).

    Without ``numbers``, only facts that follow from the topology are stated. Imports torch only if
    there is something to check numerically. ``on_progress`` gets the next step.

    Raises UserError for numerical checks of more than ``MOST_BLOCKS`` blocks.
    """
    blocks = sum(len(stage.blocks) for stage in graph.stages)
    if numbers and blocks > MOST_BLOCKS:
        raise UserError(
            f"{graph.name} has {blocks:,} blocks, and gradients and variances are checked by numbers "
            f"for {MOST_BLOCKS:,} at most; --no-numbers (numbers=False) states what follows from the "
            "topology"
        )
    findings: list[PropositionResult] = []
    for number, check in (("1", _chain), ("3", _variance), ("4", _dense)):
        if not graph.stages:
            reason = "does not apply, because the network has no stages"
            findings.append(PropositionResult(number, graph.name, "does not apply", reason))
        for stage in graph.stages:
            name = ".".join(stage.scope)
            on_progress(f"Proposition {number}, {name}")
            try:
                findings.append(check(graph, stage, name, numbers))
            except NotApplicable as why:
                says = f"does not apply, because {why}"
                findings.append(PropositionResult(number, name, "does not apply", says))
    findings += _factors(graph)
    findings += _paths(graph)
    order = list(TITLES)
    findings.sort(key=lambda finding: order.index(finding.proposition))
    return Proof(graph.name, graph.steps, tuple(findings))


def _status(holds: bool) -> Status:
    return "holds" if holds else "fails"


# -- Propositions 1 and 4 --------------------------------------------------------------------------


def _chain(graph: Graph, stage: Stage, name: str, numbers: bool) -> PropositionResult:
    plan = plan_chain(graph, stage)
    if plan.neurons == 0:
        says = f"no interblock neurons: over {_blocks(stage)} the gradient is 1 everywhere"
    else:
        says = (
            f"the gradient over {_blocks(stage)} is the product of the surrogate derivatives of "
            f"{_many(plan.neurons, 'interblock neuron')}"
        )
    if not numbers:
        known = {"interblock_neurons": plan.neurons}
        return PropositionResult("1", name, "fact", says, known)
    found = _check_gradients(plan)
    if plan.neurons:
        says += _where(found)
    says += _agrees(found)
    return PropositionResult("1", name, _status(found.holds), says, _gradient_numbers(plan, found))


def _dense(graph: Graph, stage: Stage, name: str, numbers: bool) -> PropositionResult:
    plan = plan_dense(graph, stage)
    says = f"over {_blocks(stage)} the gradient is g_last * product of (1 + g), never below g_last"
    if not numbers:
        known = {"interblock_neurons": plan.neurons}
        return PropositionResult("4", name, "fact", says, known)
    found = _check_gradients(plan)
    low, high = found.bounds
    says += f" ({low:.3g} to {high:.3g}): {_beside_chain(found)}"
    holds = found.holds and found.bounded
    worse = [place.where for place in found.places if place.less_than_chain]
    if holds and worse:
        says += f"; the rule gives less than the chain {' and '.join(worse)}"
    says += _agrees(found)
    record = {
        **_gradient_numbers(plan, found),
        "bound": [low, high],
        "least_ratio_to_bound": found.ratio,
        "vacuous": worse,
    }
    for key, place in zip(_place_keys(found), found.places, strict=True):
        record[f"{key}_in_a_chain"] = place.chain
    status = "vacuous" if holds and worse else _status(holds)
    return PropositionResult("4", name, status, says, record)


def _beside_chain(found: GradientCheck) -> str:
    return ", ".join(
        f"{place.where} {place.gradient:.3g} (in a chain {place.chain:.3g})"
        for place in found.places
    )


def _many(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _blocks(stage: Stage) -> str:
    return _many(len(stage.blocks) - 1, "block")


def _where(found: GradientCheck) -> str:
    """Return the mean gradients for a first block that spikes and one that does not, if both occur."""
    if len(found.places) == 1:
        return f", {found.least:.3g} to {found.most:.3g}"
    return ", " + " and ".join(f"{place.gradient:.3g} {place.where}" for place in found.places)


def _place_keys(found: GradientCheck) -> list[str]:
    return [place.where.replace(" ", "_") for place in found.places]


def _agrees(found: GradientCheck) -> str:
    if found.error == 0:
        return "; autograd agrees exactly"
    if found.holds:
        return f"; autograd agrees to {found.error:.0e}"
    return f"; but autograd is off by {found.error:.1e} of it"


def _gradient_numbers(plan: GradientPlan, found: GradientCheck) -> dict[str, object]:
    return {
        "interblock_neurons": plan.neurons,
        "pairs_of_blocks": found.pairs,
        "least": found.least,
        "most": found.most,
        **{
            key: place.gradient for key, place in zip(_place_keys(found), found.places, strict=True)
        },
        "error": found.error,
    }


def _check_gradients(plan: GradientPlan) -> GradientCheck:
    import torch

    from danetc.compiler.emit.fx import emit
    from danetc.runtime.checks.propositions import check_gradients
    from danetc.runtime.model.signature import random_input

    graph = _smaller(plan.graph, GRADIENT_SIZE)
    value = taken(graph)
    generator = torch.Generator().manual_seed(0)
    x = random_input(value.kind, (1, IMAGES, *value.shape), generator, torch.float64)
    return check_gradients(emit(graph).double(), x, plan.programs, dense=plan.dense)


def _smaller(graph: Graph, size: int) -> Graph:
    """Return the graph for maps of at most this size, if it takes such maps."""
    shape = taken(graph).shape
    if len(shape) != 3:
        return graph
    return resized(graph, min(size, shape[1]), min(size, shape[2])) or graph


# -- Proposition 3 ---------------------------------------------------------------------------------


def _variance(graph: Graph, stage: Stage, name: str, numbers: bool) -> PropositionResult:
    plan = plan_variance(graph, stage)
    start = (
        "starts again at the opening block"
        if plan.starts_again
        else "continues from the stage's input"
    )
    if not numbers:
        says = f"{start}; squared weights of the norms, added up: {_cut([f'{s:g}' for s in plan.squares])}"
        known = {"starts_again": plan.starts_again, "squared_weights": list(plan.squares)}
        return PropositionResult("3", name, "fact", says, known)
    found = _check_variances(plan)
    pairs = zip(found.measured, found.predicted, strict=True)
    series = [f"{measured:.2f} ({predicted:.2f})" for measured, predicted in pairs]
    grows = found.predicted[-1] > found.predicted[0] if len(found.predicted) > 1 else None
    still = ", and does not grow" if grows is False else ""
    says = f"{start}{still}; measured (predicted): {_cut(series)}"
    record = {
        "starts_again": plan.starts_again,
        "grows": grows,
        "measured": list(found.measured),
        "predicted": list(found.predicted),
        "error": found.error,
    }
    return PropositionResult("3", name, _status(found.holds), says, record)


def _cut(series: list[str]) -> str:
    """Return a series as text, without the middle of a long one."""
    if len(series) > 2 * SHOWN:
        series = [*series[:SHOWN], "...", *series[-SHOWN:]]
    return ", ".join(series)


def _check_variances(plan: VariancePlan) -> VarianceCheck:
    from danetc.compiler.emit.fx import emit
    from danetc.runtime.checks.propositions import check_variances

    graph = _smaller(plan.graph, VARIANCE_SIZE)
    source = graph.input  # the proposition is of real numbers, also where spikes enter the stage
    entry = replace(source, value=replace(source.value, kind=ANALOG))
    graph = replace(graph, nodes={**graph.nodes, source.id: entry})
    shape = source.value.shape
    seeds = min(32, max(1, CHANNELS // shape[0]))
    models = [lambda seed=seed: emit(graph, seed) for seed in range(seeds)]
    size = (1, VARIANCE_IMAGES, *shape)
    return check_variances(models, size, plan.squares, plan.entry)


# -- Proposition 2 and paths -----------------------------------------------------------------------


def _factors(graph: Graph) -> list[PropositionResult]:
    parts: dict[str, list[Factors]] = {}
    for id, found in surrogate_factors(graph).items():
        parts.setdefault(_part(graph, graph[id]), []).append(found)
    findings = []
    for part, layers in parts.items():
        fewest = [layer.fewest for layer in layers]
        most = [layer.most for layer in layers]
        says = (
            f"from its weights to the loss: {_range(fewest)} on the shortest way, {_range(most)} on "
            "the longest"
        )
        numbers = {
            "fewest": [min(fewest), max(fewest)],
            "most": [min(most), max(most)],
            "layers": [
                {"path": item.path, "fewest": item.fewest, "most": item.most} for item in layers
            ],
        }
        findings.append(PropositionResult("2", part, "fact", says, numbers))
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


def _paths(graph: Graph) -> list[PropositionResult]:
    return [
        PropositionResult(
            "paths",
            stage.name,
            "fact",
            str(stage.fewest_neurons),
            {"fewest_neurons": stage.fewest_neurons},
        )
        for stage in summarise(graph).stages
    ]
