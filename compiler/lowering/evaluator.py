"""What the parts of lowering ask of it: the values of expressions, with what an error needs to say.

``dispatch`` has the class that does it: each kind of expression and of layer has a module here that
knows this interface alone.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import field
from functools import partial

from danetc.compiler.ir.graph import Node
from danetc.compiler.lowering.builder import Builder
from danetc.compiler.lowering.environment import Env, Loops, Want, certain, rounded
from danetc.compiler.lowering.trace import Trace
from danetc.compiler.lowering.values import (
    Failed,
    Given,
    Invalid,
    Layer,
    Value,
    Wire,
    describe,
    labels_of,
)
from danetc.dsl.diagnostics.diagnostic import Label
from danetc.dsl.neuron.program import NeuronProgram
from danetc.dsl.record import record
from danetc.dsl.syntax import tree as s
from danetc.dsl.syntax.source import Span

MAX_CONSTANT = 1e15
MAX_BLAMED = 8


@record(slots=False)
class Shared:
    """What the networks of a check have in common, computed for the first that needs it.

    ``names`` and ``certain`` hold the names in pieces of the tree, by the identity of the piece,
    which is kept so that no other gets it; ``programs`` the neurons, by declarations and arguments.
    """

    names: dict[int, tuple[s.Node, tuple[str, ...]]] = field(default_factory=dict)
    certain: dict[int, tuple[s.Expr, tuple[str, ...]]] = field(default_factory=dict)
    programs: dict[object, NeuronProgram] = field(default_factory=dict)
    delays: dict[int, tuple[s.Expr, bool]] = field(default_factory=dict)


@record
class Mark:
    """What has been made of a network so far: by its builder, stages, and what was noted of it."""

    built: tuple[int, ...]
    stages: int
    stage_numbers: Mapping[tuple[str, ...], int]
    trace: tuple[int, int] = (0, 0)


class Evaluator(ABC):
    """Evaluates expressions of a spec."""

    def __init__(
        self, builder: Builder, shared: Shared | None = None, trace: Trace | None = None
    ) -> None:
        self.builder = builder
        self.shared = Shared() if shared is None else shared
        self.trace = trace  # what an editor asks to be noted
        self.work = builder.work
        self.settings: dict[str, Value] = {}
        self.learnt: dict[tuple[tuple[str, ...], str], Node] = {}  # by scopes and names
        self.asked: set[str] = set()  # the settings that a layer has read
        self.unfolding: list[s.Declaration] = []  # the backbones being unfolded
        self.network: s.Declaration | None = None  # which is lowered, where one is
        self.complete_names = True  # whether no error keeps names out of the file
        self.input_name = ""  # that of the input being read, where there are several
        self.readings: list[Loops] = []  # the loops over time being read, the outermost first
        self.misspelt: set[str] = set()  # settings that a reported definition was meant to be

    @abstractmethod
    def apply(self, layer: Layer, wire: Wire | Invalid, span: Span) -> Wire | Invalid:
        """What a layer makes of a value; new nodes stand in the builder's scope."""

    @abstractmethod
    def mark(self) -> Mark:
        """What has been made so far, for ``take_back``."""

    @abstractmethod
    def take_back(self, mark: Mark) -> None:
        """Forget all that was made since, errors apart."""

    @abstractmethod
    def encode(
        self, name: str, shape: tuple[int, ...], bound: int | None, span: Span
    ) -> Wire | Invalid:
        """An input of the network: ``image`` or ``events`` of a shape, with counts up to a bound."""

    @abstractmethod
    def evaluate(self, expr: s.Expr, env: Env, want: Want = "any") -> Value:
        """The value of an expression; ``want`` tells a name's two meanings apart (`tdbn`, `sigmoid`)."""

    def bounded(self, value: Value, span: Span) -> Value:
        """A value that is not a number, or is one of a sensible size (E0306)."""
        if (
            isinstance(value, (int, float))
            and not isinstance(value, bool)
            and not abs(value) <= MAX_CONSTANT
        ):
            raise self.builder.fail("E0306", f"a constant larger than {MAX_CONSTANT:g}", span)
        return value

    def number(self, expr: s.Expr, env: Env, what: str = "") -> int | float:
        """An expression that must be a number (E0304)."""
        value = self.evaluate(expr, env, "number")
        if isinstance(value, Invalid):
            raise Failed
        if isinstance(value, (bool, str)) or not isinstance(value, (int, float)):
            needed = f"{what} must be a number" if what else "a number is needed here"
            raise self.builder.fail(
                "E0304", f"{needed}, not {describe(value)}", expr.span, blame=self.blame(expr, env)
            )
        return value

    def condition(self, expr: s.Expr, env: Env) -> bool:
        """An expression that must be true or false (E0304)."""
        return self.truth(self.evaluate(expr, env, "number"), expr, env)

    def truth(self, value: Value, expr: s.Expr, env: Env) -> bool:
        """Whether the value of an expression counts as true (E0304)."""
        if isinstance(value, Invalid):
            raise Failed
        if not isinstance(value, (bool, int, float)):
            raise self.builder.fail(
                "E0304",
                f"a condition compares numbers, not {describe(value)}",
                expr.span,
                blame=self.blame(expr, env),
                hint="it is decided before the network runs" if isinstance(value, Wire) else None,
            )
        return bool(value)

    def blame(self, expr: s.Expr, env: Env) -> tuple[Label, ...]:
        """The places where the parameters and definitions in an expression got their values."""
        return labels_of(self._given(expr, env), MAX_BLAMED)

    def _given(self, expr: s.Expr, env: Env) -> tuple[Given, ...]:
        found: dict[str, Given] = {}
        for id in self.names_in(expr):
            if id in env.given:
                found[id] = env.given[id]
            elif id in env.definitions:
                value = env.cache.get(id)
                if isinstance(value, (bool, int, float, str)):
                    definition = env.definitions[id]
                    behind = partial(self._given, definition.value, definition.env)
                    found[id] = Given(definition.value.span, id, value, behind)
        return tuple(found.values())

    def names_in(self, node: s.Node) -> tuple[str, ...]:
        """The names in a piece of the tree, each once, in order. Read once for all its blocks."""
        known = self.shared.names.get(id(node))
        if known is None:
            names = (item.id for item in s.walk(node) if isinstance(item, s.Name))
            known = self.shared.names[id(node)] = (node, tuple(dict.fromkeys(names)))
        return known[1]

    def certain_names(self, expr: s.Expr) -> tuple[str, ...]:
        """The names in an expression that are read whatever its conditions say, in order."""
        known = self.shared.certain.get(id(expr))
        if known is None:
            known = self.shared.certain[id(expr)] = (expr, tuple(dict.fromkeys(certain(expr))))
        return known[1]

    def source(self, name: str, value: Value, expr: s.Expr, env: Env) -> Given:
        """Where a parameter got its value, and where that came from."""
        return Given(expr.span, name, value, partial(self._given, expr, env))

    def whole(self, expr: s.Expr, env: Env, what: str, low: int, high: int) -> int:
        """An expression that must be a whole number from ``low`` to ``high`` (E0304, E0305)."""
        value = self.number(expr, env, what)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if not isinstance(value, int):
            raise self.builder.fail(
                "E0304",
                f"{what} must be a whole number, not {value:g}",
                expr.span,
                blame=self.blame(expr, env),
                hint=rounded(expr),
            )
        if not low <= value <= high:
            raise self.builder.fail(
                "E0305",
                f"{what} must be between {low} and {high:,}, not {value:,}",
                expr.span,
                blame=self.blame(expr, env),
            )
        return value
