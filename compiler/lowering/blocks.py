"""Blocks, with a body of their own or inside of a connection."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from danetc.compiler.ir.graph import Attribute
from danetc.compiler.ir.ops import OPS, text
from danetc.compiler.lowering import values as v
from danetc.compiler.lowering.environment import PORTS, Definition, Env
from danetc.compiler.lowering.evaluator import MAX_DEPTH, is_known
from danetc.compiler.lowering.layers import LayerCalls, operations
from danetc.dsl.diagnostics.diagnostic import Label, closest, did_you_mean, suggestion
from danetc.dsl.diagnostics.fixes import add
from danetc.dsl.diagnostics.habits import answer
from danetc.dsl.loading import is_library
from danetc.dsl.syntax import tree as s

MAX_REPEATS = 7  # depth of a recursive block
CONNECTION_PARTS = ("each", "last", "projection", "identity", "out")


class Connections(LayerCalls):
    """Application of blocks."""

    def apply_block(self, bound: v.Bound, wire: v.Wire) -> v.Wire:
        """Apply a block as a layer."""
        block = self.follow_alias(bound)
        if block.declaration.body is None:
            hint = f"write `stage({bound.name}(...), 1) via CONNECTION`"
            message = f"block `{bound.name}` has no connection"
            raise self.error("E0605", message, bound.span, hint=hint)
        with self.within(self.fresh(bound.name)), self.site(bound.span):
            return self.self_wired(block, wire, {})

    def self_wired(self, block: v.Bound, wire: v.Wire, extra: Mapping[str, v.Value]) -> v.Wire:
        """Apply a block with a body, and return its ``out``."""
        declaration = block.declaration
        with self.changed(inside=[*self.inside, declaration]):
            again = sum(item is declaration for item in self.inside)
            if again > MAX_REPEATS or len(self.inside) > MAX_DEPTH:
                raise self.too_deep(block, self.inside[:-1])
            env = self.complete(block)
            env.scope = self.scope
            for name, value in {**extra, "in": wire}.items():
                env.values.setdefault(name, value)
            self.define(declaration, env)
            if "out" not in env.definitions:
                raise self.no_out(declaration)
            out = env.definitions["out"]
            result = self.defined("out", env, out.span)
            self.report_unused(env, declaration)
            return self.wire_of(result, out.value.span)

    def no_out(self, declaration: s.Declaration) -> v.Failed:
        """Report a block or a connection whose body does not define ``out``."""
        code, hint = "E0408", "add `out = in -> ...`"
        if declaration.kind == "connection":
            code, hint = "E0601", add(declaration, "out = branch + shortcut")
        message = f"{declaration.kind} `{declaration.name}` does not define `out`"
        places = {item.name: item.name_span for item in declaration.body or () if item.name}
        close = closest("out", places)  # a misspelling
        labels = () if close is None else (Label(places[close], "did you mean `out`?"),)
        return self.error(code, message, declaration.name_span, labels=labels, hint=hint)

    def define(self, declaration: s.Declaration, env: Env) -> None:
        """Add the definitions of a body to an environment; the first one of a name is used."""
        for item in self.definitions_of(declaration):
            env.definitions.setdefault(item.name, Definition(item.value, env, item.name_span))

    def definitions_of(self, declaration: s.Declaration) -> list[s.Define]:
        """Return the definitions of a body, which must have no other statements (E0408, E0601)."""
        self.work.spend(2 * len(declaration.body or ()), declaration.name_span)
        for item in declaration.body or ():
            if not isinstance(item, s.Define) or item.index is not None:
                message = f"a {declaration.kind} contains only definitions `name = value`"
                code = "E0601" if declaration.kind == "connection" else "E0408"
                raise self.error(code, message, item.span)
        return _defines(declaration)

    def report_unused(
        self, env: Env, declaration: s.Declaration, settings: tuple[str, ...] = ()
    ) -> None:
        """Report unused definitions of a body (E0308).

        The text is searched for names, so the result does not depend on earlier errors. If the body
        contains an unknown name, an unused definition is not reported: it may be a misspelling.
        """
        ports = PORTS.get(declaration.kind, ("in",))
        values = [(id, each.value) for id, each in env.definitions.items()]
        values += [(item.name, item.value) for item in _defines(declaration)]  # duplicates, too
        read = {name for id, value in values for name in self.names_in(value) if name != id}
        known = {*env.used, *read, "out", *ports}
        unused = [item for item in _defines(declaration) if item.name not in known]
        others = {item.name for item in unused} if settings else ()
        complete = not unused or all(
            name in ports or is_known(name, each.env) or name in s.variables(each.value)
            for id, each in env.definitions.items()
            if id not in others
            for name in self.names_in(each.value)
        )
        for item in unused:
            id, hint = item.name, None
            what = f"`{id}` of {declaration.kind} `{declaration.name}` is not used"
            near = closest(id, [each for each in settings if each not in env.definitions])
            if id in settings:
                if "out" not in env.definitions:
                    continue
                what = f"`{id}` has no effect, because the network defines `out`"
                hint = f"use it there: `out = in -> ... -> {id}`, or leave `out` out"
            elif not complete and not near:
                continue
            elif settings:
                what = f"`{id}` is not a setting of a network and is not used"
                hint = answer("setting", id) or suggestion(id, (near,) if near else ())
                hint = hint or did_you_mean(id, settings) or f"settings are: {', '.join(settings)}"
                self.misspelt |= {near} if near else set()
            self.error("E0308", what, item.name_span, hint=hint)

    # -- connections ----------------------------------------------------------------------------------

    def connected(
        self,
        stage: v.StageOf,
        block: v.Bound,
        connection: v.Bound,
        wire: v.Wire,
        i: int,
        stride: int,
        start: v.Wire | None = None,
    ) -> v.Joined:
        """Apply block i. Its shortcut starts from ``start``, by default the input of the block."""
        has_body = block.declaration.body is not None
        parts = self.parts_of(connection)
        bad = parts.get("each", parts.get("last")) if has_body else None
        if bad is not None:
            raise self.error(
                "E0604",
                f"block `{block.name}` has a body, so `{bad.name}` of connection "
                f"`{connection.name}` would have no effect",
                stage.connection.span if stage.connection else stage.span,
                labels=(
                    Label(bad.name_span, f"`{bad.name}` is defined here"),
                    Label(block.declaration.name_span, "the block has a body"),
                ),
                hint="use a connection without `each`, or write the block as a flow of weighted layers",
            )
        env = replace(self.complete(connection), scope=self.scope, block_conv=True)
        env.values |= {"stride": stride, "i": i, "n": stage.blocks, "in": wire}
        plain = replace(env, block_conv=False)
        for name, part in parts.items():
            own = env if name in CONNECTION_PARTS and name != "out" else plain
            env.definitions[name] = Definition(part.value, own, part.span)
        if has_body:
            with self.within("branch"), self.site(*stage.use_sites, stage.span):
                branch = self.self_wired(block, wire, {"i": i, "n": stage.blocks})
        else:
            with self.site(*stage.use_sites, stage.span):
                layers = self._block_layers(block)
            width = layers[-1].attrs["width"] if isinstance(layers[-1], v.OpLayer) else None
            if isinstance(width, int):
                env.values["channels"] = width
            branch = self._build_branch(stage, layers, connection, env, wire)
        env.values["channels"] = self.value(branch).shape[0]
        env.values["branch"] = branch
        out = parts["out"].value
        if start is not None and "shortcut" not in self._names_read(out, env):
            raise self.no_shortcut(stage, f"connection `{connection.name}`")
        while isinstance(out, s.IfElse):
            out = out.then if self.condition(out.condition, env) else out.otherwise
        if "shortcut" in self._names_read(out, env):
            env.values["shortcut"] = self._build_shortcut(
                stage, connection, env, start or wire, branch, stride
            )
        return self._joined(out, plain)

    def no_shortcut(self, stage: v.StageOf, what: str) -> v.Failed:
        """Report a rule that defines the start of a shortcut for a block without a shortcut."""
        assert stage.rule is not None
        message = f"rule `{stage.rule.name}` defines `shortcut[i]`, but {what} has no `shortcut`"
        hint = "combine `branch` and `shortcut` in the `out` of a connection, or use a rule without `shortcut[i]`"
        return self.error("E0610", message, stage.rule.span, hint=hint)

    def parts_of(self, connection: v.Bound) -> dict[str, s.Define]:
        """Return the definitions of a connection by name, with ``out``; all must be used."""
        declaration = connection.declaration
        parts = {item.name: item for item in self.definitions_of(declaration)}
        if "out" not in parts:
            raise self.no_out(declaration)
        used = {name for part in parts.values() for name in self.names_in(part.value)}
        ports = PORTS["connection"]
        local = (*parts, *ports, *(param.name for param in declaration.params))
        env = Env(connection.module, "connection", dict.fromkeys(local, 0))
        for name, part in parts.items():
            known = name in (*ports, *CONNECTION_PARTS, *used)
            loops = () if known else s.variables(declaration)
            if not known and all(is_known(other, env) or other in loops for other in used):
                what = f"`{name}` of connection `{connection.name}` is not used"
                hint = answer("part", name) or did_you_mean(name, CONNECTION_PARTS)
                hint = hint or f"a connection's parts are {', '.join(CONNECTION_PARTS)}"
                raise self.error("E0308", what, part.name_span, hint=hint)
        return parts

    def _block_layers(self, block: v.Bound) -> list[v.Layer]:
        """Return the layers of a block that is a flow; the last one must have weights."""
        env, expr = self.complete(block), block.declaration.value
        assert expr is not None
        value = self.evaluate(expr, env, "layer")
        layers = self.flat_layers(value, expr.span) if v.is_layer(value) else []
        if not layers or not _is_weighted(layers[-1]):
            message = f"block `{block.name}` must end with a weighted layer"
            hint = "move other layers to the connection, or give the block a body `{ out = in -> ... }`"
            raise self.error("E0408", message, expr.span, hint=hint)
        return layers

    def _build_branch(
        self, stage: v.StageOf, layers: list[v.Layer], connection: v.Bound, env: Env, wire: v.Wire
    ) -> v.Wire:
        """Apply each weighted layer of the block inside of ``each``, the last inside of ``last``."""
        declaration = connection.declaration
        parts = env.definitions
        if "each" not in parts:
            message = f"connection `{connection.name}` does not define `each`"
            hint = add(declaration, "each = conv -> norm -> spike")
            raise self.error("E0606", message, declaration.name_span, hint=hint)
        result: v.Wire = wire
        first = len(self.nodes)  # first node of the last weighted layer
        with self.within("branch"):
            for layer in layers:
                if not _is_weighted(layer):
                    result = self.apply(layer, result, connection.span)
                    continue
                name = "last" if layer is layers[-1] and "last" in parts else "each"
                around = self._around(name, env)
                first = len(self.nodes)
                with (
                    self.site(*stage.use_sites, stage.span, layer.span),
                    self.changed(block_layer=layer),
                ):
                    result = self.apply(around, result, parts[name].span)
        if self.settings.get("zero_init"):
            norms = [id for id in range(first, len(self.nodes)) if OPS[self.nodes[id].op].norm]
            if not norms:
                raise self.error(
                    "E0503",
                    f"zero_init: the branch of connection `{connection.name}` does not end with a norm",
                    parts.get("last", parts["each"]).span,
                    hint="a norm that starts at 0 after the join would silence the block; "
                    "leave `zero_init` out",
                )
            node = self.nodes[norms[-1]]
            self.nodes[node.id] = replace(node, attrs={**node.attrs, "init": 0.0})
        return result

    def _around(self, name: str, env: Env) -> v.Layer:
        """Return ``each`` or ``last``, which must contain the block's layer exactly once."""
        part = env.definitions[name]
        around = self.defined_layer(name, env, part.span)
        flat = self.flat_layers(around, part.value.span)
        places = sum(isinstance(layer, v.BlockConv) for layer in flat)
        if places != 1:
            message = f"`{name}` must contain the block's layer once, not {places} times"
            hint = "write `conv` without a width once: `conv -> norm -> spike`"
            raise self.error("E0606", message, part.value.span, hint=hint)
        return around

    def _build_shortcut(
        self,
        stage: v.StageOf,
        connection: v.Bound,
        env: Env,
        wire: v.Wire,
        branch: v.Wire,
        stride: int,
    ) -> v.Wire:
        """Apply ``projection`` if the block changes the shape, else ``identity``."""
        shape, wanted = self.value(wire).shape, self.value(branch).shape
        name = "identity" if shape == wanted else "projection"
        sites = [at for at in (*stage.use_sites, stage.span) if not is_library(at.source)]
        labels = tuple(Label(at, "the block is used here") for at in sites[-1:])
        if name not in env.definitions:
            if name == "identity":
                return wire
            change = f"the shape changes from {text(shape)} to {text(wanted)}"
            line, more = "projection = conv -> norm", ", or keep widths and strides"
            raise self.error(
                "E0602",
                f"{change}, and connection `{connection.name}` has no projection",
                env.definitions["out"].span,
                labels=labels,
                hint=add(connection.declaration, line, more),
            )
        span = env.definitions[name].span
        layer = self.defined_layer(name, env, span)
        attrs: dict[str, Attribute] = {"width": self.value(branch).shape[0]}
        op = "linear"
        if len(shape) == 3:
            op = "conv"
            attrs |= {"kernel": 1, "stride": stride}
        conv = v.OpLayer(op, attrs, span, op)
        with self.within("shortcut"), self.changed(block_layer=conv):
            result = self.apply(layer, wire, span)
        if self.value(result).shape != wanted:
            gives = f"returns {text(self.value(result).shape)}, but the branch {text(wanted)}"
            raise self.error(
                "E0602",
                f"`{name}` of connection `{connection.name}` {gives}",
                span,
                labels=labels,
                hint="the shortcut must have the shape of the branch",
            )
        return result

    def _names_read(self, expr: s.Expr, env: Env) -> set[str]:
        """Return the names in an expression and in the definitions that it reads."""
        found: set[str] = set()
        waiting = list(self.names_in(expr))
        while waiting:
            name = waiting.pop()
            if name not in found:
                found.add(name)
                part = env.definitions.get(name)
                waiting += () if part is None else self.names_in(part.value)
        return found

    def _joined(self, expr: s.Expr, env: Env) -> v.Joined:
        """Evaluate ``out``, and separate the join from the layers after it."""
        if isinstance(expr, s.Flow):
            join = self.evaluate(expr.steps[0], env, "layer")
            if isinstance(join, v.Wire):
                result: v.Wire = join
                after: list[str] = []
                for step in expr.steps[1:]:
                    layer = self.layer_of(step, env)
                    result = self.apply(layer, result, step.span)
                    after += operations(layer)
                self.note(expr.span, result.id)
                return v.Joined(result, join, tuple(after))
        hint = "combine `branch` and `shortcut`: `out = branch + shortcut`"
        value = self.wire_of(self.evaluate(expr, env), expr.span, hint)
        return v.Joined(value, value, ())


def _defines(declaration: s.Declaration) -> list[s.Define]:
    return [item for item in declaration.body or () if isinstance(item, s.Define)]


def _is_weighted(layer: v.Layer) -> bool:
    return isinstance(layer, v.OpLayer) and OPS[layer.op].weighted
