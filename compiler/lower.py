"""Program to graph: networks, stages, blocks, connections and neurons are expanded to nodes.

What comes out is the program as written: sums have all their operands, a static image is repeated
over time at the input. Passes make it fast; ``verify`` holds it against the spec.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from danetc.compiler.builder import MAX_STEPS, Builder
from danetc.compiler.evaluate import MAX_DEPTH, SPECIAL, Definition, Env, Evaluator
from danetc.compiler.graph import ANALOG, Block, Form, Graph, Stage, Value, count
from danetc.compiler.ops import OPS, text
from danetc.compiler.rules import RuleReader
from danetc.compiler.values import (
    POISON,
    Backbone,
    BlockConv,
    Bound,
    Failed,
    Identity,
    Layer,
    Named,
    OpLayer,
    Outputs,
    Poison,
    Sequence,
    StageOf,
    Wire,
    describe,
    is_layer,
)
from danetc.dsl import syntax as s
from danetc.dsl.diagnostics import Label, Reporter, closest, did_you_mean
from danetc.dsl.equations import Learn, compile_neuron
from danetc.dsl.modules import Module, is_library
from danetc.dsl.source import SourceFile, Span

SETTINGS = (
    "input",
    "steps",
    "neuron",
    "surrogate",
    "norm",
    "stem",
    "stages",
    "head",
    "out",
    "zero_init",
    "recipe",
)
CONNECTION_PARTS = ("each", "last", "projection", "identity", "out")
WEIGHTED = ("conv", "linear")
MAX_LAYERS = 10_000
MAX_REPEATS = 7  # of a block in itself, which may end by a condition
TOO_NESTED = "what this is made of is nested too deeply"
FLATTEN = "put fewer definitions, blocks and parentheses into each other"


@dataclass(frozen=True, slots=True)
class Joined:
    """A block's output, the join in it, and the ops its connection puts after the join."""

    output: Wire | Poison
    join: Wire | Poison
    after: tuple[str, ...]


class Lowering(Evaluator):
    """Lowers one network. Use ``lower``."""

    def __init__(self, builder: Builder) -> None:
        super().__init__(builder)
        self.stages: list[Stage] = []
        self._stage_numbers: dict[tuple[str, ...], int] = {}
        self._programs: dict[object, str] = {}
        self._layers: list[OpLayer] = []  # the weighted layers that `conv` in a connection means
        self._inside: list[s.Declaration] = []  # the blocks that wire themselves, being wired

    # -- layers -----------------------------------------------------------------------------------

    def apply(self, layer: Layer, wire: Wire | Poison, span: Span) -> Wire | Poison:
        """What a layer makes of a value; new nodes stand in the builder's scope."""
        if isinstance(wire, Poison):
            return POISON
        self.builder.work(span)
        match layer:
            case Identity():
                return wire
            case Sequence(steps):
                for step in steps:
                    wire = self.apply(step, wire, span)
                return wire
            case Named(name, inner):
                with self.builder.within(self.builder.fresh(name)):
                    return self.apply(inner, wire, span)
            case OpLayer():
                return self._apply_op(layer, wire)
            case BlockConv(changes):
                return self._apply_op(self._layers[-1].having(**changes), wire)
            case Backbone():
                return self._apply_backbone(layer, wire)
            case Bound(kind="neuron"):
                return self._apply_neuron(layer, wire)
            case Bound(kind="block"):
                return self._apply_block(layer, wire)
        raise self.builder.fail("E0401", f"{describe(layer)} is not a layer", span)

    def _apply_op(self, layer: OpLayer, wire: Wire | Poison) -> Wire | Poison:
        if isinstance(wire, Poison):
            return POISON
        if layer.op in ("dropout", "droppath") and layer.attrs.get("p") == 0:
            return wire
        if layer.op == "tdbn":
            attrs = dict(layer.attrs)
            alpha = float(attrs.pop("alpha"))  # type: ignore[arg-type]
            layer = OpLayer(
                "batchnorm", {"init": alpha * self._threshold(layer.span)}, layer.span, layer.role
            )
        if layer.op == "linear" and len(self.builder.value(wire).shape) == 3:
            wire = self.builder.add("flatten", (wire,), {}, layer.span)
        return self.builder.add(layer.op, (wire,), layer.attrs, layer.span, layer.role)

    def _threshold(self, span: Span) -> float:
        """V_th of the network's neuron, which tdBN scales by."""
        neuron = self.alias(self.setting("neuron", span))
        value = self.complete(neuron).values.get("v_threshold")
        if value is None:
            raise self.builder.fail(
                "E0404",
                f"tdbn scales by the neuron's threshold, and `{neuron.name}` has no `v_threshold`",
                span,
                hint="give the neuron a parameter `v_threshold`, or take another norm",
            )
        return float(getattr(value, "init", value))

    def _apply_neuron(self, bound: Bound, wire: Wire) -> Wire | Poison:
        span = bound.span
        bound = self.alias(bound)
        own = self.complete(bound)
        args = own.values
        surrogate = self.settings.get("surrogate")
        if surrogate is None and "heaviside" in self.names_in(bound.declaration):
            self.setting("surrogate", span)
        stand_in = Env(own.module, "surrogate")
        if isinstance(surrogate, Poison):
            raise Failed
        if surrogate is not None:
            surrogate = self.alias(surrogate)
            stand_in = self.complete(surrogate)
        surrogate_args = stand_in.values
        key = (
            id(bound.declaration),
            tuple(sorted(args.items(), key=lambda item: item[0])),
            id(surrogate.declaration) if surrogate is not None else None,
            tuple(sorted(surrogate_args.items())),
        )
        if key not in self._programs:
            for name, value in args.items():
                if not isinstance(value, (bool, int, float, Learn)):
                    raise self.builder.fail(
                        "E0304",
                        f"`{name}` of neuron `{bound.name}` must be a number, not {describe(value)}",
                        own.given[name].span if name in own.given else span,
                    )
            found = Reporter()
            program = compile_neuron(
                bound.declaration,
                args,
                surrogate.declaration if surrogate is not None else None,
                surrogate_args,
                found,
                argument_spans=self._places(own),
                surrogate_spans=self._places(stand_in),
            )
            with self.builder.site(span):
                for item in found.diagnostics:
                    self.builder.error(
                        item.code,
                        item.message,
                        item.span,
                        label=item.label,
                        labels=item.labels,
                        hint=item.hint,
                    )
            if program is None:
                raise Failed
            self._programs[key] = self.builder.neuron_key(program)
        return self.builder.add("neuron", (wire,), {"neuron": self._programs[key]}, span, "spike")

    def _places(self, env: Env) -> dict[str, Span]:
        """Where the user wrote the arguments of a neuron or surrogate."""
        places = {name: given.span for name, given in env.given.items()}
        return {name: span for name, span in places.items() if not is_library(span.source)}

    def _apply_block(self, bound: Bound, wire: Wire) -> Wire | Poison:
        """A block as a layer: one that wires itself."""
        block = self.alias(bound)
        if block.declaration.body is None:
            raise self.builder.fail(
                "E0605",
                f"block `{bound.name}` has no connection",
                bound.span,
                hint=f"write `stage({bound.name}(...), 1) via CONNECTION`",
            )
        with self.builder.within(self.builder.fresh(bound.name)), self.builder.site(bound.span):
            return self._self_wired(block, wire, {})

    # -- backbones and stages ---------------------------------------------------------------------

    def _apply_backbone(self, backbone: Backbone, wire: Wire | Poison) -> Wire | Poison:
        if not self.builder.scope:
            with self.builder.within(self.builder.fresh("stages")):
                return self._apply_backbone(backbone, wire)
        self._wired(backbone)
        if backbone.stages:  # each block makes two operations or more
            blocks = sum(stage.blocks for stage in backbone.stages)
            self.builder.foresee(2 * blocks, backbone.stages[0].span)
        scope = self.builder.scope
        sites = backbone.stages[0].sites if backbone.stages else ()
        for item in backbone.items:
            if isinstance(item, StageOf):
                number = self._stage_numbers.get(scope, 0)
                self._stage_numbers[scope] = number + 1
                sites = item.sites
                with (
                    self.builder.within(str(number)),
                    self._with_settings(item.settings),
                    self.builder.site(*sites),
                ):
                    wire = self._stage_of(item, wire)
            else:
                with self.builder.site(*sites):
                    wire = self.apply(item, wire, backbone.span)
        return wire

    def _wired(self, backbone: Backbone) -> None:
        """Each stage has a connection, unless its blocks wire themselves."""
        for stage in backbone.stages:
            if stage.connection is not None:
                continue
            with self.builder.site(*stage.sites):
                block = self.alias(stage.block)
                if block.declaration.body is not None:
                    continue
                hint = "add `via CONNECTION` to the backbone"
                if any(other.connection is not None for other in backbone.stages):
                    hint = (
                        "`via` wires what stands right before it: put the whole flow in "
                        "parentheses, `(stage(...) -> stage(...)) via CONNECTION`"
                    )
                raise self.builder.fail(
                    "E0605",
                    f"block `{block.name}` has no connection",
                    stage.span,
                    label="these blocks do not wire themselves",
                    hint=hint,
                )

    @contextmanager
    def _with_settings(self, settings: Mapping[str, Any]) -> Iterator[None]:
        outer = self.settings
        self.settings = {**outer, **settings}
        try:
            yield
        finally:
            self.settings = outer

    def _stage_of(self, stage: StageOf, wire: Wire | Poison) -> Wire | Poison:
        if isinstance(wire, Poison):
            return POISON
        builder = self.builder
        rule = self.alias(stage.rule) if stage.rule is not None else None
        reader: RuleReader | None = None
        if rule is not None:
            rule_env = self.complete(rule)
            with builder.site(stage.rule.span if stage.rule else stage.span):
                reader = self._reader(rule, rule_env, stage.blocks)
        scope = builder.scope
        first = len(builder.nodes)
        inputs: list[Wire] = []
        outputs: list[Wire] = []
        blocks: list[Block] = []
        for i in range(stage.blocks):
            with builder.site(stage.rule.span if stage.rule else stage.span):
                form: Form = reader.feed_of(i) if reader else (("out", i - 1) if i else ("in", 0))
                with builder.within("blocks"):
                    feed = self._build(
                        form, wire, inputs, outputs, stage.rule.span if stage.rule else stage.span
                    )
            if isinstance(feed, Poison):
                return POISON
            if i == 2:  # the first two tell how large the stage will be
                builder.foresee((len(builder.nodes) - first) // 2 * (stage.blocks - 2), stage.span)
            inputs.append(feed)
            with builder.within("blocks", str(i)), builder.site(stage.span):
                block_scope = builder.scope
                joined = self._block(stage, feed, i)
            if isinstance(joined.output, Poison) or isinstance(joined.join, Poison):
                return POISON
            outputs.append(joined.output)
            blocks.append(
                Block(block_scope, feed.id, joined.output.id, joined.join.id, joined.after, form)
            )
        with builder.site(stage.rule.span if stage.rule else stage.span):
            result_form = reader.result_form() if reader else ("out", stage.blocks - 1)
            with builder.within("blocks"):
                result = self._build(
                    result_form,
                    wire,
                    inputs,
                    outputs,
                    stage.rule.span if stage.rule else stage.span,
                )
        if isinstance(result, Poison):
            return POISON
        self.stages.append(
            Stage(
                scope,
                stage.connection.name if stage.connection else "",
                rule.name if rule else "chain",
                wire.id,
                tuple(blocks),
                result.id,
                result_form,
                stage.span,
            )
        )
        return result

    def _reader(self, rule: Bound, env: Env, blocks: int) -> RuleReader:
        def constant(expr: s.Expr, values: dict[str, Any]) -> Any:
            inner = Env(env.module, "rule", {**env.values, **values}, given=env.given)
            return self.evaluate(expr, inner)

        return RuleReader(rule.declaration, blocks, constant, self.builder.fail)

    def _build(
        self, form: Form, entry: Wire, inputs: list[Wire], outputs: list[Wire], span: Span
    ) -> Wire | Poison:
        """The nodes of a rule's form."""
        match form:
            case ("in", 0):
                return entry
            case ("in", int(j)):
                return inputs[j]
            case ("out", int(j)):
                return outputs[j]
            case ("scale", factor, inner):
                wire = self._build(inner, entry, inputs, outputs, span)  # type: ignore[arg-type]
                return self.builder.add("affine", (wire,), {"factor": factor, "offset": 0.0}, span)  # type: ignore[dict-item]
            case (join, *parts):
                ops = {"sum": "add", "concat": "concat", "max": "maximum", "min": "minimum"}
                wires = tuple(self._build(part, entry, inputs, outputs, span) for part in parts)  # type: ignore[arg-type]
                return self.builder.add(ops[str(join)], wires, {}, span)
        raise AssertionError(form)

    # -- blocks and connections -------------------------------------------------------------------

    def _block(self, stage: StageOf, wire: Wire, i: int) -> Joined:
        """Block i of a stage, wired by its connection."""
        stride = stage.stride if i == 0 else 1
        names = [param.name for param in stage.block.declaration.params]
        if stride != 1 and "stride" not in names and "stride" not in stage.block.args:
            raise self.builder.fail(
                "E0307",
                f"the stage has stride {stride}, but block `{stage.block.name}` has no parameter `stride`",
                stage.span,
                hint="give the block a parameter `stride = 1`, or the stage no stride",
            )
        block = stage.block
        if "stride" in names and "stride" not in block.args:
            block = replace(block, args={**block.args, "stride": stride})
        given = block.args.get("stride", stride)
        if isinstance(given, bool) or not isinstance(given, (int, float)):
            raise self.builder.fail(
                "E0304",
                f"`stride` of block `{block.name}` must be a number, not {describe(given)}",
                block.given["stride"].span if "stride" in block.given else block.span,
            )
        stride = int(given)
        block = self.alias(block)
        if stage.connection is None:
            output = self._self_wired(block, wire, {"i": i, "n": stage.blocks})
            return Joined(output, output, ())
        with self.builder.site(stage.connection.span):
            return self._connected(stage, block, self.alias(stage.connection), wire, i, stride)

    def _connected(
        self, stage: StageOf, block: Bound, connection: Bound, wire: Wire, i: int, stride: int
    ) -> Joined:
        """A block of a stage inside of its connection."""
        wires_itself = block.declaration.body is not None
        parts = self._parts(connection)
        if wires_itself and (
            bad := next((parts[name] for name in ("each", "last") if name in parts), None)
        ):
            raise self.builder.fail(
                "E0604",
                f"block `{block.name}` wires itself, so `{bad.name}` of connection `{connection.name}` would have no effect",
                stage.connection.span if stage.connection else stage.span,
                labels=(
                    Label(bad.name_span, f"`{bad.name}` stands here"),
                    Label(block.declaration.name_span, "the block says `out = ...` itself"),
                ),
                hint="take a connection without `each`, or write the block as a flow of its weights",
            )
        values = {"stride": stride, "i": i, "n": stage.blocks, "in": wire}
        for param in connection.declaration.params:
            if param.name in values or param.name in ("channels", "branch", "shortcut"):
                raise self.builder.fail(
                    "E0302",
                    f"a connection knows `{param.name}` already",
                    param.name_span,
                    hint=f"`{param.name}` can be read without a parameter; rename yours, or leave it out",
                )
        env = self._connection_env(connection, parts, values)
        within = (*stage.sites, stage.span)
        if wires_itself:
            with self.builder.within("branch"), self.builder.site(*within):
                branch = self._self_wired(block, wire, {"i": i, "n": stage.blocks})
            if not isinstance(branch, Poison):
                env.values["channels"] = self.builder.value(branch).shape[0]
        else:
            with self.builder.site(*within):
                layers = self._weights(block)
            last = layers[-1]
            assert isinstance(last, OpLayer)
            env.values["channels"] = last.attrs["width"]
            branch = self._branch(layers, connection, parts, env, wire, within)
        env.values["branch"] = branch
        if isinstance(branch, Poison):
            return Joined(POISON, POISON, ())
        if any("shortcut" in self.names_in(part.value) for part in parts.values()):
            env.values["shortcut"] = self._shortcut(
                connection, parts, env, wire, branch, stride, within
            )
        return self._joined(parts["out"].value, env)

    def _parts(self, connection: Bound) -> dict[str, s.Define]:
        parts: dict[str, s.Define] = {}
        for item in connection.declaration.body or ():
            if not isinstance(item, s.Define) or item.index is not None:
                raise self.builder.fail("E0601", "a connection holds definitions alone", item.span)
            parts[item.name] = item
        if "out" not in parts:
            raise self.builder.fail(
                "E0601",
                f"connection `{connection.name}` does not say what `out` is",
                connection.declaration.name_span,
                labels=misnamed(connection.declaration, "out"),
                hint="add `out = branch + shortcut`",
            )
        used = {name for part in parts.values() for name in self.names_in(part.value)}
        for name, part in parts.items():
            if name not in CONNECTION_PARTS and name not in used:
                raise self.builder.fail(
                    "E0308",
                    f"nothing uses `{name}` of connection `{connection.name}`",
                    part.name_span,
                    hint=did_you_mean(name, CONNECTION_PARTS)
                    or f"a connection's parts are {', '.join(CONNECTION_PARTS)}",
                )
        return parts

    def _connection_env(
        self, connection: Bound, parts: dict[str, s.Define], values: dict[str, Any]
    ) -> Env:
        env = self.complete(connection)
        env.values.update(values)
        env.scope = self.builder.scope
        env.block_conv = True
        fresh = replace_env(env, block_conv=False)
        for name, part in parts.items():
            own = env if name in ("each", "last", "projection", "identity") else fresh
            env.definitions[name] = Definition(part.value, own, part.span)
        return env

    def _flat(self, layer: Layer, span: Span) -> list[Layer]:
        """The layers of a flow, those inside of names and parentheses too."""
        layers = list(islice(_flatten(layer), MAX_LAYERS + 1))
        if len(layers) > MAX_LAYERS:
            raise self.builder.fail("E0903", f"a flow of more than {MAX_LAYERS:,} layers", span)
        return layers

    def _weights(self, block: Bound) -> list[Layer]:
        """The layers of a block that is a flow of weights; the last with weights gives its width."""
        env = self.complete(block)
        assert block.declaration.value is not None
        value = self.evaluate(block.declaration.value, env, "layer")
        if isinstance(value, Poison):
            raise Failed
        layers = self._flat(value, block.declaration.value.span) if is_layer(value) else []
        weighted = [
            layer for layer in layers if isinstance(layer, OpLayer) and layer.op in WEIGHTED
        ]
        if not weighted:
            raise self.builder.fail(
                "E0408",
                f"block `{block.name}` is {describe(value)}, not a flow of weighted layers",
                block.declaration.value.span,
                hint="write `conv(...) -> conv(...)`, or wire the block itself: `{ out = in -> ... }`",
            )
        while layers[-1] is not weighted[-1]:
            raise self.builder.fail(
                "E0408",
                f"block `{block.name}` must end with a weighted layer",
                block.declaration.value.span,
                hint="put what follows into the connection's `out`, or between the stages",
            )
        return layers

    def _branch(
        self,
        layers: list[Any],
        connection: Bound,
        parts: dict[str, s.Define],
        env: Env,
        wire: Wire,
        within: tuple[Span, ...],
    ) -> Wire | Poison:
        """Each weighted layer of the block inside of ``each``, the last inside of ``last``.

        ``within`` are the uses of the block, which its errors are led back to.
        """
        if "each" not in parts:
            raise self.builder.fail(
                "E0606",
                f"connection `{connection.name}` does not say what stands around each layer",
                connection.declaration.name_span,
                hint="add `each = conv -> norm -> spike`",
            )
        result: Wire | Poison = wire
        with self.builder.within("branch"):
            first = len(self.builder.nodes)
            for layer in layers:
                if not (isinstance(layer, OpLayer) and layer.op in WEIGHTED):
                    result = self.apply(layer, result, connection.span)
                    continue
                name = "last" if layer is layers[-1] and "last" in parts else "each"
                around = self._around(name, parts, env)
                first = len(self.builder.nodes)
                self._layers.append(layer)
                try:
                    with self.builder.site(*within, layer.span):
                        result = self.apply(around, result, parts[name].span)
                finally:
                    self._layers.pop()
            if self.settings.get("zero_init") and not isinstance(result, Poison):
                self._zero_last_norm(first, connection, parts)
        return result

    def _around(self, name: str, parts: dict[str, s.Define], env: Env) -> Layer:
        around = self.definition(name, env, parts[name].span)
        if isinstance(around, Poison):
            raise Failed
        if not is_layer(around):
            raise self.builder.fail(
                "E0401", f"`{name}` is {describe(around)}, not a layer", parts[name].value.span
            )
        flat = self._flat(around, parts[name].value.span)
        places = sum(isinstance(layer, BlockConv) for layer in flat)
        if places != 1:
            raise self.builder.fail(
                "E0606",
                f"`{name}` has {places or 'no'} place{'s' if places > 1 else ''} for the block's layer",
                parts[name].value.span,
                hint="write `conv` without a width once: `conv -> norm -> spike`",
            )
        return around  # type: ignore[no-any-return]

    def _zero_last_norm(self, first: int, connection: Bound, parts: dict[str, s.Define]) -> None:
        """``zero_init = true``: the last norm of the branch starts at 0."""
        norms = [
            id
            for id in range(first, len(self.builder.nodes))
            if "init" in self.builder.nodes[id].attrs
        ]
        if not norms:
            part = parts.get("last", parts["each"])
            raise self.builder.fail(
                "E0503",
                f"zero_init: the branch of connection `{connection.name}` does not end with a norm",
                part.span,
                hint="a norm that starts at 0 after the join would silence the block; leave `zero_init` out",
            )
        node = self.builder.nodes[norms[-1]]
        self.builder.nodes[node.id] = replace(node, attrs={**node.attrs, "init": 0.0})

    def _shortcut(
        self,
        connection: Bound,
        parts: dict[str, s.Define],
        env: Env,
        wire: Wire,
        branch: Wire,
        stride: int,
        within: tuple[Span, ...],
    ) -> Wire | Poison:
        """The block's input, through ``projection`` where the shape changes, else ``identity``."""
        shape, wanted = self.builder.value(wire).shape, self.builder.value(branch).shape
        name = "identity" if shape == wanted else "projection"
        if name not in parts:
            if name == "identity":
                return wire
            out = parts["out"]
            raise self.builder.fail(
                "E0602",
                f"the shape changes from {text(shape)} to {text(wanted)}, and connection `{connection.name}` has no projection",
                out.span,
                labels=self._used(within),
                hint="add `projection = conv -> norm`, or keep widths and strides",
            )
        layer = self.definition(name, env, parts[name].span)
        if isinstance(layer, Poison):
            raise Failed
        if not is_layer(layer):
            raise self.builder.fail(
                "E0401", f"`{name}` is {describe(layer)}, not a layer", parts[name].value.span
            )
        attrs: dict[str, Any] = {"width": env.values["channels"]}
        op = "linear"
        if len(shape) == 3:
            op = "conv"
            attrs |= {"kernel": 1, "stride": stride}
        fitting = OpLayer(op, attrs, parts[name].span, op)
        self._layers.append(fitting)
        try:
            with self.builder.within("shortcut"):
                result = self.apply(layer, wire, parts[name].span)
        finally:
            self._layers.pop()
        if isinstance(result, Wire) and self.builder.value(result).shape != wanted:
            self.builder.error(
                "E0602",
                f"`{name}` of connection `{connection.name}` gives {text(self.builder.value(result).shape)}, and the branch {text(wanted)}",
                parts[name].span,
                labels=self._used(within),
                hint="the shortcut must end with the branch's shape",
            )
            return POISON
        return result

    def _used(self, within: tuple[Span, ...]) -> tuple[Label, ...]:
        """A label of the user's own text that leads to a block."""
        own = (span for span in reversed(within) if not is_library(span.source))
        return tuple(Label(span, "for a block from here") for span in islice(own, 1))

    def _joined(self, expr: s.Expr, env: Env) -> Joined:
        """Evaluate ``out`` and tell the join from what follows it."""
        while isinstance(expr, s.IfElse):
            expr = expr.then if self.condition(expr.condition, env) else expr.otherwise
        plain = replace_env(env, block_conv=False)
        if isinstance(expr, s.Flow):
            join = self.evaluate(expr.steps[0], plain, "layer")
            if isinstance(join, (Wire, Poison)):
                result: Wire | Poison = join
                after: list[str] = []
                for step in expr.steps[1:]:
                    layer = self._layer(step, plain)
                    result = self.apply(layer, result, step.span)
                    after += _ops(layer)
                return Joined(result, join, tuple(after))
        value = self.evaluate(expr, plain)
        if not isinstance(value, (Wire, Poison)):
            raise self.builder.fail(
                "E0402",
                f"`out` is {describe(value)}, not a value",
                expr.span,
                hint="join `branch` and `shortcut` in it: `out = branch + shortcut`",
            )
        return Joined(value, value, ())

    def _self_wired(self, block: Bound, wire: Wire, extra: Mapping[str, Any]) -> Wire | Poison:
        """A block with a body of its own: the value of its ``out``."""
        self._inside.append(block.declaration)
        try:
            again = sum(item is block.declaration for item in self._inside)
            if again > MAX_REPEATS or len(self._inside) > MAX_DEPTH:
                raise self.too_deep(block, self._inside[:-1])
            env = self.complete(block)
            env.scope = self.builder.scope
            for name, value in {**extra, "in": wire}.items():
                env.values.setdefault(name, value)
            self._define(block.declaration, env)
            if "out" not in env.definitions:
                raise self.builder.fail(
                    "E0408",
                    f"block `{block.name}` does not say what `out` is",
                    block.declaration.name_span,
                    labels=misnamed(block.declaration, "out"),
                    hint="add `out = in -> ...`",
                )
            result = self.definition("out", env, env.definitions["out"].span)
            self._unused(env, block.declaration)
            if not isinstance(result, (Wire, Poison)):
                raise self.builder.fail(
                    "E0402",
                    f"`out` of block `{block.name}` is {describe(result)}, not a value",
                    env.definitions["out"].value.span,
                    hint="a value starts at `in`: `out = in -> ...`",
                )
            return result
        finally:
            self._inside.pop()

    def _define(self, declaration: s.Declaration, env: Env) -> None:
        for item in declaration.body or ():
            if not isinstance(item, s.Define) or item.index is not None:
                raise self.builder.fail(
                    "E0408",
                    f"a {declaration.kind} holds definitions `name = value` alone",
                    item.span,
                )
            env.definitions[item.name] = Definition(item.value, env, item.name_span)

    def _unused(self, env: Env, declaration: s.Declaration, settings: tuple[str, ...] = ()) -> None:
        """Report the definitions of a body that nothing reads.

        What is read is seen in the text, so that an error in between has no false ones behind it.
        """
        read: set[str] = set()
        for definition in env.definitions.values():
            read.update(self.names_in(definition.value))
        for item in declaration.body or ():
            id = item.name or "" if isinstance(item, s.Group) else item.name
            if id in env.used or id in read or id == "out" or id not in env.definitions:
                continue
            kind, name, hint = declaration.kind, declaration.name, None
            what = f"nothing uses `{id}` of {kind} `{name}`"
            if id in settings:
                if "out" not in env.definitions:
                    continue
                what = f"`{id}` has no effect, since `out` says what the network gives"
                hint = f"use it there: `out = in -> ... -> {id}`, or leave `out` out"
            elif settings:
                what = f"`{id}` is not a setting of a {kind}, and nothing uses it"
                meant = closest(id, [other for other in settings if other not in env.definitions])
                hint = f"did you mean `{meant}`?" if meant else did_you_mean(id, settings)
                if meant:
                    self.misspelt.add(meant)
            self.builder.error("E0308", what, item.name_span, hint=hint)

    # -- networks ---------------------------------------------------------------------------------

    def encode(
        self, name: str, shape: tuple[int, ...], bound: int | None, span: Span
    ) -> Wire | Poison:
        """The network's input; a static image is repeated at each step (passes undo it)."""
        kind = count(bound) if bound is not None else ANALOG
        events = name == "events"
        if any(node.op == "input" for node in self.builder.nodes.values()):
            raise self.builder.fail("E0502", "a network has one input", span)
        wire = self.builder.add(
            "input", (), {"events": events}, span, value=Value(shape, kind, events)
        )
        return wire if events else self.builder.add("repeat", (wire,), {}, span)

    def network(self, env: Env, declaration: s.Declaration) -> Graph | None:
        """Lower a network whose definitions are in ``env``."""
        builder = self.builder
        name, span = declaration.name, declaration.name_span
        for setting in ("surrogate", "neuron", "norm", "zero_init"):
            if setting in env.definitions:
                try:
                    value = self.definition(setting, env, env.definitions[setting].span)
                    self.settings[setting] = self.check_setting(
                        setting, value, env.definitions[setting].value.span
                    )
                except Failed:
                    self.settings[setting] = POISON
            elif setting == "norm":
                self.settings[setting] = OpLayer("batchnorm", {}, span, "norm")
        env.used.update(("recipe", "input", "steps", "neuron", "surrogate", "norm", "zero_init"))
        self.settings["steps"] = builder.steps
        self._unused(env, declaration, SETTINGS)
        if "input" not in env.definitions:
            if "input" in self.misspelt:
                raise Failed
            raise builder.fail(
                "E0404",
                f"network `{name}` does not say what its input is",
                span,
                hint="add `input = image(3, 224, 224)`",
            )
        source = self._input_of(env)
        env.values["in"] = env.cache["input"] = source
        outputs = self._outputs_of(env, name, span, source)
        if any(isinstance(wire, Poison) for wire in outputs.values()):
            return None
        ids = {key: wire.id for key, wire in outputs.items() if isinstance(wire, Wire)}
        stem = self.stages[0].entry if self.stages else next(iter(builder.nodes))
        return builder.finish(name, ids, tuple(self.stages), stem)

    def _input_of(self, env: Env) -> Wire | Poison:
        definition = env.definitions["input"]
        try:
            self.builder.scope = ()
            value = self.evaluate(definition.value, definition.env)
        except Failed:
            return POISON
        if isinstance(value, Poison):
            return value
        if not isinstance(value, Wire):
            self.builder.error(
                "E0502",
                f"`input` is {describe(value)}, not an image or events",
                definition.value.span,
                hint="write `image(C, H, W)` or `events(C, H, W)`, and encoders after `->`",
            )
            return POISON
        return value

    def _outputs_of(
        self, env: Env, name: str, span: Span, source: Wire | Poison
    ) -> dict[str, Wire | Poison]:
        builder = self.builder
        if "out" in env.definitions:
            try:
                value = self.definition("out", env, env.definitions["out"].span)
            except Failed:
                return {"out": POISON}
            if isinstance(value, Outputs):
                return dict(value.wires)
            if not isinstance(value, (Wire, Poison)):
                builder.error(
                    "E0402",
                    f"`out` is {describe(value)}, not a value",
                    env.definitions["out"].value.span,
                    hint="a value starts at `in`: `out = in -> stem -> stages -> head`",
                )
                return {"out": POISON}
            return {"out": value}
        if not env.definitions.keys() & {"stem", "stages", "head"}:
            if self.misspelt & {"stem", "stages", "head", "out"}:
                return {"out": POISON}
            builder.error(
                "E0404",
                f"network `{name}` does not say what it computes",
                span,
                hint="add `stem`, `stages` and `head`, or `out = in -> ...`",
            )
            return {"out": POISON}
        wire = source
        for part in ("stem", "stages", "head"):
            if part not in env.definitions:
                continue
            definition = env.definitions[part]
            try:
                layer = self.definition(part, env, definition.span)
                if isinstance(layer, Poison):
                    raise Failed
                if not is_layer(layer):
                    raise builder.fail(
                        "E0401",
                        f"`{part}` is {describe(layer)}, not a layer",
                        definition.value.span,
                    )
                wire = self.apply(
                    Named(part, layer, definition.value.span), wire, definition.value.span
                )
            except Failed:
                wire = POISON
        return {"out": wire}


def replace_env(env: Env, *, block_conv: bool) -> Env:
    """The same environment, sharing definitions and cache, with ``conv`` read otherwise."""
    return replace(env, block_conv=block_conv)


def misnamed(declaration: s.Declaration, wanted: str) -> tuple[Label, ...]:
    """A label of the definition that was probably meant to have the wanted name."""
    places = {item.name: item.name_span for item in declaration.body or () if item.name}
    close = closest(wanted, places)
    return () if close is None else (Label(places[close], f"did you mean `{wanted}`?"),)


def _is_op_name(id: str) -> bool:
    return id in SPECIAL or (id in OPS and OPS[id].public)


def _flatten(layer: Any) -> Iterator[Layer]:
    match layer:
        case Sequence(steps):
            for step in steps:
                yield from _flatten(step)
        case Named(_, inner):
            yield from _flatten(inner)
        case _:
            yield layer


def _ops(layer: Layer) -> list[str]:
    """The operations that a layer of ``out`` puts after the join."""
    result: list[str] = []
    for part in _flatten(layer):
        match part:
            case OpLayer(op="tdbn"):
                result.append("batchnorm")
            case OpLayer(op="dropout" | "droppath", attrs=attrs) if attrs.get("p") == 0:
                pass
            case OpLayer(op=op):
                result.append(op)
            case Bound(kind="neuron"):
                result.append("neuron")
            case Bound(name=name):
                result.append(f"block {name}")
            case _:
                pass
    return result


@dataclass(frozen=True, slots=True)
class Level:
    """A network or one of the networks it is a variant of, with its parameters' environment."""

    declaration: s.Declaration
    env: Env


def levels(
    declaration: s.Declaration, module: Module, settings: Mapping[str, Any], evaluator: Evaluator
) -> list[Level]:
    """A network and its bases, outermost first, with shared definitions and bound parameters."""
    builder = evaluator.builder
    shared = Env(module, "network")
    result: list[Level] = []
    bound = Bound(declaration, module, {}, declaration.name_span)
    elsewhere: dict[str, str] = {}
    seen: list[s.Declaration] = []
    while True:
        if any(item is declaration for item in seen):
            raise builder.fail(
                "E0211",
                f"network `{declaration.name}` is a variant of itself",
                declaration.name_span,
                hint="a variant changes a network that is written out: `network NAME { ... }`",
            )
        if len(seen) > MAX_DEPTH:
            raise builder.fail(
                "E0902", f"variants of variants, more than {MAX_DEPTH} deep", declaration.name_span
            )
        seen.append(declaration)
        given = {
            name: value
            for name, value in settings.items()
            if name in {p.name for p in declaration.params}
        }
        env = evaluator.complete(replace(bound, args={**bound.args, **given}))
        env = replace(
            env,
            what="network",
            definitions=shared.definitions,
            cache=shared.cache,
            pending=shared.pending,
            used=shared.used,
            elsewhere=elsewhere,
        )
        for param in declaration.params:
            elsewhere.setdefault(
                param.name,
                f"`{param.name}` is a parameter of `{declaration.name}`; a variant reads its own: "
                f"`network NAME({param.name} = ...) = {declaration.name}({param.name}) {{ ... }}`",
            )
        result.append(Level(declaration, env))
        for item in declaration.body or ():
            if not isinstance(item, s.Define) or item.index is not None:
                raise builder.fail(
                    "E0408", "a network holds definitions `name = value` alone", item.span
                )
            shared.definitions.setdefault(item.name, Definition(item.value, env, item.name_span))
        value = declaration.value
        if value is None:
            return result
        name = value.function if isinstance(value, s.Call) else value
        resolved = module.names.get(name.id) if isinstance(name, s.Name) else None
        if resolved is None or resolved.declaration.kind != "network":
            if isinstance(name, s.Name) and resolved is None and not _is_op_name(name.id):
                networks = [n for n, r in module.names.items() if r.declaration.kind == "network"]
                if module.excuses(name.id):
                    raise Failed
                hint = did_you_mean(name.id, networks)
                raise builder.fail("E0210", f"unknown name `{name.id}`", name.span, hint=hint)
            what = "something else"
            if isinstance(name, s.Name):
                what = f"the {resolved.declaration.kind if resolved else 'layer'} `{name.id}`"
            raise builder.fail(
                "E0403",
                f"network `{declaration.name}` must be a variant of a network, not of {what}",
                value.span,
                hint="write its settings between braces: `network NAME { ... }`",
            )
        bound = Bound(resolved.declaration, resolved.module, {}, value.span)
        if isinstance(value, s.Call):
            bound = evaluator.bind(bound, value.args, env, value.span)
        declaration, module = resolved.declaration, resolved.module


def lower(
    declaration: s.Declaration,
    module: Module,
    settings: Mapping[str, Any],
    reporter: Reporter,
) -> Graph | None:
    """Lower a network. ``settings`` change parameters and definitions: numbers, or expressions.

    Returns None where errors were reported.
    """
    builder = Builder(reporter, 1)
    lowering = Lowering(builder)
    lowering.complete_names = module.complete
    before = len(reporter.diagnostics)
    try:
        constants = {
            name: lowering.evaluate(value, Env(module, "--set"))
            if not isinstance(value, (bool, int, float, str))
            else value
            for name, value in settings.items()
        }
        chain = levels(declaration, module, constants, lowering)
        env = chain[0].env
        parameters = {param.name for level in chain for param in level.declaration.params}
        for name, value in settings.items():
            if name not in parameters:
                _override(name, value, env, module, builder, parameters)
        builder.steps = _steps(env, lowering)
        builder.context = replace(builder.context, steps=builder.steps)
        graph = lowering.network(env, declaration)
    except Failed:
        return None
    except RecursionError:
        builder.error("E0902", TOO_NESTED, declaration.name_span, hint=FLATTEN)
        return None
    return graph if len(reporter.diagnostics) == before else None


def _override(
    name: str, value: Any, env: Env, module: Module, builder: Builder, parameters: set[str]
) -> None:
    known = {*SETTINGS, *env.definitions}
    if name not in known:
        span = getattr(value, "span", None) or _set_span(name)
        raise builder.fail(
            "E0309",
            f"the network has no parameter and no setting `{name}`",
            span,
            hint=did_you_mean(name, [*parameters, *known])
            or f"it has {', '.join(sorted({*parameters, *env.definitions}))}",
        )
    expr = value
    if isinstance(value, bool):
        expr = s.Name("true" if value else "false", span=_set_span(name))
    elif isinstance(value, (int, float)):
        number = s.Number(repr(abs(value)), span=_set_span(name))
        expr = s.Unary("-", number, span=_set_span(name)) if value < 0 else number
    elif isinstance(value, str):
        expr = s.Name(value, span=_set_span(name))
    env.definitions[name] = Definition(expr, Env(module, "--set"), _set_span(name))


def _set_span(name: str) -> Span:
    return Span(SourceFile("--set", name), 0, len(name))


def _steps(env: Env, lowering: Lowering) -> int:
    """T. A network that does not say has one step."""
    if "steps" not in env.definitions:
        return 1
    env.used.add("steps")
    definition = env.definitions["steps"]
    return lowering.whole(definition.value, definition.env, "steps", 1, MAX_STEPS)
