"""Compares models of one network with the reference interpreter."""

from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from math import prod
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor, nn

from danetc.compiler import Checked, graph_of
from danetc.compiler.emit.fx import emit
from danetc.compiler.ir.at_node import taken
from danetc.compiler.ir.graph import Graph
from danetc.runtime.kernels import compiled as compiler
from danetc.runtime.layers.loop import Loop
from danetc.runtime.layers.neuron import Neuron
from danetc.runtime.layers.time import DropPath
from danetc.runtime.model.built import Model
from danetc.runtime.model.signature import outputs_of
from tests.reference.network import NONE, Arrays, Network, Result
from tests.reference.tape import Array, Var, gradients
from tests.reference.weights import Places, Weights

NEAR = 1e-5
"""Rounding may decide whether a membrane potential closer to its threshold than this spikes."""
TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4}
"""Allowed difference of a tensor, as a share of its largest entry."""
NOISE = {torch.float64: 1e-13, torch.float32: 1e-6}
"""The largest rounding error. If noise of this size moves the interpreter by a tenth of a model's error
or more, rounding decides, and the comparison proves nothing."""
BATCH = 3
MAX_ELEMENTS, MAX_NODES = 300_000, 600


class Mismatch(AssertionError):
    """A model differs from the interpreter."""


class TooLarge(Exception):
    """The interpreter would take too long."""


@dataclass
class Case:
    """Results of comparisons: the number compared in each form, and the numbers set aside.

    In ``near`` ones a membrane potential is near its threshold, in ``unstable`` ones rounding decides,
    and in ``infinite`` ones a number is not finite.
    """

    compared: Counter[str] = field(default_factory=Counter)
    near: int = 0
    unstable: int = 0
    infinite: int = 0
    trained: int = 0


@dataclass(frozen=True)
class Seen:
    """One run: its outputs, gradients and buffers, and the outputs of neurons and of all layers."""

    outputs: Arrays
    gradients: Arrays
    buffers: Arrays
    neurons: Arrays
    layers: Arrays = field(default_factory=dict)


class Subject:
    """A network of a checked spec with weights, its models, and an input."""

    def __init__(self, checked: Checked, network: str, seed: int, dtype: torch.dtype) -> None:
        self.checked, self.network, self.seed, self.dtype = checked, network, seed, dtype
        self.graph = graph_of(checked, network)
        elements = sum(prod(node.value.shape) for node in self.graph.nodes.values())
        elements *= BATCH * self.graph.steps
        if elements > MAX_ELEMENTS or len(self.graph.nodes) > MAX_NODES:
            raise TooLarge(f"{len(self.graph.nodes)} nodes, {elements} elements")
        self.model = emit(self.graph, seed).to(dtype)
        self.x = self.input(seed)
        self._interpreted: dict[object, tuple[Seen, float]] = {}
        self._check_starts()
        _shake(self.model, seed)
        for number in range(1, 4):  # norms update their statistics
            self.model.train()(self.input(seed + number))
        self.state = {name: value.clone() for name, value in self.model.state_dict().items()}

    @property
    def draws(self) -> bool:
        """True if the network draws random numbers in evaluation, too."""
        return any(type(module).__name__ in RANDOM for module in self.model.modules())

    def input(self, seed: int, steps: int | None = None) -> Tensor:
        """An image, or frames of events, with whole numbers if the input of the network has them."""
        generator = torch.Generator().manual_seed(seed)
        value = taken(self.graph)
        varies = value.varies or steps is not None
        shape = (*((steps or self.graph.steps,) if varies else ()), BATCH, *value.shape)
        if value.kind.is_integer:
            whole = torch.randint(value.kind.low, value.kind.high + 1, shape, generator=generator)
            return whole if value.kind.is_token else (whole * value.kind.unit).to(self.dtype)
        return torch.rand(shape, generator=generator, dtype=self.dtype)

    def emitted(self, backend: str, memory: str = "none") -> Model:
        return emit(self.graph, self.seed, backend, memory).to(self.dtype)

    def check(
        self, model: nn.Module, training: bool, what: str, case: Case, x: Tensor | None = None
    ) -> None:
        """Run a forward and a backward pass of a model, and compare the results. Raises Mismatch."""
        x = self.x if x is None else x
        model.load_state_dict(self.state)
        model.train(training)
        seen, drawn = self.run(model, x)
        what = f"{what}, {'training' if training else 'evaluation'}"
        found = (*seen.outputs.values(), *seen.gradients.values())
        if not all(np.isfinite(value).all() for value in found):
            case.infinite += 1
            return
        self.judge(seen, x, drawn, training, what, case)

    def judge(
        self, seen: Seen, x: Tensor, drawn: Arrays, training: bool, what: str, case: Case
    ) -> None:
        """Compare a run of a model with the interpreter, and count it. Raises Mismatch."""
        expected, near = self.expected(x, drawn, training)
        if near < NEAR:
            case.near += 1
            return
        try:
            self.compare(seen, expected, what)
        except Mismatch:  # allowed if noise as small as rounding moves the interpreter as far
            moved, _ = self.expected(x, drawn, training, NOISE[self.dtype])
            self.compare(seen, expected, what, moved)
            case.unstable += 1
            return
        check_kinds(self.graph, seen, what)
        case.compared[what] += 1

    def check_same_bits(self, one: nn.Module, other: nn.Module) -> None:
        """Check that two models are bit-identical in training. Raises Mismatch."""
        runs = []
        for model in (one, other):
            model.load_state_dict(self.state)
            runs.append(self.run(model.train(), self.x)[0])
        for part in PARTS:
            for name, value in getattr(runs[0], part).items():
                if not np.array_equal(value, getattr(runs[1], part)[name], equal_nan=True):
                    raise Mismatch(f"recompute: {part}: {name} has other bits")

    def expected(
        self, x: Tensor, drawn: Arrays, training: bool, noise: float = 0.0
    ) -> tuple[Seen, float]:
        """The interpreter's results, and how near a neuron was to its threshold. The interpreter runs
        once for all models with the same input and the same random numbers.
        """
        numbers = sorted((name, value.tobytes()) for name, value in drawn.items())
        key = (training, noise, array(x).tobytes(), *numbers)
        if key not in self._interpreted:
            self._interpreted[key] = self._expected(x, drawn, training, noise)
        return self._interpreted[key]

    def interpreted(
        self, state: Arrays, x: Array, training: bool, drawn: Arrays = NONE, noise: float = 0.0
    ) -> tuple[Weights, Var, Result]:
        """Run the interpreter. Returns the weights that it used, its input, and its result."""
        weights, source = Weights(state, modules(self.model)), Var(x)
        run = Network(weights, source, training=training, drawn=drawn, noise=noise)
        return weights, source, run.run(self.checked.declaration(self.network), self.checked.module)

    def _expected(
        self, x: Tensor, drawn: Arrays, training: bool, noise: float
    ) -> tuple[Seen, float]:
        state = {name: array(value) for name, value in self.state.items()}
        weights, source, result = self.interpreted(state, array(x), training, drawn, noise)
        buffers = {n: state[n] for n, _ in self.model.named_buffers() if not n.endswith(COUNTER)}
        names = [name for name, _ in self.model.named_parameters()]
        unused = {*names, *buffers} - weights.used.keys()
        if unused:
            raise Mismatch(f"the interpreter has no use for {', '.join(sorted(unused))}")
        seeds = [(y, projection(name, y.shape)) for name, y in result.outputs.items()]
        found = gradients(seeds, [*(weights.used[name] for name in names), source], noise)
        outputs = {name: y.data for name, y in result.outputs.items()}
        grads = dict(zip((*names, "the input"), found, strict=True))
        return Seen(outputs, grads, {**buffers, **result.buffers}, result.values), result.near

    def _check_starts(self) -> None:
        """Check that norms and learnables of neurons start at the values of the spec."""
        _, drawn = self.run(self.model.eval(), self.x)
        state = {name: array(value) for name, value in self.model.state_dict().items()}
        weights, _, _ = self.interpreted(state, array(self.x), False, drawn)
        for name, start in weights.starts.items():
            if not np.isnan(start) and not np.allclose(state[name], start, rtol=1e-6, atol=1e-6):
                raise Mismatch(f"{name} starts at {state[name].flat[0]}, not at {start}")

    def run(self, model: nn.Module, x: Tensor) -> tuple[Seen, dict[str, Array]]:
        """Results of a forward and a backward pass, and the random numbers drawn in it."""
        x = x.detach().clone().requires_grad_(x.is_floating_point())
        neurons: dict[str, Array] = {}
        drawn: dict[str, Array] = {}
        layers: dict[str, Array] = {}
        hooks = []
        calls = Counter(id(module) for _, module in model.named_modules(remove_duplicate=False))
        for name, module in model.named_modules():
            if calls[id(module)] > 1:
                continue  # it is called at several places, so its output has several names
            after = module.register_forward_hook
            if not [*module.children()]:
                hooks.append(after(_keep(layers, name)))
            if isinstance(module, Neuron):
                hooks.append(after(_keep(neurons, name)))
            elif isinstance(module, nn.Dropout | DropPath):
                hooks.append(module.register_forward_pre_hook(_factors(drawn, name)))
            elif type(module).__name__ in RANDOM:  # also in a model.py
                hooks.append(after(_numbers(drawn, name)))
        poisson = [node for node in self.graph.nodes.values() if node.op == "poisson"]
        if poisson:  # an encoder of the input draws first
            torch.manual_seed(self.seed)
            shape = (self.graph.steps, BATCH, *poisson[0].value.shape)
            drawn["poisson"] = array(torch.rand_like(torch.empty(shape, dtype=self.dtype)))
        torch.manual_seed(self.seed)
        model.zero_grad()
        result = model(x)
        # a recomputed segment calls the hooks again
        neurons, drawn, layers = dict(neurons), dict(drawn), dict(layers)
        outputs = dict(zip(self.graph.outputs, outputs_of(result), strict=True))
        loss = sum(
            (y * torch.from_numpy(projection(n, y.shape)).to(y)).sum() for n, y in outputs.items()
        )
        if loss.requires_grad:
            loss.backward()
        for hook in hooks:  # a norm with hooks is not fused: recomputation needs them too
            hook.remove()
        grads = {name: _gradient(value) for name, value in model.named_parameters()}
        grads["the input"] = _gradient(x)
        buffers = {n: array(v) for n, v in model.named_buffers() if not n.endswith(COUNTER)}
        found = {name: array(y) for name, y in outputs.items()}
        return Seen(found, grads, buffers, neurons, layers), drawn

    def compare(self, seen: Seen, expected: Seen, what: str, moved: Seen | None = None) -> None:
        for part in PARTS:
            mine, other = getattr(seen, part), getattr(expected, part)
            # the lower bound of the scale, so that rounding around 0 is not an error
            floor = 1e-3 * max((float(np.abs(v).max(initial=0)) for v in other.values()), default=0)
            for name, value in mine.items():
                if name not in other and part == "neurons" and what.startswith("passes"):
                    continue  # a pass has merged it with an equal one
                if name not in other:
                    raise Mismatch(f"{what}: {part}: the interpreter has no {name}")
                wanted = _like(other[name], value) if part == "neurons" else other[name]
                if value.shape != wanted.shape:
                    raise Mismatch(f"{what}: {part}: {name} is {value.shape}, not {wanted.shape}")
                scale = max(floor, float(np.abs(wanted).max(initial=0)), 1e-12)
                gap = float(np.abs(value - wanted).max(initial=0))
                if gap <= TOLERANCE[self.dtype] * scale:
                    continue
                if moved is not None:
                    away = getattr(moved, part)[name]
                    away = _like(away, value) if part == "neurons" else away
                    if not gap > 10 * np.abs(away - wanted).max(initial=0):
                        continue
                raise Mismatch(f"{what}: {part}: {name} differs by {gap:.3g} of {scale:.3g}")


COUNTER = "num_batches_tracked"
RANDOM = ("Random", "SampleRandom")
PARTS = ("outputs", "neurons", "buffers", "gradients")


def check_kinds(graph: Graph, seen: Seen, what: str) -> None:
    """Check that outputs of layers and of the network are in the range that the compiler states."""
    values = {node.path: node.value.kind for node in graph.nodes.values()}
    values |= {name: graph[id].value.kind for name, id in graph.outputs.items()}
    for name, value in (*seen.layers.items(), *seen.outputs.items()):
        kind = values.get(name)
        if kind is None or not kind.is_integer:
            continue
        units = value / kind.unit
        if np.any((units != np.round(units)) | (units < kind.low) | (units > kind.high)):
            raise Mismatch(f"{what}: {name} gives {value.min():g} .. {value.max():g}, not {kind}")


def modules(model: nn.Module) -> Places:
    """The paths of layers and of the scopes that hold them, the shapes of values that loops carry, and
    for layers at several places the paths of their weights."""
    shapes: dict[str, tuple[int, ...]] = {}
    layers, scopes = list[str](), list[str]()
    stored = {name.rpartition(".")[0] for name in model.state_dict()}
    homes = {id(module): name for name, module in model.named_modules() if name in stored}
    ties: dict[str, str] = {}
    for name, module in model.named_modules(remove_duplicate=False):
        if homes.get(id(module), name) != name:
            ties[name] = homes[id(module)]
        if isinstance(module, Loop):
            scope = name[: name.rfind(".") + 1]
            shapes |= {scope + item.name: item.shape for item in module.carried}
        else:
            is_scope = any(key != "weight_layer" for key, _ in module.named_children())
            (scopes if is_scope else layers).append(name)
    for name in shapes:  # a scope may hold only such values
        layers.append(name)
        parts = name.split(".")
        scopes += [".".join(parts[:depth]) for depth in range(1, len(parts))]
    return layers, scopes, shapes, ties


@torch.no_grad()
def _shake(model: nn.Module, seed: int) -> None:
    """Change parameters that start at 0 or 1 (norms, biases, learnables), and let more neurons fire."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        if parameter.dim() < 3:
            noise = torch.rand(parameter.shape, generator=generator, dtype=parameter.dtype)
            parameter.add_(0.6 * noise - 0.1)


def compiling(really: bool) -> AbstractContextManager[object]:
    return mock.patch.object(compiler, "COMPILE", really)


def _keep(into: dict[str, Array], name: str) -> Callable[..., None]:
    def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Any) -> None:
        if isinstance(output, Tensor):  # a scope without layers may have several outputs
            into[name] = array(output)

    return hook


def _factors(into: dict[str, Array], name: str) -> Callable[..., None]:
    """The factor of each element: the module runs on ones first, with the same random numbers."""

    def hook(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        state = torch.get_rng_state()
        drawn = array(module.forward(torch.ones_like(inputs[0])))
        if name in into:  # the next step of a loop over time
            drawn = np.concatenate([into[name].ravel(), drawn.ravel()])
        into[name] = drawn
        torch.set_rng_state(state)

    return hook


def _numbers(into: dict[str, Array], name: str) -> Callable[..., None]:
    def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        earlier = into.get(name, np.empty(0)).ravel()
        into[name] = np.concatenate([earlier, array(output).ravel()])

    return hook


def projection(name: str, shape: tuple[int, ...]) -> Array:
    """Fixed weights of an output, so that no symmetry of a network hides an error."""
    return np.random.default_rng(len(name)).standard_normal(tuple(shape))


def _like(wanted: Array, value: Array) -> Array:
    """If the model has fewer steps, the first ones of a value that is the same at all steps."""
    if value.shape == wanted.shape:
        return wanted
    return wanted[: value.shape[0]] if value.ndim == wanted.ndim else wanted[0]


def array(value: Tensor) -> Array:
    return value.detach().double().numpy().copy()


def _gradient(value: Tensor) -> Array:
    return array(torch.zeros_like(value) if value.grad is None else value.grad)
