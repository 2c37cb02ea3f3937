"""Compares the engine's training by a recipe with the interpreter's."""

import math
from collections.abc import Mapping
from dataclasses import replace
from functools import partial

import numpy as np
import torch

from danetc.compiler import Checked
from danetc.compiler.emit.names import attribute
from danetc.compiler.ir.at_node import taken
from danetc.compiler.ir.ops import OPS
from danetc.dsl.diagnostics.diagnostic import Reporter
from danetc.dsl.neuron.inference import output_kind
from danetc.dsl.recipe.item import Item
from danetc.dsl.recipe.resolve import resolve_recipe
from danetc.dsl.recipe.settings import Phase, Recipe
from danetc.runtime.data.dataset import DataSet, Memory
from danetc.runtime.model.built import Model
from danetc.runtime.system.errors import TrainingError
from danetc.runtime.training.distributed import World
from danetc.runtime.training.engine import PhaseRun, fit
from danetc.runtime.training.observer import RunSettings
from tests.fuzzing.compare import COUNTER, NEAR, NOISE, Case, Mismatch, Subject
from tests.reference.tape import Array, Var, gradients
from tests.reference.training import Optimizer, averaged, clipped, loss, share

TOLERANCE = 1e-7
"""Allowed difference of weights and buffers after a few steps, as a share of the largest entry of each."""
RANDOM = tuple(name for name, row in OPS.items() if row.random)
IMAGES, MAX_EPOCHS = 6, 6
State = dict[str, Array]


def recipes(checked: Checked) -> list[Recipe]:
    declared = (each for each in checked.module.program.declarations if each.kind == "recipe")
    found = [resolve_recipe(each, {}, Reporter(), checked.module) for each in declared]
    assert None not in found
    return found  # type: ignore[return-value]


def check_training(subject: Subject, recipe: Recipe, case: Case) -> None:
    """Train on a set of one batch, so that an epoch is a step; compare weights and the test loss.

    Some settings of the phase are replaced: those of images, since the images are given; of gradients,
    since the interpreter's go through all steps; and changes, since they are not of this network.
    """
    graph, model = subject.graph, subject.model
    model.load_state_dict(subject.state)
    outputs = [graph[id] for id in graph.outputs.values()]
    node = outputs[0]
    rated = any(term.item.name == "firing_rate" for term in recipe.phases[0].loss)
    random = any(n.op in RANDOM for n in graph.nodes.values())
    if len(outputs) > 1 or len(node.value.shape) != 1 or random or (graph.shares and rated):
        return
    phase = replace(
        recipe.phases[0], batch=IMAGES, accumulate=1, augment=(), evaluate=(), precision="float32",
        gradient=Item("bptt"), change=(),
    )  # fmt: skip
    if phase.epochs > MAX_EPOCHS:
        return
    generator = torch.Generator().manual_seed(subject.seed)
    value = taken(graph)
    shape = (IMAGES, *[graph.steps] * value.varies, *value.shape)
    images, tokens = torch.rand(shape, generator=generator), value.kind.is_token
    if value.kind.is_integer:
        whole = torch.randint(value.kind.low, value.kind.high + 1, shape, generator=generator)
        images = whole if tokens else whole * value.kind.unit
    classes = node.value.shape[0]
    labels = torch.randint(0, classes, (IMAGES,), generator=generator)
    start = {name: value.numpy().copy() for name, value in model.state_dict().items()}
    memory = Memory(images, labels)
    names = tuple(map(str, range(classes)))
    data = DataSet("made", "made", names, memory, memory, shape[1:], "made", value.varies, tokens)
    settings, world = RunSettings(seed=subject.seed), World(torch.device("cpu"))
    try:
        run = PhaseRun(model, data, replace(phase, steps=None), settings, world=world)
        fit(run)
    except TrainingError as error:
        told = ("the network has no neuron", "no longer finite", "not finite")
        if not any(words in str(error) for words in told) and (
            "tet" not in str(error) or node.value.varies
        ):
            raise Mismatch(f"training: {error}") from error
        return
    x = images.double().numpy()
    x = x.swapaxes(0, 1) if value.varies else x
    trained = run.kept.state_dict().items()
    seen = {name: value.numpy() for name, value in trained if value.is_floating_point()}
    tested = float(run.history[-1]["test_loss"])
    train = partial(_train, subject, phase, start, x, labels.numpy())
    expected, reference_loss, near = train()
    if near < NEAR:
        case.near += 1
        return
    gaps = _gaps(seen, expected)
    gaps["the test's loss"] = abs(tested - reference_loss) / max(1.0, abs(reference_loss))
    if max(gaps.values()) <= TOLERANCE:
        case.trained += 1
        return
    moved, moved_loss, _ = train(NOISE[torch.float64])
    noise = _gaps(moved, expected)
    noise["the test's loss"] = abs(moved_loss - reference_loss)
    worst = max(gaps, key=lambda name: gaps[name] / max(noise[name], 1e-300))
    if gaps[worst] > TOLERANCE and gaps[worst] > 10 * max(noise.values()):
        raise Mismatch(
            f"after training, {worst} is off by {gaps[worst]:.3g} of itself ({phase.optimizer.name})"
        )
    case.unstable += 1


def _rates(model: Model, fired: Mapping[str, Var], wanted: str) -> list[Var]:
    """The firing rate of each layer of spiking neurons (named ``wanted``, unless that is empty): the
    mean size of its spikes, in their units."""
    graph = model.topology
    found = []
    for node in graph.nodes.values():
        if node.op == "neuron" and node.id not in graph.shares:
            program = graph.program(node)
            kind = output_kind(program)
            named = wanted in ("", program.name)
            if named and program.is_neuron and kind.is_integer:
                y = fired[".".join(map(attribute, (*node.scope, node.name)))]
                y = np.absolute(y) if kind.low < 0 else y
                found.append(y.mean(tuple(range(len(y.shape)))).reshape() / kind.unit)
    return found


def _gaps(seen: Mapping[str, Array], expected: Mapping[str, Array]) -> dict[str, float]:
    """The largest difference of each tensor, as a share of its largest entry."""
    return {
        name: float(np.abs(value - expected[name]).max(initial=0))
        / max(float(np.abs(expected[name]).max(initial=0)), 1e-3)
        for name, value in seen.items()
    }


def _train(
    subject: Subject, phase: Phase, start: State, x: Array, labels: Array, noise: float = 0.0
) -> tuple[State, float, float]:
    """The weights to keep, their loss in evaluation, and how near a neuron was to its threshold."""
    model = subject.model
    names = [name for name, _ in model.named_parameters()]
    state = dict(start)
    near, mean, optimizer = math.inf, None, None
    for done in range(phase.epochs):
        weights, _, result = subject.interpreted(state, x, True, noise=noise)
        (output,) = result.outputs.values()
        total = loss(phase.loss, output, labels, partial(_rates, model, result.fired))
        leaves = [weights.used[name] for name in names]
        found = dict(zip(names, gradients([(total, np.ones(()))], leaves, noise), strict=True))
        optimizer = optimizer or Optimizer(phase.optimizer, frozenset(weights.multiplied))
        values = {name: state[name] for name in names}
        optimizer.step(values, clipped(found, phase.clip), share(phase, done, 1))
        state = {**state, **result.buffers, **values}
        state |= {name: n + 1 for name, n in state.items() if name.endswith(COUNTER)}
        near = min(near, result.near)
        if phase.ema is not None:
            mean = averaged(mean, state, phase.ema)
    kept = state if mean is None else mean
    _, _, result = subject.interpreted(kept, x, False, noise=noise)
    (output,) = result.outputs.values()
    return kept, float(loss(phase.loss, output, labels).data), min(near, result.near)
