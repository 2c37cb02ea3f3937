"""THE table of a neuron's operations. A new function of equations is one row.

A row has a column for each consumer: torch, C++, ONNX, Python, notation, derivative and range.
"""

from __future__ import annotations

import math
from collections import ChainMap
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from typing import Any, Literal, TypeAlias

from danetc.dsl import ranges
from danetc.dsl.ranges import REAL, NumberRange, rising
from danetc.dsl.record import record

ATOM = 9
"""Precedence of names and calls, above that of all operators."""

Operand: TypeAlias = str | float
"""A constant, or the name of a value."""


Operands: TypeAlias = tuple[Operand, ...]
Pull: TypeAlias = Callable[[Any, Operand, Operand, Operands], Operands]
"""Computes the gradients of the operands from the ``ssa.ProgramBuilder`` that it writes to, the gradient
of the value, the value and the operands."""

NO_GRADIENT: Literal["no gradient"] = "no gradient"
"""Marks an operation that passes no gradient: it is piecewise constant, or detaches."""


@record
class OpInfo:
    """A row of the table.

    In ``text``, ``python`` and ``cpp`` the fields ``{0}``, ``{1}``, ... are the operands, and
    ``{like}`` is a tensor with the dtype of the result.

    Attributes:
        arity: Number of operands.
        text: Expression in torch.
        derivative: The gradients of the operands. It has no default: an operation that passes no
            gradient says so.
        range: Range of the value from the ranges of the operands; a condition is 0 or 1.
        value: Computes the operation for constants.
        gives: Type of the value.
        takes: Fewest and most arguments of the function in equations; None if equations cannot
            call it.
        conditions: Indices of the operands that are conditions; the others are numbers.
        smooth: False if the derivative is a choice; surrogates cannot use it then.
        step: True if it makes integers of real numbers. A program with a step is a neuron.
        rounds: True if machines compute it with different rounding errors.
        cpp: Expression in C++ of vectors and masks, if ``text`` is none.
        python: Expression for Python's floats; empty if there is none.
        with_constants: Torch expression to use if these operands are constants.
        binds: Precedence of ``text``, and the least precedence of each operand that ``text`` does
            not enclose. A right operand binds tighter: a + (b + c) is not (a + b) + c in floats.
        infix: Operator in equations.
        notation: Form in printed equations.
        commutes: True if exchanging the operands gives the same bits, except for the sign of a zero.
        meaning: Description of a function that equations can call.
        onnx: ONNX operators in sequence. The first takes the operands, and the number after its
            name if there is one; ``Cast`` turns a condition into a number.
    """

    arity: int
    text: str
    derivative: Pull | Literal["no gradient"]
    range: Callable[..., NumberRange]
    value: Callable[..., float | bool]
    gives: Literal["number", "condition"] = "number"
    takes: tuple[int, int | None] | None = None
    conditions: tuple[int, ...] = ()
    smooth: bool = True
    step: bool = False
    rounds: bool = False
    cpp: str = ""
    python: str = ""
    with_constants: tuple[tuple[int, ...], str] | None = None
    binds: tuple[int, ...] = (ATOM,)
    infix: str = ""
    notation: str = ""
    commutes: bool = False
    meaning: str = ""
    onnx: tuple[str, ...] | None = None


class ConstantError(ArithmeticError):
    """Raised if a constant part of an equation has no finite value."""


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


def _by(slope: Callable[[Any, Operand, Operand], Operand]) -> Pull:
    """Derivative of a function of one operand, from its slope."""
    return lambda to, g, y, x: (to.emit("mul", g, slope(to, x[0], y)),)


def _mul(to: Any, grad: Operand, out: Operand, args: Operands) -> Operands:
    return to.emit("mul", grad, args[1]), to.emit("mul", grad, args[0])


def _div(to: Any, grad: Operand, out: Operand, args: Operands) -> Operands:
    share = to.emit("div", grad, args[1])
    return share, to.emit("neg", to.emit("mul", share, out))


def _where(to: Any, grad: Operand, out: Operand, args: Operands) -> Operands:
    return 0.0, to.select(args[0], grad, 0.0), to.select(args[0], 0.0, grad)


def _wins(sign: str) -> Pull:
    """Derivative of ``max`` ("gt") and ``min`` ("lt"). Tied values get half of the gradient each; a
    value that ties with a constant gets all of it."""
    wins, loses = {"gt": ("ge", "lt"), "lt": ("le", "gt")}[sign]

    def pull(to: Any, grad: Operand, out: Operand, args: Operands) -> Operands:
        a, b = args
        if isinstance(b, float):
            return to.select(to.compare(wins, a, b), grad, 0.0), 0.0
        half = to.select(to.compare("eq", a, b), to.emit("mul", grad, 0.5), 0.0)
        first = to.select(to.compare(sign, a, b), grad, half)
        return first, to.select(to.compare(loses, a, b), grad, half)

    return pull


def _once(*operands: Any) -> Any:
    raise ValueError("a backward pass is not differentiated again")


# -- the table ------------------------------------------------------------------------------------

_ONE = (1, 1)
_SEVERAL = (2, None)

OPCODES: MutableMapping[str, OpInfo] = {
    "add": OpInfo(2, "{0} + {1}", lambda to, g, y, x: (g, g), ranges.add, lambda a, b: a + b, python="{0} + {1}", binds=(2, 2, 3), infix="+", commutes=True, notation="{0} + {1}", onnx=("Add",)),
    "sub": OpInfo(2, "{0} - {1}", lambda to, g, y, x: (g, to.emit("neg", g)), ranges.subtract, lambda a, b: a - b, python="{0} - {1}", binds=(2, 2, 3), infix="-", notation="{0} − {1}", onnx=("Sub",)),
    "mul": OpInfo(2, "{0} * {1}", _mul, ranges.multiply, lambda a, b: a * b, python="{0} * {1}", binds=(3, 3, 4), infix="*", commutes=True, notation="{0} · {1}", onnx=("Mul",)),
    "div": OpInfo(2, "{0} / {1}", _div, ranges.divide, _divide, rounds=True, python="{0} / {1}", binds=(3, 3, 4), infix="/", notation="{0}/{1}", onnx=("Div",)),
    "neg": OpInfo(1, "-{0}", lambda to, g, y, x: (to.emit("neg", g),), ranges.negative, lambda a: -a, python="-{0}", binds=(4, 4), notation="−{0}", onnx=("Neg",)),
    "exp": OpInfo(1, "torch.exp({0})", _by(lambda to, a, y: y), rising(math.exp, 0.0, math.inf), math.exp, takes=_ONE, rounds=True, python="math.exp({0})", cpp="exp_of({0})", meaning="e to the power of x", notation="e^{0}", onnx=("Exp",)),
    "log": OpInfo(1, "torch.log({0})", lambda to, g, y, x: (to.emit("div", g, x[0]),),
                  rising(math.log, -math.inf, math.inf), _log, takes=_ONE, rounds=True, python="math.log({0})", cpp="log_of({0})", meaning="natural logarithm of x", notation="ln({0})", onnx=("Log",)),
    "sqrt": OpInfo(1, "torch.sqrt({0})", lambda to, g, y, x: (to.emit("div", to.emit("mul", g, 0.5), y),),
                   rising(math.sqrt, 0.0, math.inf), _sqrt, takes=_ONE, rounds=True, python="math.sqrt({0})", cpp="sqrt_of({0})", meaning="square root of x", notation="√({0})", onnx=("Sqrt",)),
    "abs": OpInfo(1, "torch.abs({0})", _by(lambda to, a, y: to.emit("sign", a)), ranges.absolute, abs, takes=_ONE, python="abs({0})", cpp="abs_of({0})", meaning="absolute value of x", notation="|{0}|", onnx=("Abs",)),
    "sign": OpInfo(1, "torch.sign({0})", NO_GRADIENT, lambda a: NumberRange(-1.0, 1.0, 1.0), lambda a: float((a > 0) - (a < 0)), cpp="sign_of({0})", onnx=("Sign",)),
    "sigmoid": OpInfo(1, "torch.sigmoid({0})", _by(lambda to, a, y: to.emit("mul", y, to.emit("sub", 1.0, y))),
                      rising(sigmoid, 0.0, 1.0), sigmoid, takes=_ONE, rounds=True, cpp="sigmoid_of({0})", meaning="1 / (1 + exp(-x))", notation="σ({0})", onnx=("Sigmoid",)),
    "tanh": OpInfo(1, "torch.tanh({0})", _by(lambda to, a, y: to.emit("sub", 1.0, to.emit("mul", y, y))),
                   rising(math.tanh, -1.0, 1.0), math.tanh, takes=_ONE, rounds=True, python="math.tanh({0})", cpp="tanh_of({0})", meaning="hyperbolic tangent", onnx=("Tanh",)),
    "sin": OpInfo(1, "torch.sin({0})", _by(lambda to, a, y: to.emit("cos", a)),
                  lambda a: NumberRange(-1.0, 1.0), math.sin, takes=_ONE, rounds=True, python="math.sin({0})", cpp="sin_of({0})", meaning="sine", onnx=("Sin",)),
    "cos": OpInfo(1, "torch.cos({0})", _by(lambda to, a, y: to.emit("neg", to.emit("sin", a))),
                  lambda a: NumberRange(-1.0, 1.0), math.cos, takes=_ONE, rounds=True, python="math.cos({0})", cpp="cos_of({0})", meaning="cosine", onnx=("Cos",)),
    "erf": OpInfo(1, "torch.erf({0})", _by(lambda to, a, y: to.emit("mul", 2 / math.sqrt(math.pi), to.emit("exp", to.emit("neg", to.emit("mul", a, a))))),
                  rising(math.erf, -1.0, 1.0), math.erf, takes=_ONE, rounds=True, python="math.erf({0})", cpp="erf_of({0})", meaning="error function", onnx=("Erf",)),
    "softplus": OpInfo(1, "torch.nn.functional.softplus({0})", _by(lambda to, a, y: to.emit("sigmoid", a)),
                       rising(softplus, 0.0, math.inf), softplus, rounds=True, cpp="softplus_of({0})", onnx=("Softplus",)),
    "relu": OpInfo(1, "torch.relu({0})", lambda to, g, y, x: (to.select(to.compare("gt", x[0], 0.0), g, 0.0),),
                   lambda a: ranges.larger(a, ranges.constant(0.0)), lambda a: max(a, 0.0), cpp="maximum({0}, 0.0f)", onnx=("Relu",)),
    "max": OpInfo(2, "torch.maximum({0}, {1})", _wins("gt"), ranges.larger, max, takes=_SEVERAL, with_constants=((1,), "torch.clamp({0}, min={1})"), commutes=True, python="max({0}, {1})", cpp="maximum({0}, {1})", meaning="maximum; two equal values share the gradient equally", onnx=("Max",)),
    "min": OpInfo(2, "torch.minimum({0}, {1})", _wins("lt"), ranges.smaller, min, takes=_SEVERAL, with_constants=((1,), "torch.clamp({0}, max={1})"), commutes=True, python="min({0}, {1})", cpp="minimum({0}, {1})", meaning="minimum; two equal values share the gradient equally", onnx=("Min",)),
    "heaviside": OpInfo(1, "({0} >= 0.0).to({like}.dtype)", _by(lambda to, a, y: to.emit("surrogate", a)),
                        lambda a: ranges.opposite(ranges.less(a, ranges.constant(0.0))), lambda a: float(a >= 0), takes=_ONE, smooth=False, step=True, binds=(ATOM, 2), cpp="select({0} >= 0.0f, 1.0f, 0.0f)", meaning="1 if x >= 0, otherwise 0 (spike function); its derivative is the network's surrogate", notation="H({0})", onnx=("GreaterOrEqual 0", "Cast")),
    # halves go to even; gradients pass as they are (a straight-through estimator)
    "round": OpInfo(1, "torch.round({0})", lambda to, g, y, x: (g,), ranges.nearest, _round,
                    takes=_ONE, smooth=False, step=True, cpp="round_of({0})", meaning="nearest integer, with halves to even; gradients pass unchanged", onnx=("Round",)),
    "detach": OpInfo(1, "{0}.detach()", NO_GRADIENT, lambda a: a, lambda a: a, takes=_ONE, smooth=False, binds=(ATOM, ATOM), cpp="{0}", meaning="x without a gradient", onnx=("Identity",)),
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
    # a scalar in the dtype of the layer's input
    "cast": OpInfo(1, "{0}.to({like}.dtype)", lambda to, g, y, x: (g,), lambda a: a, float, binds=(ATOM, ATOM), cpp="{0}", notation="{0}", onnx=("Cast",)),
    "where": OpInfo(3, "torch.where({0}, {1}, {2})", _where, ranges.either,
                    lambda condition, a, b: a if condition else b, conditions=(0,), with_constants=((1, 2), "torch.where({0}, {like}.new_full((), {1}), {2})"), cpp="select({0}, {1}, {2})", notation="{1} if {0}, else {2}", onnx=("Where",)),
}  # fmt: skip
"""The operations of a neuron program."""

GRADIENT_OPCODES: MutableMapping[str, OpInfo] = {
    # the derivative of the surrogate, a separate function
    "surrogate": OpInfo(1, "surrogate({0})", _once, lambda a: REAL, _once),
    # the sum of a gradient to the shape of a scalar
    "total": OpInfo(2, "total({0}, {1})", _once, lambda a, b: REAL, _once, cpp="{0}"),
}
"""Operations of generated backward passes."""

ALL_OPCODES: Mapping[str, OpInfo] = ChainMap(OPCODES, GRADIENT_OPCODES)


def compute(opcode: str, *args: Any) -> float | bool:
    """Compute an operation on constants. Raises ConstantError or OverflowError if it is undefined."""
    return OPCODES[opcode].value(*args)


def torch_form(opcode: str, args: Sequence[Operand]) -> tuple[str, tuple[int, ...]]:
    """Return the torch expression of an operation on ``args``, and how it ``binds``."""
    row = ALL_OPCODES[opcode]
    if row.with_constants is not None:
        places, text = row.with_constants
        if all(isinstance(args[place], float) for place in places):
            return text, (ATOM,)
    return row.text, row.binds


def enclosed(
    form: str, binds: Sequence[int], operands: Sequence[tuple[str, int]], like: str = ""
) -> str:
    """Fill in operands, each a text and its precedence, with parentheses where needed."""
    needs = (*binds[1:], *[0] * len(operands))
    texts = [
        f"({text})" if tight < need else text
        for (text, tight), need in zip(operands, needs, strict=False)
    ]
    return form.format(*texts, like=like)


# -- functions of equations -----------------------------------------------------------------------


def functions() -> Mapping[str, tuple[int, int | None]]:
    """Return the functions of equations with their fewest and most arguments."""
    rows = {name: row.takes for name, row in OPCODES.items() if row.takes is not None}
    return {**rows, **{name: form.takes for name, form in FORMS.items()}}


@record
class EquationForm:
    """A function of equations without an opcode: the fewest and most arguments, its usage, and
    descriptions of the function and of its arguments."""

    takes: tuple[int, int | None]
    usage: str
    meaning: str
    says: Mapping[str, str]


FORMS: Mapping[str, EquationForm] = {
    "sum": EquationForm(
        (1, None),
        "sum(a, ...)",
        "sum, evaluated from left to right; 0 for an empty range",
        {"a, ...": "values, or one for each j of a range: `delay(x, j) for j in 0 .. 3`"},
    ),
    "delay": EquationForm(
        (2, 2),
        "delay(a, n)",
        "value of a from n time steps ago; 0 at the first n steps",
        {"a": "value", "n": "number of time steps"},
    ),
    "learn": EquationForm(
        (1, 1),
        "learn(1.0, above = ..., below = ..., per = channel)",
        "learnable parameter, optionally with bounds",
        {
            "init": "initial value, or its distribution: `uniform(low, high)`, `normal(mean, std)`",
            "above": "lower bound, excluded; by default none",
            "below": "upper bound, excluded; by default none",
            "per": "unit with a separate parameter: `layer`, `channel`, `neuron` or `step`",
            "per_step": "if true, each time step has separate parameters; by default false",
        },
    ),
    "random": EquationForm(
        (0, 1),
        "random(normal(0, 1), evaluate = mean)",
        "random number of each neuron, drawn at each time step or once for a sample",
        {
            "law": "distribution: `uniform(low, high)`, `normal(mean, std)`; by default `uniform(0, 1)`",
            "evaluate": "in evaluation, `draw` (default) or the `mean` of the distribution",
            "per": "`step`: new numbers at each time step (default); `sample`: the same at all of them",
        },
    ),
}


def meaning(name: str) -> str:
    """Return the description of a function."""
    return FORMS[name].meaning if name in FORMS else OPCODES[name].meaning


CONSTANTS: Mapping[str, float | bool] = {"true": True, "false": False, "pi": math.pi}
"""Values of these names if the declaration does not define them."""

FOLDS: Mapping[str, str] = {"sum": "add", "max": "max", "min": "min"}
"""Functions that take `for`, and the operation that folds their values."""

INFIX = {row.infix: name for name, row in OPCODES.items() if row.infix}


def is_smooth(function: str) -> bool:
    """True if surrogates may call a function."""
    row = OPCODES.get(FOLDS.get(function, function))
    return row is not None and row.smooth
