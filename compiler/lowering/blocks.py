"""Blocks that wire themselves, and bodies of definitions."""

from __future__ import annotations

from collections.abc import Mapping

from danetc.compiler.lowering.arguments import MAX_DEPTH
from danetc.compiler.lowering.environment import PORTS, Definition, Env
from danetc.compiler.lowering.evaluator import is_known
from danetc.compiler.lowering.layers import LayerCalls
from danetc.compiler.lowering.values import Bound, Invalid, Value, Wire, describe
from danetc.dsl.diagnostics.diagnostic import Label, closest, did_you_mean, meant
from danetc.dsl.diagnostics.habits import answer
from danetc.dsl.diagnostics.suggestions import nearest
from danetc.dsl.syntax import tree as s

MAX_REPEATS = 7  # of a block in itself, which may end by a condition


class Blocks(LayerCalls):
    """Application of blocks that wire themselves."""

    def apply_block(self, bound: Bound, wire: Wire) -> Wire | Invalid:
        """Apply a block as a layer."""
        block = self.follow_alias(bound)
        if block.declaration.body is None:
            hint = f"write `stage({bound.name}(...), 1) via CONNECTION`"
            message = f"block `{bound.name}` has no connection"
            raise self.error("E0605", message, bound.span, hint=hint)
        with self.within(self.fresh(bound.name)), self.site(bound.span):
            return self.self_wired(block, wire, {})

    def self_wired(self, block: Bound, wire: Wire, extra: Mapping[str, Value]) -> Wire | Invalid:
        """Return the ``out`` of a block's body."""
        declaration = block.declaration
        self.inside.append(declaration)
        try:
            again = sum(item is declaration for item in self.inside)
            if again > MAX_REPEATS or len(self.inside) > MAX_DEPTH:
                raise self.too_deep(block, self.inside[:-1])
            env = self.complete(block)
            env.scope = self.scope
            for name, value in {**extra, "in": wire}.items():
                env.values.setdefault(name, value)
            self._define(declaration, env)
            if "out" not in env.definitions:
                raise self.error(
                    "E0408",
                    f"block `{block.name}` does not define `out`",
                    declaration.name_span,
                    labels=misnamed(declaration, "out"),
                    hint="add `out = in -> ...`",
                )
            out = env.definitions["out"]
            result = self.defined("out", env, out.span)
            self.report_unused(env, declaration)
            if not isinstance(result, (Wire, Invalid)):
                message = f"`out` of block `{block.name}` is {describe(result)}, not a value"
                hint = "a value starts at `in`: `out = in -> ...`"
                raise self.error("E0402", message, out.value.span, hint=hint)
            return result
        finally:
            self.inside.pop()

    def _define(self, declaration: s.Declaration, env: Env) -> None:
        """Add the definitions of a body to its environment."""
        self.work.spend(2 * len(declaration.body or ()), declaration.name_span)
        for item in declaration.body or ():
            if not isinstance(item, s.Define) or item.index is not None:
                message = f"a {declaration.kind} holds definitions `name = value` alone"
                raise self.error("E0408", message, item.span)
            # a second definition was reported
            env.definitions.setdefault(item.name, Definition(item.value, env, item.name_span))

    def report_unused(
        self, env: Env, declaration: s.Declaration, settings: tuple[str, ...] = ()
    ) -> None:
        """Report the definitions of a body that nothing reads.

        The text tells what is read, so that an earlier error causes no false ones.
        """
        values = {name: definition.value for name, definition in env.definitions.items()}
        written = [(item.name, item.value) for item in _defines(declaration)]
        read = {
            id
            for name, value in [*values.items(), *written]  # the second of two of a name, too
            for id in self.names_in(value)
            if id != name  # a loop that it alone reads is not read
        }
        ports = PORTS.get(declaration.kind, ())  # whose definition is reported
        reads_unknown: bool | None = None  # computed if needed
        for item in declaration.body or ():
            id = item.name or "" if isinstance(item, s.Group) else item.name
            if id in (*env.used, *read, "out", *ports) or id not in env.definitions:
                continue
            if id not in settings and not nearest(id, settings):
                if reads_unknown is None:
                    wanted = {"out", *env.used, *read, *settings} if settings else {*values}
                    reads_unknown = self._reads_unknown(env, declaration, wanted)
                if reads_unknown:
                    continue  # a name that is reported as unknown may have been meant to be this one
            hint: str | None = None
            what = f"nothing uses `{id}` of {declaration.kind} `{declaration.name}`"
            if id in settings:
                if "out" not in env.definitions:
                    continue
                what = f"`{id}` has no effect, since `out` says what the network gives"
                hint = f"use it there: `out = in -> ... -> {id}`, or leave `out` out"
            elif settings:
                what = f"`{id}` is not a setting of a {declaration.kind}, and nothing uses it"
                near = closest(id, [other for other in settings if other not in env.definitions])
                hint = meant(id, (near,)) if near else did_you_mean(id, settings)
                hint = answer("setting", id) or hint or f"settings are: {', '.join(settings)}"
                if near:
                    self.misspelt.add(near)
            self.error("E0308", what, item.name_span, hint=hint)

    def _reads_unknown(self, env: Env, declaration: s.Declaration, wanted: set[str]) -> bool:
        """True if a ``wanted`` definition reads an unknown name, which is an error of its own."""
        ports = PORTS.get(declaration.kind, ("in",))
        return not all(
            name in ports or is_known(name, definition.env)
            for id, definition in env.definitions.items()
            if id in wanted
            for name in self.names_in(definition.value)
        )


def _defines(declaration: s.Declaration) -> list[s.Define]:
    return [item for item in declaration.body or () if isinstance(item, s.Define)]


def misnamed(declaration: s.Declaration, wanted: str) -> tuple[Label, ...]:
    """Label the definition that was probably meant to have the wanted name."""
    places = {item.name: item.name_span for item in declaration.body or () if item.name}
    close = closest(wanted, places)
    return () if close is None else (Label(places[close], f"did you mean `{wanted}`?"),)
