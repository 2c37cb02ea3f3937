"""What a row of the table of operations is: all that anything asks of an operation.

Rules get the attributes, complete, and the values of the operands; shapes are those of one sample
at one time step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import field
from typing import Any, Literal, TypeAlias, TypeVar

from danetc.compiler.ir.graph import Attribute, Graph, Shape, Value
from danetc.compiler.ir.ops.kinds import Attrs, Values
from danetc.dsl.kinds import Kind
from danetc.dsl.neuron.program import NeuronProgram
from danetc.dsl.record import record

REQUIRED: Any = object()
T = TypeVar("T")


class OpError(Exception):
    """An operation cannot be applied: a message and what to change."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


@record
class Parameter:
    """A parameter of an operation in the language. ``low``..``high`` are inclusive bounds.

    ``words`` are what it takes beside numbers (``padding = same``), or instead of them where its
    type is ``str`` (``over = time``). It may be left out where ``unless`` is given. What is ``sugar`` tells which operation it stands for, and no
    graph has it. Where it has a name in recipes, ``schedule`` (``linear.masked``), it takes
    ``scheduled(...)`` too: the module then has a buffer, and says which in ``scheduled``.
    """

    name: str
    type: type
    meaning: str
    default: Attribute = REQUIRED
    low: float | None = None
    high: float | None = None
    words: tuple[str, ...] = ()
    sugar: bool = False
    unless: str = ""
    schedule: str = ""
    shape_of: bool = False
    """It takes a value, whose shape the result must have; nothing of it is an attribute."""


@record
class TorchModule:
    """A torch module by the dotted name of its class, with its constructor's arguments.

    ``layout`` says what forward takes: ``flat`` has T and N as one leading dimension, ``seq`` has
    them apart, ``any`` takes both and returns what it got.
    """

    target: str
    args: tuple[Attribute, ...] = ()
    kwargs: Mapping[str, Attribute | tuple[int, int]] = field(default_factory=dict)
    layout: Literal["flat", "seq", "any"] = "flat"


@record
class TorchFunction:
    """A function by its dotted name, called with the operands and then ``args`` and ``kwargs``.

    ``fold`` applies it pairwise from the left; ``as_list`` passes the operands as one list;
    ``before`` are constants that stand before the operands. The ``layout`` is as of a module, or ``beside``:
    apart, for what several neurons read beside others.
    """

    target: str
    args: tuple[Attribute, ...] = ()
    kwargs: Mapping[str, Attribute] = field(default_factory=dict)
    layout: Literal["flat", "seq", "any", "beside"] = "seq"
    fold: bool = False
    as_list: bool = False
    before: tuple[Attribute, ...] = ()


@record
class Context:
    """What a rule knows beyond its operands: T and the programs of the neurons."""

    steps: int
    neurons: Mapping[str, NeuronProgram]

    @staticmethod
    def of(graph: Graph) -> Context:
        return Context(graph.steps, graph.neurons)

    def neuron(self, attrs: Attrs) -> NeuronProgram:
        """The program of a neuron, by its attributes."""
        return self.neurons[str(attrs["neuron"])]


@record
class Product:
    """Multiply-accumulates of one sample at one step, and the kinds of what is multiplied by what.

    A layer of weights has one kind, that of its input.
    """

    macs: int
    kinds: tuple[Kind, ...]


Emit: TypeAlias = Callable[[Attrs, Values, Value, Context], TorchModule | TorchFunction | None]
Steps: TypeAlias = tuple[tuple[str, Attrs], ...]
Stands: TypeAlias = Callable[[Attrs, Callable[[], float]], tuple[str, Attrs]]
OnnxForm: TypeAlias = Callable[[Any, Any, Sequence[str]], str]
"""Operators of ONNX: of who writes them, what they know of the node, and the operands by name
(``compiler.ir.ops.onnx``)."""
Weights: TypeAlias = Callable[[Attrs, Values, Context], dict[str, Shape]]


def _named(attrs: Attrs) -> tuple[str, str]:
    return "", ""


@record
class Regrouped:
    """An operation on what another made of operands, and one that does both in another order.

    ``before`` made the first operand, ``into`` takes the operands of that and then the others.
    ``attrs`` are those of ``into``, of the two operations'. ``gains`` says of its operands whether it
    is shorter and gives the same; ``asked`` whether the spec wants it.
    """

    before: str
    into: str
    attrs: Callable[[Attrs, Attrs], Attrs]
    gains: Callable[[Attrs, Attrs, Values], bool]
    asked: Callable[[Attrs], bool]


@record
class Op:
    """A row of the table. What has a default holds of most operations."""

    name: str
    meaning: str
    shape: Callable[[Attrs, Values], Shape]
    kind: Callable[[Attrs, Values], Kind]
    emit: Emit
    """What it becomes in a model; None of one that no model has."""
    parameters: tuple[Parameter, ...] = ()

    # -- in the language
    public: bool = True
    """It can be written in a spec."""
    operands: tuple[int, int | None] = (1, 1)
    """The fewest and the most."""
    arguments: tuple[str, ...] = ()
    """Its operands by name, of one that is written as a function of values: `scores(q, k)`."""
    size_of: int | None = None
    """The place of the operand of which the size alone counts."""
    pixels: bool = True
    """Rows and columns of what it gives are those of an image."""
    complete: Callable[[dict[str, Any]], None] | None = None
    """Puts in the attributes whose defaults depend on others (of None until then)."""
    bare: str = ""
    """The operation that it is where it is written without arguments, if that is another."""
    stands_for: Stands | None = None
    """The operation that it is another name for, or is with such attributes, else itself; gets the
    threshold of the network's neuron. Raises OpError."""
    chosen: Callable[[Attrs, Values, int], Steps] | None = None
    """The operations that it is on such operands in a network of so many steps, one behind the other,
    or itself alone. Raises OpError."""
    flattens: bool = False
    """It takes a vector: a map is flattened before it."""
    example: str = ""
    """How its page shows it: a flow behind `a`, which are spikes of 8 x 16 x 16, or one that starts
    with a value (`a`, `b` of the same size, `in`, an image of 3 x 16 x 16)."""
    source: str = ""
    """The paper that it is from."""
    # -- time, randomness, gradients
    time: Literal["pointwise", "creates", "reduces", "neuron", "per_step", "mixes", "constant"] = (
        "pointwise"
    )
    """How it treats time steps: each by itself and alike; it makes them of a static value; it makes a
    static value of them; as a neuron's states do; each by itself with parameters of its own; or
    (``mixes``) what it gives at a step depends on others; or (``constant``) it gives what training
    passes leave behind, the same at all steps."""
    ahead: Callable[[Attrs], bool] = lambda attrs: False
    """What it gives at a step depends on later ones: it cannot run step by step."""
    fixes_steps: str = ""
    """What it has for each time step (``weights``), so that it takes no other T."""
    cuts: bool = False
    """A loop over time goes through it: what it gives depends on earlier steps alone."""
    all_steps: Callable[[Attrs], bool] = lambda attrs: False
    """A norm whose statistics in training are those of all steps together."""
    whole_run: bool = False
    """What it gives at a step depends on how many there are."""
    for_samples: bool = True
    """Each sample has a value of its own: not where it reads nothing, and is learnt."""
    random: bool = False
    """It draws random numbers in training."""
    drops_samples: bool = False
    """In training nothing of some samples goes through it."""
    training: bool = False
    """It gives what it takes where nothing is trained."""
    gradient: bool = True
    """Gradients flow through it; a neuron's equations say whether through that."""

    # -- weights and cost
    weights: Weights = lambda attrs, values, context: {}
    """Shapes of what is trained, by names."""
    weighted: bool = False
    """A layer of weights, as convolutions are: its ``weight`` has a row for each output channel, and
    ``bias`` adds a number to each."""
    norm: Literal["channel", "group"] | None = None
    """A norm, of each channel or of groups of them; its weight starts at ``init``."""
    affine: Callable[[Attrs], bool] = lambda attrs: False
    """A norm that is one factor and one offset a channel where nothing is trained."""
    fused: Emit | None = None
    """What it becomes under the fused backend, where that is another and the row says it."""
    onnx: OnnxForm | None = None
    """What it becomes in a file of ONNX; None of one that has no form there."""
    nir: str = ""
    """What it becomes in a graph of NIR (``compiler.emit.nir``); empty of one that NIR has not."""
    macs: Callable[[Attrs, Values, Shape], int] = lambda attrs, values, shape: 0
    """Multiply-accumulates of one sample at one step, of an operation that multiplies its first
    operand."""
    products: Callable[[Attrs, Values, Shape], tuple[Product, ...]] | None = None
    """Of one that multiplies operands by each other: what by what."""
    window: Callable[[Attrs], int] | None = None
    """Pixels that a window spans, of an operation with a ``kernel`` and a ``stride``."""

    # -- what it computes
    same: Callable[[Attrs], bool] = lambda attrs: False
    """Whether it gives the numbers that it takes, in their order."""
    same_shape: bool = False
    """It gives the numbers that it takes where its shape is that of its operand."""
    linear: bool = False
    """Linear up to a constant where nothing is trained: the mean over time of it is it of the mean."""
    numbers: Callable[[Sequence[float]], float] | None = None
    """What it computes number by number, of its attributes and operands, the same everywhere."""
    constant: Callable[[Attrs], float | None] = lambda attrs: None
    """The number that it gives before training whatever it reads, if there is one."""
    start: Callable[[Attrs, float], float | None] = lambda attrs, x: None
    """What it gives before training where its only operand is ``x`` everywhere, if that is one
    number; where ``numbers`` says it, that is asked."""
    neutral: float | None = None
    """Of a join: the number that leaves another operand as it is (behind it, if it is not
    ``commutes``)."""
    absorbing: float | None = None
    """Of a join: the number that gives itself whatever the other operands are."""
    commutes: bool = False
    alias: Callable[[Attrs, Values], str] = lambda attrs, values: ""
    """The operation without parameters that it is, up to rounding, if there is one."""

    regrouped: Regrouped | None = None
    """What it may become with the operation before it."""
    rounds: frozenset[str] = frozenset()
    """Parameters that say how it rounds, and nothing else."""

    # -- in rules and pictures
    rule: Literal["sum", "concat", "max", "min"] | None = None
    """Its name in the equations of a rule."""
    sign: str = ""
    """Of a join: the sign in a circle that a picture shows."""
    label: Callable[[Attrs], tuple[str, str]] = _named
    """What a picture says: the layer, and its size; ("", "") for its name."""
    equation: Callable[[Attrs, str], tuple[str, int]] | None = None
    """Of one that is written as a formula of its operand: that, and how tight it binds (a sum 1, a
    product 2)."""

    @property
    def role(self) -> str:
        """What a module of it is called in a model."""
        return "norm" if self.norm is not None else self.name

    @property
    def convolves(self) -> bool:
        """A weighted layer of windows."""
        return self.weighted and self.window is not None

    @property
    def names(self) -> tuple[str, ...]:
        """What a call of it may give, in order."""
        return *self.arguments, *(parameter.name for parameter in self.parameters)

    def reads(self, operands: Sequence[T]) -> tuple[T, ...]:
        """The operands whose numbers it reads, of all."""
        return tuple(item for place, item in enumerate(operands) if place != self.size_of)

    def multiplied(self, attrs: Attrs, values: Values, shape: Shape) -> tuple[Product, ...]:
        """What it multiplies by what."""
        if self.products is not None:
            return self.products(attrs, values, shape)
        macs = self.macs(attrs, values, shape)
        return (Product(macs, (values[0].kind,)),) if macs else ()

    def per_step(self, attrs: Attrs) -> bool:
        """Whether it has parameters for each time step, by its attributes (a neuron's program says
        it of that: ``at_node.per_step``)."""
        return self.time == "per_step" or bool(attrs.get("per_step"))

    @property
    def takes_steps(self) -> bool:
        """Whether T equal steps are not the same to it as a static value, which is then repeated."""
        return self.time == "mixes" or (self.time == "reduces" and self.whole_run)

    @property
    def carries(self) -> bool:
        """It gives what a node behind it gave some steps before (``Graph.carries``)."""
        return self.cuts and self.operands == (0, 0)

    def why_not_in_loop(self, attrs: Attrs) -> tuple[str, str] | None:
        """Why it cannot run one step after the other, read after "and", with what to do."""
        if self.all_steps(attrs):
            return (
                "has the statistics of all steps together",
                "write `batchnorm(statistics = step)` (for all norms of the network "
                "`norm = batchnorm(statistics = step)`), or put it before or behind the loop",
            )
        together = self.time == "reduces" or (self.time == "mixes" and not self.cuts)
        if together or self.whole_run or self.ahead(attrs):
            return "needs all steps at once", "put it before or behind the loop"
        if self.drops_samples:
            return "draws one mask for all steps", "put it before or behind the loop"
        if self.time == "creates":
            return "makes all steps of its input at once", "put it before or behind the loop"
        return None

    def completed(self, attrs: Attrs) -> dict[str, Attribute]:
        """All attributes: the given ones, and the defaults of the others."""
        missing = (item for item in self.parameters if item.name not in attrs and not item.sugar)
        result = {item.name: item.default for item in missing}
        result = {**attrs, **result}
        if self.complete is not None:
            self.complete(result)
        return result


def whole(attrs: Attrs, name: str) -> int:
    """An attribute that is a whole number."""
    value = attrs[name]
    assert isinstance(value, int)
    return value


def word(
    name: str, meaning: str, default: Attribute = REQUIRED, words: tuple[str, ...] = ()
) -> Parameter:
    """A parameter that is one of some words."""
    return Parameter(name, str, meaning, default, words=words)


def integer(
    name: str, meaning: str, default: Attribute = REQUIRED, low: float = 1, high: float = 2**20
) -> Parameter:
    """A parameter that is a whole number."""
    return Parameter(name, int, meaning, default, low, high)


def shown(value: Attribute) -> str:
    """An attribute as pictures show it."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


# -- numbers that a recipe may change while a network trains: ``scheduled(1.0)`` -------------------


def scheduled(start: float) -> str:
    """Return the attribute of a scheduled number: text with the number that it starts at."""
    return f"scheduled {start!r}"


def is_scheduled(value: Attribute) -> bool:
    """Return True for the attribute of a scheduled number."""
    return isinstance(value, str) and value.startswith("scheduled ")


def at_start(value: Attribute) -> float:
    """Return a number, or the one that a scheduled number starts at."""
    number = value.partition(" ")[2] if isinstance(value, str) else value
    assert number is not None
    return float(number)
