"""Operators on values, and calls of operations.

The number of learnt numbers, ``learn(...)``, follows from the value that they meet: one for a layer,
or one for each of its channels, pixels or steps. Written in place they are new at each use; a name
(``a = learn(0.5)``, a parameter of a block) stands for the same numbers wherever it is read.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from danetc.compiler.ir.graph import Attribute, Node, Shape
from danetc.compiler.ir.ops import OPS, REQUIRED, Parameter, text
from danetc.compiler.ir.ops.row import scheduled
from danetc.compiler.ir.ops.shapes import AnyShape
from danetc.compiler.lowering import values as v
from danetc.compiler.lowering.environment import PORTS, SPECIAL, Env, Want
from danetc.compiler.lowering.evaluator import ROUND, Evaluator, flows_in, is_known
from danetc.dsl.diagnostics.diagnostic import Label, did_you_mean
from danetc.dsl.first_weights import FIRST_WEIGHTS, RANDOM_STARTS, STANDARD, Draw, RandomStart
from danetc.dsl.neuron.program import Learn
from danetc.dsl.syntax import tree as s
from danetc.dsl.syntax.source import Span, shorten

VALUE = 10  # work for each value of a `for`


def _divide(a: float, b: float) -> int | float:
    """Return the quotient, an integer if integers divide."""
    if isinstance(a, int) and isinstance(b, int) and a % b == 0:
        return a // b
    return a / b


_ARITHMETIC: Mapping[str, Callable[[Any, Any], v.Number]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": _divide,
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_LAWS = (("learn", "init"), ("random", "law"))
"""Parameters that take a distribution."""
_WANTED = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "",  # one of the parameter's words
    tuple: "a value",
}
"""Types of parameters in the words of an error."""


class OperationValues(Evaluator):
    """Values of operators."""

    def operate(self, expr: s.Binary | s.Unary, env: Env, want: Want = "any") -> v.Value:
        """Evaluate an operator: compute numbers, join values of the network."""
        if isinstance(expr, s.Unary):
            return self._unary(expr, env, want)
        if expr.op in ("and", "or"):
            left = self.condition(expr.left, env)
            return left if left == (expr.op == "or") else self.condition(expr.right, env)
        # a loop instead of recursion, whose depth is limited
        steps: list[tuple[str, s.Expr]] = []
        node: s.Expr = expr
        while isinstance(node, s.Binary) and node.op not in ("and", "or"):
            steps.append((node.op, node.right))
            node = node.left
        result = self.evaluate(node, env, want)
        for op, operand in reversed(steps):
            right = self.evaluate(operand, env, want)
            result = self._combine(op, result, right, expr, operand, env)
        return result

    def _unary(self, expr: s.Unary, env: Env, want: Want) -> v.Value:
        value = self.evaluate(expr.operand, env, want)
        if expr.op == "not":
            return not self.truth(value, expr.operand, env)
        if not isinstance(value, (v.Wire, v.LearntValue)) and not v.is_number(value):
            message = f"`-` takes a number or a value, not {v.describe(value)}"
            raise self.error("E0406", message, expr.span)
        return self._combine("*", -1, value, expr, expr.operand, env)

    def _combine(
        self, op: str, left: v.Value, right: v.Value, expr: s.Expr, operand: s.Expr, env: Env
    ) -> v.Value:
        if isinstance(left, v.Wire):
            return self._join(op, left, self.met(right, left, expr.span), expr.span)
        if isinstance(right, v.Wire):
            return self._join(op, self.met(left, right, expr.span), right, expr.span)
        if any(isinstance(value, v.LearntValue) for value in (left, right)):
            return self._calculated(op, left, right, expr.span)
        for value in (left, right):
            if not isinstance(value, (bool, int, float)):
                message = f"`{op}` joins numbers or values, not {v.describe(value)}"
                raise self.reject("E0406", message, expr, env, _hint(value))
        try:
            return self.bounded(_ARITHMETIC[op](left, right), expr.span)
        except ZeroDivisionError:
            raise self.reject("E0306", "division by zero", operand, env) from None
        except OverflowError:
            raise self.error("E0306", "a constant too large", expr.span) from None

    def _join(self, op: str, left: v.Value, right: v.Value, span: Span) -> v.Value:
        ops = {"+": "add", "-": "sub", "*": "mul", "/": "div"}
        if op not in ops:
            message = f"`{op}` compares numbers that are known before the network runs"
            raise self.error("E0406", message, span)
        if isinstance(left, v.Wire) and isinstance(right, v.Wire):
            return self.join(ops[op], (left, right), span)
        wire, number = (left, right) if isinstance(left, v.Wire) else (right, left)
        assert isinstance(wire, v.Wire)
        if not v.is_number(number):
            message = f"`{op}` joins values and numbers, not {v.describe(number)}"
            raise self.error("E0406", message, span, hint=_hint(number))
        if op == "/" and wire is not left:
            raise self.error("E0406", "a number cannot be divided by a value", span)
        if op == "/" and number == 0:
            raise self.error("E0306", "division by zero", span)
        factor, offset = _affine(op, float(number), wire is left)
        return self.add("affine", (wire,), {"factor": factor, "offset": offset}, span)

    def join(self, op: str, operands: tuple[v.Wire, ...], span: Span) -> v.Wire:
        """Join values. A vector of C entries joins a map as C x 1 x 1."""
        shapes = [self.value(wire).shape for wire in operands]
        shapes = [shape for shape in shapes if not isinstance(shape, AnyShape)]
        longest = max(shapes, key=len, default=())
        fits = all(len(shape) == 3 or shape[0] in (1, longest[0]) for shape in shapes)
        if len(longest) == 3 and fits:
            operands = tuple(
                self.add("as_map", (wire,), {}, span) if len(self.value(wire).shape) == 1 else wire
                for wire in operands
            )
        return self.add(op, operands, {}, span)

    def indices(self, expr: s.At, env: Env, whole: str, part: str, count: int) -> tuple[int, int]:
        """Return the ends, both included, of an index or range of ``count`` parts (E0409)."""
        if len(expr.indices) != 1:
            message = f"a {whole} takes one {part} or one range of {part}s"
            raise self.error("E0409", message, expr.span)
        index, last = expr.indices[0], count - 1
        ends = (index.low, index.high) if isinstance(index, s.Range) else (index,)
        numbers = [self.whole(end, env, f"the number of a {part}", -(2**20), 2**20) for end in ends]
        for number, end in zip(numbers, ends, strict=True):
            if not 0 <= number <= last:
                has = f"the {whole} has {part}s 0 .. {last}"
                raise self.reject("E0409", f"there is no {part} {number}: {has}", end, env)
        low, high = numbers[0], numbers[-1]
        if low > high:
            message = f"the range of {part}s {low} .. {high} is empty"
            hint = "a range `a .. b` goes from the lower to the higher number, both included"
            raise self.error("E0409", message, index.span, hint=hint)
        return low, high

    # -- lists of values --------------------------------------------------------------------------

    def list_of(self, call: s.Call, env: Env) -> list[tuple[s.Arg, Env]]:
        """Return the arguments of a list, each with its environment; a `for` gives any number."""
        found: list[tuple[s.Arg, Env]] = []
        for arg in call.args:
            each = arg.value
            if isinstance(each, s.Each):
                found += ((replace(arg, value=each.value), it) for it in self._each(each, env))
            else:
                found.append((arg, env))
        if call.args and not found:
            each = call.args[0].value
            hint = "a range `a .. b` goes from the lower to the higher number, both included"
            assert isinstance(each, s.Each)
            if each.condition is not None:
                hint = "its condition must hold for a number of the range"
            message = f"`for {each.variable}` gives no value"
            raise self.reject("E0303", message, each, env, hint)
        return found

    def _each(self, each: s.Each, env: Env) -> Iterator[Env]:
        """Iterate over the environments of a `for`."""
        name, place = each.variable, each.name_span
        if is_known(name, env) or name in PORTS.get(env.what, ()):
            labels = tuple(Label(at, "declared here") for at in (env.places.get(name),) if at)
            message = f"`{name}` already has a meaning here"
            hint = "choose another name for the variable of the `for`"
            raise self.error("E0212", message, place, labels=labels, hint=hint)
        low = self.whole(each.low, env, "the start of `for`", -(2**20), 2**20)
        high = self.whole(each.high, env, "the end of `for`", -(2**20), 2**20)
        for number in range(low, high + 1):
            self.work.spend(VALUE, each.span)
            inner = replace(
                env,
                values={**env.values, name: number},
                given={**env.given, name: v.ArgumentOrigin(place, name, number)},
                counters=(*env.counters, number),
            )
            if each.condition is None or self.condition(each.condition, inner):
                yield inner

    def sum_of(self, id: str, call: s.Call, env: Env) -> v.Value:
        """Return the sum or mean of a list, which folds from the left."""
        (first, inner), *others = self.list_of(call, env)
        total = self.evaluate(first.value, inner)
        for arg, inner in others:
            value = self.evaluate(arg.value, inner)
            total = self._combine("+", total, value, call, arg.value, inner)
        if id == "mean" and others:
            total = self._combine("*", total, 1 / (1 + len(others)), call, call, env)
        return total

    # -- learnt numbers ---------------------------------------------------------------------------

    def _calculated(self, op: str, left: v.Value, right: v.Value, span: Span) -> v.LearntValue:
        """Return a learnt number changed by a constant, as in ``1 - a``."""
        first = isinstance(left, v.LearntValue)
        learnt, number = (left, right) if first else (right, left)
        assert isinstance(learnt, v.LearntValue)
        fits = op in ("+", "-", "*") or (op == "/" and first and number)
        if not v.is_number(number) or not fits:
            both = isinstance(number, v.LearntValue)
            raise self.error(
                "E0410",
                f"`{op}` of two learnable parameters or random numbers: their shape is unknown"
                if both
                else f"`{op}` cannot be applied to {v.describe(learnt)} here",
                span,
                hint="each takes its size from a value that it meets: "
                "`(learn(1.0) * a) + (learn(1.0) * b)`; with constants there are `1 - learn(...)`, "
                "`2 * learn(...)` and `learn(...) / 2`",
            )
        factor, offset = _affine(op, number, first)
        offset += factor * learnt.offset
        return replace(learnt, factor=factor * learnt.factor, offset=offset)

    def at_each_step(self, wire: v.Wire, span: Span) -> v.Wire:
        """Return a value that varies; a static one is repeated."""
        if self.value(wire).varies:
            return wire
        return self.add("repeat", (wire,), {}, span)

    def met(self, value: v.Value, wire: v.Wire, span: Span) -> v.Value:
        """Return learnt or random numbers in the size that a value requires; other values unchanged."""
        if not isinstance(value, v.LearntValue):
            return value
        made = self.parameter(value, wire, span)
        for factor, offset, function in (*value.functions, (value.factor, value.offset, "")):
            if (factor, offset) != (1.0, 0.0):
                made = self.add("affine", (made,), {"factor": factor, "offset": offset}, span)
            made = self.add(function, (made,), {}, span) if function else made
        return made

    def parameter(self, found: v.LearntValue, wire: v.Wire, span: Span) -> v.Wire:
        """Return the node of the numbers, made where their name is first met."""
        learn, meets = found.learn, self.value(wire).shape
        if isinstance(learn, Learn) and not learn.trained:
            raise self.error(
                "E0410",
                "`scheduled` cannot be combined with values: it is an argument of a neuron, a surrogate or "
                "a layer that takes it",
                span,
                hint="write `neuron = LIF(tau = scheduled(2.0))`, and `x * 2.0` with a constant",
            )
        ones = (1,) * (len(meets) - 1)
        sizes = {"channel": (meets[0], *ones), "neuron": meets}
        size: Shape = sizes.get(learn.per if isinstance(learn, Learn) else "neuron", (1, *ones))
        key = (found.scope, found.name)
        known: Node | None = self.learnt.get(key) if found.name else None
        if known is None or self.nodes.get(known.id) is not known:
            with self.changed(scope=found.scope if found.name else self.scope):
                if isinstance(learn, Draw):
                    law: dict[str, Attribute] = {
                        "law": learn.law.text,
                        "evaluate": learn.evaluate,
                        "per": learn.per,
                    }
                    like = wire if learn.per == "sample" else self.at_each_step(wire, span)
                    made = self.add("random", (like,), law, span, found.name or "random")
                else:
                    channels, height, width = (*size, None, None)[:3]
                    init = learn.init.text if isinstance(learn.init, RandomStart) else learn.init
                    attrs: dict[str, Attribute] = {
                        "init": init,
                        "channels": channels,
                        "height": height,
                        "width": width,
                        "per_step": learn.per_step,
                        "above": learn.above,
                        "below": learn.below,
                    }
                    made = self.add("parameter", (), attrs, span, found.name or "learn")
            if found.name:
                self.learnt[key] = self.nodes[made.id]
            return made
        if known.value.shape != size:
            here, there = text(size), text(known.value.shape)
            learnt = isinstance(learn, Learn)
            what, function = ("learnt", "learn(...)") if learnt else ("drawn", "random(...)")
            raise self.error(
                "E0410",
                f"`{found.name}` is {what} as {there}, and {here} are required here",
                span,
                hint=f"a name refers to the same numbers everywhere; write `{function}` in place for "
                "others",
            )
        return v.Wire(known.id)

    # -- calls of operations --------------------------------------------------------------------------

    def operation(self, id: str, call: s.Call, env: Env) -> v.OpLayer:
        """Return an operation of the table as a layer, with the arguments of a call."""
        if OPS[id].arguments:
            shown = ", ".join(OPS[id].arguments[: OPS[id].operands[0]])
            message = f"`{id}` is a function of values, not a layer"
            raise self.error("E0405", message, call.span, hint=f"write `{id}({shown})`")
        if OPS[id].bare and not call.args:
            return v.OpLayer(OPS[id].bare, {}, call.span, id)
        return v.OpLayer(id, self.attributes(id, call, env), call.span, OPS[id].role)

    def attributes(
        self, id: str, call: s.Call, env: Env, *, partial: bool = False
    ) -> dict[str, Attribute]:
        """Return the attributes of an operation; with ``partial`` only those that are given."""
        parameters = OPS[id].parameters
        names = [parameter.name for parameter in parameters]
        places = sum(not (each.sugar or each.type is object) for each in parameters)
        given = self.assign(call, names, f"`{id}`", id, unnamed=places)
        return self._values(id, parameters, given, call, env, partial)

    def arguments(self, id: str, call: s.Call, env: Env) -> dict[str, Any]:
        """Return the arguments of a function of ``SPECIAL`` with parameters."""
        given = self.assign_special(id, call)
        return self._values(id, SPECIAL[id].parameters or (), given, call, env)

    def _values(
        self,
        id: str,
        parameters: Sequence[Parameter],
        given: Mapping[str, s.Arg],
        call: s.Call,
        env: Env,
        partial: bool = False,
    ) -> dict[str, Any]:
        """Return the checked values of parameters: given, or by default (E0304, E0305, E0307)."""
        values: dict[str, Any] = {}
        failed: v.Failed | None = None
        for parameter in parameters:
            name = parameter.name
            if name in given:
                try:
                    values[name] = self._value(id, parameter, given[name], call, env)
                except v.Failed as error:
                    if given[name].name is None:
                        raise  # other positional arguments may be misplaced, too
                    failed = error
            elif partial or parameter.shape_of:
                continue
            elif parameter.default is not REQUIRED:
                values[name] = parameter.default
            elif parameter.unless in given:
                values[name] = None
            else:
                more = f" = {parameter.words[0]}" if parameter.type is str else ", ..."
                usage = f"{id}({name}{more})" if id in OPS else SPECIAL[id].usage
                message, hint = f"`{id}` needs `{name}`", f"write `{usage}`"
                failed = self.error("E0307", message, call.span, hint=hint)
        if failed is not None:
            raise failed
        return values

    def _value(
        self, id: str, parameter: Parameter, arg: s.Arg, call: s.Call, env: Env
    ) -> v.Value | Attribute | RandomStart:
        """Return the value of an argument, checked against its parameter."""
        name = parameter.name
        match arg.value:
            case s.Call(s.Name(law)) if (id, name) in _LAWS and law in RANDOM_STARTS:
                return self._law(id, law, arg.value, env)
            case s.Name(law) if id == "random" and law in STANDARD:
                return STANDARD[law]
            case _ if (id, name) == ("random", "law"):
                message = f"`{shorten(arg.value.span.text)}` is not a distribution"
                usage = "write `random(uniform(low, high))` or `random(normal(mean, std))`"
                raise self.error("E0304", message, arg.span, hint=usage)
        if parameter.type is object:
            if name == "block" and isinstance(arg.value, s.Flow):
                return None  # evaluated for each block, with the settings of its stage
            if name == "weight":
                return self.weight_setting(self.evaluate(arg.value, env, "layer"), arg.value.span)
            return self.evaluate(arg.value, env, name)
        if parameter.shape_of:
            value = self.evaluate(arg.value, env)
            if isinstance(value, v.Wire):
                return "x".join(map(str, self.value(value).shape))
            message = f"`{name}` of `{id}` must be a value, not {v.describe(value)}"
            raise self.reject("E0304", message, arg.value, env)
        return self._checked(id, parameter, arg, call, env)

    def weight_setting(self, value: v.Value, span: Span) -> v.Layer:
        """Check a value of ``weight``, which must be a layer (E0401)."""
        if not v.is_layer(value) or isinstance(value, v.Backbone):
            message = f"`weight` takes a layer, not {v.describe(value)}"
            hint = "name a block or an activation, or write a flow: `weight = layernorm -> relu`"
            raise self.error("E0401", message, span, hint=hint)
        return value.layer if isinstance(value, v.Named) else value

    def _law(self, id: str, law: str, call: s.Call, env: Env) -> RandomStart:
        """Return a distribution, ``uniform(low, high)`` or ``normal(mean, std)``, of a function."""
        names = RANDOM_STARTS[law]
        given = self.assign(call, [*names], f"`{law}` in `{id}`")
        if len(given) < len(names):
            message = f"`{law}` in `{id}` takes two numbers, `{names[0]}` and `{names[1]}`"
            hint = f"write `{id}({law}({', '.join(names)}))`"
            raise self.error("E0307", message, call.span, hint=hint)
        parameters = [Parameter(each, float, "") for each in names]
        return RandomStart(law, *self._values(law, parameters, given, call, env).values())

    def product_of(self, id: str, call: s.Call, env: Env) -> v.Wire:
        """Apply an operation that is a function of values: its operands, then its parameters."""
        row, span = OPS[id], call.span
        given = self.assign(call, [*row.names], f"`{id}`", id)
        wires: list[v.Wire] = []
        for place, name in enumerate(row.arguments):
            if name in given:
                wires.append(self.operand(given[name], env, f"`{name}` of `{id}` is a value"))
            elif place < row.operands[0]:
                shown = ", ".join(row.arguments[: row.operands[0]])
                hint = f"write `{id}({shown})`"
                raise self.error("E0307", f"`{id}` needs `{name}`", span, hint=hint)
        attrs: Mapping[str, Attribute] = self._values(id, row.parameters, given, call, env)
        return self.add(id, tuple(wires), attrs, span)

    def operand(self, arg: s.Arg, env: Env, needs: str) -> v.Wire:
        """Evaluate an argument that must be a value of the network (E0402)."""
        value = self.evaluate(arg.value, env)
        if not isinstance(value, v.Wire):
            hint = "a value starts with `in` or the name of a value"
            message = f"{needs}, not {v.describe(value)}"
            raise self.reject("E0402", message, arg.value, env, hint)
        return value

    def _checked(
        self, id: str, parameter: Parameter, arg: s.Arg, call: s.Call, env: Env
    ) -> Attribute:
        """Return an argument of the type, bounds and words of its parameter (E0304, E0305)."""
        name, words, expr, hint = parameter.name, parameter.words, arg.value, None
        is_map = parameter.type is tuple
        value = self.evaluate(expr, env, name if words else "any" if is_map else "number")
        if not is_map and (isinstance(value, v.Wire) or v.is_layer(value)):
            hint = flows_in(arg, call)
        if parameter.type is str and isinstance(value, v.Wire):
            layer = f"{id}({name} = {words[0]})"
            hint = f"a value flows into a layer, `a -> {layer}`; values are joined by `a + b`"
        if isinstance(value, (s.Word, v.Initial)) and value.id in words:
            return value.id if isinstance(value, s.Word) else value.text
        start = None
        if parameter.schedule and isinstance(value, v.LearntValue) and value.is_plain:
            learn = value.learn
            start = learn.start if isinstance(learn, Learn) and not learn.trained else None
            value = value if start is None else start
        if parameter.type is tuple and isinstance(value, v.Wire):
            shape: tuple[int, ...] = self.value(value).shape
            if len(shape) == 3:
                return shape  # type: ignore[return-value]  # sugar, of which numbers are left
            message = f"`{name}` of `{id}` must be a map, not a vector of {shape[0]}"
            raise self.reject("E0304", message, expr, env)
        whole = parameter.type is int and isinstance(value, float) and value.is_integer()
        if whole or (parameter.type is float and type(value) is int):
            value = parameter.type(value)
        wanted = _WANTED[parameter.type]
        if type(value) is not parameter.type or not isinstance(value, (bool, int, float)):
            code, shown = "E0304", v.describe(value)
            if isinstance(value, float):
                shown, hint = f"{value:g}", ROUND
            elif isinstance(value, str) and value in words:
                hint = f"`{value}` is a word, without quotes"
            elif words and hint is None:
                hint = did_you_mean(expr.span.text, words)
        else:
            low = parameter.low if parameter.low is not None else -math.inf
            high = parameter.high if parameter.high is not None else math.inf
            if low <= value <= high:
                return value if start is None else scheduled(start)
            code, shown = "E0305", f"{value:,}" if isinstance(value, int) else f"{value:g}"
            wanted = f"between {low:g} and {high:,.12g}"
        if words:
            listed = ", ".join(f"`{word}`" for word in words)
            wanted = f"{wanted} or {listed}" if wanted else f"one of {listed}"
        message = f"`{name}` of `{id}` must be {wanted}, not {shown}"
        raise self.reject(code, message, expr, env, hint)

    def initial(self, id: str, env: Env, span: Span, call: s.Call | None = None) -> v.Initial:
        """Return the initial weights of a row, by its name alone or its call."""
        numbers = self.arguments(id, call or s.Call(s.Name(id), (), span=span), env)
        return v.Initial(id, FIRST_WEIGHTS[id].text(numbers))


def _affine(op: str, number: float, first: bool) -> tuple[float, float]:
    """Return an operation with a number as a factor and an offset; the value may come ``first``."""
    match op:
        case "+":
            return 1.0, number
        case "-":
            return (1.0, -number) if first else (-1.0, number)
        case "*":
            return number, 0.0
    return 1 / number, 0.0


def _hint(value: v.Value) -> str | None:
    """Hint for an operand that is a layer."""
    if isinstance(value, v.Identity):
        return "the block's input is `shortcut` in the `out` of a connection, `in` in a block"
    flow_in = "a layer gives a value when an input flows into it: `(in -> ...)`"
    return flow_in if v.is_layer(value) else None


def named(value: v.Value, id: str, env: Env) -> v.Value:
    """Return the value of a name; learnt numbers of a body are the same wherever it is read."""
    if not isinstance(value, v.LearntValue) or env.what not in ("network", "block", "connection"):
        return value
    return value if value.name else replace(value, name=id, scope=env.scope)
