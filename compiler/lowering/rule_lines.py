"""The lines of a rule: which equations it holds, and what stands there that is none."""

from __future__ import annotations

from collections.abc import Callable

from danetc.compiler.lowering.values import Failed
from danetc.dsl.diagnostics.diagnostic import did_you_mean
from danetc.dsl.diagnostics.fixes import Hint, add, fixes_of, replacing
from danetc.dsl.record import record
from danetc.dsl.syntax import tree as s

Fail = Callable[..., Failed]

FEEDS = ("in", "shortcut")
"""What a rule says of each block."""
_SAYS = (
    "a rule says `in[i] = ...` and `result = ...`, and may say `in[0] = ...`, `shortcut[i] = ...` "
    "and `shortcut[0] = ...`"
)


@record
class RuleLines:
    """A rule's equations: what the blocks after the first take, what the first takes, what the
    shortcuts of either start from, and what the stage gives."""

    rest: s.Define
    result: s.Define
    first: s.Define | None = None
    shortcut: s.Define | None = None
    first_shortcut: s.Define | None = None


def rule_lines(rule: s.Declaration, fail: Fail) -> RuleLines:
    """The equations of a rule's text (E0607)."""
    found: dict[str, s.Define] = {}
    for item in rule.body or ():
        if not isinstance(item, s.Define):
            raise fail("E0607", "a rule holds equations alone", item.span, hint=_SAYS)
        found[_place(item, fail)] = item
    for place, chain in (("in[i]", "in[i] = out[i-1]"), ("result", "result = out[n-1]")):
        if place not in found:
            raise fail(
                "E0607",
                f"rule `{rule.name}` does not define `{place}`",
                rule.name_span,
                hint=Hint(f"add `{place} = ...`", *fixes_of(add(rule, chain), rule.name_span)),
            )
    return RuleLines(
        found["in[i]"],
        found["result"],
        found.get("in[0]"),
        found.get("shortcut[i]"),
        found.get("shortcut[0]"),
    )


def _place(item: s.Define, fail: Fail) -> str:
    """Of what an equation is: ``in[i]``, ``in[0]``, ``result``."""
    name = item.name
    match item.index:
        case s.Name() if name in FEEDS:
            return f"{name}[i]"
        case s.Number() as number if name in FEEDS and number.value == 0:
            return f"{name}[0]"
        case None if name == "result":
            return name
        case None if name in FEEDS:
            message = f"`{name}` needs its index"
            hint: str | None = Hint(
                f"write `{name}[i] = ...`", replacing(item.name_span, f"{name}[i]")
            )
        case index if index is not None and name in FEEDS:
            message = f"`{name}[{index.span.text}]` is not what a rule says"
            hint = (
                f"a rule says `{name}[0] = ...` of block 0 and `{name}[i] = ...` of those after it"
            )
        case _ if name == "result":
            message, hint = "`result` has no index", "write `result = ...`: what the stage gives"
        case _:
            message = f"`{name}` is not an equation of a rule"
            hint = did_you_mean(name, (*FEEDS, "result")) or _SAYS
    raise fail("E0607", message, item.name_span, hint=hint)
