"""Compares a network in each of its forms."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

import danetc
from danetc.compiler import Checked, check_text, graph_of
from danetc.compiler.emit.fx import emit
from danetc.compiler.frontend.resolved import resolved_spec
from danetc.compiler.ir.at_node import taken
from danetc.compiler.ir.graph import Graph
from danetc.compiler.ir.ops import OPS
from danetc.compiler.passes import PIPELINE
from danetc.runtime.model.built import Model
from danetc.runtime.model.signature import outputs_of
from tests.differential import helpers
from tests.differential.helpers import model_py
from tests.fuzzing.compare import Case, Mismatch, Seen, Subject, array, compiling
from tests.fuzzing.dice import Dice

FORMS = (
    "passes", "spikingjelly", "recompute", "fused recompute", "python", "folded", "stream",
    "resolved", "sequence",
)  # fmt: skip
"""Forms of a network besides the eager and the fused model. Each case takes one of them."""
CODES = ("poisson", "latency")


def check_network(checked: Checked, network: str, seed: int, case: Case) -> Subject:
    """Compare one network in training and in evaluation on the eager and the fused backend, with
    uncompiled kernels, and in one more form. Raises Mismatch, TooLarge, and errors of a model.
    """
    subject = Subject(checked, network, seed, torch.float64)
    with compiling(False):
        fused = subject.emitted("fused")
        for training in (False, True):
            subject.check(subject.model, training, "eager", case)
            subject.check(fused, training, "fused", case)
        form = Dice(seed).choice(FORMS)
        _check_form(subject, form, fused, case)
    return subject


def check_compiled(checked: Checked, network: str, seed: int, case: Case) -> None:
    """Compare one network on the fused backend as users run it: compiled, in float32."""
    subject = Subject(checked, network, seed, torch.float32)
    fused = subject.emitted("fused")
    with compiling(True):
        for training in (False, True):
            subject.check(fused, training, "compiled", case)


def _check_form(subject: Subject, form: str, fused: Model, case: Case) -> None:
    graph = subject.graph
    ops = {node.op for node in graph.nodes.values()}
    match form:
        case "passes":
            some = tuple(Dice(subject.seed).some(PIPELINE, len(PIPELINE) - 1))
            written = graph_of(subject.checked, subject.network, passes=some)
            model = emit(written, subject.seed).to(subject.dtype)
            for training in (False, True):
                subject.check(model, training, form, case)
        case "spikingjelly":
            subject.check(subject.emitted("spikingjelly"), True, form, case)
        case "recompute" | "fused recompute":
            backend = "fused" if "fused" in form else "eager"
            model = subject.emitted(backend, "recompute")
            subject.check(model, True, form, case)
            subject.check_same_bits(model, subject.emitted(backend))
        case "python" if "poisson" not in ops:
            random = any(OPS[op].random for op in ops)
            for training in (False,) if random else (False, True):
                subject.check(model_py(graph), training, form, case)
        case "folded":
            fused.load_state_dict(subject.state)
            folded = danetc.fold(fused.eval())
            _check_outputs(subject, folded, form, case)
        case "stream":
            if subject.model.signature.whole or ops & {"mean_over_time", *CODES}:
                return
            if not subject.draws:  # step by step, it would draw other numbers
                subject.model.load_state_dict(subject.state)
                _check_outputs(subject, streamed(subject.model.eval(), graph), form, case)
        case "resolved":
            again = check_text(resolved_spec(subject.checked, subject.network))
            if essence(graph_of(again, subject.network)) != essence(graph):
                raise Mismatch("the resolved spec is another network")
            case.compared[form] += 1
        case "sequence" if not taken(graph).varies and not ops & {"tebn", *CODES}:
            per_step = any(node.attrs.get("per_step") for node in graph.nodes.values())
            if per_step or subject.model.signature.fixed:
                return
            frames = subject.input(subject.seed + 7, steps=graph.steps + 1)
            subject.check(subject.model, True, form, case, frames)
            subject.check(fused, False, f"fused {form}", case, frames)


def essence(graph: Graph) -> object:
    """A graph without its source positions."""
    nodes = [(i, n.op, n.inputs, n.path, dict(n.attrs), n.value) for i, n in graph.nodes.items()]
    return graph.steps, dict(graph.outputs), nodes, graph.stages


def _check_outputs(subject: Subject, run: Callable[[Tensor], Any], what: str, case: Case) -> None:
    torch.manual_seed(subject.seed)
    with torch.no_grad():
        found = map(array, outputs_of(run(subject.x)))
    _, drawn = subject.run(subject.model.eval(), subject.x)
    outputs = dict(zip(subject.graph.outputs, found, strict=True))
    subject.judge(Seen(outputs, {}, {}, {}), subject.x, drawn, False, what, case)


def streamed(model: Model, graph: Graph) -> Callable[[Tensor], tuple[Tensor, ...]]:
    """A function that runs a model frame by frame and joins the outputs."""

    def run(x: Tensor) -> tuple[Tensor, ...]:
        frames = x if taken(graph).varies else [x] * graph.steps
        steps = zip(*map(outputs_of, helpers.streamed(model, frames)), strict=True)
        return tuple(
            torch.stack(column) if graph[id].value.varies else column[-1]
            for column, id in zip(steps, graph.outputs.values(), strict=True)
        )

    return run
