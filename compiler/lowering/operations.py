"""Operations that are called: their attributes, checked against the parameters of their row."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType

from danetc.compiler.ir.graph import Attribute
from danetc.compiler.ir.ops import OPS, REQUIRED, Parameter
from danetc.compiler.ir.ops.scheduled import scheduled
from danetc.compiler.lowering.arguments import flows_in
from danetc.compiler.lowering.environment import SPECIAL, Env, rounded
from danetc.compiler.lowering.operators import Arithmetic
from danetc.compiler.lowering.values import (
    INVALID,
    Choice,
    Drawn,
    Failed,
    Invalid,
    LearntValue,
    OpLayer,
    Value,
    Wire,
    describe,
    is_layer,
)
from danetc.dsl.diagnostics.diagnostic import did_you_mean
from danetc.dsl.first_weights import FIRST_WEIGHTS, MODES
from danetc.dsl.neuron.learn import Learn
from danetc.dsl.syntax import tree as s
from danetc.dsl.syntax.source import Span

_WANTED = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "",  # one of the parameter's words
    tuple: "a value",
}
"""Types of parameters in the words of an error."""


class OperationCalls(Arithmetic):
    """Calls of operations."""

    def operation(self, id: str, args: tuple[s.Arg, ...], env: Env, span: Span) -> OpLayer:
        """Return an operation of the table as a layer, with the arguments of a call."""
        if OPS[id].arguments:
            shown = ", ".join(OPS[id].arguments[: OPS[id].operands[0]])
            message = f"`{id}` is a function of values, and no layer"
            raise self.error("E0405", message, span, hint=f"write `{id}({shown})`")
        if OPS[id].bare and not args:
            return OpLayer(OPS[id].bare, {}, span, id)
        return OpLayer(id, self.attributes(id, args, env, span), span, OPS[id].role)

    def attributes(
        self, id: str, args: tuple[s.Arg, ...], env: Env, span: Span, *, partial: bool = False
    ) -> dict[str, Attribute]:
        """Return the attributes of an operation; with ``partial`` only those that are given."""
        names = [parameter.name for parameter in OPS[id].parameters]
        places = sum(not parameter.sugar for parameter in OPS[id].parameters)
        given = self.assign(args, names, f"`{id}`", span, id, unnamed=places)
        return self._attributes(id, given, args, env, span, partial)

    def _attributes(
        self,
        id: str,
        given: Mapping[str, s.Arg],
        args: tuple[s.Arg, ...],
        env: Env,
        span: Span,
        partial: bool = False,
    ) -> dict[str, Attribute]:
        """Return the attributes of an operation by the arguments of its parameters."""
        attrs: dict[str, Attribute] = {}
        for parameter in OPS[id].parameters:
            name = parameter.name
            if name in given:
                attrs[name] = self._attribute(id, parameter, given[name], args, env, span)
            elif partial or parameter.shape_of:
                continue
            elif parameter.default is not REQUIRED:
                attrs[name] = parameter.default
            elif parameter.unless in given:
                attrs[name] = None
            else:
                shown = (
                    f"{name} = {parameter.words[0]}" if parameter.type is str else f"{name}, ..."
                )
                hint = f"write `{id}({shown})`"
                raise self.error("E0307", f"`{id}` needs `{name}`", span, hint=hint)
        return attrs

    def _attribute(
        self,
        id: str,
        parameter: Parameter,
        arg: s.Arg,
        args: tuple[s.Arg, ...],
        env: Env,
        span: Span,
    ) -> Attribute:
        """Return the attribute of an argument, checked against its parameter."""
        name = parameter.name
        if parameter.shape_of:
            value = self.valid(arg.value, env)
            if isinstance(value, Wire):
                return "x".join(map(str, self.value(value).shape))
            message = f"`{name}` of `{id}` must be a value, not {describe(value)}"
            raise self.reject("E0304", message, arg.value, env)
        is_map = parameter.type is tuple
        value = self.evaluate(
            arg.value, env, name if parameter.words else "any" if is_map else "number"
        )
        is_value = not is_map and (isinstance(value, Wire) or is_layer(value))
        hint = flows_in(arg, args, span, is_value=is_value)
        if parameter.type is str and isinstance(value, Wire):
            layer = f"{id}({name} = {parameter.words[0]})"
            hint = f"a value flows into a layer, `a -> {layer}`; values are joined by `a + b`"
        return self._checked(parameter, value, arg.value, env, id, hint)

    def product_of(self, id: str, call: s.Call, env: Env) -> Wire | Invalid:
        """Apply an operation that is a function of values: its operands, then its parameters."""
        row, span = OPS[id], call.span
        given = self.assign(call.args, [*row.names], f"`{id}`", span, id)
        wires: list[Wire | Invalid] = []
        for place, name in enumerate(row.arguments):
            if name in given:
                wires.append(self.operand(given[name], env, f"`{name}` of `{id}` is a value"))
            elif place < row.operands[0]:
                shown = ", ".join(row.arguments[: row.operands[0]])
                hint = f"write `{id}({shown})`"
                raise self.error("E0307", f"`{id}` needs `{name}`", span, hint=hint)
        attrs: Mapping[str, Attribute] = self._attributes(id, given, call.args, env, span)
        if any(isinstance(wire, Invalid) for wire in wires):
            return INVALID
        way = row.regrouped
        if way is not None and way.asked(attrs):
            first, *others = wires
            assert isinstance(first, Wire)
            made = self.nodes[first.id]
            if made.op != way.before:
                raise self.error(
                    "E0505",
                    f"`{id}` can be computed in this order for the result of `{way.before}` alone, "
                    f"not of `{made.path}`",
                    span,
                    hint="leave `order` out, or what stands between",
                )
            attrs = way.attrs(made.attrs, attrs)
            return self.add(way.into, (*map(Wire, made.inputs), *others), attrs, span)
        return self.add(id, tuple(wires), attrs, span)

    def operand(self, arg: s.Arg, env: Env, needs: str) -> Wire | Invalid:
        """Evaluate an argument that must be a value of the network (E0402)."""
        value = self.evaluate(arg.value, env)
        if not isinstance(value, (Wire, Invalid)):
            hint = "a value starts at `in` or at the name of one"
            message = f"{needs}, not {describe(value)}"
            raise self.reject("E0402", message, arg.value, env, hint)
        return value

    def _checked(
        self,
        parameter: Parameter,
        value: Value,
        expr: s.Expr,
        env: Env,
        what: str,
        hint: str | None,
    ) -> Attribute:
        """Check an argument against the type, the bounds and the words of its parameter."""
        if isinstance(value, Invalid):
            raise Failed
        words = parameter.words
        if isinstance(value, Choice) and value.id in words:
            return self.drawn(value.id, expr.span).text if value.id in FIRST_WEIGHTS else value.id
        if isinstance(value, Drawn) and value.id in words:
            return value.text
        start = _start_of(value) if parameter.schedule else None
        value = value if start is None else start
        if parameter.type is tuple and isinstance(value, Wire):
            shape: tuple[int, ...] = self.value(value).shape
            if len(shape) == 3:
                return shape  # type: ignore[return-value]  # sugar, of which numbers are left
            message = f"`{parameter.name}` of `{what}` must be a map, not a vector of {shape[0]}"
            raise self.reject("E0304", message, expr, env)
        whole = parameter.type is int and isinstance(value, float) and value.is_integer()
        if whole or (parameter.type is float and type(value) is int):
            value = parameter.type(value)
        wanted = _WANTED[parameter.type]
        if type(value) is not parameter.type or not isinstance(value, (bool, int, float)):
            code, shown = "E0304", describe(value)
            if isinstance(value, float):
                shown, hint = f"{value:g}", rounded(expr)
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
        message = f"`{parameter.name}` of `{what}` must be {wanted}, not {shown}"
        raise self.reject(code, message, expr, env, hint)

    def drawn(
        self,
        id: str,
        span: Span,
        given: Mapping[str, s.Arg] = MappingProxyType({}),
        env: Env | None = None,
    ) -> Drawn:
        """Return the initial weights of a row's name and arguments."""
        row = FIRST_WEIGHTS[id]
        numbers: dict[str, float | str] = {}
        for name, default in row.arguments.items():
            what = f"`{name}` of `{id}`"
            if name not in given or env is None:
                if default is None:
                    hint = f"write `{SPECIAL[id].usage}`"
                    raise self.error("E0307", f"`{id}` needs `{name}`", span, hint=hint)
                numbers[name] = default
            elif isinstance(default, str):
                value = self.evaluate(given[name].value, env, name)
                if not (isinstance(value, Choice) and value.id in MODES):
                    wanted = f"one of `{'`, `'.join(MODES)}`"
                    message = f"{what} must be {wanted}, not {describe(value)}"
                    raise self.error("E0304", message, given[name].span)
                numbers[name] = value.id
            else:
                numbers[name] = float(self.number(given[name].value, env, what))
        return Drawn(id, row.text(numbers))


def _start_of(value: Value) -> float | None:
    """Return the number at which a scheduled one starts."""
    learn = value.learn if isinstance(value, LearntValue) and value.is_plain else value
    return learn.init if isinstance(learn, Learn) and not learn.trained else None
