"""Run a network of a checked program on numpy arrays with given weights: its operations, norms and
neurons as layers, and its lines, stages, rules, connections and blocks."""

import math
from base64 import b64decode
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial, reduce
from typing import Any

import numpy as np
from scipy.special import expit

from danetc.dsl.loading import Module
from danetc.dsl.syntax import tree as s
from tests.reference import functions as f
from tests.reference.equations import OPERATORS, Drawn, Learn, Neuron, surrogate
from tests.reference.language import (
    OPERATIONS,
    Backbone,
    BlockLayer,
    Bound,
    Env,
    Evaluator,
    Identity,
    Learnt,
    Loops,
    Named,
    Once,
    Op,
    Sequence,
    StageOf,
    Wire,
    unnamed,
)
from tests.reference.tape import Array, Var, as_var, broadcast, concat, stack
from tests.reference.weights import Path, Weights, plain

WEIGHTED = ("conv", "linear")
Arrays = Mapping[str, Array]
NONE: Arrays = {}
MOVING = ("maxpool", "upsample", "pad", "flatten", "swap", "shuffle", "reshape", "delay")
CHOOSING = ("relu", "detach", "max", "dropout", "droppath", "poisson", "latency")
EXACT = frozenset((*MOVING, *CHOOSING))
"""Operations without rounding errors."""
ELEMENTWISE: Mapping[str, Callable[[Any], Var]] = {
    **{name: getattr(f, name) for name in ("relu", "detach", "softplus", "gelu")},
    "sigmoid": expit,
    "tanh": np.tanh,
}
AXES = {"time": 0, "channels": 2, "rows": 3, "columns": 4}
"""The axes of [T, N, C, H, W]."""


@dataclass
class Result:
    """The result of a network: outputs by name, [T, N, ...] or [N, ...], and changed buffers.

    ``near`` is the least distance of a membrane potential from its threshold, except for exact hits.
    ``values`` has the outputs of neurons by their paths, and ``fired`` has the same as a ``Var``.
    """

    outputs: dict[str, Var] = field(default_factory=dict)
    buffers: dict[str, Array] = field(default_factory=dict)
    near: float = math.inf
    values: dict[str, Array] = field(default_factory=dict)
    fired: dict[str, Var] = field(default_factory=dict)


class Network(Evaluator):
    """One forward pass. ``x`` is [N, C, H, W], the same at each of the network's steps, or
    [T, N, C, H, W]. ``drawn`` has the random numbers: those of the Poisson encoder as ``poisson``,
    the factors of dropout and drop-path and the numbers of ``random`` by their paths.

    With ``noise``, results with rounding errors are changed by this relative amount, at random. An
    output that then differs was decided by a rounding error.
    """

    def __init__(
        self, weights: Weights, x: Var, *, training: bool, drawn: Arrays = NONE, noise: float = 0.0
    ) -> None:
        super().__init__()
        self.weights = weights
        self.x = x
        self.training = training
        self.steps = 1
        self.places: dict[Once, list[Path]] = {}  # layers in the first use of each
        self.given = 0  # number of input channels read so far
        self.drawn = drawn
        self.noise = noise
        self.random = np.random.default_rng(0)
        self.result = Result()
        self.taken: Counter[tuple[Path, str]] = Counter()
        self.stages: Counter[Path] = Counter()
        self.learnt: dict[Path, Var] = {}  # by scope and name
        self.computed: dict[Path, tuple[Var, dict[str, Var]]] = {}  # computed weights by layer
        self.block_layers: list[Op] = []

    # -- scopes: names of weights ------------------------------------------------------------------

    @contextmanager
    def within(self, *names: str) -> Iterator[None]:
        outer, self.scope = self.scope, (*self.scope, *names)
        yield
        self.scope = outer

    def fresh(self, name: str) -> str:
        """``name``, then ``name2``, ``name3``, ... in one scope."""
        self.taken[self.scope, name] += 1
        number = self.taken[self.scope, name]
        return name if number == 1 else f"{name}{number}"

    # -- joins -------------------------------------------------------------------------------------

    def met(self, value: Any, wire: Wire) -> Any:
        """Learnt or random numbers in the shape that ``wire`` requires. Other values stay unchanged."""
        if not isinstance(value, Learn | Learnt):
            return value
        found = value if isinstance(value, Learnt) else Learnt(value)
        steps, _, *shape = wire.data.shape
        ones = [1] * (len(shape) - 1)
        size = {"channel": [shape[0], *ones], "neuron": shape}.get(found.learn.per, [1, *ones])
        drawn, by_step = isinstance(found.learn, Drawn), found.learn.by_step
        key = (*found.scope, found.name) if found.name else ()
        if not key or key not in self.learnt:
            scope, role = self.scope, "random" if drawn else "learn"
            if found.name:
                scope, role = found.scope, found.name
            if drawn:
                self.learnt[key] = Var(self._random(scope, role, wire.data.shape))
            else:
                bounded = (found.learn.above, found.learn.below) != (None, None)
                leaf, each = "weight_raw" if bounded else "weight", [steps] * by_step
                path, start = self.weights.path(scope, role), found.learn.stored
                stored = self.weights.take(path, leaf, *each, *size, start=start)
                self.learnt[key] = found.learn.value(stored)
        numbers = self.learnt[key]
        if not drawn:
            numbers = numbers.reshape(steps if by_step else 1, 1, *size)
            numbers = broadcast(numbers, (*wire.data.shape[:2], *size))
        return found.made(Wire(numbers, drawn or by_step))

    def _random(self, scope: Path, role: str, shape: tuple[int, ...]) -> Array:
        """The numbers that a layer drew for a value [T, N, ...], or once for all of its steps."""
        numbers = self.drawn[self.weights.layers[self.weights.path(scope, role)]]
        steps = shape[0] if numbers.size == math.prod(shape) else 1
        return np.broadcast_to(numbers.reshape(steps, *shape[1:]), shape)

    def join(self, op: str, left: Any, right: Any) -> Wire:
        if isinstance(left, Wire):
            right = self.met(right, left)
        elif isinstance(right, Wire):
            left = self.met(left, right)
        if op == "/" and not isinstance(right, Wire):
            op, right = "*", 1 / right
        values = [side.data if isinstance(side, Wire) else float(side) for side in (left, right)]
        values = f.side_by_side(values)
        varies = any(side.varies for side in (left, right) if isinstance(side, Wire))
        a, b = (as_var(value) for value in values)
        made = OPERATORS[op](a, b)
        return Wire(made, varies) if op in "+-" else self._rounded(Wire(made, varies))

    def function(self, name: str, args: list[Any]) -> Wire:
        first = next(wire for wire in args if isinstance(wire, Wire))
        args = [self.met(wire, first) for wire in args]
        varies = any(wire.varies for wire in args)
        values = f.side_by_side([wire.data for wire in args])
        if name == "concat":
            return Wire(concat(values, 2), varies)
        if name == "abs":
            return Wire(np.absolute(values[0]), varies)
        if name in ("sqrt", "exp"):
            return self._rounded(Wire(getattr(np, name)(values[0]), varies))
        return Wire(reduce(np.minimum if name == "min" else np.maximum, values), varies)

    def product(self, name: str, wires: Mapping[str, Wire], attrs: Mapping[str, Any]) -> Wire:
        """Compute ``scores`` or ``mix`` by the sums of their definitions."""
        x = {label: wire.data for label, wire in wires.items()}
        varies = any(wire.varies for label, wire in wires.items() if label != "like")
        if name == "scores":
            return self._rounded(Wire(f.scores(x["q"], x["k"], attrs["heads"]), varies))
        pixels = x.get("like", x["v"]).shape[-2:]
        return self._rounded(Wire(f.mix(x["a"], x["v"], pixels), varies))

    # -- layers ------------------------------------------------------------------------------------

    def apply(self, layer: Any, wire: Wire) -> Wire:
        match layer:
            case Identity():
                return wire
            case Sequence(steps):
                for step in steps:
                    wire = self.apply(step, wire)
                return wire
            case Named(name, inner):
                with self.within(self.fresh(name)):
                    return self.apply(inner, wire)
            case Once(inner):
                with self.weights.at_places_of(self.places.setdefault(layer, [])):
                    return self.apply(inner, wire)
            case BlockLayer(changes):
                block_layer = self.block_layers[-1]
                attrs = {**block_layer.attrs, **changes}
                return self.apply(replace(block_layer, attrs=attrs), wire)
            case Op(name):
                made = self.operate(layer, wire)
                return made if name in EXACT else self._rounded(made)
            case Backbone():
                return self.backbone(layer, wire)
            case Bound(declaration) if declaration.kind == "neuron":
                return self.neuron(layer, wire)
            case Bound():
                block = self.written_out(layer)
                with self.within(self.fresh(layer.declaration.name)):
                    return self.self_wired(block, wire, {})
        raise AssertionError(layer)

    # -- loops over time ---------------------------------------------------------------------------

    def carried(self, role: str) -> Wire | None:
        path = self.weights.layers[self.weights.path(self.scope, role)]
        if path not in self.weights.shapes:
            return None
        lead = self.x.shape[:2] if len(self.x.shape) == 5 else (self.steps, self.x.shape[0])
        return Wire(Var(np.zeros((*lead, *self.weights.shapes[path]))), True)

    def delayed(self, wire: Wire, steps: int) -> Wire:
        x = wire.data
        late = min(steps, x.shape[0])
        zeros = Var(np.zeros((late, *x.shape[1:])))
        return Wire(concat([zeros, x[: x.shape[0] - late]], 0), True)

    def numbers(self) -> Any:
        counters = self.weights.numbers, self.taken, self.stages
        learnt = dict(self.weights.used), dict(self.learnt)
        moved = dict(self.result.buffers)  # a shared norm updates them several times in one pass
        return [Counter(each) for each in counters], learnt, self.result.near, moved

    def put_back(self, numbers: Any) -> None:
        counters, (used, learnt), self.result.near, moved = numbers
        self.result.buffers = dict(moved)
        self.weights.used, self.learnt = dict(used), dict(learnt)
        self.weights.numbers, self.taken, self.stages = map(Counter, counters)

    def _rounded(self, wire: Wire) -> Wire:
        if not self.noise:
            return wire
        moved = 1 + self.noise * self.random.standard_normal(wire.data.shape)
        return Wire(wire.data * Var(moved if wire.varies else moved[:1]), wire.varies)

    def operate(self, op: Op, wire: Wire) -> Wire:
        """Apply an operation of the table."""
        whole = {
            name: int(v) for name, v in op.attrs.items() if isinstance(v, float) and v % 1 == 0
        }
        attrs = {**op.attrs, **whole}
        x, varies = wire.data, wire.varies
        match op.name:
            case "conv":
                return Wire(self._conv(op, attrs, x), varies or attrs["over"] == "time")
            case "linear" if attrs["over"] is not None:
                return Wire(self._linear_over(op, attrs, x), varies or attrs["over"] == "time")
            case "linear":
                flat, width = x.reshape(*x.shape[:2], -1), attrs["width"]
                _, weight, bias = self._weighted(op, width, width, flat.shape[2])
                made = f.mixed(flat, weight, 2)
                return Wire(made if bias is None else made + bias, varies)
            case "embedding":
                path, width = self.weights.path(self.scope, op.role), attrs["width"]
                table = self.weights.take(path, "weight", self.vocabulary, width)
                if x is not self.indices:  # multiply with all rows
                    return Wire(f.mixed(x, table, 2), varies)
                rows = f.taken(table, 0, x.data.astype(int))
                places = () if x.shape[2] == 1 else (1, x.shape[2])
                return Wire(f.swapped(rows, 2, 3).reshape(*x.shape[:2], width, *places), varies)
            case "tdbn":
                start = attrs["alpha"] * self._threshold()
                attrs = {**OPERATIONS["batchnorm"], "init": start}
                return self.operate(Op("batchnorm", attrs, op.role), wire)
            case "conv_transposed":
                return Wire(self._conv_transposed(op, attrs, x), varies)
            case "batchnorm" | "tebn" | "groupnorm" | "layernorm":
                return self._norm(op, attrs, wire)
            case "maxpool" | "avgpool":
                kernel = attrs["kernel"]
                stride = kernel if attrs["stride"] is None else attrs["stride"]
                padding = attrs["padding"]
                if padding is None:
                    padding = kernel // 2 if op.name == "maxpool" and kernel % 2 else 0
                pool = f.maxpool if op.name == "maxpool" else f.avgpool
                return Wire(pool(x, kernel, stride, padding), varies)
            case "global_avgpool":
                return Wire(x.mean((-2, -1)), varies)
            case "upsample":
                if attrs["over"] == "channels":
                    return Wire(f.taken(x, 2, np.arange(x.shape[2]).repeat(attrs["scale"])), varies)
                sizes = [side * attrs["scale"] for side in x.shape[3:]]
                if attrs["like"] is not None:
                    sizes = attrs["like"].data.shape[3:]
                elif attrs["rows"] is not None:
                    sizes = [attrs["rows"], attrs["columns"]]
                for axis, size in enumerate(sizes, 3):
                    shares = f.shares(x.shape[axis], size, attrs["mode"] == "bilinear")
                    x = f.mixed(x, Var(shares), axis)
                return Wire(x, varies)
            case "pad":
                axes = {"rows": (3,), "columns": (4,), "pixels": (3, 4)}[attrs["over"]]
                before = int(attrs["before"])
                after = before if attrs["after"] is None else int(attrs["after"])
                return Wire(f.padded(x, axes, before, after), varies)
            case "sum" | "mean" | "max":
                return self._reduced(op.name, attrs["over"], attrs["groups"], wire)
            case "swap":
                return self._swapped(attrs["a"], attrs["b"], wire)
            case "shuffle":
                order = np.arange(x.shape[2]).reshape(attrs["groups"], -1).T.reshape(-1)
                return Wire(f.taken(x, 2, order), varies)
            case "transform":
                axis = AXES[attrs["over"]]
                matrix = f.orthogonal(attrs["by"], x.shape[axis])
                matrix = matrix.T if attrs["inverse"] else matrix
                return Wire(f.mixed(x, Var(matrix), axis), varies)
            case "mask":
                path = self.weights.path(self.scope, op.role)
                mask = self.weights.take(path, "mask", *x.shape[2:]).data
                parts = attrs["parts"] or 1
                assert ((mask == 0) | (mask == 1)).all()
                assert parts == 1 or (mask.reshape(parts, -1).sum(0) == 1).all()
                return Wire(x * Var(mask), varies)
            case "sinusoidal":
                positions = f.positions(x.shape[2:], attrs["over"])
                return Wire(broadcast(Var(positions), x.shape), varies)
            case "reshape":
                return Wire(
                    x.reshape(*x.shape[:2], *(int(size) for size in attrs.values())), varies
                )
            case "flatten":
                return Wire(x.reshape(*x.shape[:2], -1), varies)
            case "running_mean":
                return self._running_mean(op, attrs, x)
            case "softmax":
                return Wire(f.softmax(x, AXES[attrs["over"]]), varies or attrs["over"] == "time")
            case "dropout" | "droppath":
                return self._drop(op, wire)
            case "delay":
                self.weights.path(self.scope, op.role)
                return self.delayed(wire, attrs["steps"])
            case "mean_over_time":
                return Wire(broadcast(x.mean((0,)), x.shape), False) if varies else wire
            case "poisson":
                rate = np.clip(x.data, 0.0, 1.0)
                return Wire(Var((self.drawn["poisson"] < rate) * 1.0), True)
            case "latency":
                return Wire(Var(f.latency(x.data, attrs["tau"])), True)
            case name:
                return Wire(ELEMENTWISE[name](x), varies)

    def _reduced(self, name: str, over: str, groups: int, wire: Wire) -> Wire:
        """Reduce an axis to one entry. The result of a reduction over time is the same at each step."""
        x, varies = wire.data, wire.varies
        if over == "time":
            if not varies and name != "sum":
                return wire
            return Wire(broadcast(f.reduced(name, x, (0,)), x.shape), False)
        if over == "channels":
            split = x.reshape(*x.shape[:2], groups, x.shape[2] // groups, *x.shape[3:])
            made = f.reduced(name, split, (3,))
            return Wire(made.reshape(*x.shape[:2], groups, *x.shape[3:]), varies)
        axes = (3, 4) if over == "pixels" else (AXES[over],)
        return Wire(f.reduced(name, x, axes), varies)

    def _swapped(self, a: str, b: str, wire: Wire) -> Wire:
        """Swap two axes. A static value has only one step, so it is swapped as [1, ...]."""
        x = wire.data if wire.varies else f.taken(wire.data, 0, np.arange(1))
        made = f.swapped(x, AXES[a], AXES[b])
        if "time" not in (a, b):
            return Wire(broadcast(made, (wire.data.shape[0], *made.shape[1:])), wire.varies)
        if made.shape[0] == self.steps:
            return Wire(made, True)
        return Wire(broadcast(made, (self.steps, *made.shape[1:])), False)

    def channels(self, wire: Wire, first: int, last: int) -> Wire:
        return Wire(f.taken(wire.data, 2, np.arange(first, last + 1)), wire.varies)

    def _weighted(self, op: Op, width: int, *shape: int) -> tuple[Path, Var, Var | None]:
        """The path, the weight and the bias of the next layer with weights."""
        path = self.weights.path(self.scope, op.role)
        layer = op.attrs["weight"] or self.settings.get("weight")
        leaf = "weight" if isinstance(layer, Identity | None) else "weight_raw"
        weight = self.weights.take(path, leaf, *shape)
        self.weights.multiplied.add(self.weights.name(path, leaf))
        bias = self.weights.take(path, "bias", width) if op.attrs["bias"] else None
        return path, weight if leaf == "weight" else self._computed(op, layer, path, weight), bias

    def _computed(self, op: Op, layer: Any, path: Path, weight: Var) -> Var:
        """The output of a layer for a weight, which is a map of output channels, inputs and the kernel."""
        home = self.weights.weights_at(path)
        if home not in self.computed:
            first = weight.reshape(*weight.shape[:2], -1)
            groups = op.attrs["groups"] if op.name == "conv_transposed" else 0
            if groups:
                inner = first.reshape(groups, -1, *first.shape[1:])
                first = f.swapped(inner, 1, 2).reshape(op.attrs["width"], -1, first.shape[2])
            outer, before = (self.scope, self.settings), dict(self.weights.used)
            self.scope, self.settings = (*home, "weight_layer"), {**self.settings, "weight": None}
            with self.weights.at_own_places():
                made = self.apply(layer, Wire(first.reshape(1, 1, *first.shape), False)).data
            self.scope, self.settings = outer
            if groups:
                inner = made.reshape(groups, -1, weight.shape[0] // groups, first.shape[2])
                made = f.swapped(inner, 1, 2)
            used = {n: x for n, x in self.weights.used.items() if n not in before}
            self.computed[home] = made.reshape(*weight.shape), used
        made, used = self.computed[home]
        self.weights.used.update(used)
        return made

    def _conv(self, op: Op, attrs: Mapping[str, Any], x: Var) -> Var:
        """A convolution. For a convolution over time, the steps of a map are swapped with its rows."""
        width, kernel, groups = attrs["width"], attrs["kernel"], attrs["groups"]
        dilation, padding, over = attrs["dilation"], attrs["padding"], attrs["over"]
        if width is None:
            width = groups = x.shape[2]
        reach = dilation * (kernel - 1)
        before = after = dilation * (kernel // 2) if padding is None else padding
        if padding == "same":
            before, after = reach // 2, reach - reach // 2
        elif over == "time":
            before, after = reach, 0
        sizes = {None: (kernel, kernel), "rows": (kernel, 1), "columns": (1, kernel)}
        shape = sizes.get(over, (kernel,))
        _, weight, bias = self._weighted(op, width, width, x.shape[2] // groups, *shape)
        made = x if len(x.shape) == 5 else x.reshape(*x.shape, 1, 1)
        if over == "time":
            made, weight = f.swapped(made, 0, 3), weight.reshape(width, -1, kernel, 1)
        axes = {None: (3, 4), "columns": (4,)}.get(over, (3,))
        rows, columns = (attrs["stride"] if axis in axes else 1 for axis in (3, 4))
        made = f.padded(made, axes, before, after)
        made = f.conv(made, weight, bias, (rows, columns), dilation, groups)
        made = f.swapped(made, 0, 3) if over == "time" else made
        return made if len(x.shape) == 5 else made.reshape(*made.shape[:3])

    def _conv_transposed(self, op: Op, attrs: Mapping[str, Any], x: Var) -> Var:
        """A convolution with the flipped kernel, over a map with stride - 1 zeros between pixels."""
        width, kernel, groups = attrs["width"], attrs["kernel"], attrs["groups"]
        part = width // groups
        _, weight, bias = self._weighted(op, width, x.shape[2], part, kernel, kernel)
        for axis in (3, 4):
            between = np.zeros(((x.shape[axis] - 1) * attrs["stride"] + 1, x.shape[axis]))
            between[:: attrs["stride"]] = np.eye(x.shape[axis])
            x = f.mixed(x, Var(between), axis)
        inner = weight.reshape(groups, -1, part, kernel, kernel)
        inner = f.swapped(inner, 1, 2).reshape(width, -1, kernel, kernel)
        for axis in (2, 3):
            inner = f.taken(inner, axis, np.arange(kernel)[::-1])
        around = kernel - 1
        wide = f.padded(x, (3, 4), around, around + attrs["output_padding"])
        y = f.conv(wide, inner, bias, (1, 1), 1, groups)
        keep = attrs["padding"]
        for axis in (3, 4):
            y = f.taken(y, axis, np.arange(keep, y.shape[axis] - keep))
        return y

    def _linear_over(self, op: Op, attrs: Mapping[str, Any], x: Var) -> Var:
        """A linear layer along one axis. Except over time, its weights have the shape of a convolution's."""
        axis = AXES[attrs["over"]]
        width = x.shape[0] if axis == 0 else attrs["width"]
        ones = () if axis == 0 else (1, 1)
        path, weight, bias = self._weighted(op, width, width, x.shape[axis], *ones)
        if attrs["window"] is not None:
            later, earlier = np.indices(weight.data.shape)
            seen = (earlier <= later) & (earlier > later - attrs["window"])
            share = attrs["masked"]
            if isinstance(share, Learn | Learnt):  # scheduled
                share = float(self.weights.take(path, "masked").data)
            weight = weight * (share * seen + (1 - share))
        made = f.mixed(x, weight.reshape(width, -1), axis)
        return made if bias is None else made + bias.reshape(-1, *[1] * (len(x.shape) - 1 - axis))

    def _threshold(self) -> float:
        neuron = self.written_out(self.settings["neuron"])
        value = self.complete(neuron).values["v_threshold"]
        return float(value.start if isinstance(value, Learn) else value)

    def _norm(self, op: Op, attrs: Mapping[str, Any], wire: Wire) -> Wire:
        """A norm with statistics over T and N, over N at each step, or within each sample and step."""
        x, rank = wire.data, len(wire.data.shape) - 2
        path, channels = self.weights.path(self.scope, op.role), x.shape[2]
        statistics = attrs.get("statistics")
        per_step = attrs.get("per_step", False) or statistics == "cumulative"
        apart = per_step or statistics == "step"  # each step has its own statistics
        shape = (x.shape[0], channels) if per_step else (channels,)
        weight = self.weights.take(path, "weight", *shape, start=float(attrs["init"]))
        bias = Var(np.zeros(shape))
        if attrs.get("bias", True):
            bias = self.weights.take(path, "bias", *shape, start=0.0)
        wide = (x.shape[0] if per_step else 1, 1, channels, *[1] * (rank - 1))
        eps = attrs.get("eps", f.EPS)
        if op.name in ("groupnorm", "layernorm"):  # statistics of each sample and step
            parts = x if op.name == "layernorm" else x.reshape(*x.shape[:2], attrs["groups"], -1)
            y, _, _ = f.normed(parts, (2 if op.name == "layernorm" else 3,), eps)
            y = y.reshape(*x.shape) * weight.reshape(*wide) + bias.reshape(*wide)
            return Wire(y, wire.varies)
        names = [self.weights.name(path, f"running_{name}") for name in ("mean", "var")]
        old = [self.weights.take(path, f"running_{name}", *shape).data for name in ("mean", "var")]
        axes = ((1,) if apart else (0, 1)) + tuple(range(3, 2 + rank))
        steps = 1 if apart else x.shape[0] if wire.varies else self.steps
        count = x.data[0].size // channels * steps
        if not self.training:
            mean, variance = (each.reshape(wide) for each in old)
            y = (x - mean) / np.sqrt(variance + eps)
        elif statistics == "cumulative":  # statistics of all steps up to each step
            parts = [f.normed(x[: t + 1], (0, *axes), eps) for t in range(x.shape[0])]
            y = stack([part[t] for t, (part, _, _) in enumerate(parts)])
            mean, variance = (np.concatenate(each) for each in list(zip(*parts, strict=True))[1:])
            count = count * np.arange(1, x.shape[0] + 1).reshape(-1, *[1] * (rank + 1))
        else:
            y, mean, variance = f.normed(x, axes, eps)
        y = y * weight.reshape(*wide) + bias.reshape(*wide)
        if self.training:
            unbiased = variance * count / np.maximum(1, count - 1)
            for name, known, new in zip(names, old, (mean, unbiased), strict=True):
                moved = self.result.buffers.get(name, known)  # an earlier use may have updated it
                for now in new if statistics == "step" else [new]:
                    moved = (1 - f.MOMENTUM) * moved + f.MOMENTUM * now.reshape(shape)
                self.result.buffers[name] = moved
        if pad := attrs.get("pad", 0):
            mean, variance = (self.result.buffers.get(n, self.weights.state[n]) for n in names)
            border = bias.data - mean * weight.data / np.sqrt(variance + eps)
            inside = f.padded(Var(np.ones(y.shape)), (3, 4), pad, pad)
            y = f.padded(y, (3, 4), pad, pad) + (1 - inside.data) * border.reshape(-1, 1, 1)
        if op.name == "tebn":
            scale = self.weights.take(path, "scale", x.shape[0], start=1.0)
            y = y * scale.reshape(-1, *[1] * (rank + 1))
        return Wire(y, wire.varies or per_step or op.name == "tebn")

    def _running_mean(self, op: Op, attrs: Mapping[str, Any], x: Var) -> Wire:
        """Each training pass updates the mean. The first pass sets it. There is no gradient."""
        path, groups = self.weights.path(self.scope, op.role), attrs["groups"]
        mean = self.weights.take(path, "mean", groups).data
        batches = self.weights.take(path, "num_batches_tracked").data
        if self.training:
            batch = x.data.reshape(*x.shape[:2], groups, -1).mean((0, 1, 3))
            share = op.attrs["momentum"] if batches else 1.0
            mean = (1 - share) * mean + share * batch
            self.result.buffers[self.weights.name(path, "mean")] = mean
        wide = mean.reshape(groups, *[1] * (len(x.shape) - 3))
        return Wire(Var(np.broadcast_to(wide, (*x.shape[:2], *wide.shape))), False)

    def _drop(self, op: Op, wire: Wire) -> Wire:
        """The factors are 0 or 1 / (1 - p). Drop-path draws one factor for all steps of a sample."""
        p = op.attrs["p"]
        if p == 0:
            return wire
        path = self.weights.layers[self.weights.path(self.scope, op.role)]
        if not self.training:
            return wire
        factors = self.drawn[path]
        shape = wire.data.shape
        if factors.size == wire.data.data.size:
            factors = factors.reshape(shape)
        elif factors.shape == shape[1:]:  # a loop over time draws at its first step
            factors = np.broadcast_to(factors, shape)
        assert np.all((factors == 0) | np.isclose(factors, 1 / (1 - p), rtol=1e-6)), path
        if op.name == "dropout" and op.attrs["per"] == "sample":
            assert np.ptp(factors, axis=0).max() == 0, path
        if op.name == "droppath":
            assert np.ptp(factors, axis=(0, *range(2, factors.ndim))).max() == 0, path
        return Wire(wire.data * Var(factors), wire.varies)

    def neuron(self, bound: Bound, wire: Wire) -> Wire:
        bound = self.written_out(bound)
        path = self.weights.path(self.scope, "spike")
        slope = None
        if self.settings.get("surrogate") is not None:
            stand_in = self.written_out(self.settings["surrogate"])
            given = self._held(path, self.complete(stand_in).values, "surrogate_")
            slope = surrogate(stand_in.declaration.body or (), given)
        values = self._held(path, self.complete(bound).values)
        others = {name: value for name, value in values.items() if isinstance(value, Wire)}
        layer = Neuron(
            bound.declaration.body or (),
            {name: value for name, value in values.items() if name not in others},
            slope,
            lambda learn: self.weights.next_of(
                path, learn.stored, *[shape[0]] * learn.by_step, *_size_of(learn, shape)
            ),
        )
        layer.drawn = lambda: self._random(self.scope, "random", shape)
        x, *more = f.side_by_side([wire.data, *(other.data for other in others.values())])
        shape = np.broadcast_shapes(*(value.shape for value in (x, *more)))
        y = layer.run(x, dict(zip(others, more, strict=True)))
        self.result.near = min(self.result.near, layer.near)
        self.result.values[self.weights.layers.get(path, "")] = y.data
        self.result.fired[self.weights.layers.get(path, "")] = y
        varies = any(value.varies for value in (wire, *others.values()))
        return Wire(y, varies or layer.varies)

    def _held(self, path: Path, values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
        """Arguments, with the numbers that the layer stores for those that are scheduled. A layer
        without heaviside stores no arguments of its surrogate."""
        found = dict(values)
        for name, value in values.items():
            if isinstance(value, Learn) and not value.trained:
                known = (*self.weights.weights_at(path), prefix + name) in self.weights.names
                found[name] = float(self.weights.take(path, prefix + name).data) if known else 0.0
        return found

    # -- the network -------------------------------------------------------------------------------

    def run(self, declaration: s.Declaration, module: Module) -> Result:
        """Run the network of a declaration. A variant also has the lines of its bases."""
        env, levels = self._levels(declaration, module)
        steps = env.definitions.get("steps")
        self.steps = int(self.evaluate(*steps)) if steps is not None else 1
        norm = Op("batchnorm", OPERATIONS["batchnorm"], "norm")
        self.settings = {"norm": norm, "zero_init": False}
        for name in ("surrogate", "neuron", "norm", "weight", "zero_init"):
            if name in env.definitions:
                self.settings[name] = unnamed(self.defined(name, env))
        self.settings["steps"] = self.steps
        source = self.evaluate(*env.definitions["input"])
        env.cache["input"] = source
        named = source if isinstance(source, dict) else {"in": source}
        for level in levels:
            level.values.update(named)
        if "out" in env.definitions:
            found = self.defined("out", env)
            outputs = found if isinstance(found, dict) else {"out": found}
        else:
            wire = source
            for part in ("stem", "stages", "head"):
                if part in env.definitions:
                    wire = self.apply(Named(part, self.defined(part, env)), wire)
            outputs = {"out": wire}
        for name, wire in outputs.items():
            self.result.outputs[name] = wire.data if wire.varies else wire.data[0]
        return self.result

    def _levels(self, declaration: s.Declaration, module: Module) -> tuple[Env, list[Env]]:
        """The environments of a network and its bases. A line of a variant replaces that of its base."""
        definitions: dict[str, tuple[s.Expr, Env]] = {}
        cache: dict[str, Any] = {}
        loops = Loops()
        levels: list[Env] = []
        bound = Bound(declaration, module)
        while True:
            env = replace(self.complete(bound), definitions=definitions, cache=cache, loops=loops)
            levels.append(env)
            for item in bound.declaration.body or ():
                assert isinstance(item, s.Define)
                definitions.setdefault(item.name, (item.value, env))
            value = bound.declaration.value
            if value is None:
                return levels[0], levels
            name = value.function if isinstance(value, s.Call) else value
            assert isinstance(name, s.Name)
            resolved = bound.module.names[name.id]
            bound = Bound(resolved.declaration, resolved.module)
            if isinstance(value, s.Call):
                bound = self.bind(bound, value.args, env)

    def table(self, text: str) -> Wire:
        """The stored numbers of a table, for all steps and samples."""
        shape = [int(size) for size in text.split(":")[1].split("x")]
        path = self.weights.path(self.scope, "table")
        numbers = np.frombuffer(b64decode(text.split(":")[2]), "<f8").reshape(shape)
        stored = self.weights.take(path, "numbers", *shape)
        assert np.allclose(stored.data, numbers, rtol=1e-6)
        steps = self.x.shape[0] if len(self.x.shape) == 5 else self.steps
        return Wire(broadcast(stored, (steps, self.x.shape[-4], *shape)), False)

    def input(self, name: str, shape: tuple[int, ...]) -> Wire:
        """The next channels of ``x``, which holds several inputs side by side."""
        first, last = self.given, self.given + shape[0]
        self.given = last
        channels = slice(first, last), slice(None), slice(None)
        x = self.x[(slice(None), *[slice(None)] * (len(self.x.shape) - 4), *channels)]
        assert x.shape[-3:] == shape
        if len(x.shape) == 5:
            return Wire(x, True)
        assert name == "image"
        return Wire(broadcast(x, (self.steps, *x.shape)), True)

    def tokens(self, vocabulary: int, length: int = 0) -> Wire:
        """Indices: one at each step, or ``length`` indices that are the same at each step."""
        self.vocabulary = vocabulary
        if len(self.x.shape) == 3:
            self.indices = self.x
        else:
            assert length == self.x.shape[1]
            self.indices = broadcast(self.x, (self.steps, *self.x.shape))
        return Wire(self.indices, True)

    # -- blocks ------------------------------------------------------------------------------------

    def self_wired(self, block: Bound, wire: Wire, known: Mapping[str, Any]) -> Wire:
        """Run a block that defines its ``out``."""
        env = self.complete(block)
        env.scope = self.scope
        env.values = {**known, "in": wire, **env.values}
        for item in block.declaration.body or ():
            assert isinstance(item, s.Define)
            env.definitions[item.name] = (item.value, env)
        result: Wire = self.defined("out", env)
        return result

    def backbone(self, backbone: Backbone, wire: Wire) -> Wire:
        if not self.scope:
            with self.within(self.fresh("stages")):
                return self.backbone(backbone, wire)
        for item in backbone.items:
            if not isinstance(item, StageOf):
                wire = self.apply(item, wire)
                continue
            number = self.stages[self.scope]
            self.stages[self.scope] += 1
            outer, self.settings = self.settings, {**self.settings, **item.settings}
            with self.within(str(number)):
                wire = self.stage(item, wire)
            self.settings = outer
        return wire

    def stage(self, stage: StageOf, entry: Wire) -> Wire:
        """Run the blocks. The rule defines their inputs; without a rule, each reads the previous block.

        A delay in a rule is part of a loop, as in lines that depend on themselves (``settled``).
        """
        rule = self.written_out(stage.rule) if stage.rule is not None else None
        loops = Loops()
        value: Wire = self.settled(loops, lambda: self._blocks(stage, entry, rule, loops))
        return value

    def _blocks(self, stage: StageOf, entry: Wire, rule: Bound | None, loops: Loops) -> Wire:
        inputs: list[Wire] = []
        outputs: list[Wire] = []
        lines: dict[str, s.Define] = {}
        known: dict[str, Any] = {"n": stage.count}
        if rule is not None:
            known = {**self.complete(rule).values, **known}
            lines = {
                item.name + "[0]" * isinstance(item.index, s.Number): item
                for item in rule.declaration.body or ()
                if isinstance(item, s.Define)
            }
        ports = {"entry": [entry], "in": inputs, "out": outputs}

        def said(line: s.Define, place: str, i: int = 0) -> Wire:
            assert rule is not None
            values = {line.index.id: i} if isinstance(line.index, s.Name) else {}
            scope = (*self.scope, *place.split("."))
            env = Env(rule.module, "rule", {**known, **values}, scope=scope, loops=loops)
            return self.rule_value(line.value, env, ports)

        for i in range(stage.count):
            feeds: dict[str, Wire] = {}
            for name, place in (("in", f"feeds.{i}"), ("shortcut", f"shortcuts.{i}")):
                line = lines.get(name if i else f"{name}[0]")
                if line is not None:
                    feeds[name] = said(line, place, i)
            feed = feeds.get("in", outputs[-1] if outputs else entry)
            inputs.append(feed)
            with self.within("blocks", str(i)):
                outputs.append(self.block(stage, feed, i, feeds.get("shortcut", feed)))
        return outputs[-1] if rule is None else said(lines["result"], "feeds.result")

    def rule_value(self, expr: s.Expr, env: Env, ports: Mapping[str, list[Any]]) -> Any:
        """The value of an expression in a rule. Sums are computed from the left."""
        match expr:
            case s.Name("in"):
                return ports["entry"][0]
            case s.At():
                (value,) = self.rule_values(expr, env, ports)
                return value
            case s.Flow(steps):
                return self._earlier(steps, env, ports)
            case s.IfElse(then, condition, otherwise):
                chosen = then if self.evaluate(condition, env) else otherwise
                return self.rule_value(chosen, env, ports)
            case s.Call(s.Name(name), args):
                values = [v for arg in args for v in self.rule_values(arg.value, env, ports)]
                if len(values) == 1:
                    return values[0]
                if _symbols(values):
                    return (name, *values)
                if name not in ("sum", "mean"):
                    return self.function(name, values)
                total = reduce(partial(self.join, "+"), values)
                return self.join("*", total, 1 / len(values)) if name == "mean" else total
            case s.Binary(op, left, right):
                sides = [
                    self.rule_value(side, env, ports)
                    if _reads_ports(side)
                    else self.evaluate(side, env)
                    for side in (left, right)
                ]
                if _symbols(sides):
                    learns = any(isinstance(side, Learn | Learnt) for side in sides)
                    return (op, env.scope, expr.span.start) if learns else (op, *sides)
                return self.join(op, *(self._of_rule(side, env) for side in sides))
        raise AssertionError(expr)

    def _earlier(self, steps: tuple[s.Expr, ...], env: Env, ports: Mapping[str, list[Any]]) -> Any:
        """A value from some steps earlier. It is computed once if several blocks use the same one."""
        late = sum(int(self.layer(step, env).attrs["steps"]) for step in steps[1:])
        names = {name: [(name, j) for j in range(env.values["n"])] for name in ("in", "out")}
        symbols = {"entry": [("in",)], **names}
        key = late, self.rule_value(steps[0], env, symbols)
        if _symbols([port for values in ports.values() for port in values]):
            return ("delay", *key)
        loops = env.loops
        assert loops.reads is not None
        if key not in loops.reads:
            with self.within("blocks"):
                start = self.carried("delay")
            if start is None:  # not in a loop, so it has a value
                now = self.rule_value(steps[0], env, ports)
                loops.reads[key] = lambda: now, late, self.delayed(now, late)
            else:
                wire = loops.guesses.get(key, start)
                loops.reads[key] = lambda: self.rule_value(steps[0], env, ports), late, wire
        return loops.reads[key][2]

    def _of_rule(self, side: Any, env: Env) -> Any:
        """A factor in an equation of a rule. Learnt numbers are the next unused ones in its scope."""
        if not isinstance(side, Learn | Learnt):
            return side
        found = side if isinstance(side, Learnt) else Learnt(side)
        names = (path for name in self.weights.state if (path := plain(name))[:-2] == env.scope)
        leaf = next(path[-2] for path in names if (*env.scope, path[-2]) not in self.learnt)
        return replace(found, name=leaf, scope=env.scope)

    def rule_values(self, expr: s.Expr, env: Env, ports: Mapping[str, list[Any]]) -> list[Any]:
        match expr:
            case s.Each(value, variable, low, high, condition):
                found = []
                for place in range(int(self.evaluate(low, env)), int(self.evaluate(high, env)) + 1):
                    inner = replace(env, values={**env.values, variable: place})
                    if condition is None or self.evaluate(condition, inner):
                        found.append(self.rule_value(value, inner, ports))
                return found
            case s.At(s.Name(port), indices):
                values = []
                for index in indices:
                    ends = (index.low, index.high) if isinstance(index, s.Range) else (index, index)
                    first, last = (int(self.evaluate(end, env)) for end in ends)
                    values += [ports[port][j] for j in range(first, last + 1)]
                return values
        return [self.rule_value(expr, env, ports)]

    def block(self, stage: StageOf, wire: Wire, i: int, start: Wire) -> Wire:
        """Run block i of a stage. Only the opening block has the stride of the stage."""
        stride = stage.stride if i == 0 else 1
        block = stage.block
        if isinstance(block, Bound):
            if any(param.name == "stride" for param in block.declaration.params):
                block = replace(block, args={"stride": stride, **block.args})
            stride = int(block.args.get("stride", stride))
            block = self.written_out(block)
        else:  # a flow
            assert stride == 1
            block = block() if callable(block) else block
        if stage.connection is not None:
            connection = self.written_out(stage.connection)
            return self.connected(block, connection, wire, i, stage.count, stride, start)
        if isinstance(block, Bound):
            return self.self_wired(block, wire, {"i": i, "n": stage.count})
        return self.apply(block, wire)

    def connected(
        self, block: Any, connection: Bound, wire: Wire, i: int, n: int, stride: int, start: Wire
    ) -> Wire:
        """Run a block in its connection. The shortcut starts from ``start``."""
        env = self.complete(connection)
        env.values |= {"stride": stride, "i": i, "n": n, "in": wire}
        env.scope, env.block_layers = self.scope, True
        plain = replace(env, block_layers=False)
        for item in connection.declaration.body or ():
            assert isinstance(item, s.Define)
            around = item.name in ("each", "last", "projection", "identity")
            env.definitions[item.name] = (item.value, env if around else plain)
        if isinstance(block, Bound) and block.declaration.body is not None:
            with self.within("branch"):
                branch = self.self_wired(block, wire, {"i": i, "n": n})
            env.values["channels"] = branch.data.shape[2]
        else:
            flow = block
            if isinstance(block, Bound):
                assert block.declaration.value is not None
                flow = self.evaluate(block.declaration.value, self.complete(block), "layer")
            layers = list(_flat(flow))
            env.values["channels"] = int(layers[-1].attrs["width"])
            branch = self.branch(layers, env, wire)
        env.values["branch"] = branch
        if self._reads_shortcut(env, plain):
            env.values["shortcut"] = self.shortcut(env, start, branch, stride)
        result: Wire = self.defined("out", plain)
        return result

    def _reads_shortcut(self, env: Env, plain: Env) -> bool:
        """Whether the expression that the conditions of ``out`` select for this block reads the shortcut."""
        expr, _ = env.definitions["out"]
        while isinstance(expr, s.IfElse):
            expr = expr.then if self.evaluate(expr.condition, plain) else expr.otherwise
        return "shortcut" in self._named([expr], env)

    def branch(self, layers: list[Any], env: Env, wire: Wire) -> Wire:
        """Apply ``each`` to every weighted layer, or ``last`` if the layer is the last in the block."""
        with self.within("branch"):
            for place, layer in enumerate(layers):
                if not (isinstance(layer, Op) and layer.name in WEIGHTED):
                    wire = self.apply(layer, wire)
                    continue
                ends = place == len(layers) - 1
                around = self.defined("last" if ends and "last" in env.definitions else "each", env)
                self.block_layers.append(layer)
                before = len(self.weights.started)
                wire = self.apply(around, wire)
                self.block_layers.pop()
            if self.settings["zero_init"]:
                norms = (name.split(".") for name in self.weights.started[before:])
                norms = (n for n in norms if n[-1] == "weight" and "weight_layer" not in n)
                self.weights.starts[".".join([*norms][-1])] = 0.0
        return wire

    def shortcut(self, env: Env, wire: Wire, branch: Wire, stride: int) -> Wire:
        """Apply ``projection`` to ``wire`` if the block changes its shape, else ``identity``."""
        same = wire.data.shape == branch.data.shape
        name = "identity" if same else "projection"
        if same and name not in env.definitions:
            return wire
        layer = self.defined(name, env)
        op = "conv" if len(wire.data.shape) == 5 else "linear"
        attrs = {**OPERATIONS[op], "width": env.values["channels"]}
        if op == "conv":
            attrs |= {"kernel": 1, "stride": stride}
        self.block_layers.append(Op(op, attrs, op))
        with self.within("shortcut"):
            wire = self.apply(layer, wire)
        self.block_layers.pop()
        return wire


def _size_of(learn: Learn, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of a learnt parameter for input [T, N, ...]: one number, or one per channel or neuron."""
    channels, *pixels = shape[2:]
    sizes = {"channel": (channels, *(1 for _ in pixels)), "neuron": (channels, *pixels)}
    return sizes.get(learn.per, ())


def _flat(layer: Any) -> Iterator[Any]:
    """The layers of a flow, including those in named layers and in parentheses."""
    match layer:
        case Sequence(steps):
            for step in steps:
                yield from _flat(step)
        case Named(_, inner):
            yield from _flat(inner)
        case _:
            yield layer


def _reads_ports(expr: s.Expr) -> bool:
    return any(isinstance(node, s.Name) and node.id in ("in", "out") for node in s.walk(expr))


def _symbols(values: list[Any]) -> bool:
    """Whether any of the values is a symbol, which is a tuple and has no numbers."""
    return any(isinstance(value, tuple) for value in values)
