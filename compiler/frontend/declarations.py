"""Checks of declarations that need no network, so that library files are checked, too.

Each declaration is checked for unknown names and wrong arguments. Neurons and rules are compiled
with the defaults of their parameters. Lowering reports all other errors.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain
from typing import TYPE_CHECKING

from danetc.compiler.ir.ops import OPS
from danetc.compiler.lowering.environment import (
    PORTS,
    SPECIAL,
    WANTED,
    Env,
    Want,
    is_function,
    wants,
)
from danetc.compiler.lowering.evaluator import is_known, numbers_in
from danetc.compiler.lowering.networks import FLATTEN, TOO_NESTED, Lowering
from danetc.compiler.lowering.rules import FEEDS, RuleReader
from danetc.compiler.lowering.values import Bound, Failed
from danetc.dsl.diagnostics.diagnostic import Diagnostic, Label, Reporter, did_you_mean
from danetc.dsl.diagnostics.habits import answer
from danetc.dsl.first_weights import RANDOM_STARTS
from danetc.dsl.loading import Module
from danetc.dsl.neuron.equations import compile_neuron, compile_surrogate
from danetc.dsl.syntax import tree as s
from danetc.dsl.syntax.source import Span
from danetc.dsl.work import Exhausted

if TYPE_CHECKING:
    from danetc.dsl.recipe.settings import Phase

VALUES: Mapping[str, Want] = {"block": "layer"}
"""Expected values of ``KIND name = value``; by default another declaration of the kind."""
RULE_SIZES = (5, 64)
"""Numbers of blocks with which rules are checked."""


def check_declarations(module: Module, reporter: Reporter) -> None:
    """Report errors in all declarations of a module, even if no network uses them."""
    checker = _Checker(module, reporter)
    for declaration in module.program.declarations:
        if not module.declares(declaration):
            continue
        try:
            checker.check(declaration)
        except Failed:
            continue
        except Exhausted as end:
            raise Exhausted(end.limit, end.span or declaration.name_span) from None
        except RecursionError:
            reporter.error("E0902", TOO_NESTED, declaration.name_span, hint=FLATTEN)


class _Checker:
    def __init__(self, module: Module, reporter: Reporter) -> None:
        self.module = module
        self.reporter = reporter
        self.lowering = Lowering(reporter)
        self.lowering.settings = {"steps": 1}

    def check(self, declaration: s.Declaration) -> None:
        defines = [item for item in declaration.body or () if isinstance(item, s.Define)]
        self._predefined(declaration, defines)
        self._duplicates(declaration, defines)
        match declaration.kind:
            case "block" | "backbone" | "connection":
                self._names(declaration, defines)
                self._body(declaration, defines)
            case "rule" | "neuron" | "surrogate":
                self._equations(declaration)
            case "recipe":
                from danetc.dsl.recipe.resolve import resolve_recipe  # deferred: for recipes only

                recipe = resolve_recipe(declaration, {}, self.reporter, self.module)
                for phase in recipe.phases if recipe is not None else ():
                    self._parts(phase, declaration.name_span)

    def _parts(self, phase: Phase, place: Span) -> None:
        """Report parts that no network of the file has.

        Files with a variant, whose base may have more parts, are skipped, and so are files with a
        network that defines `out`, in which operations are parts, too.
        """
        own = [item for item in self.module.own.values() if item.kind == "network"]
        names = {
            item.name for each in own for item in each.body or () if isinstance(item, s.Define)
        }
        if not own or "out" in names or any(item.value is not None for item in own):
            return
        for key, parts in (("freeze", phase.freeze), ("lr_scale", phase.lr_scale)):
            for name in (part.item.name for part in parts or () if part.item.name not in names):
                span, hint = dict(phase.origins)[key].span or place, did_you_mean(name, names)
                message = f"no network of this file has a part `{name}`"
                self.reporter.error("E0804", message, span, hint=hint)

    def _predefined(self, declaration: s.Declaration, defines: list[s.Define]) -> None:
        """Report definitions of names that a declaration predefines."""
        kind = declaration.kind
        ports = ("in",) if kind == "network" else PORTS.get(kind, ())
        fixed = ports if kind == "connection" else ("in",)
        items: list[s.Param | s.Define] = [p for p in declaration.params if p.name in fixed]
        for item in [*items, *defines]:
            if item.name in ports:
                hint = f"rename it, or remove it to read the predefined `{item.name}`"
                self.reporter.error(
                    "E0212",
                    f"a {kind} predefines `{item.name}`, so this definition would have no effect",
                    item.name_span,
                    hint=answer("part", item.name) or hint,
                )

    def _duplicates(self, declaration: s.Declaration, defines: list[s.Define]) -> None:
        """Report parameters and definitions of the same name, except in equations."""
        places: dict[str, s.Param | s.Define] = {}
        reported: set[str] = set()
        kind = declaration.kind
        has_lines = kind in ("network", "block", "connection", "rule")
        for item in (*declaration.params, *(defines if has_lines else ())):
            name = item.name
            if isinstance(item, s.Define) and isinstance(item.index, s.Number):
                name += f"[{item.index.text}]"  # `in[0]` and `in[i]` are different
            first = places.setdefault(name, item)
            shadows = (
                kind == "network" and isinstance(first, s.Param) and isinstance(item, s.Define)
            )
            if first is item or shadows or name in reported:
                continue
            reported.add(name)
            hint = "give one of them another name"
            if item.name in [getattr(node, "id", "") for node in s.walk(item)]:
                hint = (
                    "a name has one value; connect steps with `->`: "
                    f"`{item.name} = in -> ... -> ...`"
                )
            self.reporter.error(
                "E0212",
                f"`{name}` is defined twice in {kind} `{declaration.name}`",
                item.name_span,
                labels=(Label(first.name_span, "first defined here"),),
                hint=hint,
            )

    # -- flows ------------------------------------------------------------------------------------

    def _names(self, declaration: s.Declaration, defines: list[s.Define]) -> None:
        """Check the names and the arguments of calls in a declaration."""
        kind, params = declaration.kind, declaration.params
        places: dict[str, Span] = {}
        items: tuple[s.Param | s.Define, ...] = (*params, *defines)
        for item in items:
            places.setdefault(item.name, item.name_span)
        local = (*places, *PORTS[kind], *s.variables(declaration))
        env = Env(self.module, kind, dict.fromkeys(local, 0), places=places)
        roots: list[tuple[s.Expr, Want]] = [
            (param.default, "any") for param in params if param.default is not None
        ]
        wanted = WANTED.get(kind, {})
        roots += [(item.value, wanted.get(item.name, "any")) for item in defines]
        if declaration.value is not None:
            roots.append((declaration.value, VALUES.get(kind, kind)))
        for node, want in chain.from_iterable(wants(*root) for root in roots):
            try:
                if isinstance(node, s.Name):
                    if not is_known(node.id, env):
                        raise self.lowering.unknown(node.id, env, node.span, want)
                elif isinstance(node.function, s.Name):
                    self._arguments(node, node.function.id, env)
            except Failed:
                continue

    def _arguments(self, call: s.Call, id: str, env: Env) -> None:
        ambiguous = id in RANDOM_STARTS or (id in self.module.names and id in OPS)
        if id in env.values or ambiguous:
            return  # its meaning depends on the context
        if id in self.module.names:
            declaration = self.module.names[id].declaration
            self.lowering.assign_declared(call, declaration)
        elif is_function(call, id):
            self.lowering.assign_special(id, call)
        elif id in OPS and OPS[id].public:
            self.lowering.assign(call, [*OPS[id].names], f"`{id}`", id)
        elif id in SPECIAL and id not in ("outputs", "python"):
            self.lowering.assign_special(id, call)

    def _body(self, declaration: s.Declaration, defines: list[s.Define]) -> None:
        kind, place = declaration.kind, declaration.name_span
        if kind == "connection" and declaration.body is not None:
            self.lowering.parts_of(Bound(declaration, self.module, {}, place))
        elif kind == "block" and declaration.body is not None:
            if not any(item.name == "out" for item in defines):
                raise self.lowering.no_out(declaration)
        elif declaration.value is None:
            raise self.lowering.error("E0408", f"{kind} `{declaration.name}` is empty", place)

    # -- equations --------------------------------------------------------------------------------

    def _equations(self, declaration: s.Declaration) -> None:
        """Check a rule, neuron or surrogate, with the defaults of its parameters."""
        bound = Bound(declaration, self.module, {}, declaration.name_span)
        named = declaration.body is None or declaration.value is not None
        if named and declaration.kind == "rule":
            self.lowering.follow_alias(bound)
            return
        if any(param.default is None for param in declaration.params):
            return  # checked when it is used
        values = self.lowering.complete(bound).values
        if named:
            self.lowering.follow_alias(bound)
        elif declaration.kind == "neuron":
            compile_neuron(declaration, numbers_in(values), None, {}, self.reporter)
        elif declaration.kind == "surrogate":
            compile_surrogate(declaration, numbers_in(values), self.reporter)
        else:
            env = Env(self.module, "rule", values)
            short, long = (self._read(bound, env, blocks) for blocks in RULE_SIZES)
            for item in (short or long) if long else ():  # it may be valid for long stages only
                self.lowering.report(item)

    def _read(self, rule: Bound, env: Env, blocks: int) -> list[Diagnostic]:
        """Return the errors of a rule in a stage of ``blocks`` blocks."""
        found = Reporter()
        try:
            reader = RuleReader(Lowering(found), rule.declaration, env, blocks)
            for i in range(blocks):
                for name in FEEDS:
                    reader.form_of(name, i)
            reader.form_of("result")
        except Failed:
            pass
        return found.diagnostics
