"""Changing one of a network's three axes: what is BACKBONE, CONNECTION, RULE in its ``stages``."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

from danetc.compiler.frontend.program import Checked, Settings, read_settings
from danetc.compiler.lowering.networks import SETTINGS
from danetc.dsl.modules import Module, Resolved
from danetc.dsl.record import record
from danetc.dsl.syntax import tree as s
from danetc.dsl.syntax.printer import print_expr

PARTS = ("backbone", "depth", "connection", "rule")
"""What ``restaged`` changes. ``depth`` is the backbone of the same family with another number."""

_NUMBERED = re.compile(r"(.*?)(\d+)")


class TopologyError(Exception):
    """A part of the stages cannot be changed so."""


def restaged(checked: Checked, network: str, settings: Settings, parts: Mapping[str, str]) -> str:
    """The text of a network's ``stages`` with some of ``PARTS`` changed, for ``--set stages=...``.

    In ``resnet20(width) via origin by chain -> ...`` every backbone, connection or rule is changed;
    what a stage is parted by stays. ``settings`` may hold ``stages`` too. A backbone that is only
    a name keeps the arguments of the one in its place. Raises TopologyError where ``stages`` has no
    such part, SpecError where a part is no expression.
    """
    stages = _stages(checked, network, settings)
    if stages is None:
        raise TopologyError(
            f"{network} has no `stages`, of which {' and '.join(parts)} could be changed"
        )
    found = {name: _part(name, text) for name, text in parts.items()}
    change = _Change(
        backbone=_backbone(found.get("backbone"), parts.get("depth"), checked.module),
        connection=found.get("connection"),
        rule=found.get("rule"),
    )
    changed = change.rewrite(stages)
    if not change.touched:
        raise TopologyError(
            f"{network} has `stages = {print_expr(stages)}`, which is not of the form "
            "BACKBONE via CONNECTION by RULE; give whole stages: --grid 'stages=..., ...'"
        )
    return print_expr(changed)


def settable(checked: Checked, network: str) -> tuple[str, ...]:
    """The names that ``--set`` takes for a network: parameters and definitions, those of bases too.

    Settings that every network has, as ``neuron``, are among them whether or not it sets them.
    """
    names: dict[str, None] = {}
    for declaration in _levels(checked, network):
        names |= dict.fromkeys(param.name for param in declaration.params)
        names |= dict.fromkeys(
            item.name for item in declaration.body or () if isinstance(item, s.Define)
        )
    return tuple(dict.fromkeys([*names, *SETTINGS]))


def _levels(checked: Checked, network: str) -> Iterator[s.Declaration]:
    """A network that was checked, and those it is a variant of."""
    for level in Resolved(checked.declaration(network), checked.module).lineage():
        yield level.declaration


def _part(name: str, text: str) -> s.Expr:
    """A part that was given as text. Raises SpecError."""
    return read_settings({name: text})[name]


def _stages(checked: Checked, network: str, settings: Settings) -> s.Expr | None:
    """The expression that counts: what is set, else that of the network or of its first base."""
    if "stages" in settings:
        return read_settings({"stages": settings["stages"]})["stages"]
    for declaration in _levels(checked, network):
        for item in declaration.body or ():
            if isinstance(item, s.Define) and item.name == "stages":
                return item.value
    return None


def _backbone(
    wanted: s.Expr | None, depth: str | None, module: Module
) -> Callable[[s.Expr], s.Expr] | None:
    """What makes a backbone of the one in its place."""
    if wanted is not None:
        return lambda old: _renamed(old, wanted)
    if depth is not None:
        return lambda old: _deeper(old, depth, module)
    return None


def _renamed(old: s.Expr, wanted: s.Expr) -> s.Expr:
    if isinstance(wanted, s.Name) and isinstance(old, s.Call):
        return replace(old, function=wanted)
    return wanted


def _deeper(old: s.Expr, depth: str, module: Module) -> s.Expr:
    """``resnet20(width)`` as ``resnet56(width)``."""
    name = s.called(old)
    matched = _NUMBERED.fullmatch(name.id) if name is not None else None
    if name is None or matched is None:
        raise TopologyError(
            f"`{print_expr(old)}` has no depth in its name, as `resnet20` has; give whole "
            "backbones: --grid backbone=..."
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
    """What replaces the parts of ``BACKBONE via CONNECTION by RULE``; None leaves them."""

    backbone: Callable[[s.Expr], s.Expr] | None
    connection: s.Expr | None
    rule: s.Expr | None
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
        """``BACKBONE via CONNECTION``, or a backbone whose blocks wire themselves."""
        self.touched = True
        if isinstance(expr, s.Via):
            connection = self.connection or expr.connection
            return replace(expr, subject=self._replaced(expr.subject), connection=connection)
        if self.connection is not None:
            raise TopologyError(f"`{print_expr(expr)}` has no connection that could be changed")
        return self._replaced(expr)

    def _replaced(self, expr: s.Expr) -> s.Expr:
        if self.backbone is None:
            return expr
        if isinstance(expr, s.At):
            return replace(expr, base=self._replaced(expr.base))
        return self.backbone(expr)
