"""Rows of the table of operations.

Rules take the complete attributes and the values of the operands. Shapes are those of one sample at
one time step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import field
from typing import Any, Literal, TypeAlias, TypeVar

from danetc.compiler.ir.graph import Attribute, Shape, Value
from danetc.compiler.ir.ops import kinds
from danetc.compiler.ir.ops.kinds import Attrs, Values
from danetc.dsl.first_weights import FIRST_WEIGHTS
from danetc.dsl.kinds import Kind
from danetc.dsl.neuron.program import NeuronProgram
from danetc.dsl.record import record

REQUIRED: Any = object()
T = TypeVar("T")


class OpError(Exception):
    """An operation cannot be applied. ``hint`` says what to change."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


@record
class Parameter:
    """A parameter of an operation in the language, with inclusive bounds ``low`` and ``high``.

    Args:
        words: words that it takes beside numbers (``padding = same``), or instead of them if its
            type is ``str`` (``over = time``).
        sugar: True if it only selects the operation; no graph has it.
        unless: parameter that replaces it.
        schedule: its name in recipes (``linear.masked``) if it takes ``scheduled(...)``; the module
            then has a buffer, and names it in ``scheduled``.
        shape_of: True if it takes a value whose shape the result must have; it is not an attribute.
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


@record
class TorchModule:
    """A torch module: the dotted name of its class and its constructor's arguments.

    ``layout`` is that of forward's input: ``flat`` with T and N in one leading dimension, ``seq`` with
    two dimensions, ``any`` for both, returned as given.
    """

    target: str
    args: tuple[Attribute, ...] = ()
    kwargs: Mapping[str, Attribute | tuple[int, int]] = field(default_factory=dict)
    layout: Literal["flat", "seq", "any"] = "flat"


@record
class TorchFunction:
    """A function by its dotted name, called with the operands and then ``args`` and ``kwargs``.

    Args:
        layout: as for a module.
        fold: True to apply it pairwise from the left.
        as_list: True to pass the operands as one list.
        before: constants that precede the operands.
    """

    target: str
    args: tuple[Attribute, ...] = ()
    kwargs: Mapping[str, Attribute] = field(default_factory=dict)
    layout: Literal["flat", "seq", "any"] = "seq"
    fold: bool = False
    as_list: bool = False
    before: tuple[Attribute, ...] = ()


@record
class Site:
    """A node for rules that need more than its attributes and operands: its value, the number of
    time steps and the programs of the neurons."""

    attrs: Attrs
    values: Values
    value: Value
    steps: int
    neurons: Mapping[str, NeuronProgram]

    def __getitem__(self, name: str) -> Any:
        """Return an attribute."""
        return self.attrs[name]

    @property
    def rank(self) -> int:
        return len(self.value.shape)

    @property
    def shape(self) -> Shape:
        """Shape of a sample of the first operand, or of the result if it has no operands."""
        return (*self.values, self.value)[0].shape


@record
class Product:
    """Multiply-accumulates of one sample at one step, and the kinds of the two factors (of the input
    alone for a layer of weights)."""

    macs: int
    kinds: tuple[Kind, ...]


Emit: TypeAlias = Callable[[Site], TorchModule | TorchFunction | None]
Steps: TypeAlias = tuple[tuple[str, Attrs], ...]
Stands: TypeAlias = Callable[[Attrs, Callable[[], float]], tuple[str, Attrs]]
OnnxForm: TypeAlias = Callable[[Any, Site, Sequence[str]], str]
"""Writes operators of ONNX, given a writer, the node and the names of the operands
(``compiler.ir.ops.onnx``)."""


@record
class Op:
    """A row of the table. Defaults fit most operations."""

    name: str
    meaning: str
    shape: Callable[[Attrs, Values], Shape]
    kind: Callable[[Attrs, Values], Kind]
    emit: Emit
    """Module or function in a model; None if a model has none."""
    parameters: tuple[Parameter, ...] = ()

    # -- in the language
    public: bool = True
    """True if a spec can name it."""
    operands: tuple[int, int | None] = (1, 1)
    """Smallest and largest number of operands."""
    arguments: tuple[str, ...] = ()
    """Names of its operands, if it is written as a function of values: `scores(q, k)`."""
    size_of: int | None = None
    """Index of an operand of which only the size is used."""
    complete: Callable[[dict[str, Any]], None] | None = None
    """Function that fills in attributes whose default depends on other attributes."""
    bare: str = ""
    """Operation to which the bare name refers, if it is a different one."""
    stands_for: Stands | None = None
    """Function that returns the operation and attributes that replace it; its second argument
    returns the threshold of the network's neuron. Raises OpError."""
    chosen: Callable[[Attrs, Values, int], Steps] | None = None
    """Operations in sequence that it is for these operands and number of time steps. Raises
    OpError."""
    takes_tokens: bool = False
    """True if an operand may be tokens; all other operations compute with numbers."""
    flattens: bool = False
    """True if it takes a vector, so that a map is flattened before it."""
    example: str = ""
    """Example on its page: a flow after `a`, which is spikes of 8 x 16 x 16, or a flow that starts
    with a value (`a`, `b` of the same size, `in`, an image of 3 x 16 x 16)."""
    source: str = ""
    """Paper that introduced it."""

    # -- time, randomness, gradients
    time: Literal["pointwise", "creates", "reduces", "neuron", "per_step", "mixes", "constant"] = (
        "pointwise"
    )
    """Treatment of time steps: ``pointwise`` treats them alike, ``per_step`` has parameters for each,
    ``creates`` makes steps of a static value and ``reduces`` a static value of steps, ``neuron`` has
    states, the result of ``mixes`` depends on other steps, and ``constant`` returns what training
    passes leave behind, at all steps."""
    ahead: Callable[[Attrs], bool] = lambda attrs: False
    """True if a step depends on later ones, so that it cannot run step by step."""
    fixes_steps: str = ""
    """What it has for each time step (``weights``), so that it takes no other T."""
    cuts: bool = False
    """True if its result depends on earlier steps alone, so that a loop over time may contain it."""
    all_steps: Callable[[Attrs], bool] = lambda attrs: False
    """True for a norm with statistics over all steps in training."""
    whole_run: bool = False
    """True if a step depends on the number of steps."""
    for_samples: bool = True
    """False if all samples share its value, which reads nothing and is learnt."""
    random: bool = False
    """True if it draws random numbers in training."""
    drawn: bool = False
    """True if it has numbers that are drawn once, from the seed, and are stored with the weights."""
    drops_samples: bool = False
    """True if it drops whole samples in training."""
    training: bool = False
    """True if it returns its input in inference."""
    opaque: bool = False
    """True if its code is a user's: only the declared shape and kind are known."""
    gradient: bool = True
    """True if gradients flow through it (for a neuron its equations decide)."""

    # -- weights and cost
    weights: Callable[[Site], dict[str, Shape]] = lambda at: {}
    """Shapes of trained tensors by name."""
    weighted: bool = False
    """True for a layer like a convolution: ``weight`` has a row for each output channel, ``bias`` a
    number."""
    norm: Literal["channel", "group"] | None = None
    """Kind of norm: over channels or groups of channels. Its weight is initialised with ``init``."""
    affine: Callable[[Attrs], bool] = lambda attrs: False
    """True for a norm that consists of a scale and a shift per channel in inference."""
    fused: Emit | None = None
    """Module or function of the fused backend, if it differs."""
    onnx: OnnxForm | None = None
    """Form in an ONNX file; None if it has none."""
    nir: str = ""
    """Form in a NIR graph (``compiler.emit.nir``); empty if it has none."""
    macs: Callable[[Site], int] = lambda at: 0
    """Multiply-accumulates of one sample at one step, by weights."""
    products: Callable[[Site], tuple[Product, ...]] | None = None
    """Products of operands by each other."""
    window: Callable[[Attrs], int] | None = None
    """Pixels that a window spans, for an operation with a ``kernel`` and a ``stride``."""

    # -- what it computes
    same: Callable[[Attrs], bool] = lambda attrs: False
    """True if it returns the numbers of its input in their order."""
    same_shape: bool = False
    """True if it does so whenever the shape stays the same."""
    linear: bool = False
    """True if it is linear up to a constant in inference, so that it commutes with a mean over time."""
    numbers: Callable[[Sequence[float]], float] | None = None
    """Result for numbers: those of its attributes, then those of its operands."""
    constant: Callable[[Attrs], float | None] = lambda attrs: None
    """Number that it returns before training for any input, or None."""
    neutral: float | None = None
    """Number that leaves the other operand of a join unchanged (the second operand, unless it
    ``commutes``)."""
    absorbing: float | None = None
    """Operand that determines the result of a join regardless of the others."""
    commutes: bool = False
    alias: Callable[[Attrs, Values], str] = lambda attrs, values: ""
    """Name of an operation without parameters and with the same results up to rounding, or ""."""

    # -- in rules and pictures
    rule: Literal["sum", "concat", "max", "min"] | None = None
    """Name in the equations of a rule."""
    sign: str = ""
    """Sign of a join in pictures, in a circle."""
    label: Callable[[Attrs], tuple[str, str]] = lambda attrs: ("", "")
    """Layer and size in pictures; ("", "") for its name."""
    equation: Callable[[Attrs, str], tuple[str, int]] | None = None
    """Formula of its operand, and its precedence (1 for a sum, 2 for a product)."""

    @property
    def role(self) -> str:
        """Name of its modules in a model."""
        return "norm" if self.norm is not None else self.name

    @property
    def convolves(self) -> bool:
        """True for a layer of weights with windows."""
        return self.weighted and self.window is not None

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the arguments of a call, in order."""
        return *self.arguments, *(parameter.name for parameter in self.parameters)

    def reads(self, operands: Sequence[T]) -> tuple[T, ...]:
        """Return the operands whose numbers it reads."""
        return tuple(item for place, item in enumerate(operands) if place != self.size_of)

    def of_constant(self, attrs: Attrs, x: float) -> float | None:
        """Return the number that it returns before training if its only operand is ``x`` everywhere;
        None if it is unknown."""
        moves = self.kind is kinds.kept or self.training  # the numbers of its operand
        without_offset = self.norm is not None or (self.linear and not attrs.get("bias"))
        return x if moves else 0.0 if x == 0 and (without_offset or self.cuts) else None

    def per_step(self, attrs: Attrs) -> bool:
        """Return True if it has parameters for each time step (not for a neuron, see
        ``at_node.per_step``)."""
        return self.time == "per_step" or bool(attrs.get("per_step"))

    @property
    def takes_steps(self) -> bool:
        """True if T equal steps differ from a static value for it, which is then repeated."""
        return self.time == "mixes" or (self.time == "reduces" and self.whole_run)

    @property
    def carries(self) -> bool:
        """True if it returns what a later node returned some steps before (``Graph.carries``)."""
        return self.cuts and self.operands == (0, 0)

    def why_not_in_loop(self, attrs: Attrs) -> tuple[str, str] | None:
        """Return why it cannot run step by step, read after "and", and what to do; None if it can."""
        if self.all_steps(attrs):
            return (
                "has the statistics of all steps together",
                "write `batchnorm(statistics = step)` (for all norms of the network "
                "`norm = batchnorm(statistics = step)`), or move it before or after the loop",
            )
        together = self.time == "reduces" or (self.time == "mixes" and not self.cuts)
        reasons = {
            "needs all steps at once": together or self.whole_run or self.ahead(attrs),
            "draws one mask for all steps": self.drops_samples,
            "computes all steps of its input at once": self.time == "creates",
        }
        found = (why for why, holds in reasons.items() if holds)
        return next(((why, "move it before or after the loop") for why in found), None)

    def completed(self, attrs: Attrs) -> dict[str, Attribute]:
        """Return the given attributes and the defaults of the others."""
        missing = (item for item in self.parameters if item.name not in attrs and not item.sugar)
        result = {**attrs, **{item.name: item.default for item in missing}}
        if self.complete is not None:
            self.complete(result)
        return result


def whole(attrs: Attrs, name: str) -> int:
    """Return an integer attribute."""
    value = attrs[name]
    assert isinstance(value, int)
    return value


def integer(
    name: str, meaning: str, default: Attribute = REQUIRED, low: float = 1, high: float = 2**20
) -> Parameter:
    """Return an integer parameter."""
    return Parameter(name, int, meaning, default, low, high)


def shown(value: Attribute) -> str:
    """Return the text of an attribute in pictures."""
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
    return float(str(value).removeprefix("scheduled "))


# -- shared by several rows ------------------------------------------------------------------------

START = Parameter(
    "init",
    str,
    "initialisation of the weights; by default `he_normal` for convolutions, `torch_uniform` for `linear`",
    None,
    words=tuple(FIRST_WEIGHTS),
)
WEIGHT = Parameter(
    "weight",
    object,
    "layer that is applied to the weights in each pass: a block, an activation or a flow; by default none",
    None,
)


def nothing(at: Site) -> None:
    """Emit nothing, for an operation that no model has."""


def _given(at: Site, names: Iterable[str]) -> tuple[Attribute, ...]:
    """Return attributes, ``T``, and the ``rank`` and number of channels ``C`` of the first operand."""
    facts = {**at.attrs, "T": at.steps, "rank": len(at.shape), "C": at.shape[0]}
    return tuple(facts[name] for name in names)


def function(target: str, *names: str, **options: Any) -> Emit:
    """A function of the operands, and then of what is ``_given`` by these ``names``.

    ``options`` are those of ``TorchFunction``.
    """
    return lambda at: TorchFunction(target, _given(at, names), **options)


def module(
    target: str, *names: str, layout: Any = "flat", **usual: Attribute
) -> Callable[[Site], TorchModule]:
    """A module of what is ``_given`` by these ``names``, and by keyword what differs from the ``usual``."""

    def emit(at: Site) -> TorchModule:
        named = dict(zip(usual, _given(at, usual), strict=True))
        return TorchModule(target, _given(at, names), unusual(named, **usual), layout)

    return emit


def unusual(attrs: Attrs, **usual: Attribute) -> dict[str, Attribute]:
    """Return the attributes that differ from the defaults of a module."""
    return {name: attrs[name] for name, value in usual.items() if attrs[name] != value}


def with_bias(at: Site, weight: Shape, count: int) -> dict[str, Shape]:
    """Return the shapes of a weight and, if there is one, of the bias."""
    return {"weight": weight, **({"bias": (count,)} if at["bias"] else {})}


def pair(attrs: Attrs, name: str, other: int) -> tuple[int, int]:
    """Return an attribute for rows and columns; a layer over one axis has ``other`` for the other."""
    one = whole(attrs, name) if name in attrs else other
    ways = {"rows": (one, other), "columns": (other, one)}
    return ways.get(str(attrs.get("axis")), (one, one))
