"""Base of lowering: state, numbers, unknown names and the arguments of calls."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from copy import copy
from dataclasses import field, replace
from functools import partial
from typing import Any

from danetc.compiler.ir.graph import Node, Stage
from danetc.compiler.ir.ops import OPS, norm_names
from danetc.compiler.lowering import values as v
from danetc.compiler.lowering.builder import Builder, Trace
from danetc.compiler.lowering.environment import (
    CONSTANTS,
    DEFAULT_LAYERS,
    JOINS,
    MATH,
    SPECIAL,
    Env,
    Loops,
    Want,
)
from danetc.dsl.diagnostics.diagnostic import Label, Reporter, did_you_mean, suggestion
from danetc.dsl.diagnostics.fixes import Hint, using_std
from danetc.dsl.diagnostics.habits import answer
from danetc.dsl.diagnostics.suggestions import nearest
from danetc.dsl.first_weights import Draw
from danetc.dsl.loading import Module, standard
from danetc.dsl.neuron.program import Learn, NeuronProgram
from danetc.dsl.record import record
from danetc.dsl.syntax import tree as s
from danetc.dsl.syntax.overrides import named
from danetc.dsl.syntax.source import SourceFile, Span, shorten
from danetc.dsl.syntax.words import OF_PARAMETER

MAX_CONSTANT = 1e15
ROUND = "round a quotient: `floor(...)`, `round(...)`"
MAX_BLAMED = 8
_VALUES = ("in", "x", "branch", "shortcut", "spike", "norm")
LISTED = 8  # maximum number of names in a hint


@record(slots=False)
class Shared:
    """Cache shared by the networks of a check.

    ``names`` maps the id of a tree node to the node (which keeps the id unique), the names in it,
    and True if it has conditions. ``programs`` is keyed by declarations and arguments.
    """

    names: dict[int, tuple[s.Node, tuple[str, ...], bool]] = field(default_factory=dict)
    programs: dict[object, NeuronProgram] = field(default_factory=dict)


MAX_DEPTH = 60
"""Maximum depth of declarations that consist of each other."""


class Evaluator(Builder):
    """State of the lowering of one network, and evaluation of its numeric expressions.

    Each derived class adds methods for some types of expressions or layers. The last one,
    ``Lowering``, implements ``evaluate`` and ``apply``, which call them.
    """

    def __init__(
        self, reporter: Reporter, shared: Shared | None = None, trace: Trace | None = None
    ) -> None:
        super().__init__(reporter, trace)
        self.shared = shared or Shared()
        self.settings: dict[str, v.Value] = {}
        self.learnt: dict[tuple[tuple[str, ...], str], Node] = {}  # by scope and name
        self.settings_read: set[str] = set()  # settings that a layer has read
        self.unfolding: list[s.Declaration] = []  # backbones being unfolded
        self.network: s.Declaration | None = None  # the network being lowered
        self.complete_names = True  # False if an error keeps names out of the file
        self.input_name = ""  # name of the input being read, if there are several
        self.readings: list[Loops] = []  # loops over time being read, outermost first
        self.misspelt: set[str] = set()  # settings of which a reported definition is a misspelling
        self.stages: list[Stage] = []
        self.stage_numbers: dict[tuple[str, ...], int] = {}  # number of stages by scope
        self.programs: dict[object, str] = {}  # keys of the neurons needed so far
        self.block_layer: v.OpLayer | None = None  # meaning of `conv` in a connection
        self.inside: list[s.Declaration] = []  # blocks with bodies being lowered
        self.known_blocks: dict[object, v.LoweredBlock] = {}  # see ``StageBuilder``
        self.shared_nodes: dict[v.SharedLayer, tuple[int, ...]] = {}  # nodes of its first use
        self.written_at: dict[int, Span] = {}  # spans of `spike` and `norm`, by node
        self.resets: dict[int, tuple[v.ArgumentOrigin, ...]] = {}  # see ``Lowered``

    @abstractmethod
    def apply(self, layer: v.Layer, wire: v.Wire, span: Span) -> v.Wire:
        """Apply a layer to a value; new nodes are placed in the current scope."""

    @abstractmethod
    def evaluate(self, expr: s.Expr, env: Env, want: Want = "any") -> v.Value:
        """Evaluate an expression; ``want`` selects one of several meanings of a name."""

    def mark(self) -> Callable[[], None]:
        """Return a function that rolls back to this point, but keeps reported errors."""
        first, stages = len(self.nodes), len(self.stages)
        small = ("totals", "taken", "stage_numbers", "shared_nodes", "known_blocks")
        before = {name: copy(getattr(self, name)) for name in small}
        notes = [] if self.trace is None else self.trace.notes
        noted = len(notes)

        def roll_back() -> None:
            tables: tuple[dict[int, Any], ...]
            tables = self.nodes, self.used, self.carries, self.shares, self.written_at, self.resets
            for id in range(first, len(self.nodes)):
                for table in tables:
                    table.pop(id, None)
                self.inference.forget(id)
            del self.stages[stages:]
            del notes[noted:]
            vars(self).update(before)

        return roll_back

    def wire_of(self, value: v.Value, span: Span, hint: str = "") -> v.Wire:
        """Return a value of the network. Raises Failed for anything else (E0402)."""
        if not isinstance(value, v.Wire):
            hint = hint or "a value starts with `in`: `in -> ...`"
            raise self.error("E0402", f"this is {v.describe(value)}, not a value", span, hint=hint)
        return value

    def bounded(self, value: v.Value, span: Span) -> v.Value:
        """Return the value. Raises Failed for a number that is too large (E0306)."""
        if v.is_number(value) and not abs(value) <= MAX_CONSTANT:
            raise self.error("E0306", f"a constant larger than {MAX_CONSTANT:g}", span)
        return value

    def number(self, expr: s.Expr, env: Env, what: str) -> int | float:
        """Evaluate an expression that must be a number (E0304)."""
        value = self.evaluate(expr, env, "number")
        if not v.is_number(value):
            message = f"{what} must be a number, not {v.describe(value)}"
            raise self.reject("E0304", message, expr, env)
        return value

    def whole(self, expr: s.Expr, env: Env, what: str, low: int, high: int) -> int:
        """Evaluate an expression that must be an integer in ``low .. high`` (E0304, E0305)."""
        value = self.number(expr, env, what)
        if isinstance(value, float):
            if not value.is_integer():
                message = f"{what} must be a whole number, not {value:g}"
                raise self.reject("E0304", message, expr, env, ROUND)
            value = int(value)
        if not low <= value <= high:
            message = f"{what} must be between {low} and {high:,}, not {value:,}"
            raise self.reject("E0305", message, expr, env)
        return value

    def condition(self, expr: s.Expr, env: Env) -> bool:
        """Evaluate an expression that must be true or false (E0304)."""
        return self.truth(self.evaluate(expr, env, "number"), expr, env)

    def truth(self, value: v.Value, expr: s.Expr, env: Env) -> bool:
        """Convert the value of a condition to a bool (E0304)."""
        if not isinstance(value, (bool, int, float)):
            early = "conditions are evaluated before the network runs"
            hint = early if isinstance(value, v.Wire) else None
            message = f"a condition compares numbers, not {v.describe(value)}"
            raise self.reject("E0304", message, expr, env, hint)
        return bool(value)

    def reject(
        self, code: str, message: str, expr: s.Expr, env: Env, hint: str | None = None
    ) -> v.Failed:
        """Report an error of an expression's value, with the origins of the value."""
        return self.error(code, message, expr.span, blame=self.blame(expr, env), hint=hint)

    def blame(self, expr: s.Expr, env: Env) -> tuple[Label, ...]:
        """Return labels at the origins of the names in an expression, and at their sources."""
        found: dict[tuple[SourceFile, int], Label] = {}
        waiting = list(self._origins(expr, env))[::-1]
        while waiting and len(found) < MAX_BLAMED:
            given = waiting.pop()
            place = given.span.source, given.span.start
            if place not in found:
                found[place] = Label(given.span, given.text)
                waiting += given.sources()[::-1]
        return tuple(found.values())

    def _origins(self, expr: s.Expr, env: Env) -> tuple[v.ArgumentOrigin, ...]:
        found: dict[str, v.ArgumentOrigin] = {}
        for id in self.names_in(expr):
            if id in env.given:
                found[id] = env.given[id]
            elif id in env.definitions:
                value, definition = env.cache.get(id), env.definitions[id]
                if isinstance(value, (bool, int, float, str)):
                    found[id] = self.origin(id, value, definition.value, definition.env)
        return tuple(found.values())

    def origin(self, name: str, value: v.Value, expr: s.Expr, env: Env) -> v.ArgumentOrigin:
        """Return the origin of a parameter's value, and of the values it was computed from."""
        return v.ArgumentOrigin(expr.span, name, value, partial(self._origins, expr, env))

    def names_in(self, node: s.Node) -> tuple[str, ...]:
        """Return the unique names in a tree in order. Cached for the check."""
        known = self.shared.names.get(id(node))
        if known is None:
            found, conditional = dict[str, None](), False
            for item in s.walk(node):
                if isinstance(item, s.Name):
                    found[item.id] = None
                choice = isinstance(item, s.Binary) and item.op in ("and", "or")
                choice = choice or (isinstance(item, s.Each) and item.condition is not None)
                conditional = conditional or choice or isinstance(item, s.IfElse)
            known = self.shared.names[id(node)] = (node, tuple(found), conditional)
        return known[1]

    def certain_names(self, expr: s.Expr) -> tuple[str, ...]:
        """Return the names in an expression without conditions; () if it has conditions."""
        names = self.names_in(expr)
        return () if self.shared.names[id(expr)][2] else names

    def unknown(self, id: str, env: Env, span: Span, want: Want = "any") -> v.Failed:
        """Report an unknown name (E0210), unless a reported error explains it.

        Names that fit ``want`` are suggested first.
        """
        if id in ("identity", "none"):
            return self.error("E0303", f"`{id}` takes no arguments", span)
        reporter, declaration = self.reporter, env.module.declaration_at(span)
        if reporter.knows_unknown(declaration, id):
            return v.Failed()
        likely, others = candidates(env, want)
        self.work.spend((len(likely) + len(others)) // 4, span)
        near = nearest(id, likely, others)
        if env.module.excuses(id) and not self._misspelt(id, near, env.module):
            return v.Failed()
        reporter.note_unknown(declaration, id)
        hint = env.elsewhere.get(id)
        if hint is None and id in env.places:
            hint = "a default can only read earlier parameters"
        elif hint is None and not env.module.program.uses and id in standard():
            fix = using_std(env.module.source)
            hint = Hint(f"`{id}` is in the standard library: add `use std`", fix)
        elif hint is None:
            hint = answer("name", id) or suggestion(id, near)
        if hint is None and want in ("any", "layer", "number"):
            hint = "`danetc list operations` and `danetc list std` list the known names"
        elif hint is None:
            names = OF_PARAMETER.get(want) or likely
            listed = ", ".join(f"`{name}`" for name in names[:LISTED])
            hint = f"expected one of {listed}" + ", ..." * (len(names) > LISTED)
            hint = hint if names else f"this file has no {want}: declare one, or add `use std`"
        return self.error("E0210", f"unknown name `{id}`", span, hint=hint)

    def _misspelt(self, id: str, near: tuple[str, ...], module: Module) -> bool:
        """True if a name is certainly misspelt, even though a syntax error hides other names."""
        if not near or module.source.words[id] != 1 or id in module.lost:
            return False
        return not any(  # an error in a module may hide any name
            item.code.startswith("E020")
            or (item.code.startswith("E01") and item.span.source.line(item.span.line)[:3] == "use")
            for item in self.reporter.diagnostics
        )

    # -- arguments of calls ---------------------------------------------------------------------------

    def assign(
        self, call: s.Call, names: list[str], what: str, *of: str, unnamed: int | None = None
    ) -> dict[str, s.Arg]:
        """Return the arguments of a call by the names of their parameters.

        The first ``unnamed`` parameters (default: all) accept positional arguments. ``of`` contains
        the name and the kind of the callee, for suggestions.
        """
        given: dict[str, s.Arg] = {}
        known, places = frozenset(names), names[:unnamed]
        listed = f"its parameters: {', '.join(names)}" if names else ""
        failed: v.Failed | None = None
        for arg, own in zip(call.args, named(call.args, places), strict=True):
            self._no_each(arg)
            name = own.name
            if name is None:
                most = f"at most {len(places)} argument{'s' if len(places) != 1 else ''}"
                most += " without a name" if len(places) < len(names) else ""
                message = f"{what} takes {most if names else 'no arguments'}"
                hint = _called(call) or listed or "leave it out"
                raise self.error("E0303", message, arg.span, hint=hint)
            if name not in known:
                found = answer("parameter", name, *of) or did_you_mean(name, names)
                hint = found or listed or "it has no parameters"
                message = f"{what} has no parameter `{name}`"
                failed = self.error("E0301", message, arg.span, hint=hint)
            elif name in given:
                failed = self.error(
                    "E0302",
                    f"{what} is given `{name}` twice",
                    arg.span,
                    labels=(Label(given[name].span, "given here already"),),
                    hint=_called(call),
                )
            given.setdefault(name, arg)
        if failed is not None:
            raise failed
        return given

    def assign_declared(self, call: s.Call, declaration: s.Declaration) -> dict[str, s.Arg]:
        """Call ``assign`` for a declaration. Raises Failed if a parameter was already reported."""
        kind, id = declaration.kind, declaration.name
        names = [param.name for param in declaration.params]
        reporter, text = self.reporter, declaration.span
        named = [arg.name for arg in call.args if arg.name is not None]
        too_many = len(call.args) - len(named) > len(names)
        if any(name not in names and reporter.knows_unknown(text, name) for name in named) or (
            too_many and reporter.knows_any_unknown(text)
        ):
            raise v.Failed
        return self.assign(call, names, f"{kind} `{id}`", id, kind)

    def assign_special(self, id: str, call: s.Call) -> dict[str, s.Arg]:
        """Call ``assign`` for a function of ``SPECIAL``, some of which have no named parameters."""
        parameters = SPECIAL[id].parameters
        if parameters is not None:
            return self.assign(call, [item.name for item in parameters], f"`{id}`", id)
        for arg in call.args:
            if id not in JOINS:
                self._no_each(arg)
            if arg.name is not None:
                hint = answer("parameter", arg.name, id) or f"write `{SPECIAL[id].usage}`"
                message = f"`{id}` has no parameter `{arg.name}`"
                raise self.error("E0301", message, arg.span, hint=hint)
        return {}

    def _no_each(self, arg: s.Arg) -> None:
        if isinstance(arg.value, s.Each):
            message = "`for` is allowed only in a list of values"
            listed = ", ".join(f"`{name}`" for name in (*JOINS, "outputs"))
            hint = f"lists are the arguments of {listed}"
            raise self.error("E0405", message, arg.span, hint=hint)

    def bind(self, bound: v.Bound, call: s.Call, env: Env) -> v.Bound:
        """Return a declaration with the arguments of a call; ``complete`` adds the defaults."""
        declaration = bound.declaration
        self.work.spend(10 + 2 * len(declaration.params), call.span)
        values, given = dict(bound.args), dict(bound.given)
        for name, arg in self.assign_declared(call, declaration).items():
            value = values[name] = own_numbers(self.evaluate(arg.value, env))
            given[name] = self.origin(name, value, arg.value, env)
            hint = flows_in(arg, call) if isinstance(value, v.Wire) or v.is_layer(value) else None
            if bound.kind == "neuron" and isinstance(value, v.Wire):
                if arg.name is not None:
                    continue  # an input
                if any(p.name == name and p.default is None for p in declaration.params):
                    hint = f"additional inputs are given by name: `{bound.name}({name} = ...)`"
            self._check_number(bound, name, value, arg.value, env, hint)
        return v.Bound(declaration, bound.module, values, call.span, given, bound.at)

    def _check_number(
        self, bound: v.Bound, name: str, value: v.Value, expr: s.Expr, env: Env, hint: str | None
    ) -> None:
        """Report an argument of a neuron, surrogate or rule that is not a number."""
        equations = bound.kind in ("neuron", "surrogate", "rule")
        if not equations or bound.declaration.body is None:
            return
        if not numbers_in({name: value}):
            what = f"`{name}` of {bound.kind} `{bound.name}`"
            message = f"{what} must be a number, not {v.describe(value)}"
            if isinstance(value, v.Initial):
                hint = "random initial values are learnt: `learn(uniform(0.1, 0.9))`"
            elif isinstance(value, v.LearntValue) and isinstance(value.learn, Draw):
                hint = "`random(...)` is a function of equations: `v = x + random(normal(0, 0.1))`"
            raise self.reject("E0304", message, expr, env, hint)

    def complete(self, bound: v.Bound) -> Env:
        """Return the environment of a declaration's body, with its arguments and defaults."""
        declaration = bound.declaration
        if isinstance(bound.env, Env):
            return bound.env
        self.work.spend(4 + 4 * len(declaration.params), bound.span)
        given = dict(bound.given)
        places = {param.name: param.name_span for param in declaration.params}
        env = Env(bound.module, declaration.kind, given=given, places=places)
        for param in declaration.params:
            name = param.name
            if name in bound.args:
                env.values[name] = bound.args[name]
            elif param.default is not None:
                value = env.values[name] = own_numbers(self.evaluate(param.default, env))
                given[name] = self.origin(name, value, param.default, env)
                self._check_number(bound, name, value, param.default, env, None)
            else:
                raise self.error(
                    "E0307",
                    f"{bound.kind} `{bound.name}` needs `{name}`",
                    bound.span,
                    labels=(Label(param.name_span, "this parameter has no default"),),
                    hint=f"write `{bound.name}({name} = ...)`",
                )
        return env

    def follow_alias(self, bound: v.Bound) -> v.Bound:
        """Follow ``kind name = other(...)`` to the declaration that has a body."""
        seen: list[s.Declaration] = []
        kind = bound.kind
        while (
            bound.env is None
            and bound.declaration.body is None
            and bound.declaration.value is not None
        ):
            value = bound.declaration.value
            if kind == "block":
                name = s.called(value)
                named = bound.module.names.get(name.id) if name is not None else None
                if named is None or named.declaration.kind != "block":
                    return bound
            if len(seen) > MAX_DEPTH:
                raise self.too_deep(bound, seen)
            seen.append(bound.declaration)
            target = self.evaluate(value, self.complete(bound), kind)
            if not isinstance(target, v.Bound) or target.kind != kind:
                message = f"{kind} `{bound.name}` is {v.describe(target)}"
                raise self.error("E0403", message, value.span, hint=f"it must name another {kind}")
            bound = replace(target, span=bound.span)
        if bound.declaration.body is not None and bound.declaration.value is not None:
            raise self.error(
                "E0408",
                f"a {kind} either has a body or refers to another, not both",
                bound.declaration.name_span,
                hint="only networks and recipes have variants `= base { ... }`",
            )
        return bound

    def too_deep(self, bound: v.Bound, path: list[s.Declaration]) -> v.Failed:
        """Report a declaration that refers to itself, or is nested too deeply."""
        kind, place = bound.kind, bound.declaration.name_span
        if any(declaration is bound.declaration for declaration in path):
            hint = "to repeat blocks, write `stage(BLOCK, N)`"
            return self.error("E0211", f"{kind} `{bound.name}` refers to itself", place, hint=hint)
        message = f"{kind}s consist of each other more than {MAX_DEPTH} levels deep"
        return self.error("E0902", message, place)


def is_known(id: str, env: Env) -> bool:
    """True if a name has a meaning in an environment."""
    return (
        id in env.values
        or id in env.definitions
        or id in (*CONSTANTS, *SPECIAL, *DEFAULT_LAYERS, "steps")
        or id in env.module.names
        or (id in OPS and OPS[id].public)
    )


def candidates(env: Env, want: Want) -> tuple[list[str], list[str]]:
    """Return the names that fit ``want``, local ones first, and all other names."""
    local = [*env.values, *env.definitions, *env.module.own]
    public = [name for name, op in OPS.items() if op.public]
    rest = [*CONSTANTS, *DEFAULT_LAYERS, *env.module.names, *SPECIAL, *public]
    if want == "any":
        return [*local, *rest], []
    names = env.module.names
    kinds = ("neuron", "block", "backbone") if want == "layer" else (want,)
    may = [name for name in names if names[name].declaration.kind in kinds]
    match want:
        case "number":
            may += [*CONSTANTS, *MATH, "channels", "rows", "columns", "learn", "steps"]
        case "norm":
            may += [*norm_names(), "none"]
        case "backbone":
            may.append("stage")
        case "layer":
            may += [*public, *DEFAULT_LAYERS, "stage", "concat"]
        case _ if want in OF_PARAMETER:
            may += OF_PARAMETER[want]
    own = [name for name in local if name not in names or name in may]
    return [*own, *may], rest


def flows_in(arg: s.Arg, call: s.Call) -> str | None:
    """Return the hint for a layer that is called with a value, as in ``spike(shortcut)``."""
    if arg.name is not None:
        return None
    layer = call.span.text.partition("(")[0].strip()
    others = ", ".join(other.span.text for other in call.args if other is not arg)
    value = arg.value.span.text
    value = value if isinstance(arg.value, s.Name | s.Call | s.Flow) else f"({value})"
    text = f"{shorten(value)} -> {shorten(f'{layer}({others})' if others else layer)}"
    return f"connect a value to a layer with `->`: write `{text}`"


def _called(call: s.Call) -> str | None:
    """Return ``flows_in`` if the first argument of a call looks like a value."""
    first = call.args[0].value
    name = s.called(first)
    is_value = isinstance(first, s.Flow) or (name is not None and name.id in _VALUES)
    return flows_in(call.args[0], call) if is_value else None


def numbers_in(values: Mapping[str, v.Value]) -> dict[str, v.Number | Learn]:
    """Return the parameters that are numbers; other parameters of equations are inputs."""
    numbers: dict[str, v.Number | Learn] = {}
    for name, value in values.items():
        learn = value.learn if isinstance(value, v.LearntValue) and value.is_plain else None
        if isinstance(learn, Learn):
            numbers[name] = learn
        elif isinstance(value, (bool, int, float)):
            numbers[name] = value
    return numbers


def own_numbers(value: v.Value) -> v.Value:
    """Return an argument of a declaration, in which learnt numbers are the declaration's own."""
    return replace(value, name="", scope=()) if isinstance(value, v.LearntValue) else value
