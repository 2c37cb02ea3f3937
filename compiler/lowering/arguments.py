"""The arguments of calls: which parameter each is for."""

from __future__ import annotations

from danetc.compiler.ir.ops import OPS, REQUIRED
from danetc.compiler.lowering.environment import MATH, SPECIAL
from danetc.compiler.lowering.evaluator import Evaluator
from danetc.compiler.lowering.values import (
    Failed,
)
from danetc.dsl.diagnostics.diagnostic import Label, did_you_mean
from danetc.dsl.diagnostics.fixes import Hint, replacing
from danetc.dsl.diagnostics.habits import answer
from danetc.dsl.syntax import tree as s
from danetc.dsl.syntax.source import Span, shorten


def assign(
    evaluator: Evaluator,
    args: tuple[s.Arg, ...],
    names: list[str],
    what: str,
    span: Span,
    *of: str,
    unnamed: int | None = None,
) -> dict[str, s.Arg]:
    """Arguments by the names of the parameters they are for.

    The first ``unnamed`` parameters (None: all) may be given without names. ``of`` are what is called and its kind, by which the names of other languages are known.
    """
    given: dict[str, s.Arg] = {}
    known = frozenset(names)
    position, places = 0, len(names) if unnamed is None else unnamed
    for arg in args:
        _no_each(evaluator, arg)
        if arg.name is None:
            if position >= places:
                most = f"{places} argument{'s' if places != 1 else ''}"
                most += " without a name at most" if places < len(names) else " at most"
                raise evaluator.builder.fail(
                    "E0303",
                    f"{what} takes {most if names else 'no arguments'}",
                    arg.span,
                    hint=_called(args, span)
                    or (f"its parameters: {', '.join(names)}" if names else "leave it out"),
                )
            name = names[position]
            position += 1
        elif arg.name not in known:
            raise evaluator.builder.fail(
                "E0301",
                f"{what} has no parameter `{arg.name}`",
                arg.span,
                hint=answer("parameter", arg.name, *of)
                or did_you_mean(arg.name, names)
                or (f"its parameters: {', '.join(names)}" if names else "it takes none"),
            )
        else:
            name = arg.name
        if name in given:
            raise evaluator.builder.fail(
                "E0302",
                f"{what} is given `{name}` twice",
                arg.span,
                labels=(Label(given[name].span, "given here already"),),
                hint=_called(args, span),
            )
        given[name] = arg
    return given


def assign_declared(
    evaluator: Evaluator, args: tuple[s.Arg, ...], declaration: s.Declaration, span: Span
) -> dict[str, s.Arg]:
    """The same for a declaration. A parameter that its text was reported to lack is no new error."""
    kind, id = declaration.kind, declaration.name
    names = [param.name for param in declaration.params]
    reporter, text = evaluator.builder.reporter, declaration.span
    named = [arg.name for arg in args if arg.name is not None]
    too_many = len(args) - len(named) > len(names)
    if any(name not in names and reporter.knows_unknown(text, name) for name in named) or (
        too_many and reporter.knows_any_unknown(text)
    ):
        raise Failed
    return assign(evaluator, args, names, f"{kind} `{id}`", span, id, kind)


def assign_special(
    evaluator: Evaluator, id: str, args: tuple[s.Arg, ...], span: Span
) -> dict[str, s.Arg]:
    """The same for a function that every spec knows; one that takes values knows no names."""
    names = SPECIAL[id].parameters
    if names is not None:
        return assign(evaluator, args, list(names), f"`{id}`", span, id)
    for arg in args:
        _no_each(evaluator, arg)
        if arg.name is not None:
            raise evaluator.builder.fail(
                "E0301",
                f"`{id}` has no parameter `{arg.name}`",
                arg.span,
                hint=answer("parameter", arg.name, id) or f"write `{SPECIAL[id].usage}`",
            )
    return {}


def _no_each(evaluator: Evaluator, arg: s.Arg) -> None:
    if isinstance(arg.value, s.Each):
        raise evaluator.builder.fail(
            "E0405", "`for` is allowed only in the joins of a rule", arg.span
        )


def flows_in(arg: s.Arg, args: tuple[s.Arg, ...], span: Span, *, is_value: bool) -> str | None:
    """What to write where a layer is called with a value, as a function is: ``spike(shortcut)``.

    ``span`` is the call.
    """
    if arg.name is not None or not is_value:
        return None
    name = span.text.partition("(")[0].strip()
    others = ", ".join(other.span.text for other in args if other is not arg)
    if not others and name in OPS:
        others = "..." if any(row.default is REQUIRED for row in OPS[name].parameters) else ""
    text = shorten(arg.value.span.text)
    if not isinstance(arg.value, s.Name | s.Call | s.Flow):
        text = f"({text})"
    call = f"{name}({others})" if others else name
    hint = f"a value flows into a layer by `->`: write `{text} -> {shorten(call)}`"
    if others == "...":
        return hint
    value = arg.value.span.text
    value = value if text[:1] != "(" else f"({value})"
    return Hint(hint, replacing(span, f"({value} -> {call})"))


def _called(args: tuple[s.Arg, ...], span: Span) -> str | None:
    """The same where the value is not known yet: what is surely none for a parameter."""
    match args[0].value:
        case s.Name(id):
            is_value = id in ("in", "x", "branch", "shortcut")
        case s.Call(s.Name(id)):
            is_value = id not in (*MATH, "channels")
        case value:
            is_value = isinstance(value, s.Flow)
    return flows_in(args[0], args, span, is_value=is_value)
