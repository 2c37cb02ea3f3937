"""Blocks that wire themselves, and bodies of definitions."""

from __future__ import annotations

from collections.abc import Mapping

from danetc.compiler.lowering.declared import MAX_DEPTH, complete, follow_alias, too_deep
from danetc.compiler.lowering.environment import PORTS, Definition, Env
from danetc.compiler.lowering.names import defined
from danetc.compiler.lowering.state import Lowering
from danetc.compiler.lowering.unknown import is_known
from danetc.compiler.lowering.values import (
    Bound,
    Invalid,
    Value,
    Wire,
    describe,
)
from danetc.dsl.diagnostics.diagnostic import Label, closest, did_you_mean, meant
from danetc.dsl.diagnostics.habits import answer
from danetc.dsl.diagnostics.suggestions import nearest
from danetc.dsl.syntax import tree as s

MAX_REPEATS = 7  # of a block in itself, which may end by a condition


def apply_block(lowering: Lowering, bound: Bound, wire: Wire) -> Wire | Invalid:
    """A block as a layer: one that wires itself."""
    block = follow_alias(lowering, bound)
    if block.declaration.body is None:
        raise lowering.builder.fail(
            "E0605",
            f"block `{bound.name}` has no connection",
            bound.span,
            hint=f"write `stage({bound.name}(...), 1) via CONNECTION`",
        )
    with (
        lowering.builder.within(lowering.builder.fresh(bound.name)),
        lowering.builder.site(bound.span),
    ):
        return self_wired(lowering, block, wire, {})


def self_wired(
    lowering: Lowering, block: Bound, wire: Wire, extra: Mapping[str, Value]
) -> Wire | Invalid:
    """A block with a body of its own: the value of its ``out``."""
    lowering.inside.append(block.declaration)
    try:
        again = sum(item is block.declaration for item in lowering.inside)
        if again > MAX_REPEATS or len(lowering.inside) > MAX_DEPTH:
            raise too_deep(lowering, block, lowering.inside[:-1])
        env = complete(lowering, block)
        env.scope = lowering.builder.scope
        for name, value in {**extra, "in": wire}.items():
            env.values.setdefault(name, value)
        _define(lowering, block.declaration, env)
        if "out" not in env.definitions:
            raise lowering.builder.fail(
                "E0408",
                f"block `{block.name}` does not define `out`",
                block.declaration.name_span,
                labels=misnamed(block.declaration, "out"),
                hint="add `out = in -> ...`",
            )
        result = defined(lowering, "out", env, env.definitions["out"].span)
        report_unused(lowering, env, block.declaration)
        if not isinstance(result, (Wire, Invalid)):
            raise lowering.builder.fail(
                "E0402",
                f"`out` of block `{block.name}` is {describe(result)}, not a value",
                env.definitions["out"].value.span,
                hint="a value starts at `in`: `out = in -> ...`",
            )
        return result
    finally:
        lowering.inside.pop()


def _define(lowering: Lowering, declaration: s.Declaration, env: Env) -> None:
    """Add the definitions of a body to its environment."""
    lowering.work.spend(2 * len(declaration.body or ()), declaration.name_span)
    for item in declaration.body or ():
        if not isinstance(item, s.Define) or item.index is not None:
            raise lowering.builder.fail(
                "E0408",
                f"a {declaration.kind} holds definitions `name = value` alone",
                item.span,
            )
        # A second one is an error already, and is not met again as another.
        env.definitions.setdefault(item.name, Definition(item.value, env, item.name_span))


def report_unused(
    lowering: Lowering, env: Env, declaration: s.Declaration, settings: tuple[str, ...] = ()
) -> None:
    """Report the definitions of a body that nothing reads.

    What is read is seen in the text, so that an error in between has no false ones behind it.
    """
    read: set[str] = set()
    for name, definition in env.definitions.items():  # a loop that only it reads is read by nobody
        read.update(id for id in lowering.names_in(definition.value) if id != name)
    for item in declaration.body or ():  # of two of one name the second counts as well
        if isinstance(item, s.Define):
            read.update(id for id in lowering.names_in(item.value) if id != item.name)
    reads_unknown: bool | None = None  # looked up where it matters
    for item in declaration.body or ():
        id = item.name or "" if isinstance(item, s.Group) else item.name
        if id in env.used or id in read or id == "out" or id not in env.definitions:
            continue
        if id in PORTS.get(declaration.kind, ()):
            continue  # reported: a block knows them already
        if id not in settings and not nearest(id, settings):
            if reads_unknown is None:
                wanted = {"out", *env.used, *read, *settings} if settings else {*env.definitions}
                reads_unknown = _reads_unknown(lowering, env, declaration, wanted)
            if reads_unknown:
                continue  # a name that is reported as unknown may have been meant to be this one
        kind, name, hint = declaration.kind, declaration.name, None
        what = f"nothing uses `{id}` of {kind} `{name}`"
        if id in settings:
            if "out" not in env.definitions:
                continue
            what = f"`{id}` has no effect, since `out` says what the network gives"
            hint = f"use it there: `out = in -> ... -> {id}`, or leave `out` out"
        elif settings:
            what = f"`{id}` is not a setting of a {kind}, and nothing uses it"
            near = closest(id, [other for other in settings if other not in env.definitions])
            hint = meant(id, (near,)) if near else did_you_mean(id, settings)
            hint = answer("setting", id) or hint or f"settings are: {', '.join(settings)}"
            if near:
                lowering.misspelt.add(near)
        lowering.builder.error("E0308", what, item.name_span, hint=hint)


def _reads_unknown(
    lowering: Lowering, env: Env, declaration: s.Declaration, wanted: set[str]
) -> bool:
    """Whether a definition of a body that is ``wanted`` reads a name that is not known, which is an
    error of its own. (In a line of a network that nothing reads it is none: names there are not
    looked at, as those of other bodies are.)"""
    ports = PORTS.get(declaration.kind, ("in",))
    return not all(
        name in ports or is_known(name, definition.env)
        for id, definition in env.definitions.items()
        if id in wanted
        for name in lowering.names_in(definition.value)
    )


def misnamed(declaration: s.Declaration, wanted: str) -> tuple[Label, ...]:
    """A label of the definition that was probably meant to have the wanted name."""
    places = {item.name: item.name_span for item in declaration.body or () if item.name}
    close = closest(wanted, places)
    return () if close is None else (Label(places[close], f"did you mean `{wanted}`?"),)
