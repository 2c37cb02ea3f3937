"""Checks of declarations that need no network: a library file is checked as well as a network.

Names and arguments are checked in every declaration; neurons are compiled and rules are read with
the defaults of their parameters. Lowering finds the rest, and reports the same error at the same
place only once.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain

from danetc.compiler.ir.ops import OPS
from danetc.compiler.lowering.arguments import assign, assign_declared, assign_special
from danetc.compiler.lowering.blocks import misnamed
from danetc.compiler.lowering.builder import Builder
from danetc.compiler.lowering.connections import parts_of
from danetc.compiler.lowering.declared import complete, follow_alias, numbers_in
from danetc.compiler.lowering.dispatch import NetworkLowering
from danetc.compiler.lowering.environment import MATH, PORTS, SPECIAL, WANTED, Env, Want, wants
from danetc.compiler.lowering.networks import FLATTEN, TOO_NESTED
from danetc.compiler.lowering.stages import rule_reader
from danetc.compiler.lowering.unknown import is_known, unknown
from danetc.compiler.lowering.values import Bound, Failed, Value
from danetc.dsl.diagnostics.diagnostic import Diagnostic, Label, Reporter
from danetc.dsl.diagnostics.habits import answer
from danetc.dsl.modules import Module
from danetc.dsl.neuron.equations import compile_neuron, compile_surrogate
from danetc.dsl.syntax import tree as s
from danetc.dsl.work import Exhausted

VALUES: Mapping[str, Want] = {"block": "layer"}
"""What a declaration ``KIND name = value`` asks for, where that is not another of its kind."""
RULE_SIZES = (5, 64)


def check_declarations(module: Module, reporter: Reporter) -> None:
    """Report what is wrong in a module's own declarations, whether or not a network uses them."""
    checker = _Checker(module, reporter)
    for declaration in module.program.declarations:
        if module.own.get(declaration.name) is not declaration:
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
        self.lowering = NetworkLowering(Builder(reporter, 1))
        self.lowering.settings = {"steps": 1}

    def check(self, declaration: s.Declaration) -> None:
        self._twice(declaration)
        match declaration.kind:
            case "block" | "backbone" | "connection":
                self._names(declaration)
                self._body(declaration)
            case "rule":
                self._rule(declaration)
            case "neuron" | "surrogate":
                self._equations(declaration)
            case "recipe":
                from danetc.dsl.recipe.resolve import resolve_recipe  # late: most files have none

                resolve_recipe(declaration, {}, self.reporter, self.module)

    def _twice(self, declaration: s.Declaration) -> None:
        """No parameter and, but in equations, no name of a body is defined twice, nor anew what a
        declaration knows without a definition."""
        self._known_already(declaration)
        places: dict[str, s.Param | s.Define] = {}
        reported: set[str] = set()
        items: list[s.Param | s.Define] = list(declaration.params)
        if declaration.kind in ("network", "block", "connection", "rule"):
            items += [item for item in declaration.body or () if isinstance(item, s.Define)]
        for item in items:
            name = item.name
            if isinstance(item, s.Define) and isinstance(item.index, s.Number):
                name += f"[{item.index.text}]"  # a rule says `in[0]` and `in[i]`
            first = places.setdefault(name, item)
            shadows = (
                isinstance(first, s.Param)
                and declaration.kind == "network"
                and isinstance(item, s.Define)
            )
            if first is not item and not shadows and name not in reported:
                reported.add(name)
                again = item.name in [getattr(node, "id", "") for node in s.walk(item)]
                self.reporter.error(
                    "E0212",
                    f"`{name}` is defined twice in {declaration.kind} `{declaration.name}`",
                    item.name_span,
                    labels=(Label(first.name_span, "first defined here"),),
                    hint="a name stands for one value; steps are joined by `->`: "
                    f"`{item.name} = in -> ... -> ...`"
                    if again
                    else "give one of them another name",
                )

    def _known_already(self, declaration: s.Declaration) -> None:
        ports = ("in",) if declaration.kind == "network" else PORTS.get(declaration.kind, ())
        items: list[s.Param | s.Define] = [p for p in declaration.params if p.name == "in"]
        items += [item for item in declaration.body or () if isinstance(item, s.Define)]
        for item in items:
            if item.name in ports:
                self.reporter.error(
                    "E0212",
                    f"a {declaration.kind} knows `{item.name}` without a definition, so this one "
                    "would have no effect",
                    item.name_span,
                    hint=answer("part", item.name)
                    or f"give it another name; `{item.name}` can be read as it is",
                )

    # -- flows ------------------------------------------------------------------------------------

    def _names(self, declaration: s.Declaration) -> None:
        known = {param.name for param in declaration.params} | set(PORTS[declaration.kind])
        known |= {item.name for item in declaration.body or () if isinstance(item, s.Define)}
        places = {param.name: param.name_span for param in declaration.params}
        for item in declaration.body or ():
            if isinstance(item, s.Define):
                places.setdefault(item.name, item.name_span)
        env = Env(self.module, declaration.kind, dict.fromkeys(known, 0), places=places)
        roots: list[tuple[s.Expr, Want]] = [
            (param.default, "any") for param in declaration.params if param.default is not None
        ]
        wanted = WANTED.get(declaration.kind, {})
        roots += [
            (item.value, wanted.get(item.name, "any"))
            for item in declaration.body or ()
            if isinstance(item, s.Define)
        ]
        if declaration.value is not None:
            roots.append((declaration.value, VALUES.get(declaration.kind, declaration.kind)))
        for node, want in chain.from_iterable(wants(*root) for root in roots):
            try:
                if isinstance(node, s.Name):
                    self._known(node, env, want)
                elif isinstance(node.function, s.Name):
                    self._arguments(node, node.function.id, env)
            except Failed:
                continue

    def _known(self, name: s.Name, env: Env, want: Want) -> None:
        if not is_known(name.id, env):
            raise unknown(self.lowering, name.id, env, name.span, want)

    def _arguments(self, call: s.Call, id: str, env: Env) -> None:
        if id in env.values or (id in self.module.names and id in OPS):
            return  # lowering knows which of the two is meant
        if id in self.module.names:
            declaration = self.module.names[id].declaration
            assign_declared(self.lowering, call.args, declaration, call.span)
        elif id in MATH and not any(arg.name for arg in call.args):
            assign_special(self.lowering, id, call.args, call.span)  # `max(a, b, c)`, of values
        elif id in OPS and OPS[id].public:
            names = [*OPS[id].names]
            assign(self.lowering, call.args, names, f"`{id}`", call.span, id)
        elif id in SPECIAL and id != "outputs":
            assign_special(self.lowering, id, call.args, call.span)

    def _body(self, declaration: s.Declaration) -> None:
        bound = Bound(declaration, self.module, {}, declaration.name_span)
        if declaration.kind == "connection" and declaration.body is not None:
            parts_of(self.lowering, bound)
        elif declaration.kind == "block" and declaration.body is not None:
            if not any(
                isinstance(item, s.Define) and item.name == "out" for item in declaration.body
            ):
                raise self.lowering.builder.fail(
                    "E0408",
                    f"block `{declaration.name}` does not define `out`",
                    declaration.name_span,
                    labels=misnamed(declaration, "out"),
                    hint="add `out = in -> ...`",
                )
        elif declaration.value is None:
            raise self.lowering.builder.fail(
                "E0408",
                f"{declaration.kind} `{declaration.name}` says nothing",
                declaration.name_span,
            )

    # -- equations --------------------------------------------------------------------------------

    def _defaults(self, declaration: s.Declaration) -> dict[str, Value] | None:
        """The parameters' defaults, or None where one has none (then only uses can be checked)."""
        if any(param.default is None for param in declaration.params):
            return None
        bound = Bound(declaration, self.module, {}, declaration.name_span)
        return dict(complete(self.lowering, bound).values)

    def _rule(self, declaration: s.Declaration) -> None:
        if declaration.body is None or declaration.value is not None:
            follow_alias(self.lowering, Bound(declaration, self.module, {}, declaration.name_span))
            return
        values = self._defaults(declaration)
        if values is None:
            return
        env = Env(self.module, "rule", values)
        bound = Bound(declaration, self.module, {}, declaration.name_span)
        short, long = (self._read(bound, env, blocks) for blocks in RULE_SIZES)
        if long:  # a rule may be meant for stages longer than the short one
            self.lowering.builder.report(short or long)

    def _read(self, rule: Bound, env: Env, blocks: int) -> list[Diagnostic]:
        """What is wrong with a rule in a stage of so many blocks."""
        found = Reporter()
        try:
            reader = rule_reader(NetworkLowering(Builder(found, 1)), rule, env, blocks)
            for i in range(blocks):
                reader.feed_of(i)
                reader.shortcut_of(i)
            reader.result_form()
        except Failed:
            pass
        return found.diagnostics

    def _equations(self, declaration: s.Declaration) -> None:
        values = self._defaults(declaration)
        if values is None:
            return
        if declaration.body is None or declaration.value is not None:
            follow_alias(self.lowering, Bound(declaration, self.module, {}, declaration.name_span))
        elif declaration.kind == "neuron":
            compile_neuron(declaration, numbers_in(values), None, {}, self.reporter)
        else:
            compile_surrogate(declaration, numbers_in(values), self.reporter)
