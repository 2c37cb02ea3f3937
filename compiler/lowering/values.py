"""What an expression of a spec can be while a network is lowered."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import field, replace
from typing import TypeGuard, Union

from danetc.compiler.ir.graph import Attribute
from danetc.dsl.diagnostics.diagnostic import Label
from danetc.dsl.modules import Module
from danetc.dsl.neuron.learn import Learn
from danetc.dsl.record import record
from danetc.dsl.syntax.source import SourceFile, Span
from danetc.dsl.syntax.tree import Declaration


class Failed(Exception):
    """An error was reported; whoever catches this continues with ``INVALID``."""


@record
class Invalid:
    """The value of an expression whose error was reported: nothing more is said about it."""


INVALID = Invalid()


@record
class Wire:
    """A value of the graph by its node."""

    id: int


@record
class Choice:
    """A name that means itself, as an argument: ``over = time``."""

    id: str


@record
class Drawn:
    """What weights start from: a row of ``FIRST_WEIGHTS`` by its name, and its text."""

    id: str
    text: str


@record(eq=False)
class LearntValue:
    """``factor * learn + offset`` among values, of the size that it meets.

    With a ``name``, a definition of the body in ``scope``, it is the same wherever it is read.
    """

    learn: Learn
    name: str = ""
    scope: tuple[str, ...] = ()
    factor: float = 1.0
    offset: float = 0.0

    @property
    def is_plain(self) -> bool:
        return (self.factor, self.offset) == (1.0, 0.0)


@record(eq=False)
class ArgumentOrigin:
    """Where the value of a parameter was written.

    ``sources`` finds where those came from that it is made of; it is asked where an error needs it.
    """

    span: Span
    name: str
    value: Value
    sources: Callable[[], tuple[ArgumentOrigin, ...]] = tuple

    @property
    def text(self) -> str:
        """The value in the words of a label: "`width` is 64"."""
        number = isinstance(self.value, (int, float)) and not isinstance(self.value, bool)
        return f"`{self.name}` is {f'{self.value:.12g}' if number else describe(self.value)}"


def labels_of(values: Iterable[ArgumentOrigin], most: int) -> tuple[Label, ...]:
    """The places of some values and of those behind them, as labels of an error they lead to.

    Each place once, and ``most`` at most: two values may come from the same places by many ways.
    """
    found: list[Label] = []
    seen: set[tuple[SourceFile, int]] = set()
    waiting = list(values)[::-1]
    while waiting and len(found) < most:
        given = waiting.pop()
        place = given.span.source, given.span.start
        if place not in seen:
            seen.add(place)
            found.append(Label(given.span, given.text))
            waiting += given.sources()[::-1]
    return tuple(found)


@record(eq=False)
class Bound:
    """A declaration with arguments: a block, connection, rule, neuron or surrogate.

    ``given`` says where the arguments were written. ``at`` is where `spike` stands, which is the
    network's neuron; ``span`` is where that is named.
    """

    declaration: Declaration
    module: Module
    args: Mapping[str, Value]
    span: Span
    given: Mapping[str, ArgumentOrigin] = field(default_factory=dict)
    at: Span | None = None

    @property
    def kind(self) -> str:
        return self.declaration.kind

    @property
    def name(self) -> str:
        return self.declaration.name


@record
class OpLayer:
    """An operation of the table with its attributes. ``role`` is the name its module gets.

    ``at`` is where `norm` stands, which is the network's; ``span`` is where that is named.
    """

    op: str
    attrs: Mapping[str, Attribute]
    span: Span
    role: str
    at: Span | None = None

    def having(self, **attrs: Attribute) -> OpLayer:
        return replace(self, attrs={**self.attrs, **attrs})


@record
class Identity:
    """``identity`` and ``none``: a layer that changes nothing."""

    span: Span


@record
class BlockConv:
    """``conv`` without a width in a connection: the block's layer that stands at this place."""

    changes: Mapping[str, Attribute]
    span: Span


@record
class Sequence:
    steps: tuple[Layer, ...]
    span: Span


@record
class Named:
    """A layer that a definition names; its modules live in a scope of that name."""

    name: str
    layer: Layer
    span: Span


@record(eq=False)
class SharedLayer:
    """``shared(LAYER)``: the layer, whose weights are made where it stands first."""

    layer: Layer
    span: Span


@record
class StageOf:
    """``stage(BLOCK, N, stride = S)`` with what ``via``, ``by`` and ``with`` said of it.

    ``use_sites`` are the uses of the backbones that it was unfolded from, the outermost first.
    """

    block: Bound
    blocks: int
    stride: int
    span: Span
    connection: Bound | None = None
    rule: Bound | None = None
    settings: Mapping[str, Value] = field(default_factory=dict)
    use_sites: tuple[Span, ...] = ()


@record
class Backbone:
    """Stages and the layers between them, in order."""

    items: tuple[StageOf | Layer, ...]
    span: Span

    @property
    def stages(self) -> tuple[StageOf, ...]:
        return tuple(item for item in self.items if isinstance(item, StageOf))

    def with_stages(self, stages: Iterable[StageOf]) -> Backbone:
        """Return this backbone with other stages."""
        new = iter(stages)
        items = (next(new) if isinstance(item, StageOf) else item for item in self.items)
        return replace(self, items=tuple(items))

    def part(self, low: int, high: int) -> Backbone:
        """Stages ``low`` to ``high``, both included.

        A layer between two stages goes with the later one, what follows the last with the last.
        """
        kept: list[StageOf | Layer] = []
        index = 0
        last = len(self.stages) - 1
        for item in self.items:
            if low <= min(index, last) <= high:
                kept.append(item)
            if isinstance(item, StageOf):
                index += 1
        return replace(self, items=tuple(kept))


@record
class Joined:
    """A block's output, the join in it, and the ops its connection puts after the join."""

    output: Wire | Invalid
    join: Wire | Invalid
    after: tuple[str, ...]


@record
class Inputs:
    """``inputs(a = image(...), b = ...)``: what a network with several inputs takes, by name.

    ``places`` are where they are written.
    """

    wires: Mapping[str, Wire | Invalid]
    places: Mapping[str, Span]


@record
class Outputs:
    """``outputs(a, b)``: what a network with several outputs returns."""

    wires: Mapping[str, Wire | Invalid]


Layer = Union[OpLayer, Identity, BlockConv, Sequence, Named, SharedLayer, Backbone, Bound]
"""What can stand after ``->``: of what is bound, blocks and neurons."""
Number = Union[bool, int, float]
Constant = Union[bool, int, float, str]
Value = Union[Constant, Choice, Drawn, Learn, LearntValue, Wire, Layer, Inputs, Outputs, Invalid]
"""What an expression can be."""
LAYERS = (OpLayer, Identity, BlockConv, Sequence, Named, SharedLayer, Backbone)


def is_number(value: Value) -> TypeGuard[int | float]:
    """True for a number that is not a truth value."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def is_layer(value: Value) -> TypeGuard[Layer]:
    """Whether a value can stand after ``->``."""
    if isinstance(value, Bound):
        return value.kind in ("block", "neuron")
    return isinstance(value, LAYERS)


def placed(layer: Layer) -> Span:
    """Where a layer stands: `spike` and `norm` at their places, not where the network names theirs."""
    at = layer.at if isinstance(layer, Bound | OpLayer) else None
    return layer.span if at is None else at


def describe(value: Value) -> str:
    """A value in the words of an error message."""
    match value:
        case bool():
            return "true" if value else "false"
        case int() | float():
            return f"the number {value}"
        case str():
            return f'the text "{value if len(value) <= 40 else value[:37] + "..."}"'
        case Choice(id):
            return f"the word `{id}`"
        case Drawn(id):
            return f"`{id}`, what weights start from"
        case Learn() | LearntValue():
            return "a number to be learnt"
        case Inputs():
            return "several inputs"
        case Outputs():
            return "several outputs"
        case Sequence():
            return "a flow of layers"
        case SharedLayer():
            return "a shared layer"
        case BlockConv():
            return "the block's layer"
        case Wire():
            return "a value"
        case Bound():
            return f"the {value.kind} `{value.name}`"
        case OpLayer():
            return f"the layer `{value.op}`"
        case Backbone():
            return "a backbone"
        case _ if is_layer(value):
            return "a layer"
    return f"a {type(value).__name__.lower()}"
