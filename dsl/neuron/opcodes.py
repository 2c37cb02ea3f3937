"""THE table of a neuron's operations. A new function of equations is one row.

A row has all that anything asks of an operation: its derivative, its range, its constant value, its
torch expression, and how equations call it where they may.
"""

from __future__ import annotations

import math
from collections import ChainMap
from collections.abc import Callable, Mapping, MutableMapping
from typing import Literal, Protocol, TypeAlias

from danetc.dsl import ranges
from danetc.dsl.ranges import REAL, NumberRange, rising
from danetc.dsl.record import record

ATOM = 9
"""How tight a name or a call binds, tighter than any operator."""

Operand: TypeAlias = str | float
"""A constant, or the name of a value."""


class OperationWriter(Protocol):
    """Where a derivative's operations go (``ssa.ProgramBuilder``)."""

    def emit(self, opcode: str, *args: Operand) -> Operand: ...
    def compare(self, opcode: str, left: Operand, right: Operand) -> Operand | bool: ...
    def select(self, condition: Operand | bool, then: Operand, otherwise: Operand) -> Operand: ...


Pull: TypeAlias = Callable[
    [OperationWriter, Operand, Operand, tuple[Operand, ...]], tuple[Operand, ...]
]
"""The gradients of an operation's operands, from that of its value, its value and its operands."""

NO_GRADIENT: Literal["no gradient"] = "no gradient"
"""In place of a derivative: none flows, because the operation is constant in steps or cuts it off."""


@record
class OpInfo:
    """What an operation is: its number of operands, its torch expression, its derivative, its value.

    In ``text`` the fields ``{0}``, ``{1}``, ... are operands and ``{like}`` is the tensor whose
    dtype the result takes. ``derivative`` has no default: an operation that passes no gradient says
    so. ``range`` says which numbers it gives of those its operands may be; a condition is 0 or 1.
    ``value`` computes it of constants; an operation without one is not folded. ``takes`` are the
    fewest and the most values that equations call it with, under its name; without it equations
    cannot call it. ``conditions`` are the operands that are conditions; all others are numbers.
    Where it is not ``smooth`` the derivative is not that of its value but a choice, and surrogates
    cannot use it. A ``step`` gives whole numbers of real ones: what has one, or a state, is a neuron.
    Machines compute one that ``rounds`` with errors of their own, even where its value is exact.
    ``cpp`` is its expression in C++ where ``text`` is none, of vectors of numbers and of masks.
    ``with_constants`` is the torch expression where these operands are constants, if it is another.
    ``binds`` says how tight ``text`` binds, and how tight each operand must that is not enclosed: a
    right operand binds tighter than its operator, since a + (b + c) is not (a + b) + c in floats.
    Equations are written with ``infix`` where an operation has one. It ``commutes`` where its
    operands may change places to the bit. One that equations call says its ``meaning``. ``onnx`` are
    the operators of ONNX that it is, one behind the other: the first takes the operands, and a number
    that stands behind its name; ``Cast`` makes a number of a condition.
    """

    arity: int
    text: str
    derivative: Pull | Literal["no gradient"]
    range: Callable[..., NumberRange]
    value: Callable[..., float | bool] | None = None
    gives: Literal["number", "condition"] = "number"
    takes: tuple[int, int | None] | None = None
    conditions: tuple[int, ...] = ()
    smooth: bool = True
    step: bool = False
    rounds: bool = False
    cpp: str = ""
    with_constants: tuple[tuple[int, ...], str] | None = None
    binds: tuple[int, ...] = (ATOM,)
    infix: str = ""
    notation: str = ""
    commutes: bool = False
    meaning: str = ""
    onnx: tuple[str, ...] | None = None


class ConstantError(ArithmeticError):
    """A constant part of an equation has no finite value."""


# -- values ---------------------------------------------------------------------------------------


def _divide(a: float, b: float) -> float:
    if b == 0:
        raise ConstantError("division by zero")
    return a / b


def _log(a: float) -> float:
    if a <= 0:
        raise ConstantError(f"the logarithm of {a:g}, which is not positive")
    return math.log(a)


def _sqrt(a: float) -> float:
    if a < 0:
        raise ConstantError(f"the square root of {a:g}, which is negative")
    return math.sqrt(a)


def sigmoid(a: float) -> float:
    return 1 / (1 + math.exp(-a)) if a >= 0 else math.exp(a) / (1 + math.exp(a))


def softplus(a: float) -> float:
    return max(a, 0.0) + math.log1p(math.exp(-abs(a)))


def _round(a: float) -> float:
    return float(round(a)) if math.isfinite(a) else a


# -- derivatives: torch's own, also at a kink -----------------------------------------------------


def _by(slope: Callable[[OperationWriter, Operand, Operand], Operand]) -> Pull:
    """The derivative of a function of one operand: its slope from its operand and its value."""
    return lambda build, grad, out, args: (build.emit("mul", grad, slope(build, args[0], out)),)


def _mul(
    build: OperationWriter, grad: Operand, out: Operand, args: tuple[Operand, ...]
) -> tuple[Operand, ...]:
    a, b = args
    return build.emit("mul", grad, b), build.emit("mul", grad, a)


def _div(
    build: OperationWriter, grad: Operand, out: Operand, args: tuple[Operand, ...]
) -> tuple[Operand, ...]:
    share = build.emit("div", grad, args[1])
    return share, build.emit("neg", build.emit("mul", share, out))


def _where(
    build: OperationWriter, grad: Operand, out: Operand, args: tuple[Operand, ...]
) -> tuple[Operand, ...]:
    condition = args[0]
    return 0.0, build.select(condition, grad, 0.0), build.select(condition, 0.0, grad)


def _wins(sign: str) -> Pull:
    """``max`` ("gt") and ``min`` ("lt"): a tie with a constant passes all, between two values half."""
    ends = {"gt": ("ge", "lt"), "lt": ("le", "gt")}[sign]

    def pull(
        build: OperationWriter, grad: Operand, out: Operand, args: tuple[Operand, ...]
    ) -> tuple[Operand, ...]:
        a, b = args
        if isinstance(b, float):
            return build.select(build.compare(ends[0], a, b), grad, 0.0), 0.0
        half = build.select(build.compare("eq", a, b), build.emit("mul", grad, 0.5), 0.0)
        return (
            build.select(build.compare(sign, a, b), grad, half),
            build.select(build.compare(ends[1], a, b), grad, half),
        )

    return pull


def _once(
    build: OperationWriter, grad: Operand, out: Operand, args: tuple[Operand, ...]
) -> tuple[Operand, ...]:
    raise ValueError("a backward pass is not differentiated again")


# -- the table ------------------------------------------------------------------------------------

_ONE = (1, 1)
_SEVERAL = (2, None)

OPCODES: MutableMapping[str, OpInfo] = {
    "add": OpInfo(2, "{0} + {1}", lambda to, g, y, x: (g, g), ranges.add, lambda a, b: a + b, binds=(2, 2, 3), infix="+", commutes=True, notation="{0} + {1}", onnx=("Add",)),
    "sub": OpInfo(2, "{0} - {1}", lambda to, g, y, x: (g, to.emit("neg", g)), ranges.subtract, lambda a, b: a - b, binds=(2, 2, 3), infix="-", notation="{0} − {1}", onnx=("Sub",)),
    "mul": OpInfo(2, "{0} * {1}", _mul, ranges.multiply, lambda a, b: a * b, binds=(3, 3, 4), infix="*", commutes=True, notation="{0} · {1}", onnx=("Mul",)),
    "div": OpInfo(2, "{0} / {1}", _div, ranges.divide, _divide, rounds=True, binds=(3, 3, 4), infix="/", notation="{0}/{1}", onnx=("Div",)),
    "neg": OpInfo(1, "-{0}", lambda to, g, y, x: (to.emit("neg", g),), ranges.negative, lambda a: -a, binds=(4, 4), notation="−{0}", onnx=("Neg",)),
    "exp": OpInfo(1, "torch.exp({0})", _by(lambda to, a, y: y), rising(math.exp, 0.0, math.inf), math.exp, takes=_ONE, rounds=True, cpp="exp_of({0})", meaning="e to the power of x", notation="e^{0}", onnx=("Exp",)),
    "log": OpInfo(1, "torch.log({0})", lambda to, g, y, x: (to.emit("div", g, x[0]),),
                  rising(math.log, -math.inf, math.inf), _log, takes=_ONE, rounds=True, cpp="log_of({0})", meaning="the natural logarithm of x", notation="ln({0})", onnx=("Log",)),
    "sqrt": OpInfo(1, "torch.sqrt({0})", lambda to, g, y, x: (to.emit("div", to.emit("mul", g, 0.5), y),),
                   rising(math.sqrt, 0.0, math.inf), _sqrt, takes=_ONE, rounds=True, cpp="sqrt_of({0})", meaning="the square root of x", notation="√({0})", onnx=("Sqrt",)),
    "abs": OpInfo(1, "torch.abs({0})", _by(lambda to, a, y: to.emit("sign", a)), ranges.absolute, abs, takes=_ONE, cpp="abs_of({0})", meaning="the absolute value of x", notation="|{0}|", onnx=("Abs",)),
    "sign": OpInfo(1, "torch.sign({0})", NO_GRADIENT, lambda a: NumberRange(-1.0, 1.0, 1.0), lambda a: float((a > 0) - (a < 0)), cpp="sign_of({0})", onnx=("Sign",)),
    "sigmoid": OpInfo(1, "torch.sigmoid({0})", _by(lambda to, a, y: to.emit("mul", y, to.emit("sub", 1.0, y))),
                      rising(sigmoid, 0.0, 1.0), sigmoid, takes=_ONE, rounds=True, cpp="sigmoid_of({0})", meaning="1 / (1 + exp(-x))", notation="σ({0})", onnx=("Sigmoid",)),
    "tanh": OpInfo(1, "torch.tanh({0})", _by(lambda to, a, y: to.emit("sub", 1.0, to.emit("mul", y, y))),
                   rising(math.tanh, -1.0, 1.0), math.tanh, takes=_ONE, rounds=True, cpp="tanh_of({0})", meaning="the hyperbolic tangent", onnx=("Tanh",)),
    "sin": OpInfo(1, "torch.sin({0})", _by(lambda to, a, y: to.emit("cos", a)),
                  lambda a: NumberRange(-1.0, 1.0), math.sin, takes=_ONE, rounds=True, cpp="sin_of({0})", meaning="the sine", onnx=("Sin",)),
    "cos": OpInfo(1, "torch.cos({0})", _by(lambda to, a, y: to.emit("neg", to.emit("sin", a))),
                  lambda a: NumberRange(-1.0, 1.0), math.cos, takes=_ONE, rounds=True, cpp="cos_of({0})", meaning="the cosine", onnx=("Cos",)),
    "erf": OpInfo(1, "torch.erf({0})", _by(lambda to, a, y: to.emit("mul", 2 / math.sqrt(math.pi), to.emit("exp", to.emit("neg", to.emit("mul", a, a))))),
                  rising(math.erf, -1.0, 1.0), math.erf, takes=_ONE, rounds=True, cpp="erf_of({0})", meaning="the error function", onnx=("Erf",)),
    "softplus": OpInfo(1, "torch.nn.functional.softplus({0})", _by(lambda to, a, y: to.emit("sigmoid", a)),
                       rising(softplus, 0.0, math.inf), softplus, rounds=True, cpp="softplus_of({0})", onnx=("Softplus",)),
    "relu": OpInfo(1, "torch.relu({0})", lambda to, g, y, x: (to.select(to.compare("gt", x[0], 0.0), g, 0.0),),
                   lambda a: ranges.larger(a, ranges.constant(0.0)), lambda a: max(a, 0.0), cpp="maximum({0}, 0.0f)", onnx=("Relu",)),
    "max": OpInfo(2, "torch.maximum({0}, {1})", _wins("gt"), ranges.larger, max, takes=_SEVERAL, with_constants=((1,), "torch.clamp({0}, min={1})"), commutes=True, cpp="maximum({0}, {1})", meaning="the greatest; of two equal values each gets half of the gradient", onnx=("Max",)),
    "min": OpInfo(2, "torch.minimum({0}, {1})", _wins("lt"), ranges.smaller, min, takes=_SEVERAL, with_constants=((1,), "torch.clamp({0}, max={1})"), commutes=True, cpp="minimum({0}, {1})", meaning="the least; of two equal values each gets half of the gradient", onnx=("Min",)),
    "heaviside": OpInfo(1, "({0} >= 0.0).to({like}.dtype)", _by(lambda to, a, y: to.emit("surrogate", a)),
                        ranges.at_least_zero, lambda a: float(a >= 0), takes=_ONE, smooth=False, step=True, binds=(ATOM, 2), cpp="select({0} >= 0.0f, 1.0f, 0.0f)", meaning="1 where x is 0 or above, else 0: a spike; its derivative is the network's surrogate", notation="H({0})", onnx=("GreaterOrEqual 0", "Cast")),
    # halves go to even; gradients pass as they are (a straight-through estimator)
    "round": OpInfo(1, "torch.round({0})", lambda to, g, y, x: (g,), ranges.nearest, _round,
                    takes=_ONE, smooth=False, step=True, cpp="round_of({0})", meaning="the nearest whole number, halves to the even one; gradients pass as they are", onnx=("Round",)),
    "detach": OpInfo(1, "{0}.detach()", NO_GRADIENT, lambda a: a, lambda a: a, takes=_ONE, smooth=False, binds=(ATOM, ATOM), cpp="{0}", meaning="x, through which no gradient flows", onnx=("Identity",)),
    "lt": OpInfo(2, "{0} < {1}", NO_GRADIENT, ranges.less, lambda a, b: a < b, "condition", binds=(1, 2, 2), infix="<", notation="{0} < {1}", onnx=("Less",)),
    "le": OpInfo(2, "{0} <= {1}", NO_GRADIENT, lambda a, b: ranges.opposite(ranges.less(b, a)), lambda a, b: a <= b, "condition", binds=(1, 2, 2), infix="<=", notation="{0} ≤ {1}", onnx=("LessOrEqual",)),
    "gt": OpInfo(2, "{0} > {1}", NO_GRADIENT, lambda a, b: ranges.less(b, a), lambda a, b: a > b, "condition", binds=(1, 2, 2), infix=">", notation="{0} > {1}", onnx=("Greater",)),
    "ge": OpInfo(2, "{0} >= {1}", NO_GRADIENT, lambda a, b: ranges.opposite(ranges.less(a, b)), lambda a, b: a >= b, "condition", binds=(1, 2, 2), infix=">=", notation="{0} ≥ {1}", onnx=("GreaterOrEqual",)),
    "eq": OpInfo(2, "{0} == {1}", NO_GRADIENT, ranges.equal, lambda a, b: a == b, "condition", binds=(1, 2, 2), infix="==", commutes=True, notation="{0} = {1}", onnx=("Equal",)),
    "ne": OpInfo(2, "{0} != {1}", NO_GRADIENT, lambda a, b: ranges.opposite(ranges.equal(a, b)), lambda a, b: a != b, "condition", binds=(1, 2, 2), infix="!=", commutes=True, notation="{0} ≠ {1}", onnx=("Equal", "Not")),
    "and": OpInfo(2, "{0} & {1}", NO_GRADIENT, ranges.smaller, lambda a, b: bool(a) and bool(b), "condition", conditions=(0, 1), binds=(1, ATOM, ATOM), infix="and", commutes=True, notation="{0} ∧ {1}", onnx=("And",)),
    "or": OpInfo(2, "{0} | {1}", NO_GRADIENT, ranges.larger, lambda a, b: bool(a) or bool(b), "condition", conditions=(0, 1), binds=(1, ATOM, ATOM), infix="or", commutes=True, notation="{0} ∨ {1}", onnx=("Or",)),
    "not": OpInfo(1, "~{0}", NO_GRADIENT, ranges.opposite, lambda a: not a, "condition", conditions=(0,), binds=(4, ATOM), notation="¬{0}", onnx=("Not",)),
    # a condition as 0 or 1
    "number": OpInfo(1, "{0}.to({like}.dtype)", NO_GRADIENT, lambda a: a, float, conditions=(0,), binds=(ATOM, ATOM), cpp="select({0}, 1.0f, 0.0f)", notation="1 if {0}, else 0", onnx=("Cast",)),
    # a scalar in the type of the layer's input
    "cast": OpInfo(1, "{0}.to({like}.dtype)", lambda to, g, y, x: (g,), lambda a: a, float, binds=(ATOM, ATOM), cpp="{0}", notation="{0}", onnx=("Cast",)),
    "where": OpInfo(3, "torch.where({0}, {1}, {2})", _where, ranges.either,
                    lambda condition, a, b: a if condition else b, conditions=(0,), with_constants=((1, 2), "torch.where({0}, {like}.new_full((), {1}), {2})"), cpp="select({0}, {1}, {2})", notation="{1} if {0}, else {2}", onnx=("Where",)),
}  # fmt: skip
"""The operations of a neuron program."""

GRADIENT_OPCODES: MutableMapping[str, OpInfo] = {
    # the surrogate's derivative, a function of its own
    "surrogate": OpInfo(1, "surrogate({0})", _once, lambda a: REAL),
    # a gradient summed to the scalar it belongs to
    "total": OpInfo(2, "total({0}, {1})", _once, lambda a, b: REAL, cpp="{0}"),
}
"""Operations that only generated backward passes use."""

ALL_OPCODES: Mapping[str, OpInfo] = ChainMap(OPCODES, GRADIENT_OPCODES)
