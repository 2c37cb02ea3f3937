"""Replacement of the backbone, the connection or the rule in a network's ``stages``."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace

from danetc.compiler.frontend.program import Checked, Settings, read_settings
from danetc.compiler.lowering.networks import SETTINGS
from danetc.dsl.loading import Module, Resolved
from danetc.dsl.record import record
from danetc.dsl.syntax import tree as s
from danetc.dsl.syntax.printer import print_expr

PARTS = ("backbone", "depth", "connection", "rule")
"""Parts that ``restaged`` can change; ``depth`` selects a backbone of the same family."""

_NUMBERED = re.compile(r"(.*?)(\d+)")


class TopologyError(Exception):
    """Raised if the stages do not contain the part to change."""


def restaged(checked: Checked, network: str, settings: Settings, parts: Mapping[str, str]) -> str:
    """Return a network's ``stages`` with some of ``PARTS`` changed, for ``--set stages=...``.

    Replaces the backbones, connections or rules of ``resnet20(width) via origin by chain -> ...`` and
    keeps the layers between the stages. ``settings`` may contain ``stages``. A new backbone without
    arguments takes those of the old one. Raises TopologyError if ``stages`` has no such part, and
    SpecError if a part is not an expression.
    """
    stages = _stages(checked, network, settings)
    if stages is None:
        raise TopologyError(
            f"{network} has no `stages`, so {' and '.join(parts)} cannot be changed"
        )
    found = read_settings(parts)
    change = _Change(
        checked.module,
        parts.get("depth"),
        found.get("backbone"),
        found.get("connection"),
        found.get("rule"),
    )
    changed = change.rewrite(stages)
    if not change.touched:
        raise TopologyError(
            f"`stages = {print_expr(stages)}` of {network} is not of the form "
            "BACKBONE via CONNECTION by RULE; set the whole line: --grid 'stages=..., ...'"
        )
    return print_expr(changed)


def settable(checked: Checked, network: str) -> tuple[str, ...]:
    """Return the names that ``--set`` accepts for a network.

    These are its parameters and definitions, those of its bases, and the settings of all networks.
    """
    names: list[str] = []
    for declaration in _levels(checked, network):
        names += (param.name for param in declaration.params)
        names += (item.name for item in declaration.body or () if isinstance(item, s.Define))
    return tuple(dict.fromkeys([*names, *SETTINGS]))


def _levels(checked: Checked, network: str) -> Iterator[s.Declaration]:
    """Iterate over a checked network and its bases."""
    for level in Resolved(checked.declaration(network), checked.module).lineage():
        yield level.declaration


def _stages(checked: Checked, network: str, settings: Settings) -> s.Expr | None:
    """Return the effective expression: override, then own, then inherited."""
    if "stages" in settings:
        return read_settings({"stages": settings["stages"]})["stages"]
    for declaration in _levels(checked, network):
        for item in declaration.body or ():
            if isinstance(item, s.Define) and item.name == "stages":
                return item.value
    return None


def _deeper(old: s.Expr, depth: str, module: Module) -> s.Expr:
    """Return ``resnet56(width)`` for ``resnet20(width)`` and a depth of 56."""
    name = s.called(old)
    matched = _NUMBERED.fullmatch(name.id) if name is not None else None
    if name is None or matched is None:
        raise TopologyError(
            f"the name of `{print_expr(old)}` contains no depth, unlike `resnet20`; set the "
            "backbone: --grid backbone=..."
        )
    family = matched[1]
    wanted = f"{family}{depth}"
    known = [each for each in module.names if re.fullmatch(rf"{re.escape(family)}\d+", each)]
    if wanted not in known:
        depths = sorted((each.removeprefix(family) for each in known), key=int)
        raise TopologyError(f"there is no backbone `{wanted}`; `{family}` has {', '.join(depths)}")
    changed = replace(name, id=wanted)
    return replace(old, function=changed) if isinstance(old, s.Call) else changed


@record(frozen=False)
class _Change:
    """Replacements of parts of ``BACKBONE via CONNECTION by RULE``; None keeps a part."""

    module: Module
    depth: str | None = None
    backbone: s.Expr | None = None
    connection: s.Expr | None = None
    rule: s.Expr | None = None
    touched: bool = False

    def rewrite(self, expr: s.Expr) -> s.Expr:
        match expr:
            case s.Flow(steps=steps):
                return replace(expr, steps=tuple(self.rewrite(step) for step in steps))
            case s.With(subject=subject):
                return replace(expr, subject=self.rewrite(subject))
            case s.By(subject=subject, rule=old):
                self.touched = True
                return replace(expr, subject=self._wired(subject), rule=self.rule or old)
            case s.Via():
                wired = self._wired(expr)
                return wired if self.rule is None else s.By(wired, self.rule, span=expr.span)
        return expr

    def _wired(self, expr: s.Expr) -> s.Expr:
        """Rewrite ``BACKBONE via CONNECTION``, or a backbone of blocks with bodies."""
        self.touched = True
        if isinstance(expr, s.Via):
            connection = self.connection or expr.connection
            return replace(expr, subject=self._replaced(expr.subject), connection=connection)
        if self.connection is not None:
            raise TopologyError(f"`{print_expr(expr)}` has no connection to change")
        return self._replaced(expr)

    def _replaced(self, expr: s.Expr) -> s.Expr:
        if isinstance(expr, s.At):
            return replace(expr, base=self._replaced(expr.base))
        if isinstance(self.backbone, s.Name) and isinstance(expr, s.Call):
            return replace(expr, function=self.backbone)
        if self.backbone is not None:
            return self.backbone
        return expr if self.depth is None else _deeper(expr, self.depth, self.module)
