"""Operations, norms and neurons as layers."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import reduce
from typing import Any

import numpy as np

from tests.reference import functions as f
from tests.reference.equations import OPERATORS, Drawn, Learn, Neuron, surrogate
from tests.reference.language import (
    OPERATIONS,
    Backbone,
    BlockLayer,
    Bound,
    Evaluator,
    Identity,
    Learnt,
    Named,
    Once,
    Op,
    Sequence,
    Wire,
)
from tests.reference.tape import Array, Var, as_var, broadcast, concat, stack
from tests.reference.weights import Weights

EXACT = frozenset(
    [
        "maxpool",
        "relu",
        "detach",
        "max",
        "upsample",
        "pad",
        "flatten",
        "swap",
        "shuffle",
        "reshape",
        "dropout",
        "droppath",
        "poisson",
        "latency",
        "delay",
    ]
)
"""Operations without roundings."""
ELEMENTWISE: Mapping[str, Callable[[Var], Var]] = {
    name: getattr(f, name) for name in ("relu", "detach", "sigmoid", "tanh", "softplus", "gelu")
}
AXES = {"time": 0, "channels": 2, "rows": 3, "columns": 4}
"""The axes of [T, N, C, H, W]."""


@dataclass
class Result:
    """What a network gives: outputs by name, [T, N, ...] or [N, ...], and what it changed.

    ``near`` is the least distance of a membrane potential from its threshold, exact hits left out;
    ``values`` has what neurons gave, by their paths, and ``fired`` the same to be differentiated.
    """

    outputs: dict[str, Var] = field(default_factory=dict)
    buffers: dict[str, Array] = field(default_factory=dict)
    near: float = math.inf
    values: dict[str, Array] = field(default_factory=dict)
    fired: dict[str, Var] = field(default_factory=dict)


class Layers(Evaluator):
    """One forward pass. ``x`` is [N, C, H, W], the same at each of the network's steps, or
    [T, N, C, H, W]. ``drawn`` has what was drawn at random: of an encoder by ``poisson``, and the
    factors of dropout and drop-path by their paths.

    With ``noise`` what has roundings is changed by so much of itself, at random: what then comes out
    otherwise was decided by a rounding.
    """

    def __init__(
        self,
        weights: Weights,
        x: Var,
        *,
        training: bool,
        drawn: Mapping[str, Array] | None = None,
        noise: float = 0.0,
    ) -> None:
        super().__init__()
        self.weights = weights
        self.x = x
        self.training = training
        self.steps = 1
        self.places: dict[Once, list[tuple[str, ...]]] = {}  # of layers with the weights of one
        self.given = 0  # channels of the input that are taken
        self.drawn = drawn or {}
        self.noise = noise
        self.random = np.random.default_rng(0)
        self.result = Result()
        self.taken: Counter[tuple[tuple[str, ...], str]] = Counter()
        self.stages: Counter[tuple[str, ...]] = Counter()
        self.learnt: dict[tuple[str, ...], Var] = {}  # by the names of bodies
        self.computed: dict[
            tuple[str, ...], tuple[Var, dict[str, Var]]
        ] = {}  # weights, by their layers
        self.block_layers: list[Op] = []

    # -- scopes: what weights are called -----------------------------------------------------------

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
        """Learnt numbers, of the size that a value of the network asks for; else the value."""
        if not isinstance(value, Learn | Learnt):
            return value
        found = value if isinstance(value, Learnt) else Learnt(value)
        steps, _, *shape = wire.data.shape
        ones = [1] * (len(shape) - 1)
        size = {"channel": [shape[0], *ones], "neuron": shape}.get(found.learn.per, [1, *ones])
        by_step = found.learn.by_step
        key = (*found.scope, found.name) if found.name else ()
        if isinstance(found.learn, Drawn):
            if not key or key not in self.learnt:
                scope, role = (found.scope, found.name) if found.name else (self.scope, "random")
                numbers = self._random(scope, role, wire.data.shape)
                self.learnt[key] = Var(numbers)
            made = found.made(Wire(self.learnt[key], True))
            assert isinstance(made, Wire)
            return made
        if not key or key not in self.learnt:
            scope, role = (found.scope, found.name) if found.name else (self.scope, "learn")
            path = self.weights.path(scope, role)
            bounded = (found.learn.above, found.learn.below) != (None, None)
            stored = self.weights.take(
                path,
                "weight_raw" if bounded else "weight",
                *([steps] if by_step else []),
                *size,
                start=found.learn.stored,
            )
            self.learnt[key] = found.learn.value(stored)
        numbers = self.learnt[key].reshape(steps if by_step else 1, 1, *size)
        whole = broadcast(numbers, (*wire.data.shape[:2], *size))
        made = found.made(Wire(whole, by_step))
        assert isinstance(made, Wire)
        return made

    def _random(self, scope: tuple[str, ...], role: str, shape: tuple[int, ...]) -> Array:
        """What a layer drew for a value [T, N, ...], or once for all its steps."""
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
            return Wire(f.absolute(values[0]), varies)
        if name in ("sqrt", "exp"):
            return self._rounded(Wire(getattr(f, name)(values[0]), varies))
        return Wire(reduce(f.minimum if name == "min" else f.maximum, values), varies)

    def product(self, name: str, wires: Mapping[str, Wire], attrs: Mapping[str, Any]) -> Wire:
        """Scores and what they mix, element by element as the sums are written."""
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
        moved = dict(self.result.buffers)  # of a shared norm one pass moves them several times
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
        """An operation of the table."""
        attrs = {
            name: int(value) if isinstance(value, float) and value == int(value) else value
            for name, value in op.attrs.items()
        }
        x, varies = wire.data, wire.varies
        match op.name:
            case "conv":
                return Wire(self._conv(op, attrs, x), varies or attrs["over"] == "time")
            case "linear" if attrs["over"] is not None:
                return Wire(self._linear_over(op, attrs, x), varies or attrs["over"] == "time")
            case "linear":
                flat, width = x.reshape(*x.shape[:2], -1), attrs["width"]
                _, weight, bias = self._weighted(op, width, width, flat.shape[2])
                return Wire(f.linear(flat, weight, bias), varies)
            case "embedding":
                path, width = self.weights.path(self.scope, op.role), attrs["width"]
                table = self.weights.take(path, "weight", self.vocabulary, width)
                if x is not self.indices:  # the products with all rows
                    return Wire(f.moved(f.mixed_first(f.moved(x, 2, 0), table), 0, 2), varies)
                rows = f.taken(table, 0, x.data.astype(int))
                places = () if x.shape[2] == 1 else (1, x.shape[2])
                return Wire(f.swapped(rows, 2, 3).reshape(*x.shape[:2], width, *places), varies)
            case "tdbn":
                threshold = self._threshold()
                norm = Op(
                    "batchnorm",
                    {**OPERATIONS["batchnorm"], "init": attrs["alpha"] * threshold},
                    op.role,
                )
                return self.operate(norm, wire)
            case "layernorm":
                path, rank = self.weights.path(self.scope, op.role), len(x.shape) - 2
                weight = self.weights.take(path, "weight", x.shape[2], start=float(attrs["init"]))
                bias = self.weights.take(path, "bias", x.shape[2], start=0.0)
                mean = x.mean((2,))
                y = (x - mean) / f.sqrt(((x - mean) * (x - mean)).mean((2,)) + attrs["eps"])
                ones = (-1, *[1] * (rank - 1))
                return Wire(y * weight.reshape(*ones) + bias.reshape(*ones), varies)
            case "conv_transposed":
                return Wire(self._conv_transposed(op, attrs, x), varies)
            case "batchnorm" | "tebn" | "groupnorm":
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
                    sizes = [*attrs["like"].data.shape[3:]]
                elif attrs["rows"] is not None:
                    sizes = [attrs["rows"], attrs["columns"]]
                for axis, size in zip((3, 4), sizes, strict=True):
                    shares = f.shares(x.shape[axis], size, attrs["mode"] == "bilinear")
                    x = f.moved(f.mixed_first(f.moved(x, axis, 0), Var(shares)), 0, axis)
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
                x = f.moved(f.mixed_first(f.moved(x, axis, 0), Var(matrix)), 0, axis)
                return Wire(x, varies)
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
        """One entry along an axis. What comes of all steps is the same at each of them."""
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
        """A static value has one step: of what varies and of it, [1, ...] is what changes places."""
        x = wire.data if wire.varies else f.taken(wire.data, 0, np.arange(1))
        made = f.swapped(x, AXES[a], AXES[b])
        if "time" not in (a, b):
            return Wire(broadcast(made, (wire.data.shape[0], *made.shape[1:])), wire.varies)
        if made.shape[0] == self.steps:
            return Wire(made, True)
        return Wire(broadcast(made, (self.steps, *made.shape[1:])), False)

    def channels(self, wire: Wire, first: int, last: int) -> Wire:
        return Wire(f.taken(wire.data, 2, np.arange(first, last + 1)), wire.varies)

    def _weighted(self, op: Op, width: int, *shape: int) -> tuple[tuple[str, ...], Var, Var | None]:
        """The path, the weight and the bias of the next layer of weights."""
        path = self.weights.path(self.scope, op.role)
        layer = op.attrs["weight"] or self.settings.get("weight")
        leaf = "weight" if isinstance(layer, Identity | None) else "weight_raw"
        weight = self.weights.take(path, leaf, *shape)
        self.weights.multiplied.add(self.weights.name(path, leaf))
        bias = self.weights.take(path, "bias", width) if op.attrs["bias"] else None
        return path, weight if leaf == "weight" else self._computed(op, layer, path, weight), bias

    def _computed(self, op: Op, layer: Any, path: tuple[str, ...], weight: Var) -> Var:
        """What a layer makes of a weight, as a map of output channels, inputs and the kernel."""
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
        """Over time it slides over the rows of maps whose steps have taken the place of rows."""
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
        stride = attrs["stride"]
        if over is None:
            x = f.padded(x, (3, 4), before, after)
            return f.conv(x, weight, bias, (stride, stride), 0, dilation, groups)
        flat = x if len(x.shape) == 5 else x.reshape(*x.shape, 1, 1)
        turned = over == "time"
        if turned:
            flat, weight = f.swapped(flat, 0, 3), weight.reshape(width, -1, kernel, 1)
        axis = 4 if over == "columns" else 3
        strides = (1, stride) if axis == 4 else (stride, 1)
        flat = f.padded(flat, (axis,), before, after)
        made = f.conv(flat, weight, bias, strides, 0, dilation, groups)
        made = f.swapped(made, 0, 3) if turned else made
        return made if len(x.shape) == 5 else made.reshape(*made.shape[:3])

    def _conv_transposed(self, op: Op, attrs: Mapping[str, Any], x: Var) -> Var:
        """A convolution, with the kernel turned round, of the map with stride - 1 zeros between pixels."""
        width, kernel, groups = attrs["width"], attrs["kernel"], attrs["groups"]
        part = width // groups
        _, weight, bias = self._weighted(op, width, x.shape[2], part, kernel, kernel)
        for axis in (3, 4):
            wide = f.moved(x, axis, 0)
            between = np.zeros(((x.shape[axis] - 1) * attrs["stride"] + 1, x.shape[axis]))
            between[:: attrs["stride"]] = np.eye(x.shape[axis])
            x = f.moved(f.mixed_first(wide, Var(between)), 0, axis)
        inner = weight.reshape(groups, -1, part, kernel, kernel)
        inner = f.swapped(inner, 1, 2).reshape(width, -1, kernel, kernel)
        for axis in (2, 3):
            inner = f.taken(inner, axis, np.arange(kernel)[::-1])
        around = kernel - 1
        wide = f.padded(x, (3, 4), around, around + attrs["output_padding"])
        y = f.conv(wide, inner, bias, (1, 1), 0, 1, groups)
        keep = attrs["padding"]
        for axis in (3, 4):
            y = f.taken(y, axis, np.arange(keep, y.shape[axis] - keep))
        return y

    def _linear_over(self, op: Op, attrs: Mapping[str, Any], x: Var) -> Var:
        """Along one axis; over channels, rows and columns the weights are a convolution's."""
        axis = AXES[attrs["over"]]
        width = x.shape[0] if axis == 0 else attrs["width"]
        ones = () if axis == 0 else (1, 1)
        path, weight, bias = self._weighted(op, width, width, x.shape[axis], *ones)
        turned = f.moved(x, axis, 0)
        if attrs["window"] is not None:
            later, earlier = np.indices(weight.data.shape)
            seen = (earlier <= later) & (earlier > later - attrs["window"])
            share = attrs["masked"]
            if isinstance(share, Learn | Learnt):  # scheduled
                share = float(self.weights.take(path, "masked").data)
            weight = weight * Var(share * seen + (1 - share))
        made = f.mixed_first(turned, weight.reshape(width, -1))
        if bias is not None:
            made = made + bias.reshape(-1, *[1] * (len(made.shape) - 1))
        return f.moved(made, 0, axis)

    def _threshold(self) -> float:
        neuron = self.written_out(self.settings["neuron"])
        value = self.complete(neuron).values["v_threshold"]
        return float(value.start if isinstance(value, Learn) else value)

    def _norm(self, op: Op, attrs: Mapping[str, Any], wire: Wire) -> Wire:
        """Statistics over T and N together; per step over N; of groups for each sample and step."""
        x, rank = wire.data, len(wire.data.shape) - 2
        path, channels = self.weights.path(self.scope, op.role), x.shape[2]
        pixels = tuple(range(3, 2 + rank))
        per_step = op.name == "batchnorm" and (
            attrs["per_step"] or attrs["statistics"] == "cumulative"
        )
        shape = (x.shape[0], channels) if per_step else (channels,)
        weight = self.weights.take(path, "weight", *shape, start=float(attrs["init"]))
        bias = Var(np.zeros(shape))
        if attrs.get("bias", True):
            bias = self.weights.take(path, "bias", *shape, start=0.0)
        if op.name == "groupnorm":
            return Wire(f.groupnorm(x, weight, bias, attrs["groups"]), wire.varies)
        so_far = op.name == "batchnorm" and attrs["statistics"] == "cumulative"
        by_step = op.name == "batchnorm" and attrs["statistics"] == "step"
        wide = (x.shape[0] if per_step else 1, 1, channels, *[1] * (rank - 1))
        buffers = [self.weights.take(path, f"running_{name}", *shape) for name in ("mean", "var")]
        known = None
        if not self.training:
            known = (buffers[0].data.reshape(wide), buffers[1].data.reshape(wide))
        if so_far and self.training:
            return self._so_far(x, weight.reshape(*wide), bias.reshape(*wide), path, buffers)
        y, (mean, variance) = f.batchnorm(
            x,
            weight.reshape(*wide),
            bias.reshape(*wide),
            known,
            ((1,) if per_step or by_step else (0, 1)) + pixels,
            attrs.get("eps", f.EPS),
        )
        names = [self.weights.name(path, f"running_{name}") for name in ("mean", "var")]
        if self.training:
            steps = x.shape[0] if wire.varies else self.steps
            count = x.data[0].size // channels * (1 if per_step or by_step else steps)
            unbiased = variance * count / max(1, count - 1)
            for name, old, new in zip(names, buffers, (mean, unbiased), strict=True):
                moved = self.result.buffers.get(name, old.data)  # a place before may have moved it
                for now in new if by_step else [new]:
                    moved = (1 - f.MOMENTUM) * moved + f.MOMENTUM * now.reshape(shape)
                self.result.buffers[name] = moved
        if pad := attrs.get("pad", 0):
            mean, variance = (self.result.buffers.get(n, self.weights.state[n]) for n in names)
            border = bias.data - mean * weight.data / np.sqrt(variance + attrs["eps"])
            inside = f.padded(Var(np.ones(y.shape)), (3, 4), pad, pad)
            y = f.padded(y, (3, 4), pad, pad) + Var((1 - inside.data) * border.reshape(-1, 1, 1))
        if op.name == "tebn":
            scale = self.weights.take(path, "scale", x.shape[0], start=1.0)
            y = y * scale.reshape(-1, *[1] * (rank + 1))
        return Wire(y, wire.varies or per_step or op.name == "tebn")

    def _so_far(
        self, x: Var, weight: Var, bias: Var, path: tuple[str, ...], buffers: list[Var]
    ) -> Wire:
        """Each step by the statistics of itself and all before."""
        found, statistics = [], []
        axes = (0, 1, *range(3, len(x.shape)))
        for t in range(x.shape[0]):
            part = stack([x[k] for k in range(t + 1)])
            here = [each[t].reshape(1, *each.shape[1:]) for each in (weight, bias)]
            y, (mean, variance) = f.batchnorm(part, *here, None, axes)
            count = part.data.size // x.shape[2]
            found.append(y[t])
            statistics.append((mean.ravel(), variance.ravel() * count / max(1, count - 1)))
        for name, old, new in zip(
            ("mean", "var"), buffers, zip(*statistics, strict=True), strict=True
        ):
            moved = (1 - f.MOMENTUM) * old.data + f.MOMENTUM * np.stack(new)
            self.result.buffers[self.weights.names[(*path, f"running_{name}")]] = moved
        return Wire(stack(found), True)

    def _running_mean(self, op: Op, attrs: Mapping[str, Any], x: Var) -> Wire:
        """Moved by each training pass, and to the first one's mean at once; no gradient."""
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
        """What is drawn is 0 or 1 / (1 - p); drop-path draws once for a sample and all its steps."""
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
        elif factors.shape == shape[1:]:  # in a loop over time, drawn at its first step
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

    def _held(
        self, path: tuple[str, ...], values: Mapping[str, Any], prefix: str = ""
    ) -> dict[str, Any]:
        """Arguments, those that are scheduled as what the layer has in store of them; a layer without
        a step has nothing of its surrogate's."""
        found = dict(values)
        for name, value in values.items():
            if isinstance(value, Learn) and not value.trained:
                known = (*self.weights.weights_at(path), prefix + name) in self.weights.names
                found[name] = float(self.weights.take(path, prefix + name).data) if known else 0.0
        return found


def _size_of(learn: Learn, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of what a neuron learns, that takes [T, N, ...]: a number, or one for each channel."""
    channels, *pixels = shape[2:]
    sizes = {"channel": (channels, *(1 for _ in pixels)), "neuron": (channels, *pixels)}
    return sizes.get(learn.per, ())
