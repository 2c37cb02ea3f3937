"""Comparison of zoo networks with the code that their authors published.

``tests/zoo/recorded/NAME.json`` describes one comparison and ``NAME.npz`` holds the outputs and gradients
of the authors' network. The authors' code itself is not part of this repository: ``record`` takes their
network as a module and writes both files. ``compare_with_authors`` rebuilds the same weights and inputs
from seeds, runs our network and compares.

The description has these fields:

- ``repository``, ``commit``, ``code``: where the network was found; ``code`` names the file and the class.
- ``settings``: settings of the spec; the authors' network has the same sizes.
- ``names``: our weight or buffer -> theirs. ``key[2:4]`` names rows of their tensor, ``key[2]`` an
  entry, ``key.T`` its transpose (of the first two dimensions), ``key.T[2:4]`` its columns, and ``a + b`` the
  rows of several, one after the other.
- ``seed``, ``gain``, ``norm``, ``bias``, ``ranges``: how weights are drawn, see ``draw``.
- ``changes``: what was changed in the authors' code before the comparison; empty if nothing was.
- ``differs``: where the spec deviates from the authors' code, and why; empty if nowhere.
- ``recipe``: the recipe of the spec whose loss for labels 0, 1, ... is an additional output, and whose
  gradient rule computes the gradients; empty if there is none.
- ``unused``: their parameters that have no counterpart -> the reason.
- ``gap``: largest relative difference when the comparison was recorded.

Where no code was found, the file has ``repository: null`` and a ``reason``.
"""

import json
import math
import re
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import torch
from torch import Tensor, nn

from danetc.compiler.emit.fx import emit
from danetc.compiler.ir.at_node import taken
from danetc.dsl.neuron.reading import read_program
from danetc.runtime.layers.neuron import Neuron
from danetc.runtime.layers.weight_layer import layers_of
from danetc.runtime.model.signature import outputs_of
from danetc.runtime.training.backward import represented
from danetc.runtime.training.losses import Objective
from danetc.tasks.training.plan import find_recipe
from tests.zoo.harness import RATES, checked, graph

FOLDER = Path(__file__).with_name("recorded")
TOLERANCE = 1e-9
BATCH, DEVIATION = 2, 0.01
ENTRIES = 6
"""The number of entries of each gradient that are stored with its projection."""
FLOOR = 1e-3
"""Gradients are compared relative to their largest entry, or to this share of the network's largest."""

Array = np.ndarray[Any, np.dtype[np.float64]]
Run = Callable[[nn.Module, Tensor], Any]


@dataclass(frozen=True)
class Comparison:
    """Description of one comparison; the module's docstring explains the fields."""

    repository: str | None
    commit: str = ""
    code: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    seed: int = 0
    gain: float = 1.0
    norm: tuple[float, float] = (1.0, 2.0)
    bias: tuple[float, float] = (-0.2, 0.6)
    ranges: dict[str, tuple[float, float]] = field(default_factory=dict)
    changes: str = ""
    differs: str = ""
    recipe: str = ""
    unused: dict[str, str] = field(default_factory=dict)
    gap: float = 0.0
    reason: str = ""


def comparison_of(name: str) -> Comparison:
    return Comparison(**json.loads((FOLDER / f"{name}.json").read_text("utf-8")))


def cell(name: str) -> str:
    """The text of docs/zoo.md about the comparison."""
    comparison = comparison_of(name)
    if comparison.repository is None:
        return comparison.reason
    owner = "/".join(comparison.repository.rstrip("/").rsplit("/", 2)[-2:])
    link = f"[{owner}@{comparison.commit[:7]}]({comparison.repository}/tree/{comparison.commit})"
    power = math.ceil(math.log10(max(comparison.gap, 1e-16)))
    file, _, what = comparison.code.partition(":")
    said = f"{link}, {file}{f': {what.strip()}' if what else ''}. Equal to 1e{power}"
    if comparison.changes:
        said += f", with their code changed: {comparison.changes.rstrip('.')}"
    if comparison.differs:
        said += f". The spec differs: {comparison.differs.rstrip('.')}"
    return said


# -- weights and inputs from seeds -----------------------------------------------------------------


def _generator(seed: int, key: str) -> np.random.Generator:
    return np.random.default_rng([seed, crc32(key.encode())])


def draw(model: nn.Module, comparison: Comparison) -> dict[str, Tensor]:
    """Values of our weights and buffers, with seeds from the names that the authors give them.

    If a regular expression of ``ranges`` matches the name, the value is uniform between its two bounds.
    Masks keep their values. Running means are normal with deviation 0.1, running variances uniform from
    0.5 to 1.5, weights of norms and biases uniform in ``norm`` and ``bias``. Weights of layers are normal
    with deviation gain / sqrt(fan-in). All other values move from their initial value by at most 0.05.
    """
    modules, values = dict(model.named_modules()), {}
    for key, start in model.state_dict().items():
        owner, _, leaf = key.rpartition(".")
        if leaf == "num_batches_tracked":
            continue
        assert key in comparison.names, f"{key} has no counterpart"
        theirs, shape = comparison.names[key], tuple(start.shape)
        generator = _generator(comparison.seed, theirs)
        is_norm = hasattr(modules[owner], "running_mean")
        found = [bounds for each, bounds in comparison.ranges.items() if re.search(each, theirs)]
        if found:
            drawn = generator.uniform(*found[0], shape)
        elif leaf == "running_mean":
            drawn = generator.normal(0, 0.1, shape)
        elif leaf == "running_var":
            drawn = generator.uniform(0.5, 1.5, shape)
        elif leaf == "bias":
            drawn = generator.uniform(*comparison.bias, shape)
        elif leaf == "mask":
            drawn = start.double().numpy()
        elif leaf == "weight" and is_norm:
            drawn = generator.uniform(*comparison.norm, shape)
        elif (
            (leaf == "weight" or "weight_layer" in modules[owner]._modules)
            and start.dim() >= 2
            and not isinstance(modules[owner], Neuron)
        ):
            fan_in = start[0].numel()
            drawn = generator.normal(0, comparison.gain / fan_in**0.5, shape)
        else:
            drawn = start.double().numpy() + generator.uniform(-0.05, 0.05, shape)
        values[key] = torch.as_tensor(drawn, dtype=torch.float64).reshape(shape)
    return values


def inputs(settings: Mapping[str, Any], name: str, seed: int) -> Tensor:
    """An image [N, C, H, W], counts of events [T, N, C, H, W], or tokens [N, L] or [T, N, 1]."""
    ours = graph(name, settings)
    value = taken(ours)
    generator, size = _generator(seed, "input"), (*[ours.steps] * value.varies, BATCH, *value.shape)
    if value.kind.is_token:
        return torch.as_tensor(generator.integers(value.kind.high + 1, size=size))
    if not value.varies:
        return torch.as_tensor(generator.normal(size=size))
    counts = torch.as_tensor(generator.poisson(0.8, size))
    return counts.clamp(max=value.kind.most if value.kind.is_integer else math.inf).double()


# -- running and comparing -------------------------------------------------------------------------


def digest(value: Tensor, key: str, seed: int) -> Array:
    """A seeded projection of a tensor, its largest magnitude, and a few of its entries."""
    flat = value.detach().double().flatten().numpy()
    generator = _generator(seed, f"digest of {key}")
    direction = generator.normal(size=flat.size) / flat.size**0.5
    chosen = generator.integers(flat.size, size=ENTRIES)
    largest = float(np.abs(flat).max())
    return np.concatenate([[flat @ direction, largest], flat[chosen]])


def observe(
    module: nn.Module,
    run: Run,
    x: Tensor,
    gradients: Callable[[], Mapping[str, Tensor]],
    buffers: Callable[[], Mapping[str, Tensor]],
    seed: int,
) -> dict[str, Array]:
    """Outputs and digests of gradients in training and evaluation, and digests of buffers after training.

    Before evaluation the norms take the statistics of the batch, so that neurons also fire in evaluation.
    """
    seen: dict[str, Array] = {}

    def seeded(frames: Tensor) -> Any:
        torch.manual_seed(seed)  # for networks that draw random numbers
        return run(module, frames)

    for mode in ("training", "evaluation"):
        module.train(mode == "training")
        module.zero_grad()
        frames = x.detach().clone().requires_grad_(x.is_floating_point())
        total = torch.zeros(())
        for place, y in enumerate(outputs_of(seeded(frames))):
            along = _generator(seed, f"output {place}").normal(size=tuple(y.shape))
            total = total + (y * torch.as_tensor(along)).sum()
            seen[f"{mode}/output/{place}"] = y.detach().double().numpy()
        total.backward()
        reached = torch.zeros_like(frames) if frames.grad is None else frames.grad  # local losses
        rows = [digest(reached, "input", seed)]
        rows += [digest(value, key, seed) for key, value in gradients().items()]
        seen[f"{mode}/gradients"] = np.stack(rows)
        if mode == "training":
            rows = [digest(value, key, seed) for key, value in buffers().items()]
            seen["buffers"] = np.stack(rows) if rows else np.zeros((0, 2 + ENTRIES))
            for layer in module.modules():
                if hasattr(layer, "momentum"):
                    layer.momentum = 1.0
            with torch.no_grad():
                seeded(x)
    return seen


def observe_ours(name: str, comparison: Comparison) -> dict[str, Array]:
    """Run our network with the drawn weights. The rate of each neuron layer must be within ``RATES``."""
    model = emit(graph(name, comparison.settings), 0).double()
    state = dict(model.state_dict())
    model.load_state_dict(state | draw(model, comparison))
    x = inputs(comparison.settings, name, comparison.seed)
    names = comparison.names
    loss: Objective | None = None
    rule: AbstractContextManager[None] = nullcontext()
    if comparison.recipe:
        phase = find_recipe(checked(name).module, comparison.recipe, "digits", {}).phases[0]
        loss = Objective(phase.loss, model.signature, model=model)
        if phase.gradient.name == "representation":
            rule = represented(model, **dict(phase.gradient.arguments))
    layers = [module for _, module in layers_of(model) if isinstance(module, Neuron)]
    spikes: dict[nn.Module, Tensor] = {}
    for layer in layers:
        layer.register_forward_hook(lambda layer, _, y: spikes.update({layer: y.detach()}))

    def gradients() -> dict[str, Tensor]:
        missing = [key for key, p in model.named_parameters() if p.grad is None]
        assert not missing, f"no gradient: {missing}"
        return {names[key]: p.grad for key, p in model.named_parameters() if p.grad is not None}

    def buffers() -> dict[str, Tensor]:
        return {names[key]: value for key, value in model.named_buffers() if key in names}

    def run(module: nn.Module, frames: Tensor) -> Any:
        outputs = module(frames)
        several = outputs_of(outputs)
        assert all(float(y.std()) > DEVIATION for y in several), "the outputs are all alike"
        for layer in layers:
            if read_program(layer.program).has_step:  # not an activation function
                rate = float((spikes[layer] != 0).double().mean())
                assert RATES[0] <= rate <= RATES[1], f"a layer fires at the rate {rate:.3f}"
        if loss is not None and torch.is_grad_enabled():
            labels = torch.arange(len(several[0])) % several[0].shape[1]
            return (*several, loss(outputs, labels))
        return outputs

    with rule:
        return observe(model, run, x, gradients, buffers, comparison.seed)


def largest_gap(mine: Mapping[str, Array], theirs: Mapping[str, Array]) -> float:
    """The largest difference, relative to the largest entry of its tensor."""
    assert mine.keys() == theirs.keys()
    worst = 0.0
    for key, value in mine.items():
        other = theirs[key]
        assert value.shape == other.shape, f"{key}: {value.shape} here, {other.shape} in theirs"
        if not value.size:
            continue
        scale = np.abs(other).max()
        if "output" not in key:
            scale = np.maximum(other[:, 1], FLOOR * other[:, 1].max())[:, None]
        worst = max(worst, float((np.abs(value - other) / scale).max()))
    return worst


def compare_with_authors(name: str) -> float:
    comparison = comparison_of(name)
    with np.load(FOLDER / f"{name}.npz") as stored:
        theirs = dict(stored)
    return largest_gap(observe_ours(name, comparison), theirs)


# -- recording -------------------------------------------------------------------------------------

_STEP = re.compile(r"\[(\d+)(?::(\d+))?\]|\.T\b")


def _views(place: str, theirs: Mapping[str, Tensor]) -> list[Tensor]:
    views = []
    for part in place.split(" + "):
        key = _STEP.sub("", part)
        assert key in theirs, f"{part} is not in the authors' network"
        view = theirs[key]
        for step in _STEP.finditer(part):
            if step[1] is None:
                view = view.transpose(0, 1)
            else:
                view = view[int(step[1])] if step[2] is None else view[int(step[1]) : int(step[2])]
        views.append(view)
    return views


def _shortened(value: Array) -> Array:
    """Values without their last 20 bits: the relative error is at most 2.4e-10, and the file is smaller."""
    bits = np.ascontiguousarray(value).view(np.int64) & ~0xFFFFF
    return bits.view(np.float64).reshape(value.shape)


def record(name: str, authors: nn.Module, run: Run, comparison: Comparison) -> float:
    """Load the drawn weights into the authors' network, run it, and write both files.

    ``authors`` is their network with the sizes of ``comparison.settings``. ``run`` takes it and an input
    in our layout (see ``inputs``), resets its states and returns the output in our layout. Returns the
    largest relative difference to our network. Asserts that each parameter of both networks has a
    counterpart or is in ``comparison.unused``.
    """
    model = emit(graph(name, comparison.settings), 0).double()
    authors = authors.double()
    parameters, names = dict(authors.named_parameters()), comparison.names
    mapped = {_STEP.sub("", part) for place in names.values() for part in place.split(" + ")}
    extra = parameters.keys() - mapped - comparison.unused.keys()
    assert not extra, f"parameters without a counterpart: {sorted(extra)}"
    with torch.no_grad():
        for key, value in draw(model, comparison).items():
            views = _views(names[key], parameters | dict(authors.named_buffers()))
            sizes = [view.numel() for view in views]
            assert sum(sizes) == value.numel(), f"{key} {list(value.shape)}: {sizes}"
            for view, part in zip(views, value.flatten().split(sizes), strict=True):
                view.copy_(part.reshape(view.shape))

    def flat(place: str, found: Mapping[str, Tensor]) -> Tensor:
        return torch.cat([view.flatten() for view in _views(place, found)])

    def gradients() -> dict[str, Tensor]:
        missing = [key for key in mapped & parameters.keys() if parameters[key].grad is None]
        assert not missing, f"no gradient: {missing}"
        found = {key: p.grad for key, p in parameters.items() if p.grad is not None}
        return {names[key]: flat(names[key], found) for key, _ in model.named_parameters()}

    def statistics() -> dict[str, Tensor]:
        found, ours = dict(authors.named_buffers()), dict(model.named_buffers())
        return {names[key]: flat(names[key], found) for key in ours if key in names}

    x = inputs(comparison.settings, name, comparison.seed)
    seen = observe(authors, run, x, gradients, statistics, comparison.seed)
    gap = largest_gap(observe_ours(name, comparison), seen)
    kept_bits = {key: _shortened(value) for key, value in seen.items()}
    np.savez_compressed(FOLDER / f"{name}.npz", **kept_bits)  # type: ignore[arg-type]
    default = asdict(Comparison("")).items()
    found = asdict(comparison) | {"gap": gap}
    kept = {key: value for key, value in found.items() if (key, value) not in default}
    text = json.dumps(kept, indent=1, ensure_ascii=False) + "\n"
    (FOLDER / f"{name}.json").write_text(text, "utf-8")
    return gap
