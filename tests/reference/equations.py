"""Equations of neurons and surrogates, read from their text and evaluated step by step."""

import functools
import math
import operator
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.special import erf, expit

from danetc.dsl.syntax import tree as s
from tests.reference import functions as f
from tests.reference.tape import Array, Var, as_var, broadcast, gradients, stack

Value = Any
"""A number or truth value known before the network runs, a Var, or an array of truth values."""
Place = tuple[Any, ...]
EARLIER = "what a value was at an earlier step"


@dataclass(frozen=True)
class Learn:
    """``learn(start, above = ..., below = ...)``. The value is bounded, and the stored number is not.

    ``scheduled(start)`` is not trained.
    """

    start: float
    above: float | None = None
    below: float | None = None
    per: str = "layer"
    per_step: bool = False
    trained: bool = True

    @property
    def by_step(self) -> bool:
        """Whether each time step has its own number: [T, ...]."""
        return self.per == "step" or self.per_step

    @property
    def stored(self) -> float:
        """The stored number before training."""
        if self.above is not None and self.below is not None:
            return math.log((self.start - self.above) / (self.below - self.start))
        if self.above is not None:
            return _unsoftened(self.start - self.above)
        return self.start if self.below is None else _unsoftened(self.below - self.start)

    def value(self, stored: Var) -> Var:
        if self.above is not None and self.below is not None:
            return self.above + (self.below - self.above) * expit(stored)
        if self.above is not None:
            return self.above + f.softplus(stored)
        return self.below - f.softplus(stored) if self.below is not None else stored


def _unsoftened(excess: float) -> float:
    """The inverse of softplus."""
    return excess + math.log(-math.expm1(-excess))


CONSTANTS: Mapping[str, float | bool] = {"true": True, "false": False, "pi": math.pi}
_ARRAYS: Mapping[str, Callable[[Any], Var]] = {
    **{name: getattr(np, name) for name in ("exp", "log", "sqrt", "tanh", "sin", "cos")},
    "abs": np.absolute,
    "detach": f.detach,
    "erf": erf,
    "round": np.rint,
    "sigmoid": expit,
}
OPERATORS: Mapping[str, Callable[[Any, Any], Any]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
}


@dataclass(frozen=True)
class Drawn(Learn):
    """Random numbers in an expression with a value of the network. Nothing is stored for them."""


@dataclass
class Equations:
    """The names of one declaration at one time step, and the values of its expressions."""

    names: dict[str, Value]
    heaviside: Callable[[Var], Var]
    learn: Callable[[Place, Learn], Var]
    draw: Callable[[Place], Var]
    read: set[str] = field(default_factory=set)  # names that were read
    counters: dict[str, float] = field(default_factory=dict)  # variables of the enclosing `for`s
    past: dict[Place, list[Value]] = field(default_factory=dict)  # delayed values, by step
    waiting: list[tuple[list[Value], str]] = field(default_factory=list)  # delayed names

    def value(self, expr: s.Expr) -> Value:
        match expr:
            case s.Number():
                return float(expr.text)
            case s.Name(id) if id in self.counters:
                return self.counters[id]
            case s.Name(id):
                self.read.add(id)
                return self.names[id] if id in self.names else CONSTANTS[id]
            case s.Unary("-", operand):
                return -self.number(operand)
            case s.Unary("not", operand):
                return _not(self.truth(operand))
            case s.Binary("and" | "or" as op, left, right):
                a, b = self.truth(left), self.truth(right)
                for one, other in ((a, b), (b, a)):
                    if isinstance(one, bool):
                        return one if one == (op == "or") else other
                return a & b if op == "and" else a | b
            case s.Binary(op, left, right):
                return OPERATORS[op](self.number(left), self.number(right))
            case s.IfElse(then, condition, otherwise):
                known = self.truth(condition)
                if isinstance(known, bool):
                    return self.value(then if known else otherwise)
                return f.where(known, self.number(then), self.number(otherwise))
            case s.Call(s.Name("learn")):
                return self.learn(self.place(expr), learn_of(expr, lambda arg: self.number(arg)))
            case s.Call(s.Name("random")):
                self.read.add(EARLIER)
                return self.draw(self.place(expr))
            case s.Call(s.Name("delay"), (value, steps)):
                return self.delayed(self.place(expr), value.value, int(self.number(steps.value)))
            case s.Call(s.Name(name), args):
                return _call(name, [*self.arguments(args)], self.heaviside)
        raise AssertionError(expr)

    def place(self, call: s.Call) -> Place:
        """A key for a call in the text, in one iteration of each enclosing `for`."""
        return (id(call), *self.counters.values())

    def arguments(self, args: tuple[s.Arg, ...]) -> Iterator[Value]:
        for arg in args:
            if not isinstance(each := arg.value, s.Each):
                yield self.number(arg.value)
                continue
            for index in range(int(self.number(each.low)), int(self.number(each.high)) + 1):
                self.counters[each.variable] = float(index)
                if each.condition is None or self.truth(each.condition):
                    yield self.number(each.value)
            self.counters.pop(each.variable, None)

    def delayed(self, place: Place, expr: s.Expr, steps: int) -> Value:
        """The value of ``expr`` some steps ago, 0 before the first step. It is called once at each step."""
        past = self.past.setdefault(place, [])
        now = len(past)
        if isinstance(expr, s.Name) and expr.id not in self.names and expr.id not in CONSTANTS:
            self.waiting.append((past, expr.id))
            self.read.add(expr.id)
        else:
            past.append(self.number(expr))
        if steps:
            self.read.add(EARLIER)
            return as_var(past[now - steps] if now >= steps else 0.0)
        return past[now]

    def ended(self) -> None:
        """Record the values of names that were delayed before they had a value."""
        for past, name in self.waiting:
            past.append(as_number(self.names[name]))
        self.waiting.clear()

    def number(self, expr: s.Expr) -> Value:
        """The value as a number: a truth value is 0 or 1."""
        return as_number(self.value(expr))

    def truth(self, expr: s.Expr) -> Value:
        """The value as a truth value: a number is true if it is not 0."""
        value = self.value(expr)
        if isinstance(value, Var):
            return value.data != 0
        return value != 0 if isinstance(value, float) else value


def learn_of(call: s.Call, number: Callable[[s.Expr], float]) -> Learn:
    given = {arg.name or "start": arg.value for arg in call.args}
    per = given.pop("per", None)
    steps = bool(number(given.pop("per_step"))) if "per_step" in given else False
    match given["start"]:
        case s.Call(s.Name("uniform" | "normal")):
            given["start"] = s.Number("nan")  # a random number
    numbers = {name: float(number(expr)) for name, expr in given.items()}
    each = per.id if isinstance(per, s.Word) else "layer"
    return Learn(numbers["start"], numbers.get("above"), numbers.get("below"), each, steps)


def _not(value: Value) -> Value:
    return not value if isinstance(value, bool) else ~value


def _call(name: str, args: list[Value], heaviside: Callable[[Var], Var]) -> Value:
    if name == "sum":
        return functools.reduce(lambda a, b: a + b, args) if args else 0.0
    if name in ("min", "max"):
        result = args[0]
        for arg in args[1:]:
            result = _extreme(result, arg, name == "min")
        return result
    (arg,) = args
    if isinstance(arg, float):
        return float(arg >= 0) if name == "heaviside" else float(_ARRAYS[name](Var(arg)).data)
    return heaviside(arg) if name == "heaviside" else _ARRAYS[name](arg)


def _extreme(a: Value, b: Value, least: bool) -> Value:
    """The smaller or larger of two values. Gradients at a tie are those of torch."""
    if isinstance(a, float) and isinstance(b, float):
        return min(a, b) if least else max(a, b)
    if isinstance(a, Var) and isinstance(b, Var):
        return np.minimum(a, b) if least else np.maximum(a, b)
    value, bound = (a, b) if isinstance(a, Var) else (b, a)
    return f.relu(value) if bound == 0 and not least else f.bounded(value, bound, least)


# -- surrogates -----------------------------------------------------------------------------------


def surrogate(body: tuple[s.Stmt, ...], arguments: Mapping[str, Value]) -> Callable[[Array], Array]:
    """The derivative that replaces that of heaviside, from the equations of a surrogate."""

    def slope(at: Array) -> Array:
        x = Var(at)
        equations = Equations({**_floats(arguments), "x": x}, _none, _none, _none)
        for item in body:
            assert isinstance(item, s.Define)
            equations.names[item.name] = equations.value(item.value)
        names = equations.names
        if "dy" in names:
            return np.broadcast_to(as_var(as_number(names["dy"])).data, at.shape)
        y = as_var(as_number(names["y"]))
        (result,) = gradients([(y, np.ones(y.shape))], [x])
        return result

    return slope


def as_number(value: Value) -> Value:
    if isinstance(value, bool):
        return float(value)
    return Var(value * 1.0) if isinstance(value, np.ndarray | np.bool_) else value


def _none(*_: object) -> Var:
    raise AssertionError("a surrogate is smooth and learns nothing")


def _floats(arguments: Mapping[str, Value]) -> dict[str, Value]:
    return {
        name: float(value) if isinstance(value, int) and not isinstance(value, bool) else value
        for name, value in arguments.items()
    }


# -- neurons --------------------------------------------------------------------------------------


@dataclass
class Neuron:
    """A layer of neurons: its equations, its arguments and its learnt parameters.

    ``stored`` returns the parameter for the next learnt number in the order of the text. The parameters
    of the declaration are first. ``drawn`` returns the next random numbers, [T, N, ...]. ``near`` is the
    least distance of a membrane potential from its threshold so far, except for exact hits. ``varies`` is
    true if the output depends on the time step, through a state or through numbers of each step.
    """

    body: tuple[s.Stmt, ...]
    arguments: Mapping[str, Value]
    slope: Callable[[Array], Array] | None
    stored: Callable[[Learn], Var]
    drawn: Callable[[], Array] = lambda: np.empty(0)
    near: float = math.inf
    varies: bool = False
    _learnt: dict[Place, Var] = field(default_factory=dict)
    _drawn: dict[Place, Array] = field(default_factory=dict)
    _now: int = 0
    _by_step: bool = False

    def run(self, x: Var, others: Mapping[str, Var]) -> Var:
        """Run all time steps of [T, N, ...], with the other inputs by name.

        Each call starts from the initial states.
        """
        shape = np.broadcast_shapes(x.shape, *(other.shape for other in others.values()))
        x = broadcast(x, shape)
        others = {name: broadcast(other, shape) for name, other in others.items()}
        values = _floats(self.arguments)
        learnt = {
            name: (value, self.stored(value))
            for name, value in values.items()
            if isinstance(value, Learn)
        }

        def parameters_at(t: int) -> dict[str, Value]:
            found = {
                name: item.value(_at(stored, item, t)) for name, (item, stored) in learnt.items()
            }
            return {**values, **found}

        equations = Equations(parameters_at(0), self._heaviside, self._learn, self._draw)
        states = {  # always a Var and not a number, so that `min(u, x)` takes two Vars
            item.name: as_var(equations.number(item.value))
            for item in self.body
            if isinstance(item, s.State)
        }
        outputs = []
        reads: dict[str, set[str]] = {}
        for t in range(x.shape[0]):
            here = {name: other[t] for name, other in others.items()}
            self._now = t
            equations.names = {**parameters_at(t), **states, "x": x[t], **here}
            for item in self.body:
                if isinstance(item, s.Define):
                    equations.read = reads[item.name] = set()
                    equations.names[item.name] = equations.value(item.value)
            equations.ended()
            states = {name: as_var(as_number(equations.names[name])) for name in states}
            output = as_var(as_number(equations.names["s"]))
            outputs.append(broadcast(output, x.shape[1:]))
        self.varies = self._by_step or any(item.by_step for item, _ in learnt.values())
        self.varies = self.varies or bool(reached("s", reads) & {*states, EARLIER})
        return stack(outputs)

    def _heaviside(self, x: Var) -> Var:
        assert self.slope is not None
        distance = np.abs(x.data[x.data != 0])
        self.near = min(self.near, distance.min(initial=math.inf))
        return f.heaviside(x, self.slope)

    def _learn(self, place: Place, learn: Learn) -> Var:
        if place not in self._learnt:
            self._learnt[place] = self.stored(learn)
        self._by_step = self._by_step or learn.by_step
        return learn.value(_at(self._learnt[place], learn, self._now))

    def _draw(self, place: Place) -> Var:
        if place not in self._drawn:
            self._drawn[place] = self.drawn()
        return Var(self._drawn[place][self._now])


def _at(stored: Var, learn: Learn, t: int) -> Var:
    """The stored parameter at one time step."""
    return stored[t] if learn.by_step else stored


def reached(name: str, reads: Mapping[str, set[str]]) -> set[str]:
    """The names that a name depends on, at this step or an earlier one."""
    found: set[str] = set()
    waiting = [name]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += reads.get(name, ())
    return found
