"""Lowering: a network of a checked program is expanded to nodes.

The graph is the program as written: sums have all their operands, a static image is repeated over
time at the input. Passes make it fast; ``verify`` compares it with the spec.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from danetc.compiler.ir.graph import Graph
from danetc.compiler.ir.ops import OPS
from danetc.compiler.lowering.builder import MAX_STEPS
from danetc.compiler.lowering.environment import CONSTANTS, LAYER_SETTINGS, Env, Want
from danetc.compiler.lowering.evaluator import Shared
from danetc.compiler.lowering.trace import Trace
from danetc.compiler.lowering.values import (
    INVALID,
    ArgumentOrigin,
    Backbone,
    BlockConv,
    Bound,
    Choice,
    Failed,
    Identity,
    Inputs,
    Invalid,
    Layer,
    Named,
    OpLayer,
    Outputs,
    Sequence,
    SharedLayer,
    Value,
    Wire,
    describe,
    placed,
)
from danetc.compiler.lowering.variants import SETTINGS, Level, Variants, is_parameter
from danetc.dsl.diagnostics.diagnostic import Label, Reporter
from danetc.dsl.diagnostics.fixes import add
from danetc.dsl.modules import Module
from danetc.dsl.record import record
from danetc.dsl.syntax import tree as s
from danetc.dsl.syntax.source import Span

TOO_NESTED = "what this is made of is nested too deeply"
FLATTEN = "put fewer definitions, blocks and parentheses into each other"
EVALUATION = 4  # steps of work for an expression, besides those of its parts


@record(slots=False)
class Lowered:
    """Graph of a network, and what the graph does not record of its text, by node.

    ``used`` are the places in the user's text of nodes that were written in the library, ``stands``
    those of `spike` and `norm`. ``resets`` are arguments of the network's neuron that a layer which
    names that neuron leaves at their defaults. ``says`` are the places of the values of settings,
    ``asked`` the settings (neuron, norm, surrogate) that a layer read. ``outside`` are the names
    that settings from outside of the file read.
    """

    graph: Graph
    used: Mapping[int, Span]
    stands: Mapping[int, Span]
    resets: Mapping[int, tuple[ArgumentOrigin, ...]]
    says: Mapping[str, Span]
    asked: frozenset[str]
    outside: frozenset[str]


class Lowering(Variants):
    """Lowers one network."""

    def evaluate(self, expr: s.Expr, env: Env, want: Want = "any") -> Value:
        self.work.spend(EVALUATION, expr.span)
        value: Value
        match expr:
            case s.Number():
                return self.bounded(expr.value, expr.span)
            case s.String(text):
                return text
            case s.Word(id):
                return Choice(id)
            case s.Name(id):
                value = self.meaning(id, env, expr.span, want)
            case s.Call():
                value = self.call_value(expr, env, want)
            case s.Flow():
                value = self.flow_value(expr, env)
            case s.Binary() | s.Unary():
                value = self.operate(expr, env, "number" if want == "number" else "any")
            case s.IfElse(then, condition, otherwise):
                chosen = then if self.condition(condition, env) else otherwise
                value = self.evaluate(chosen, env, want)
            case s.At():
                value = self.part_of(expr, env)
            case s.Via() | s.By():
                value = self.wire_stages(expr, env)
            case s.With():
                value = self.change_settings(expr, env)
            case _:
                raise self.error("E0405", "this cannot be used here", expr.span)
        if self.trace is not None and isinstance(value, Wire):
            self.trace.note(expr.span, value.id)
        return value

    def apply(self, layer: Layer, wire: Wire | Invalid, span: Span) -> Wire | Invalid:
        if isinstance(wire, Invalid):
            return INVALID
        self.count_layer(span)
        made: Wire | Invalid = wire
        match layer:
            case Identity():
                pass
            case Sequence(steps):
                for step in steps:
                    made = self.apply(step, made, span)
            case Named(name, inner):
                with self.within(self.fresh(name)):
                    made = self.apply(inner, wire, span)
            case SharedLayer():
                made = self.apply_shared(layer, wire, span)
            case OpLayer():
                made = self.apply_operation(layer, wire)
            case BlockConv(changes):
                made = self.apply_operation(self.block_layers[-1].having(**changes), wire)
            case Backbone():
                made = self.apply_backbone(layer, wire)
            case Bound(kind="neuron"):
                made = self.apply_neuron(layer, wire)
            case Bound(kind="block"):
                made = self.apply_block(layer, wire)
            case _:
                raise self.error("E0401", f"{describe(layer)} is not a layer", span)
        if self.trace is not None and isinstance(made, Wire):
            self.trace.note(placed(layer), made.id, wire.id)
            if isinstance(layer, BlockConv):  # and in the block, where the layer is written
                self.trace.note(self.block_layers[-1].span, made.id, wire.id)
        return made

    def build(self, chain: list[Level], declaration: s.Declaration) -> Graph | None:
        """Lower a network; ``chain`` are itself and its bases."""
        env = chain[0].env
        name, span = declaration.name, declaration.name_span
        env.used.update(("in", "input", "steps", *LAYER_SETTINGS))
        if "steps" in env.definitions:
            steps = env.definitions["steps"]
            self.steps = self.whole(steps.value, steps.env, "steps", 1, MAX_STEPS)
        for setting in LAYER_SETTINGS:
            if setting in env.definitions:
                definition = env.definitions[setting]
                try:
                    value = self.defined(setting, env, definition.span)
                    value = self.check_setting(setting, value, definition.value.span)
                except Failed:
                    value = INVALID
                self.settings[setting] = value
            elif setting == "norm":
                self.settings[setting] = OpLayer("batchnorm", {}, span, "norm")
        self.settings["steps"] = self.steps
        self.report_unused(env, declaration, SETTINGS)
        if "input" not in env.definitions:
            if "input" in self.misspelt:
                raise Failed
            message = f"network `{name}` does not define its input"
            hint = add(declaration, "input = image(3, 224, 224)")
            raise self.error("E0404", message, span, hint=hint)
        source = env.cache["input"] = self._input_of(env)
        if isinstance(source, Inputs):
            self._name_inputs(chain, source)
        else:
            for level in chain:
                level.env.values["in"] = source
        outputs = self._outputs_of(env, name, span, source)
        ids = {key: wire.id for key, wire in outputs.items() if isinstance(wire, Wire)}
        if len(ids) < len(outputs):
            return None
        stem = self.stages[0].entry if self.stages else next(iter(self.nodes))
        return self.finish(name, ids, tuple(self.stages), stem)

    def _input_of(self, env: Env) -> Wire | Inputs | Invalid:
        """Evaluate ``input``."""
        definition = env.definitions["input"]
        try:
            self.scope = ()
            value = self.evaluate(definition.value, definition.env)
        except Failed:
            return INVALID
        if not isinstance(value, (Wire, Inputs, Invalid)):
            message = f"`input` is {describe(value)}, not an image or events"
            hint = "write `image(C, H, W)` or `events(C, H, W)`, and encoders after `->`"
            self.error("E0502", message, definition.value.span, hint=hint)
            return INVALID
        return value

    def _name_inputs(self, chain: list[Level], source: Inputs) -> None:
        """Make each of several inputs a value by its name, in place of `in`."""
        env = chain[0].env
        hint = (
            f"the network has several inputs: name one, as in `{next(iter(source.wires))} -> ...`"
        )
        for level in chain:
            level.env.elsewhere = {**level.env.elsewhere, "in": hint, "input": hint}
        for name, wire in source.wires.items():
            known = (*env.values, *env.definitions, *SETTINGS, *CONSTANTS)
            if name in known or name in ("in", "spike", "identity", "none"):
                at = env.definitions[name].span if name in env.definitions else None
                raise self.error(
                    "E0212",
                    f"an input of the network has a name that means something else: `{name}`",
                    source.places[name],
                    labels=(Label(at, f"`{name}` is defined here"),) if at is not None else (),
                    hint="call the input something else",
                )
            for level in chain:
                level.env.values[name] = wire

    def _outputs_of(
        self, env: Env, name: str, span: Span, source: Wire | Inputs | Invalid
    ) -> Mapping[str, Wire | Invalid]:
        """Return the outputs by name: ``out``, or what stem, stages and head make of the input."""
        parts = ("stem", "stages", "head")
        if "out" in env.definitions:
            out = env.definitions["out"]
            try:
                value = self.defined("out", env, out.span)
            except Failed:
                return {"out": INVALID}
            if isinstance(value, Outputs):
                return value.wires
            if not isinstance(value, (Wire, Invalid)):
                message = f"`out` is {describe(value)}, not a value"
                hint = "a value starts at `in`: `out = in -> stem -> stages -> head`"
                raise self.error("E0402", message, out.value.span, hint=hint)
            return {"out": value}
        if not any(part in env.definitions for part in parts):
            if self.misspelt & {*parts, "out"}:
                raise Failed
            message = f"network `{name}` does not define what it computes"
            hint = "add `stem`, `stages` and `head`, or `out = in -> ...`"
            raise self.error("E0404", message, span, hint=hint)
        if isinstance(source, Inputs):
            message = f"network `{name}` has several inputs and does not say what becomes of them"
            hint = f"add `out = ...`, made of `{'`, `'.join(source.wires)}`"
            raise self.error("E0404", message, span, hint=hint)
        wire = source
        for part in parts:
            if part in self.misspelt:
                wire = INVALID
            if part not in env.definitions:
                continue
            place = env.definitions[part].value.span
            try:
                layer = self.defined_layer(part, env, env.definitions[part].span)
                wire = self.apply(Named(part, layer, place), wire, place)
            except Failed:
                wire = INVALID
        return {"out": wire}


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
    Return None if errors were reported.
    """
    lowering = Lowering(reporter, shared, traced is not None)
    if traced is not None and lowering.trace is not None:
        traced(lowering.trace)
    lowering.complete_names = module.complete
    lowering.network = declaration
    before = reporter.met
    try:
        chain = lowering.levels(declaration, module, settings)
        env = chain[0].env
        parameters = {param.name for level in chain for param in level.declaration.params}
        for name in sorted(settings, key=lambda name: "." in name):  # arguments of settings last
            if not is_parameter(name, chain):
                lowering.override(name, settings[name], env, parameters)
        graph = lowering.build(chain, declaration)
    except Failed:
        return None
    except RecursionError:
        lowering.error("E0902", TOO_NESTED, declaration.name_span, hint=FLATTEN)
        return None
    if graph is None or reporter.met != before:
        return None
    if reporter.met and any(
        OPS[node.op].carries and node.id not in graph.carries for node in graph.nodes.values()
    ):
        return None  # an unfinished loop, by a name that an earlier error explains
    says = {id: env.definitions[id].value.span for id in SETTINGS if id in env.definitions}
    nodes = (node for value in settings.values() for node in s.walk(value))
    outside = frozenset(node.id for node in nodes if isinstance(node, s.Name))
    asked = frozenset(lowering.asked)
    return Lowered(graph, lowering.used, lowering.stands, lowering.resets, says, asked, outside)
