"""Lowering of a network to a graph of operations.

The graph is the program as written: sums have all their operands, a static image is repeated over
time at the input. Passes make it fast; ``verify`` compares it with the spec.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace

from danetc.compiler.ir.graph import Graph
from danetc.compiler.ir.ops import OPS
from danetc.compiler.ir.ops.row import Parameter
from danetc.compiler.lowering import values as v
from danetc.compiler.lowering.builder import MAX_SCOPES, MAX_STEPS, Trace
from danetc.compiler.lowering.environment import (
    CONSTANTS,
    LAYER_SETTINGS,
    SPECIAL,
    Definition,
    Env,
    Want,
)
from danetc.compiler.lowering.evaluator import Shared
from danetc.compiler.lowering.stages import Stages
from danetc.dsl.diagnostics.diagnostic import Label, Reporter, did_you_mean
from danetc.dsl.diagnostics.fixes import add
from danetc.dsl.diagnostics.habits import answer
from danetc.dsl.loading import Module, Resolved
from danetc.dsl.record import record
from danetc.dsl.syntax import tree as s
from danetc.dsl.syntax.overrides import with_argument
from danetc.dsl.syntax.source import Span

SETTINGS = ("input", "steps", *LAYER_SETTINGS, "stem", "stages", "head", "out")


Level = tuple[s.Declaration, Env]
"""A network, or one that it is a variant of, and the environment of its parameters."""
TOO_NESTED = "this definition is nested too deeply"
FLATTEN = "reduce the nesting of definitions, blocks and parentheses"
EVALUATION, LAYER = 4, 2
"""Steps of work for an expression, besides those of its parts, and for applying a layer."""


@record(slots=False)
class Lowered:
    """Graph of a network, and facts about its text that the graph does not contain.

    By node: ``used`` has the user's spans for nodes of library code, ``written_at`` the spans of
    `spike` and `norm`, ``resets`` the arguments of the network's neuron that a layer naming that
    neuron leaves at their defaults. ``says`` maps settings to the spans of their values,
    ``settings_read`` contains the settings (neuron, norm, surrogate) that a layer reads, and
    ``outside`` the names that settings from outside of the file read.
    """

    graph: Graph
    used: Mapping[int, Span]
    written_at: Mapping[int, Span]
    resets: Mapping[int, tuple[v.ArgumentOrigin, ...]]
    says: Mapping[str, Span]
    settings_read: frozenset[str]
    outside: frozenset[str]


class Lowering(Stages):
    """Lowering of networks and their variants."""

    def levels(
        self, declaration: s.Declaration, module: Module, settings: Mapping[str, s.Expr]
    ) -> list[Level]:
        """Return a network and its bases, outermost first, with shared definitions and parameters.

        ``settings`` set the outermost parameter of each name, and those of its bases unless a variant
        passes them. A variant's line goes before a parameter of its base, and a variant's arguments
        for its base are made of the variant's own parameters.
        """
        closed: dict[str, str] = {}
        outside = Env(module, "--set", elsewhere=closed)
        replaced: set[str] = set()
        owned: set[str] = set()
        elsewhere: dict[str, str] = {}
        shared = Env(module, "network", elsewhere=elsewhere)
        result: list[Level] = []
        bound = v.Bound(declaration, module, {}, declaration.name_span)
        while True:
            name, place = declaration.name, declaration.name_span
            if any(known is declaration for known, _ in result):
                message = f"network `{name}` is a variant of itself"
                hint = "the base of a variant must be a network with a body: `network NAME { ... }`"
                raise self.error("E0211", message, place, hint=hint)
            params = [param.name for param in declaration.params]
            self.work.spend(4 * len(params))
            for param in params:
                closed[param] = "a parameter that is set from outside cannot read another"
            given = {
                param: self.evaluate(settings[param], outside)
                for param in params
                if param in settings
                and param not in replaced
                and (param not in owned or param not in bound.args)
            }
            level = self.complete(replace(bound, args={**bound.args, **given}))
            env = replace(
                shared, module=module, values=level.values, given=level.given, places=level.places
            )
            for param in params:
                own = f"network NAME({param} = ...) = {name}({param}) {{ ... }}"
                message = f"`{param}` is a parameter of `{name}`; a variant reads its own: `{own}`"
                elsewhere.setdefault(param, message)
            result.append((declaration, env))
            self.define(declaration, env)
            replaced.update(_names(declaration) - set(params))
            owned.update(params)
            value = declaration.value
            if value is None:
                return result
            base = self._base(declaration, value, module)
            bound = v.Bound(base.declaration, base.module, {}, value.span)
            if isinstance(value, s.Call):
                bound = self.bind(bound, value, env)
            declaration, module = base.declaration, base.module

    def _base(self, declaration: s.Declaration, value: s.Expr, module: Module) -> Resolved:
        """Return the network that another is a variant of."""
        name = s.called(value)
        resolved = module.network(name.id) if name is not None else None
        if resolved is not None and resolved.declaration.kind == "network":
            return resolved
        what = "something else"
        if name is not None:
            id = name.id
            if resolved is None and id not in SPECIAL and not (id in OPS and OPS[id].public):
                raise self.unknown(id, Env(module, "network"), name.span, "network")
            what = f"the {resolved.declaration.kind if resolved else 'layer'} `{id}`"
        raise self.error(
            "E0403",
            f"network `{declaration.name}` must be a variant of a network, not of {what}",
            value.span,
            hint="write its settings in braces: `network NAME { ... }`",
        )

    def override(self, path: str, value: s.Expr, env: Env, parameters: Collection[str]) -> None:
        """Set a definition from outside, as its line in the body of the network would (E0309).

        ``env`` is that of the requested network: an expression reads its parameters and definitions,
        those of its bases by the rules of variants. The value of an argument, as of ``neuron.tau``,
        is read where the call is written.
        """
        known = {*SETTINGS, *env.definitions}
        name, dot, argument = path.partition(".")
        place = Span(value.span.source, 0, len(path))
        if name not in known and not (argument and name in parameters):
            near = [f"{each}{dot}{argument}" for each in (*parameters, *known)]
            hint = answer("setting", path) or did_you_mean(path, near)
            hint = hint or f"it has {', '.join(sorted({*parameters, *env.definitions}))}"
            message = f"the network has no parameter and no setting `{path}`"
            raise self.error("E0309", message, place, hint=hint)
        if not argument:
            env.definitions[name] = Definition(value, env, value.span)
            return
        written = env.definitions.get(name)
        changed = None
        if written is not None:
            changed = argument_set(written.value, argument, value, written.env.module)
        if written is None or changed is None:
            message = f"`{name}` has no arguments, so there is no argument `{argument}`"
            hint = f"set `{name}` as a whole: --set {name}=..."
            raise self.error("E0309", message, place, hint=hint)
        env.definitions[name] = replace(written, value=changed)

    # -- networks -------------------------------------------------------------------------------------

    def evaluate(self, expr: s.Expr, env: Env, want: Want = "any") -> v.Value:
        self.work.spend(EVALUATION, expr.span)
        value: v.Value
        match expr:
            case s.Number():
                return self.bounded(expr.value, expr.span)
            case s.String(text):
                return text
            case s.Word(id):
                return self.initial(id, env, expr.span) if want == "init" else expr
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
        if isinstance(value, v.Wire):
            self.note(expr.span, value.id)
        return value

    def apply(self, layer: v.Layer, wire: v.Wire, span: Span) -> v.Wire:
        self.work.spend(LAYER, span)
        if len(self.scope) > MAX_SCOPES:
            message = f"layers are nested more than {MAX_SCOPES} deep"
            hint = "define parts beside each other, and repeat blocks with a stage"
            raise self.error("E0902", message, span, hint=hint)
        made = wire
        match layer:
            case v.Identity():
                pass
            case v.Sequence(steps):
                for step in steps:
                    made = self.apply(step, made, span)
            case v.Named(name, inner):
                with self.within(self.fresh(name)):
                    made = self.apply(inner, wire, span)
            case v.SharedLayer():
                made = self.apply_shared(layer, wire, span)
            case v.OpLayer():
                made = self.apply_operation(layer, wire)
            case v.BlockConv(changes):
                assert self.block_layer is not None
                made = self.apply_operation(self.block_layer.having(**changes), wire)
            case v.Backbone():
                made = self.apply_backbone(layer, wire)
            case v.Bound(kind="neuron"):
                made = self.apply_neuron(layer, wire)
            case v.Bound(kind="block"):
                made = self.apply_block(layer, wire)
            case _:
                raise self.error("E0401", f"{v.describe(layer)} is not a layer", span)
        at = layer.at if isinstance(layer, (v.Bound, v.OpLayer)) else None  # of spike or norm
        self.note(at or layer.span, made.id, wire.id)
        if isinstance(layer, v.BlockConv) and self.block_layer is not None:
            self.note(self.block_layer.span, made.id, wire.id)  # where it is written
        return made

    def build(self, chain: list[Level], declaration: s.Declaration) -> Graph:
        """Lower a network; ``chain`` are itself and its bases. Raises Failed."""
        _, env = chain[0]
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
                    value = self.check_setting(setting, value, env, definition.value.span)
                except v.Failed as failed:
                    value = failed
                self.settings[setting] = value
            elif setting == "norm":
                self.settings[setting] = v.OpLayer("batchnorm", {}, span, "norm")
        self.settings["steps"] = self.steps
        self.report_unused(env, declaration, SETTINGS)
        if "input" not in env.definitions:
            if "input" in self.misspelt:
                raise v.Failed
            message = f"network `{name}` does not define its input"
            hint = add(declaration, "input = image(3, 224, 224)")
            raise self.error("E0404", message, span, hint=hint)
        definition = env.definitions["input"]
        try:
            source = self.evaluate(definition.value, definition.env)
            if not isinstance(source, (v.Wire, v.Inputs)):
                raise self.no_input("input", source, definition.value.span)
        except v.Failed as failed:
            source = failed
        env.cache["input"] = source
        if isinstance(source, v.Inputs):
            self._name_inputs(chain, source)
        else:
            for _, level in chain:
                level.values["in"] = source
        outputs = self._outputs_of(env, name, span, source)
        if any(self.value(wire).kind.is_token for wire in outputs.values()):
            hint = "give each token a vector of numbers first: `in -> embedding(64)`"
            raise self.error("E0502", f"network `{name}` returns its tokens", span, hint=hint)
        ids = {key: wire.id for key, wire in outputs.items()}
        stem = self.stages[0].entry if self.stages else next(iter(self.nodes))
        return self.finish(name, ids, tuple(self.stages), stem)

    def _name_inputs(self, chain: list[Level], source: v.Inputs) -> None:
        """Make each of several inputs a value by its name, in place of `in`."""
        _, env = chain[0]
        first = next(iter(source.wires))
        hint = f"the network has several inputs: name one, as in `{first} -> ...`"
        for _, level in chain:
            level.elsewhere = {**level.elsewhere, "in": hint, "input": hint}
        for name, wire in source.wires.items():
            known = (*env.values, *env.definitions, *SETTINGS, *CONSTANTS)
            if name in known or name in ("in", "spike", "identity", "none"):
                at = env.definitions[name].span if name in env.definitions else None
                raise self.error(
                    "E0212",
                    f"the name of an input is already defined: `{name}`",
                    source.places[name],
                    labels=(Label(at, f"`{name}` is defined here"),) if at is not None else (),
                    hint="rename the input",
                )
            for _, level in chain:
                level.values[name] = wire

    def _outputs_of(self, env: Env, name: str, span: Span, source: v.Value) -> Mapping[str, v.Wire]:
        """Return the outputs by name: ``out``, or what stem, stages and head make of the input."""
        parts = ("stem", "stages", "head")
        if "out" in env.definitions:
            out = env.definitions["out"]
            value = self.defined("out", env, out.span)
            if isinstance(value, v.Outputs):
                return value.wires
            return {"out": self.wire_of(value, out.value.span)}
        if not any(part in env.definitions for part in parts):
            if self.misspelt & {*parts, "out"}:
                raise v.Failed
            message = f"network `{name}` does not define its layers"
            hint = "add `stem`, `stages` and `head`, or `out = in -> ...`"
            raise self.error("E0404", message, span, hint=hint)
        if isinstance(source, v.Inputs):
            message = f"network `{name}` has several inputs but no `out`"
            hint = f"add `out = ...` that reads `{'`, `'.join(source.wires)}`"
            raise self.error("E0404", message, span, hint=hint)
        wire: v.Wire | None = source if isinstance(source, v.Wire) else None
        for part in parts:
            if part in self.misspelt:
                wire = None
            if part not in env.definitions:
                continue
            place = env.definitions[part].value.span
            try:
                layer = self.defined_layer(part, env, env.definitions[part].span)
                if wire is not None:
                    wire = self.apply(v.Named(part, layer, place), wire, place)
            except v.Failed:
                wire = None
        if wire is None:
            raise v.Failed
        return {"out": wire}


def _names(declaration: s.Declaration) -> set[str]:
    """Return the parameters and the lines of a network."""
    lines = {item.name for item in declaration.body or () if isinstance(item, s.Define)}
    return {*lines, *(param.name for param in declaration.params)}


def argument_set(written: s.Expr, name: str, value: s.Expr, module: Module) -> s.Expr | None:
    """Return ``LIF`` as ``LIF(tau = 3)``; None if the expression is not a name or a call."""
    function = s.called(written)
    if function is None:
        return None
    known = module.names.get(function.id)
    positions: Iterable[s.Param | Parameter] = ()
    if known is not None:
        positions = known.declaration.params
    elif function.id in OPS:
        positions = OPS[function.id].parameters
    place = Span(value.span.source, 0, value.span.end)
    arg = s.Arg(name, value, span=place)
    return with_argument(written, arg, [item.name for item in positions])


def lower(
    declaration: s.Declaration,
    module: Module,
    settings: Mapping[str, s.Expr],
    reporter: Reporter,
    shared: Shared | None = None,
    trace: Trace | None = None,
) -> Lowered | None:
    """Lower a network. ``settings`` change parameters, definitions, and arguments in these.

    ``shared`` is one for the networks of a check, ``trace`` is filled meanwhile.
    Return None if errors were reported.
    """
    lowering = Lowering(reporter, shared, trace)
    lowering.complete_names = module.complete
    lowering.network = declaration
    before = reporter.met
    try:
        chain = lowering.levels(declaration, module, settings)
        _, env = chain[0]
        parameters = {param.name for each, _ in chain for param in each.params}
        for name in sorted(settings, key=lambda name: "." in name):  # arguments of settings last
            owner = next((level for level, _ in chain if name in _names(level)), None)
            if owner is None or all(name != param.name for param in owner.params):
                lowering.override(name, settings[name], env, parameters)
        graph = lowering.build(chain, declaration)
    except v.Failed:
        return None
    except RecursionError:
        lowering.error("E0902", TOO_NESTED, declaration.name_span, hint=FLATTEN)
        return None
    if reporter.met != before:
        return None
    if reporter.met and any(
        OPS[node.op].carries and node.id not in graph.carries for node in graph.nodes.values()
    ):
        return None  # an unfinished loop, by a name that an earlier error explains
    says = {id: env.definitions[id].value.span for id in SETTINGS if id in env.definitions}
    outside = frozenset(name for expr in settings.values() for name in lowering.names_in(expr))
    read = frozenset(lowering.settings_read)
    return Lowered(graph, lowering.used, lowering.written_at, lowering.resets, says, read, outside)
