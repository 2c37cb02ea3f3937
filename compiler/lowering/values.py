"""Values of the expressions of a spec during lowering."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import field, replace
from typing import Any, TypeGuard, TypeVar, Union

from danetc.compiler.ir.graph import Attribute
from danetc.dsl.first_weights import Draw
from danetc.dsl.loading import Module
from danetc.dsl.neuron.program import Learn
from danetc.dsl.record import record
from danetc.dsl.syntax.source import Span
from danetc.dsl.syntax.tree import Declaration, Word


class Failed(Exception):
    """Raised after an error was reported, to end the evaluation of an expression.

    It is also the value of an input or a setting with a reported error; reading it raises Failed.
    """


@record
class Wire:
    """Value computed by a node of the graph."""

    id: int


@record
class Initial:
    """Initialisation of weights: the name of a row of ``FIRST_WEIGHTS``, and its text."""

    id: str
    text: str


@record
class LearntValue:
    """``factor * learn + offset``, broadcast to the value that it is combined with; ``learn`` may be
    random numbers of the size of that value.

    ``functions`` are applied to these numbers first, each to ``factor * x + offset``. If it has a
    ``name``, that of a definition in ``scope``, all reads share the same numbers.
    """

    learn: Learn | Draw
    name: str = ""
    scope: tuple[str, ...] = ()
    factor: float = 1.0
    offset: float = 0.0
    functions: tuple[tuple[float, float, str], ...] = ()  # factor, offset, operation

    @property
    def is_plain(self) -> bool:
        return (self.factor, self.offset, self.functions) == (1.0, 0.0, ())


@record(eq=False)
class ArgumentOrigin:
    """Span where the value of a parameter was written.

    ``sources`` returns the origins of the values from which it was computed.
    """

    span: Span
    name: str
    value: Value
    sources: Callable[[], tuple[ArgumentOrigin, ...]] = tuple

    @property
    def text(self) -> str:
        """Text of a label, such as "`width` is 64"."""
        shown = f"{self.value:.12g}" if is_number(self.value) else describe(self.value)
        return f"`{self.name}` is {shown}"


@record(eq=False)
class Bound:
    """Declaration with arguments: a block, connection, rule, neuron or surrogate.

    ``given`` maps arguments to their origins. ``span`` is where the declaration is named, ``at``
    the span of a `spike` that refers to it. ``env`` is the environment of the flow of a stage,
    ``stage(a -> b, N)``, which is a block without a declaration in the text.
    """

    declaration: Declaration
    module: Module
    args: Mapping[str, Value]
    span: Span
    given: Mapping[str, ArgumentOrigin] = field(default_factory=dict)
    at: Span | None = None
    env: Any = None

    @property
    def kind(self) -> str:
        return self.declaration.kind

    @property
    def name(self) -> str:
        return self.declaration.name


@record
class OpLayer:
    """Operation of the table with its attributes; ``weight`` is a layer until it is applied.

    ``role`` is the name of its module, ``at`` the span of a `norm` that refers to it.
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
    """Layer without effect: ``identity`` and ``none``."""

    span: Span


@record
class BlockConv:
    """``conv`` without a width in a connection: the next layer of the block."""

    changes: Mapping[str, Attribute]
    span: Span


@record
class Sequence:
    steps: tuple[Layer, ...]
    span: Span


@record
class Named:
    """Layer of a definition. Its name is the scope of its modules."""

    name: str
    layer: Layer
    span: Span


@record(eq=False)
class SharedLayer:
    """``shared(LAYER)``: a layer whose first use creates the weights of all uses."""

    layer: Layer
    span: Span


@record
class StageOf:
    """``stage(BLOCK, N, stride = S)`` or ``stage(a -> b, N)`` with its ``via``, ``by`` and ``with``.

    ``use_sites`` lists the uses of the backbones that contain it, outermost first.
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

    def with_stages(self, change: Callable[[StageOf], StageOf]) -> Backbone:
        """Return this backbone with all stages changed."""
        items = (change(item) if isinstance(item, StageOf) else item for item in self.items)
        return replace(self, items=tuple(items))

    def part(self, low: int, high: int) -> Backbone:
        """Return stages ``low`` to ``high``, both included.

        A layer between two stages belongs to the later one, a layer after all stages to the last.
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
    """Output of a block, its join, and the operations after the join."""

    output: Wire
    join: Wire
    after: tuple[str, ...]


@record
class LoweredBlock:
    """A block lowered in ``scope``, which later blocks may copy.

    ``totals`` holds the operands, weights and activations of its nodes, ``feed`` its input, and
    ``use_sites`` the uses that led to it. ``settings`` keeps alive the settings with ids in its key.
    ``notes`` are those of the trace.
    """

    scope: tuple[str, ...]
    nodes: range
    totals: tuple[int, ...]
    feed: Wire
    joined: Joined
    use_sites: tuple[Span, ...]
    settings: tuple[object, ...]
    notes: tuple[tuple[Span, int, int | None], ...]


@record
class Inputs:
    """``inputs(a = image(...), b = ...)``: inputs of a network by name, and their spans."""

    wires: Mapping[str, Wire]
    places: Mapping[str, Span]


@record
class Outputs:
    """``outputs(a, b)``: outputs of a network by name."""

    wires: Mapping[str, Wire]


Layer = Union[OpLayer, Identity, BlockConv, Sequence, Named, SharedLayer, Backbone, Bound]
"""Values that are allowed after ``->``; of ``Bound``, only blocks and neurons."""
T = TypeVar("T")
Number = Union[bool, int, float]
Constant = Union[bool, int, float, str]
Value = Union[Constant, Word, Initial, LearntValue, Wire, Layer, Inputs, Outputs, Failed]
"""Value of an expression."""
LAYERS = (OpLayer, Identity, BlockConv, Sequence, Named, SharedLayer, Backbone)


def known(value: T) -> T:
    """Return a value, or raise the Failed that stands for it."""
    if isinstance(value, Failed):
        raise Failed
    return value


def is_number(value: Value) -> TypeGuard[int | float]:
    """True for an int or float that is not a bool."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def is_layer(value: Value) -> TypeGuard[Layer]:
    """True if a value is allowed after ``->``."""
    if isinstance(value, Bound):
        return value.kind in ("block", "neuron")
    return isinstance(value, LAYERS)


_WORDS: Mapping[type, str] = {
    LearntValue: "a number to be learnt",
    Inputs: "several inputs",
    Outputs: "several outputs",
    Sequence: "a flow of layers",
    SharedLayer: "a shared layer",
    BlockConv: "the block's layer",
    Wire: "a value",
    Backbone: "a backbone",
}


def describe(value: Value) -> str:
    """Describe a value in an error message."""
    match value:
        case bool():
            return "true" if value else "false"
        case int() | float():
            return f"the number {value}"
        case str():
            return f'the text "{value if len(value) <= 40 else value[:37] + "..."}"'
        case Word(id):
            return f"the word `{id}`"
        case Initial(id):
            return f"the initialization `{id}`"
        case Bound():
            return f"the {value.kind} `{value.name}`"
        case OpLayer():
            return f"the layer `{value.op}`"
        case LearntValue(Draw()):
            return "random numbers"
    return _WORDS.get(type(value), "a layer")
