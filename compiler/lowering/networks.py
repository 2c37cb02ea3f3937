"""Program to graph: a network is expanded to nodes.

What comes out is the program as written: sums have all their operands, a static image is repeated
over time at the input. Passes make it fast; ``verify`` holds it against the spec.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from danetc.compiler.ir.graph import Graph
from danetc.compiler.ir.ops import OPS
from danetc.compiler.lowering.backbones import check_setting
from danetc.compiler.lowering.blocks import report_unused
from danetc.compiler.lowering.builder import MAX_STEPS, Builder
from danetc.compiler.lowering.dispatch import NetworkLowering
from danetc.compiler.lowering.environment import CONSTANTS, LAYER_SETTINGS, Env
from danetc.compiler.lowering.evaluator import Shared
from danetc.compiler.lowering.names import defined, defined_layer
from danetc.compiler.lowering.state import Lowering
from danetc.compiler.lowering.trace import Trace
from danetc.compiler.lowering.values import (
    INVALID,
    Failed,
    Given,
    Inputs,
    Invalid,
    Named,
    OpLayer,
    Outputs,
    Wire,
    describe,
)
from danetc.compiler.lowering.variants import SETTINGS, Level, is_parameter, levels, override
from danetc.dsl.diagnostics.diagnostic import Label, Reporter
from danetc.dsl.diagnostics.fixes import add
from danetc.dsl.modules import Module
from danetc.dsl.record import record
from danetc.dsl.syntax import tree as s
from danetc.dsl.syntax.source import Span

TOO_NESTED = "what this is made of is nested too deeply"
FLATTEN = "put fewer definitions, blocks and parentheses into each other"


def build_network(
    lowering: Lowering, chain: list[Level], declaration: s.Declaration
) -> Graph | None:
    """Lower a network; ``chain`` are itself and its bases."""
    env = chain[0].env
    builder = lowering.builder
    name, span = declaration.name, declaration.name_span
    for setting in LAYER_SETTINGS:
        if setting in env.definitions:
            try:
                value = defined(lowering, setting, env, env.definitions[setting].span)
                lowering.settings[setting] = check_setting(
                    lowering, setting, value, env.definitions[setting].value.span
                )
            except Failed:
                lowering.settings[setting] = INVALID
        elif setting == "norm":
            lowering.settings[setting] = OpLayer("batchnorm", {}, span, "norm")
    env.used.update(("in", "input", "steps", *LAYER_SETTINGS))
    lowering.settings["steps"] = builder.steps
    report_unused(lowering, env, declaration, SETTINGS)
    if "input" not in env.definitions:
        if "input" in lowering.misspelt:
            raise Failed
        raise builder.fail(
            "E0404",
            f"network `{name}` does not define its input",
            span,
            hint=add(declaration, "input = image(3, 224, 224)"),
        )
    source = _input_of(lowering, env)
    if isinstance(source, Inputs):
        _name_inputs(lowering, chain, source)
    else:
        env.cache["input"] = source
        for level in chain:
            level.env.values["in"] = source
    outputs = _outputs_of(lowering, env, name, span, source)
    if any(isinstance(wire, Invalid) for wire in outputs.values()):
        return None
    ids = {key: wire.id for key, wire in outputs.items() if isinstance(wire, Wire)}
    stem = lowering.stages[0].entry if lowering.stages else next(iter(builder.nodes))
    return builder.finish(name, ids, tuple(lowering.stages), stem)


def _input_of(lowering: Lowering, env: Env) -> Wire | Inputs | Invalid:
    """The value of ``input``."""
    definition = env.definitions["input"]
    try:
        lowering.builder.scope = ()
        value = lowering.evaluate(definition.value, definition.env)
    except Failed:
        return INVALID
    if not isinstance(value, (Wire, Inputs, Invalid)):
        lowering.builder.error(
            "E0502",
            f"`input` is {describe(value)}, not an image or events",
            definition.value.span,
            hint="write `image(C, H, W)` or `events(C, H, W)`, and encoders after `->`",
        )
        return INVALID
    return value


def _name_inputs(lowering: Lowering, chain: list[Level], source: Inputs) -> None:
    """Let each of several inputs be a value by its name, in place of `in`."""
    env = chain[0].env
    first = next(iter(source.wires))
    for level in chain:
        level.env.elsewhere = {
            **level.env.elsewhere,
            **dict.fromkeys(
                ("in", "input"), f"the network has several inputs: name one, as in `{first} -> ...`"
            ),
        }
    env.cache["input"] = source
    for name, wire in source.wires.items():
        taken = name in env.values or name in env.definitions or name in SETTINGS
        if taken or name in (*CONSTANTS, "in", "spike", "identity", "none"):
            at = env.definitions[name].span if name in env.definitions else None
            raise lowering.builder.fail(
                "E0212",
                f"an input of the network has a name that means something else: `{name}`",
                source.places[name],
                labels=(Label(at, f"`{name}` is defined here"),) if at is not None else (),
                hint="call the input something else",
            )
        for level in chain:
            level.env.values[name] = wire


def _outputs_of(
    lowering: Lowering, env: Env, name: str, span: Span, source: Wire | Inputs | Invalid
) -> dict[str, Wire | Invalid]:
    """The outputs by name: ``out``, or what stem, stages and head make of the input."""
    builder = lowering.builder
    if "out" in env.definitions:
        try:
            value = defined(lowering, "out", env, env.definitions["out"].span)
        except Failed:
            return {"out": INVALID}
        if isinstance(value, Outputs):
            return dict(value.wires)
        if not isinstance(value, (Wire, Invalid)):
            builder.error(
                "E0402",
                f"`out` is {describe(value)}, not a value",
                env.definitions["out"].value.span,
                hint="a value starts at `in`: `out = in -> stem -> stages -> head`",
            )
            return {"out": INVALID}
        return {"out": value}
    if not env.definitions.keys() & {"stem", "stages", "head"}:
        if lowering.misspelt & {"stem", "stages", "head", "out"}:
            return {"out": INVALID}
        builder.error(
            "E0404",
            f"network `{name}` does not define what it computes",
            span,
            hint="add `stem`, `stages` and `head`, or `out = in -> ...`",
        )
        return {"out": INVALID}
    if isinstance(source, Inputs):
        raise builder.fail(
            "E0404",
            f"network `{name}` has several inputs and does not say what becomes of them",
            span,
            hint=f"add `out = ...`, made of `{'`, `'.join(source.wires)}`",
        )
    wire = source
    for part in ("stem", "stages", "head"):
        if part in lowering.misspelt:
            wire = INVALID
        if part not in env.definitions:
            continue
        definition = env.definitions[part]
        try:
            layer = defined_layer(lowering, part, env, definition.span)
            wire = lowering.apply(
                Named(part, layer, definition.value.span), wire, definition.value.span
            )
        except Failed:
            wire = INVALID
    return {"out": wire}


@record(slots=False)
class Lowered:
    """A network's graph, and what of its text the graph does not hold, by node.

    ``used`` is where the user's text leads to a node that was written in the library, ``stands``
    where `spike` or `norm` stands for the network's. ``resets`` are settings of the network's neuron
    that a layer which names that neuron leaves at their defaults. ``says`` is where the network's
    settings have their values, ``asked`` those of neuron, norm and surrogate that a layer read.
    ``outside`` are the names that settings from outside of the file read.
    """

    graph: Graph
    used: Mapping[int, Span]
    stands: Mapping[int, Span]
    resets: Mapping[int, tuple[Given, ...]]
    says: Mapping[str, Span]
    asked: frozenset[str]
    outside: frozenset[str]


def lower(
    declaration: s.Declaration,
    module: Module,
    settings: Mapping[str, s.Expr],
    reporter: Reporter,
    shared: Shared | None = None,
    traced: Callable[[Trace], None] | None = None,
) -> Lowered | None:
    """Lower a network. ``settings`` change parameters, definitions, and arguments in these.

    ``shared`` is one for the networks of a check. ``traced`` gets a trace that is filled meanwhile.
    Returns None where errors were reported.
    """
    builder = Builder(reporter, 1)
    trace = None if traced is None else Trace(builder.nodes, builder.carries)
    if traced is not None and trace is not None:
        traced(trace)
    lowering = NetworkLowering(builder, shared, trace)
    lowering.complete_names = module.complete
    lowering.network = declaration
    before = reporter.met
    try:
        chain = levels(declaration, module, settings, lowering)
        env = chain[0].env
        parameters = {param.name for level in chain for param in level.declaration.params}
        for name in sorted(settings, key=lambda name: "." in name):  # what they are, then arguments
            if not is_parameter(name, chain):
                override(name, settings[name], env, builder, parameters)
        builder.steps = _steps(env, lowering)
        graph = build_network(lowering, chain, declaration)
    except Failed:
        return None
    except RecursionError:
        builder.error("E0902", TOO_NESTED, declaration.name_span, hint=FLATTEN)
        return None
    if graph is None or reporter.met != before or (reporter.met and _has_open_loops(graph)):
        return None
    says = {id: env.definitions[id].value.span for id in SETTINGS if id in env.definitions}
    nodes = (node for value in settings.values() for node in s.walk(value))
    outside = frozenset(node.id for node in nodes if isinstance(node, s.Name))
    asked = frozenset(lowering.asked)
    return Lowered(graph, builder.used, lowering.stands, lowering.resets, says, asked, outside)


def _has_open_loops(graph: Graph) -> bool:
    """True if a loop over time was left unfinished: by a name that an error reported earlier
    explains, so that nothing was reported of it here."""
    return any(OPS[n.op].carries and n.id not in graph.carries for n in graph.nodes.values())


def _steps(env: Env, lowering: Lowering) -> int:
    """T. A network that does not say has one step."""
    if "steps" not in env.definitions:
        return 1
    env.used.add("steps")
    definition = env.definitions["steps"]
    return lowering.whole(definition.value, definition.env, "steps", 1, MAX_STEPS)
