"""Operations and neurons as layers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from itertools import islice

from danetc.compiler.ir.graph import Attribute
from danetc.compiler.ir.ops import OPS, OpError, text
from danetc.compiler.ir.ops.forms import START
from danetc.compiler.ir.ops.unknown import is_known
from danetc.compiler.lowering.axes import join
from danetc.compiler.lowering.declared import complete, follow_alias, numbers_in
from danetc.compiler.lowering.environment import Env
from danetc.compiler.lowering.names import setting_of
from danetc.compiler.lowering.state import Lowering
from danetc.compiler.lowering.values import (
    INVALID,
    Bound,
    Drawn,
    Failed,
    Given,
    Invalid,
    Layer,
    Named,
    Number,
    OpLayer,
    Sequence,
    Value,
    Wire,
    describe,
)
from danetc.dsl.diagnostics.diagnostic import Reporter
from danetc.dsl.loading import is_library
from danetc.dsl.neuron.equations import compile_neuron
from danetc.dsl.neuron.learn import Learn
from danetc.dsl.neuron.program import NeuronProgram, Wired
from danetc.dsl.syntax.source import Span

MAX_LAYERS = 10_000
COMPILATION = 600  # steps of work that a neuron takes, beside those of its operations


def apply_operation(lowering: Lowering, layer: OpLayer, wire: Wire | Invalid) -> Wire | Invalid:
    """An operation as a layer, or the one that it stands for."""
    if isinstance(wire, Invalid):
        return INVALID
    row = OPS[layer.op]
    if row.random and row.same(layer.attrs):
        return wire
    at = layer.at
    start = lowering.settings.get("init")
    if isinstance(start, Drawn) and START in row.parameters and layer.attrs.get("init") is None:
        layer = layer.having(init=start.text)
    if row.stands_for is not None:
        try:
            op, attrs = row.stands_for(layer.attrs, lambda: _threshold(lowering, layer.span))
        except OpError as error:
            raise _cannot(lowering, error, layer) from None
        layer = OpLayer(op, dict(attrs), layer.span, layer.role)
    if row.chosen is not None:
        first = _chosen(lowering, layer, wire)
        for step in first[:-1]:
            made = lowering.builder.add(step.op, (wire,), step.attrs, step.span, step.role)
            if isinstance(made, Invalid):
                return INVALID
            wire = made
        layer = first[-1]
    if OPS[layer.op].flattens and len(lowering.builder.value(wire).shape) == 3:
        wire = lowering.builder.add("flatten", (wire,), {}, layer.span)
    if OPS[layer.op].takes_steps:
        wire = lowering.at_each_step(wire, layer.span)
    said = {item.name for item in OPS[layer.op].parameters if item.shape_of}
    attrs = {name: value for name, value in layer.attrs.items() if name not in said}
    made = lowering.builder.add(
        layer.op, (wire,), attrs if said else layer.attrs, layer.span, layer.role
    )
    for name in said & layer.attrs.keys():
        if isinstance(made, Wire):
            _check_shape(lowering, layer, name, made)
    lowering.note_place(made, at)
    return made


def _chosen(lowering: Lowering, layer: OpLayer, wire: Wire) -> list[OpLayer]:
    """The operations that a layer is on its operand."""
    row = OPS[layer.op]
    assert row.chosen is not None
    attrs = {**{item.name: item.default for item in row.parameters}, **layer.attrs}
    try:
        steps = row.chosen(attrs, (lowering.builder.value(wire),), lowering.builder.steps)
    except OpError as error:
        raise _cannot(lowering, error, layer) from None
    last = len(steps) - 1
    named = next((i for i, (op, _) in enumerate(steps) if OPS[op].weighted), last)
    return [
        OpLayer(op, dict(attrs), layer.span, layer.role if i == named else OPS[op].role)
        for i, (op, attrs) in enumerate(steps)
    ]


def _cannot(lowering: Lowering, error: OpError, layer: OpLayer) -> Failed:
    return lowering.builder.fail("E0501", error.message, layer.span, hint=error.hint)


def _check_shape(lowering: Lowering, layer: OpLayer, name: str, made: Wire) -> None:
    """A value has the shape that it was said to have."""
    shape = lowering.builder.value(made).shape
    wanted = str(layer.attrs[name]).split("x")
    if list(map(str, shape)) != wanted and is_known(shape):
        lowering.builder.error(
            "E0501",
            f"{layer.op}: `{name}` is {' x '.join(wanted)}, and this is {text(shape)}",
            layer.span,
            hint=f"leave `{name}` out: the shape follows from what flows in",
        )


def _threshold(lowering: Lowering, span: Span) -> float:
    """V_th of the network's neuron, which tdBN scales by."""
    setting = setting_of(lowering, "neuron", span)
    assert isinstance(setting, Bound)  # checked where it is set
    neuron = follow_alias(lowering, setting)
    value = complete(lowering, neuron).values.get("v_threshold")
    if value is None:
        raise lowering.builder.fail(
            "E0404",
            f"tdbn scales by the neuron's threshold, and `{neuron.name}` has no `v_threshold`",
            span,
            hint="give the neuron a parameter `v_threshold`, or choose another norm",
        )
    if isinstance(value, Learn):
        return value.init
    if isinstance(value, Wire):
        message = "tdbn scales by the neuron's threshold, which is a value here"
        raise lowering.builder.fail("E0404", message, span, hint="choose another norm")
    assert isinstance(value, (bool, int, float))  # so are the arguments of a neuron
    return float(value)


def apply_neuron(lowering: Lowering, bound: Bound, wire: Wire) -> Wire | Invalid:
    """A neuron as a layer: its equations are compiled once for each set of arguments."""
    span, at = bound.span, bound.at
    bound = follow_alias(lowering, bound)
    own = complete(lowering, bound)
    others = [value for value in own.values.values() if isinstance(value, Wire)]
    args = {n: Wired.INPUT if isinstance(v, Wire) else v for n, v in own.values.items()}
    setting = lowering.settings.get("surrogate")
    if setting is None and "heaviside" in lowering.names_in(bound.declaration):
        setting_of(lowering, "surrogate", span)
    stand_in = Env(own.module, "surrogate")
    if isinstance(setting, Invalid):
        raise Failed
    surrogate: Bound | None = None
    if setting is not None:
        assert isinstance(setting, Bound)  # checked where it is set
        surrogate = follow_alias(lowering, setting)
        stand_in = complete(lowering, surrogate)
    surrogate_args = stand_in.values
    key = (
        id(bound.declaration),
        tuple(sorted(args.items(), key=lambda item: item[0])),
        id(surrogate.declaration) if surrogate is not None else None,
        tuple(sorted(surrogate_args.items())),
    )
    if key not in lowering.programs:
        programs = lowering.shared.programs
        if key not in programs:
            programs[key] = _compiled(lowering, bound, own, args, surrogate, stand_in, span)
        lowering.programs[key] = lowering.builder.neuron_key(programs[key])
    attrs: dict[str, Attribute] = {"neuron": lowering.programs[key]}
    taken: Wire | Invalid = wire
    if others:
        taken = join(lowering, "beside", (wire, *others), span)
        attrs["inputs"] = 1 + len(others)
    made = lowering.builder.add("neuron", (taken,), attrs, span, "spike")
    lowering.note_place(made, at)
    if at is None and isinstance(made, Wire) and (reset := _reset_settings(lowering, bound, own)):
        lowering.resets[made.id] = reset
    return made


def _compiled(
    lowering: Lowering,
    bound: Bound,
    own: Env,
    args: Mapping[str, Value | Wired],
    surrogate: Bound | None,
    stand_in: Env,
    span: Span,
) -> NeuronProgram:
    """The program of a neuron with parameters ``args``; ``own`` says where they were written,
    ``stand_in`` has those of its surrogate."""
    numbers: dict[str, Number | Learn | Wired] = {}
    for name, value in args.items():
        if not isinstance(value, (bool, int, float, Learn, Wired)):
            raise lowering.builder.fail(
                "E0304",
                f"`{name}` of neuron `{bound.name}` must be a number, not {describe(value)}",
                own.given[name].span if name in own.given else span,
            )
        numbers[name] = value
    found = Reporter()
    lowering.work.spend(COMPILATION, span)
    program = compile_neuron(
        bound.declaration,
        numbers,
        surrogate.declaration if surrogate is not None else None,
        numbers_in(stand_in.values),
        found,
        argument_spans=_places(lowering, own),
        surrogate_spans=_places(lowering, stand_in),
    )
    with lowering.builder.site(span):
        lowering.builder.report(found.diagnostics)
    if program is None:
        raise Failed
    return program


def _reset_settings(lowering: Lowering, bound: Bound, own: Env) -> tuple[Given, ...]:
    """What the network's neuron says otherwise, where a layer names that neuron and not `spike`."""
    network = lowering.settings.get("neuron")
    if not isinstance(network, Bound):
        return ()
    network = follow_alias(lowering, network)
    if network.declaration is not bound.declaration:
        return ()
    return tuple(
        network.given[name]
        for name, value in network.args.items()
        if name not in bound.args and value != own.values[name] and name in network.given
    )


def _places(lowering: Lowering, env: Env) -> dict[str, Span]:
    """Where the user wrote the arguments of a neuron or surrogate."""
    places = {name: given.span for name, given in env.given.items()}
    return {name: span for name, span in places.items() if not is_library(span.source)}


def flat_layers(lowering: Lowering, layer: Layer, span: Span) -> list[Layer]:
    """The layers of a flow, those inside of names and parentheses too."""
    layers = list(islice(_flatten(layer), MAX_LAYERS + 1))
    if len(layers) > MAX_LAYERS:
        raise lowering.builder.fail("E0903", f"a flow of more than {MAX_LAYERS:,} layers", span)
    return layers


def _flatten(layer: Layer) -> Iterator[Layer]:
    match layer:
        case Sequence(steps):
            for step in steps:
                yield from _flatten(step)
        case Named(_, inner):
            yield from _flatten(inner)
        case _:
            yield layer


def operations(layer: Layer) -> list[str]:
    """The operations that a layer of ``out`` puts after the join, those left out that do nothing."""
    result: list[str] = []
    for part in _flatten(layer):
        match part:
            case OpLayer(op=op, attrs=attrs):
                stands_for = OPS[op].stands_for
                with suppress(OpError):  # which is reported where the layer is applied
                    if stands_for is not None:
                        op, attrs = stands_for(attrs, lambda: 1.0)
                result += [] if OPS[op].same(attrs) else [op]
            case Bound(kind="neuron"):
                result.append("neuron")
            case Bound(name=name):
                result.append(f"block {name}")
            case _:
                pass
    return result
