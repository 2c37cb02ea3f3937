"""Fused layers to test: their properties, the selected cases, and the comparison of one case."""

import itertools
import random
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from functools import cache, reduce
from typing import Any, NamedTuple
from zlib import crc32

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from danetc.dsl.diagnostics.diagnostic import Reporter
from danetc.dsl.kinds import ANALOG, SPIKE, Kind
from danetc.dsl.neuron.equations import compile_neuron
from danetc.dsl.neuron.opcodes import OPCODES, Operand
from danetc.dsl.neuron.program import Learn, NeuronProgram
from danetc.dsl.neuron.reading import read_program
from danetc.dsl.neuron.ssa import Instruction
from danetc.runtime.layers.fused import FusedNeuron
from danetc.runtime.layers.norm import StaticBatchNorm2d
from tests.gpu.interpreter import Launch, interpreted, uncompiled
from tests.runtime.conftest import SIGMOID, declarations, defaults, std
from tests.surrogates import step

COUNT = Kind(-1, 9, 0.5)


class Input(NamedTuple):
    """A term of the sum: whether it has a norm, whether it is the same at all steps, and its kind."""

    normed: bool = False
    static: bool = False
    kind: Kind = ANALOG


FORMS: Mapping[str, tuple[Input, ...]] = {
    "value": (Input(),),
    "norm": (Input(normed=True),),
    "norm + value": (Input(normed=True), Input()),
    "norm + norm": (Input(normed=True), Input(normed=True)),
    "norm + spikes in 1 bit": (Input(normed=True), Input(kind=SPIKE)),
    "counts in 4 bits + norm": (Input(kind=COUNT), Input(normed=True)),
    "static norm": (Input(normed=True, static=True),),
    "norm + static value": (Input(normed=True), Input(static=True)),
    "static norm + value": (Input(normed=True, static=True), Input()),
    "folded, added to spikes": (Input(), Input()),
}
DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
STEPS = (1, 4, 8)
SIZES = ((1, 5, 1, 1), (2, 7, 7, 1), (3, 2, 19, 27), (1, 513, 1, 1), (2, 16, 4, 4))
"""N, C, H, W: sizes and channels of 1, 7 and 513, batches of 1, and powers of two."""
TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4, torch.float16: 2e-3, torch.bfloat16: 1.2e-2}
"""Largest difference from float64, as a share of the largest value."""
SEEDS = 30
ROUNDING = 1e-6
"""Relative change of inputs that shows which results depend on the rounding of float32."""


class Case(NamedTuple):
    neuron: str
    form: str
    dtype: torch.dtype = torch.float32
    steps: int = 2
    last: bool = False
    size: tuple[int, int, int, int] = SIZES[1]
    training: bool = True

    def __str__(self) -> str:
        layout, mode = ("NHWC" if self.last else "NCHW"), ("train" if self.training else "eval")
        return f"{self.neuron}, {self.form}, {str(self.dtype)[6:]}, T = {self.steps}, {layout}, {self.size}, {mode}"


# -- neurons ---------------------------------------------------------------------------------------


@cache
def standard() -> dict[str, str]:
    surrogate = next(iter(declarations(SIGMOID).values()))
    found = {}
    others: dict[str, tuple[str, dict[str, Learn]]] = {
        "LIF per channel": ("LIF", {"tau": Learn(2.0, above=1.0, per="channel")}),
        "LIF per step": ("LIF", {"v_threshold": Learn(1.0, per_step=True)}),
    }
    neurons = declarations(std("neurons.danet"))
    for name, (base, arguments) in {**{n: (n, {}) for n in neurons}, **others}.items():
        given = {**defaults(neurons[base]), **arguments}
        program = compile_neuron(neurons[base], given, surrogate, defaults(surrogate), Reporter())
        assert program is not None
        found[name] = program.text()
    return found


@cache
def zoo() -> dict[str, str]:
    """Return neurons with one input and no learnables per pixel of a map: others are not fused."""
    from tests.zoo.harness import CASES, NAMES, graph  # imported late, since it takes seconds

    found: dict[str, str] = {}
    for network in NAMES:
        for program in graph(network, CASES[network]).neurons.values():
            is_fused = not program.inputs and all(i.per != "neuron" for i in program.learnables)
            if is_fused and program.text() not in found.values():
                name = f"{network}.{program.name}"
                count = sum(other.startswith(name) for other in found)
                found[f"{name}{f' {count + 1}' if count else ''}"] = program.text()
    return found


def program(name: str) -> str:
    return standard()[name] if name in standard() else zoo()[name]


# -- selections ------------------------------------------------------------------------------------


@cache
def covering() -> list[Case]:
    """Return cases that combine any two values of different properties at least once."""
    neurons = (*standard(), *zoo())
    properties = neurons, tuple(FORMS), DTYPES, STEPS, (False, True), SIZES, (True, False)
    pairs = itertools.combinations(range(len(properties)), 2)
    left = {((i, a), (j, b)) for i, j in pairs for a in properties[i] for b in properties[j]}
    draw, found = random.Random(1), []
    for first in sorted(left, key=repr):
        if first not in left:
            continue
        row = dict(first)
        for place in draw.sample(range(len(properties)), len(properties)):
            if place not in row:
                values = draw.sample(properties[place], len(properties[place]))
                met = {value: len(left & _pairs({**row, place: value})) for value in values}
                row[place] = max(values, key=met.__getitem__)
        left -= _pairs(row)
        found.append(Case(*(row[place] for place in sorted(row))))
    return found


def _pairs(row: Mapping[int, Any]) -> set[Any]:
    return set(itertools.combinations(sorted(row.items()), 2))


# -- fusion groups in float64, operation by operation, differentiated by autograd -------------------

"""Independent of the runtime: the program of a neuron is evaluated, and norms are ``F.batch_norm``."""
MOMENTUM, EPS = 0.1, 1e-5
OPERATIONS: Mapping[str, Callable[..., Tensor]] = {
    **{name: getattr(torch, name) for name in
       ("add", "sub", "mul", "div", "neg", "exp", "log", "sqrt", "abs", "sign", "sigmoid", "tanh",
        "sin", "cos", "erf", "relu", "lt", "le", "gt", "ge", "eq", "ne", "where")},
    "softplus": F.softplus, "max": torch.maximum, "min": torch.minimum,
    "round": lambda x: x + (x.round() - x).detach(), "detach": torch.Tensor.detach,
    "and": torch.logical_and, "or": torch.logical_or, "not": torch.logical_not,
    "number": torch.Tensor.double, "cast": torch.Tensor.double,
}  # fmt: skip


def in_float64(
    program: NeuronProgram, inputs: Sequence[Tensor], norms: Sequence[Any], params: Sequence[Tensor]
) -> Tensor:
    """Return the output [T, N, C, H, W] for terms of that shape, each with its batch norm or None."""
    terms = [*inputs]
    for place, (x, norm) in enumerate(zip(inputs, norms, strict=True)):
        if norm is not None:
            stats = norm.running_mean, norm.running_var, norm.weight, norm.bias
            normed = F.batch_norm(x.flatten(0, 1), *stats, norm.training, MOMENTUM, EPS)
            terms[place] = normed.view(x.shape)
    currents = reduce(torch.add, terms)
    state = {s.name: torch.full_like(currents[0], s.init) for s in program.states}
    outputs = []
    for t, x in enumerate(currents):
        values = {"x": x, **state}
        for item, p in zip(program.learnables, params, strict=True):
            values[item.parameter] = p[t] if item.per_step else p
        _evaluate(program.ops, values, program)
        outputs.append(_read(values, program.output).expand_as(x))
        after = zip(program.states, program.next_states, strict=True)
        state = {s.name: _read(values, value).expand_as(x) for s, value in after}
    return torch.stack(outputs)


def _read(values: Mapping[str, Tensor], operand: Operand) -> Tensor:
    known = isinstance(operand, str)
    return values[operand] if known else torch.tensor(operand, dtype=torch.float64)


def _evaluate(
    ops: Sequence[Instruction], values: dict[str, Tensor], program: NeuronProgram
) -> None:
    for op in ops:
        args = [_read(values, each) for each in op.args]
        if op.opcode == "heaviside":
            values[op.name] = step(args[0], lambda v: _slope(v, values, program))
        else:
            values[op.name] = OPERATIONS[op.opcode](*args)


def _slope(x: Tensor, values: Mapping[str, Tensor], program: NeuronProgram) -> Tensor:
    surrogate = program.surrogate
    assert surrogate is not None
    known = {item.name: values[item.parameter].detach() for item in surrogate.scheduled}
    known["x"] = x
    _evaluate(surrogate.ops, known, program)
    return _read(known, surrogate.derivative).expand_as(x)


# -- a comparison ----------------------------------------------------------------------------------


class Different(AssertionError):
    """Kernels and references differ."""


Results = dict[str, Tensor]


def compare(case: Case, change: Callable[[str], str] = str) -> Sequence[Launch]:
    """Run a case with GPU kernels, uncompiled, and in float64. Return the launches. Raises Different.

    Seeds are tried until both references agree: near a threshold, rounding decides about spikes.
    """
    for seed in range(SEEDS):
        layer = Layer(case, seed)
        with uncompiled():
            eager, plain = layer.eager(), layer.fused()
        if _gap(plain, eager) <= TOLERANCE[case.dtype]:
            break
    else:
        gaps = _gaps(plain, eager)
        raise Different(f"{case}: the uncompiled arithmetic differs from float64: {gaps}")
    with interpreted(change) as interpreter:
        found = layer.fused()
    sums = case.training and any(each.normed for each in layer.inputs)  # their order differs
    rounds = any(OPCODES[op.opcode].rounds for op in read_program(layer.program).ops)
    if not (sums or rounds or torch.equal(found["out"], plain["out"])):
        raise Different(f"{case}: outputs differ: {_gaps(found, plain)}")
    moved: Results = {}
    while not (
        _is_same(found, plain, case.dtype, moved)
        and _gap(found, eager, moved) <= TOLERANCE[case.dtype]
    ):
        if moved:
            gaps = _gaps(found, plain, moved), _gaps(found, eager, moved)
            raise Different(f"{case}: differs from the uncompiled arithmetic and float64: {gaps}")
        moved = layer.moved(eager)
    return interpreter.launches


def _is_same(found: Results, plain: Results, dtype: torch.dtype, moved: Results) -> bool:
    """True if values differ only by rounding, and sums, which are at least float32, by their order."""
    gaps, eps = _gaps(found, plain, moved), torch.finfo(dtype).eps
    ulps = {2: 2, 4: 64, 8: 4096}[dtype.itemsize] * eps  # gradients of norms contain sums
    of_sums = TOLERANCE[torch.float64 if dtype is torch.float64 else torch.float32]
    return all(
        gap <= (of_sums if ": " in name or "parameter" in name else ulps)
        for name, gap in gaps.items()
    )


def _gaps(found: Results, expected: Results, moved: Results | None = None) -> dict[str, float]:
    """The largest difference of each result beyond what rounding has ``moved``, as a share of the
    largest value; inf if one is not finite.
    """
    gaps = {}
    for name, b in expected.items():
        a, own = found[name].double(), (moved or {}).get(name, 0)
        gap = ((a - b.double()).abs() - own).clamp_min(0).max()  # NaN stays and fails any bound
        gap = gap / b.double().abs().max().clamp_min(1e-3)
        gaps[name] = float(gap) if a.shape == b.shape and a.isfinite().all() else float("inf")
    return gaps


def _gap(found: Results, expected: Results, moved: Results | None = None) -> float:
    return max(_gaps(found, expected, moved).values())


class Layer:
    def __init__(self, case: Case, seed: int) -> None:
        self.case = case
        self.inputs, self.added = FORMS[case.form], case.form.startswith("folded")
        n, c, h, w = case.size
        if n * h * w * case.steps < 3:
            n = 3  # a norm of any two values gives 1 and -1, so its gradient is only rounding
        torch.manual_seed(crc32(f"{case} {seed}".encode()))
        self.values = []
        for each in self.inputs:
            shape = (n, c, h, w) if each.static else (case.steps, n, c, h, w)
            if each.kind is ANALOG:
                x = torch.randn(shape) * 1.3 + 0.3
            else:
                x = torch.randint(each.kind.low, each.kind.high + 1, shape) * each.kind.unit
            self.values.append(x.to(case.dtype))
        self.weights = torch.randn(case.steps, n, c, h, w).to(case.dtype)
        self.norms: list[Any] = [None] * len(self.inputs)
        for place, each in enumerate(self.inputs):
            if each.normed:
                norm = StaticBatchNorm2d(c, case.steps) if each.static else nn.BatchNorm2d(c)
                nn.init.uniform_(norm.weight, 0.5, 1.5)
                nn.init.normal_(norm.bias)
                self.norms[place] = norm.train(case.training)
        self.program = program(case.neuron)
        kinds, own = [each.kind for each in self.inputs], self.norms[self.added :]
        self.layer = FusedNeuron(
            self.program, case.steps, 3, own, kinds, (c, h, w), added=self.added
        )
        for p in self.layer.parameters():
            nn.init.normal_(p, float(p.detach().mean()), 0.1)

    def _fresh(self, dtype: torch.dtype) -> None:
        """Reset gradients and running statistics, and convert all to a dtype."""
        for module in (self.layer, *filter(None, self.norms)):
            module.to(dtype).zero_grad()
            if module is not self.layer:
                nn.init.constant_(module.running_mean, 0.25)
                nn.init.constant_(module.running_var, 1.5)

    def fused(self) -> Results:
        """Results of the package, in the dtype of the case; norms and learnables are at least float32."""
        case = self.case
        self._fresh(torch.float64 if case.dtype is torch.float64 else torch.float32)
        xs = [
            (x.movedim(-3, -1).contiguous().movedim(-1, -3) if case.last else x.clone())
            for x in self.values
        ]
        return self._gradients(self.layer, xs)

    def moved(self, eager: Results) -> Results:
        """Return how far results of the reference move if its inputs change by ``ROUNDING`` of themselves.
        They move much farther where rounding decides at a steep surrogate or at the edge of one."""
        others = [self.eager(change) for change in (-ROUNDING, ROUNDING)]
        assert all(value.isfinite().all() for other in others for value in other.values())
        return {
            name: torch.stack([(other[name] - value).abs() for other in others]).amax(0)
            for name, value in eager.items()
        }

    def eager(self, change: float = 0.0) -> Results:
        """Results of the reference; each input may change by a random multiple of ``change`` of itself."""
        self._fresh(torch.float64)
        parsed, steps = read_program(self.program), self.case.steps

        def run(*xs: Tensor) -> Tensor:
            whole = [x if x.dim() == 5 else x.expand(steps, *x.shape) for x in xs]
            own = slice(self.added, None)
            out = in_float64(parsed, whole[own], self.norms[own], self.layer.params())
            timeless = all(x.dim() == 4 for x in xs) and not parsed.varies
            out = out[0] if timeless else out
            return whole[0] + out if self.added else out

        generator = torch.Generator().manual_seed(0)
        xs = [x.to(torch.float64) for x in self.values]
        xs = [x * (1 + change * torch.randn(x.shape, generator=generator)) for x in xs]
        return self._gradients(run, xs)

    def _gradients(self, run: Callable[..., Tensor], xs: Sequence[Tensor]) -> Results:
        before = [x.clone() for x in xs]
        for x in xs:
            x.requires_grad_(not self.added)
        with torch.no_grad() if self.added else nullcontext():
            out = run(*xs)
        found = {"out": out.detach()}
        if out.requires_grad:  # false at the first step of a delayed input
            weights = self.weights if out.dim() == 5 else self.weights[0]
            out.backward(weights.to(out.dtype))
        for i, x in enumerate(() if self.added else xs):
            found[f"gradient of input {i}"] = torch.zeros_like(x) if x.grad is None else x.grad
        owners = {f"norm {i}: ": norm for i, norm in enumerate(self.norms) if norm is not None}
        for who, norm in owners.items():
            found |= {f"{who}{name}": x.clone() for name, x in norm.named_buffers() if x.dim()}
        for who, owner in {**owners, "parameter ": self.layer}.items():
            found |= {f"{who}gradient of {name}": p.grad for name, p in owner.named_parameters()}
        if not all(map(torch.equal, xs, before)):
            raise Different(f"{self.case}: an input was overwritten")
        return {name: x for name, x in found.items() if x is not None}
