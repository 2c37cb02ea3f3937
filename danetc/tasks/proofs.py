"""Propositions of the paper on a network: what holds, what fails, and numbers of its graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import chain
from math import isclose, isfinite
from typing import TYPE_CHECKING, Any, Literal

from danetc.compiler.analysis.equivalence import resized
from danetc.compiler.analysis.propositions import (
    GradientPlan,
    NotApplicable,
    factors_on_paths,
    plan_chain,
    plan_dense,
    plan_rates,
)
from danetc.compiler.ir.at_node import taken
from danetc.compiler.ir.graph import Graph, Stage
from danetc.compiler.ir.ops.user import refuse_code
from danetc.dsl.kinds import ANALOG
from danetc.errors import UserError

if TYPE_CHECKING:
    from danetc.runtime.checks.propositions import GradientCheck

Verdict = Literal["holds", "fails", "does not apply", "not checked"]
"""``does not apply``: a premise is broken; ``not checked``: nothing was shown, for lack of numbers."""

TITLES: Mapping[str, str] = {
    "1": "interblock modules disrupt gradients",
    "3": "within a stage, the first neurons of deeper blocks fire more",
    "4": "dense addition bounds gradients from below",
}
"""The propositions that have verdicts. For Proposition 2, neurons on paths are counted."""

MOST_BLOCKS = 1_000  # blocks of all stages whose gradients and firing rates are checked at most
IMAGES = 2
GRADIENT_SIZE = 6  # height and width of maps for gradients; the formulas hold for each pixel

RATE_FRAMES = 16  # number of images times steps in each batch for the measurement of firing rates
RATE_SIZE = 4
SHOWN = 3
CHANNELS = 256  # channels that rates are averaged over; narrow stages use networks of several seeds


Found = tuple[Verdict, str, dict[str, object]]
"""Verdict, text for people and numbers of a proposition for a stage."""


def prove(
    graph: Graph, on_progress: Callable[[str], object] = lambda what: None, *, numbers: bool = True
) -> dict[str, Any]:
    """Apply every proposition to a graph as written (``graph_of(..., passes=())``).

    Return the record that ``danetc prove --json`` prints. Without ``numbers``, only premises that the
    topology breaks are found. Imports torch only if there is something to check numerically.
    ``on_progress`` gets the next step. Raises UserError for numerical checks of more than
    ``MOST_BLOCKS`` blocks.
    """
    if numbers:
        refuse_code(graph, "`prove` does not run", "--no-numbers states what the topology implies")
    stages = {".".join(stage.scope): stage for stage in graph.stages}
    blocks = sum(len(stage.blocks) for stage in graph.stages)
    if numbers and blocks > MOST_BLOCKS:
        raise UserError(
            f"{graph.name} has {blocks:,} blocks, and gradients and firing rates are checked by "
            f"numbers for {MOST_BLOCKS:,} at most; --no-numbers (numbers=False) states what follows "
            "from the topology"
        )
    findings: list[dict[str, object]] = []
    for (number, title), check in zip(TITLES.items(), (_chain, _rates, _dense), strict=True):
        for part in stages or [graph.name]:
            on_progress(f"Proposition {number}, {part}")
            try:
                if not stages:
                    raise NotApplicable("the network has no stages")
                verdict, says, record = check(graph, stages[part], numbers)
            except NotApplicable as why:
                verdict, says, record = "does not apply", f"because {why}", {}
            place = {"proposition": number, "title": title, "part": part}
            findings.append({**place, "verdict": verdict, "says": says, **record})
    agrees = all(finding.get("agrees", True) for finding in findings)
    facts = {"agrees": agrees, "findings": findings, "paths": factors_on_paths(graph)}
    return {"network": graph.name, "steps": graph.steps, **facts}


def _chain(graph: Graph, stage: Stage, numbers: bool) -> Found:
    plan = plan_chain(graph, stage)
    says = f"over {_many(len(stage.blocks) - 1, 'block')} the gradient is "
    says += f"the product of {_many(plan.neurons, 'surrogate derivative')}" if plan.neurons else "1"
    found = _gradients(plan) if numbers else None
    verdict: Verdict = "does not apply"
    if not plan.neurons:
        says = f"because there is no interblock neuron between the blocks: {says}"
    elif found is None:
        verdict = "not checked"
    elif not found.damps:
        says = f"because no surrogate derivative is below 1 in magnitude: {says}"
    else:
        shrinks = any(abs(place.gradient) < 1 - 1e-9 for place in found.places)
        verdict = "holds" if shrinks else "fails"
        says += f", {'somewhere' if shrinks else 'nowhere'} below 1 in magnitude"
    return _finding(verdict, says, plan, found, dense=False)


def _dense(graph: Graph, stage: Stage, numbers: bool) -> Found:
    plan = plan_dense(graph, stage)
    says = f"the gradient of the stage's result by block 0 is {plan.bound()}"
    found = _gradients(plan) if numbers else None
    if found is None:
        says += ", if no derivative is negative"
        return _finding("not checked", says, plan, None, dense=True)
    least = min(found.least)
    if least < 0:
        block = found.least.index(least) + 1
        why = f"because the surrogate derivative of block {block} falls to {least:.3g}"
        return _finding("does not apply", f"{why}, below 0", plan, found, dense=True)
    return _finding("holds" if found.bounded else "fails", says, plan, found, dense=True)


def _gradients(plan: GradientPlan) -> GradientCheck:
    """Compare the gradients of a stage with their formula, for the means of random starts. Imports
    torch."""
    import torch

    from danetc.compiler.emit.fx import emit
    from danetc.runtime.checks.propositions import check_gradients
    from danetc.runtime.model.signature import random_input

    graph = _smaller(plan.graph, GRADIENT_SIZE)
    neurons = {
        key: replace(of, learnables=tuple(replace(item, random=None) for item in of.learnables))
        for key, of in graph.neurons.items()
    }
    graph = replace(graph, neurons=neurons)
    value, generator = taken(graph), torch.Generator().manual_seed(0)
    x = random_input(value.kind, (1, IMAGES, *value.shape), generator, torch.float64)
    model = emit(graph).double()
    return check_gradients(model, x, plan.programs, plan.terms, plan.fewest)


def _finding(
    verdict: Verdict, says: str, plan: GradientPlan, found: GradientCheck | None, *, dense: bool
) -> Found:
    """Add the computed values to a finding."""
    record: dict[str, object] = {"interblock_neurons": plan.neurons}
    if dense:
        record["shortest_path"] = int(plan.fewest[0])
    if found is None:
        return verdict, says, record
    derivatives = {"least_derivative": min(found.least), "most_derivative": max(found.most)}
    gradients = [(place.gradient, place.bound, place.chain) for place in found.places]
    if not all(map(isfinite, chain(derivatives.values(), *gradients))):
        return "does not apply", "because a derivative is not finite", record
    record |= {**derivatives, "error": found.error, "agrees": found.agrees}
    places = []
    for place in found.places:
        key = place.where.replace(" ", "_")
        record[key] = place.gradient
        places.append(f"{place.where} {place.gradient:.3g}")
        if dense:
            record |= {f"{key}_bound": place.bound, f"{key}_in_a_chain": place.chain}
            sign = ">=" if place.gradient > place.bound else "<"
            sign = "=" if isclose(place.gradient, place.bound, rel_tol=1e-9) else sign
            places[-1] += f" {sign} {place.bound:.3g} (in a chain {place.chain:.3g})"
    agrees = f"agrees to {found.error:.0e}" if found.agrees else f"is off by {found.error:.1e}"
    says += f": {', '.join(places)}" * (plan.neurons > 0 or dense)
    says += f"; autograd {agrees if found.error else 'agrees exactly'}"
    return verdict if found.agrees else "fails", says, record


def _many(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"


def _smaller(graph: Graph, size: int) -> Graph:
    """Return the graph for maps of at most this size, if it takes such maps."""
    shape = taken(graph).shape
    if len(shape) != 3:
        return graph
    return resized(graph, min(size, shape[1]), min(size, shape[2])) or graph


def _rates(graph: Graph, stage: Stage, numbers: bool) -> Found:
    plan = plan_rates(graph, stage)
    record: dict[str, object] = {"squared_weights": list(plan.squares)}
    if not numbers:
        squares = _cut([f"{square:g}" for square in plan.squares])
        return "not checked", f"the squared weights of norms add up to {squares}", record
    import torch

    from danetc.compiler.emit.fx import emit
    from danetc.runtime.checks.propositions import check_rates

    part = _smaller(plan.graph, RATE_SIZE)
    source = part.input  # the proposition is of real numbers, also if spikes enter the stage
    entry = replace(source, value=replace(source.value, kind=ANALOG))
    part = replace(part, nodes={**part.nodes, source.id: entry})
    seeds = min(16, max(1, CHANNELS // source.value.shape[0]))
    models = (emit(part, seed) for seed in range(4 * seeds))
    size = (graph.steps, max(2, RATE_FRAMES // graph.steps), *source.value.shape)
    generator = torch.Generator().manual_seed(0)
    found = check_rates(models, seeds, lambda: torch.randn(*size, generator=generator))
    predicted = [s + e * found.entry for s, e in zip(plan.squares, plan.entry, strict=True)]
    record |= {"rates": list(found.rates), "variances": list(found.variances)}
    record["predicted_variances"] = predicted
    series = zip(found.rates, found.variances, predicted, strict=True)
    shown = _cut([f"{rate:.3f} ({v:.2f}, {p:.2f})" for rate, v, p in series])
    n = len(predicted)
    says = f"untrained firing rates from block 1 on (variance, as predicted): {shown}"
    if found.falls:
        i = found.falls[0]
        what = f"block {i} fires less than block {i - 1}, {found.rates[i - 1]:.3f} < {found.rates[i - 2]:.3f}"
        return "fails", f"{what}; {says}", record
    if found.rises is None:
        return "not checked", f"blocks 1 and {n} differ by less than the noise; {says}", record
    if not found.rises:
        return "fails", f"block {n} does not fire more than block 1; {says}", record
    return "holds", says, record


def _cut(series: list[str]) -> str:
    """Return a series as text, without the middle of a long one."""
    if len(series) > 2 * SHOWN:
        series = [*series[:SHOWN], "...", *series[-SHOWN:]]
    return ", ".join(series)
