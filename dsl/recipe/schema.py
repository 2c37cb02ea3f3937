"""What settings of a recipe are made of, and the items that they take.

A setting has a type with its range, a default and a meaning (``settings`` has the rows). Optimizers,
schedules, losses and steps of an augmentation are items: a name with arguments that have rows too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from types import MappingProxyType
from typing import Literal, Union


@dataclass(frozen=True, slots=True)
class IntType:
    """A whole number from low to high, both included."""

    low: int = 0
    high: int = 1_000_000_000


@dataclass(frozen=True, slots=True)
class FloatType:
    """A real number from low to high. ``open_low`` and ``open_high`` leave the ends out."""

    low: float = 0.0
    high: float = inf
    open_low: bool = False
    open_high: bool = False


@dataclass(frozen=True, slots=True)
class BoolType:
    """``true`` or ``false``."""


@dataclass(frozen=True, slots=True)
class ChoiceType:
    """One of a few words."""

    words: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ItemType:
    """One of a family of items: ``sgd(lr = 0.1)``."""

    family: str


@dataclass(frozen=True, slots=True)
class FlowType:
    """Items of a family in sequence, or ``none``."""

    family: str


@dataclass(frozen=True, slots=True)
class SumType:
    """Items of a family, each times a number, added up: ``mse + 0.1 * firing_rate``."""

    family: str


SCHEDULED_OPERATIONS = ("linear",)
"""The operations with a parameter that may be ``scheduled(...)``: the table of operations says which."""


@dataclass(frozen=True, slots=True)
class ChangeType:
    """Parameters of the network with an item of a family each, or ``none``:
    ``surrogate(alpha = linear(1.0, 5.0)) + neuron(tau = cosine(4.0, 2.0))``."""

    family: str
    parts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PhaseType:
    """The name of an earlier phase."""


@dataclass(frozen=True, slots=True)
class NameType:
    """The name of something of the network: an output, a neuron."""


@dataclass(frozen=True, slots=True)
class PathType:
    """A file or directory, in quotes."""


@dataclass(frozen=True, slots=True)
class FunctionType:
    """A function of a Python file, in quotes: ``"my_loss.py:focal"``."""


Type = Union[
    IntType, FloatType, BoolType, ChoiceType, ItemType, FlowType, SumType, ChangeType, PhaseType,
    NameType, PathType, FunctionType,
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Setting:
    """A key of a recipe. ``scope`` says where it may stand: a phase setting in the recipe holds for
    all phases. A default is the text of a value; None is "not set", which a recipe writes as
    ``none``.
    """

    key: str
    type: Type
    default: str | None
    scope: Literal["phase", "recipe", "phase only"]
    meaning: str
    required: bool = False
    example: str = ""
    """A value that its page shows, where the default is none."""


@dataclass(frozen=True, slots=True)
class Argument:
    """An argument of an item. One without a default must be given."""

    name: str
    type: Type
    default: int | float | bool | str | None
    meaning: str
    idle: float | None = None
    """The item does nothing where this, and every other argument that has one, is at it."""


@dataclass(frozen=True, slots=True)
class ItemSpec:
    """An item. ``many`` are the arguments without a name, gathered under one name."""

    name: str
    meaning: str
    arguments: tuple[Argument, ...] = ()
    many: Argument | None = None
    whole_batch: bool = False  # mixes images of a batch, so it stands after what changes one image
    example: str = ""  # how its page shows it, where its name alone is not enough
    others: bool = False  # whether it takes numbers of any other names too


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimizerSpec(ItemSpec):
    """An optimizer: ``torch`` is its class in ``torch.optim``, which takes the arguments by name.

    Above ``largest_rate`` no network trains. ``copies`` of the weights are kept beside them,
    ``momentum_copies`` where its ``momentum`` is not 0.
    """

    torch: str
    largest_rate: float
    copies: int
    momentum_copies: int | None = None


TARGETS = ("classes", "pixels", "numbers")
"""What is learned of a sample: its class, the class of each of its pixels, or numbers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LossSpec(ItemSpec):
    """A term of a loss. ``reads`` is what it is a function of: an output and the labels, what layers of
    neurons give, their membrane potentials, or an output and that of a teacher. Terms of ``training``
    are left out of the loss of test images, which says how well the network answers.
    """

    reads: Literal["output", "neurons", "potentials", "teacher"] = "output"
    training: bool = False
    targets: tuple[str, ...] = TARGETS
    """What the labels may be that it is a function of."""


PROBABILITY = FloatType(0.0, 1.0)
FRACTION = FloatType(0.0, 1.0, open_high=True)  # below 1
POSITIVE = FloatType(0.0, open_low=True)
SIZE = IntType(1, 10_000)  # of an image, in pixels
RATE = Argument("lr", FloatType(0.0, 1000.0, open_low=True), None, "learning rate")
DECAY = Argument("weight_decay", FloatType(0.0, 1.0), 0.0, "weight decay")
DECAYED = Argument(
    "decay",
    ChoiceType(("all", "weights")),
    "all",
    "what decays: all parameters, or those of convolutions and linear layers without their biases",
)
SMOOTHING = Argument(
    "label_smoothing", FRACTION, 0.0, "share of the target spread over all classes"
)
ANY = FloatType(-1e6, 1e6)
UNTIL = Argument(
    "epochs", FloatType(0.0, 100_000.0), 0.0, "how many it takes, then it stays; 0 takes all"
)
OUTPUT = Argument("output", NameType(), "", "the output that it is of; the one that is trained")
NEURON = Argument("neuron", NameType(), "", "the neuron whose layers count; all by default")

RESIZE = ItemSpec(
    "resize",
    "the shorter side to this size",
    (Argument("size", SIZE, None, "of the shorter side"),),
    example="resize(256)",
)
CENTER_CROP = ItemSpec(
    "center_crop",
    "the middle of the image",
    (Argument("size", SIZE, None, "of the result"),),
    example="center_crop(224)",
)
NORMALIZE = ItemSpec(
    "normalize",
    "less the mean, by the standard deviation, of each channel over a data set",
    (
        Argument(
            "statistics",
            ChoiceType(("imagenet", "cifar10", "cifar100", "fashion_mnist")),
            "imagenet",
            "the data set they are of",
        ),
    ),
)


def _ramp(number: FloatType) -> tuple[Argument, ...]:
    """From one number to another."""
    return (
        Argument("start", number, None, "at the first step"),
        Argument("end", number, None, "at the last step"),
        UNTIL,
    )


def _family(*items: ItemSpec) -> Mapping[str, ItemSpec]:
    return MappingProxyType({item.name: item for item in items})


OPTIMIZERS: Mapping[str, OptimizerSpec] = MappingProxyType(
    {
        "sgd": OptimizerSpec(
            "sgd",
            "torch.optim.SGD",
            (
                RATE,
                Argument("momentum", FRACTION, 0.0, "share of the last change kept"),
                DECAY,
                Argument("nesterov", BoolType(), False, "look ahead along the momentum"),
                DECAYED,
            ),
            torch="SGD",
            largest_rate=30.0,  # linear scaling of 0.1 gives 25.6 for a batch of 65,536
            copies=0,
            momentum_copies=1,
            example="sgd(lr = 0.1, momentum = 0.9)",
        ),
        "adamw": OptimizerSpec(
            "adamw",
            "torch.optim.AdamW",
            (
                RATE,
                DECAY,
                Argument("beta1", FRACTION, 0.9, "of the mean of gradients"),
                Argument("beta2", FRACTION, 0.999, "of the mean of their squares"),
                DECAYED,
            ),
            torch="AdamW",
            largest_rate=1.0,  # each weight changes by about the rate at each step
            copies=2,
            example="adamw(lr = 0.01)",
        ),
    }
)
"""THE optimizers. A new one of ``torch.optim`` is one row here."""

LOSSES: Mapping[str, LossSpec] = MappingProxyType(
    {
        row.name: row
        for row in (
            LossSpec(
                "cross_entropy",
                "of the mean over time of the output, for the class of an image or of each of its "
                "pixels",
                (SMOOTHING, OUTPUT),
                targets=("classes", "pixels"),
            ),
            LossSpec(
                "mse",
                "mean squared distance of the mean over time of the output to the numbers that are "
                "wanted; of classes to 1 for the image's class and 0 for the others",
                (OUTPUT,),
                targets=("classes", "numbers"),
            ),
            LossSpec(
                "tet",
                "cross-entropy of each time step's output, mean over time; (1 - weight) of it and "
                "weight of the mean squared distance to `target` (Deng et al., ICLR 2022)",
                (
                    Argument("weight", PROBABILITY, 0.05, "of the squared distance"),
                    Argument("target", FloatType(-1000.0, 1000.0), 1.0, "of every output"),
                    SMOOTHING,
                    OUTPUT,
                ),
                targets=("classes", "pixels"),
            ),
            LossSpec(
                "distill",
                "temperature^2 times the Kullback-Leibler divergence from a teacher's classes to "
                "the network's, both softened by the temperature (Hinton et al., 2015)",
                (
                    Argument(
                        "teacher", PathType(), None, "the directory of a built or trained network"
                    ),
                    Argument("temperature", POSITIVE, 4.0, "by which the outputs are divided"),
                    OUTPUT,
                ),
                reads="teacher",
                training=True,
                targets=("classes",),
                example='cross_entropy + 0.5 * distill(teacher = "runs/teacher")',
            ),
            LossSpec(
                "firing_rate",
                "distance of each neuron layer's firing rate to `target`, to a power, mean over "
                "the layers",
                (
                    Argument("target", FloatType(0.0, 1000.0), 0.0, "spikes a step and neuron"),
                    Argument("power", FloatType(1.0, 4.0), 2.0, "of the distance"),
                    NEURON,
                ),
                reads="neurons",
                training=True,
                example="cross_entropy + 0.1 * firing_rate(target = 0.1)",
            ),
            LossSpec(
                "membrane",
                "squared distance of each neuron layer's mean membrane potential before the reset "
                "to `target`, mean over the layers (at the threshold: Guo et al., NeurIPS 2022)",
                (
                    Argument("target", FloatType(-1000.0, 1000.0), 1.0, "potential to be near to"),
                    NEURON,
                ),
                reads="potentials",
                training=True,
                example="cross_entropy + 0.01 * membrane(target = 1.0)",
            ),
            LossSpec(
                "python",
                "what a function of a Python file gives of the output and the labels, and of numbers "
                "by their names",
                (Argument("function", FunctionType(), None, "the file and its function"), OUTPUT),
                training=True,
                others=True,
                example='python("my_loss.py:focal", gamma = 2.0)',
            ),
            LossSpec(
                "python_membrane",
                "what a function of a Python file gives of the membrane potentials before the reset "
                "of a neuron layer, mean over the layers",
                (Argument("function", FunctionType(), None, "the file and its function"), NEURON),
                reads="potentials",
                training=True,
                others=True,
                example='cross_entropy + 0.1 * python_membrane("my_loss.py:near_the_threshold")',
            ),
        )
    }
)
"""THE terms of losses. A new one is one row here and its function in ``runtime.training.losses``."""

MOMENTUM = "_momentum"
COPIES: Mapping[str, int] = MappingProxyType(
    {
        name: copies
        for row in OPTIMIZERS.values()
        for name, copies in (
            (row.name, row.copies),
            (row.name + MOMENTUM, row.momentum_copies),
        )
        if copies is not None
    }
)
"""Copies of the weights that an optimizer keeps, ``sgd`` without momentum and ``sgd_momentum``."""

ITEMS: Mapping[str, Mapping[str, ItemSpec]] = MappingProxyType(
    {
        "optimizer": OPTIMIZERS,
        "schedule": _family(
            ItemSpec("constant", "the learning rate stays"),
            ItemSpec(
                "step",
                "times `factor` at each of these epochs",
                (
                    Argument(
                        "factor", FloatType(0.0, 1.0, open_low=True), 0.1, "at each of them", 1
                    ),
                ),
                Argument("epochs", POSITIVE, None, "epochs, counted from the start"),
                example="step(5, 8, factor = 0.1)",
            ),
            ItemSpec(
                "cosine",
                "half a cosine from the end of the warm-up to the last step",
                (
                    Argument(
                        "end", PROBABILITY, 0.0, "share of the learning rate left at the end", 1
                    ),
                ),
            ),
        ),
        "change": _family(
            ItemSpec(
                "linear",
                "in equal steps",
                _ramp(ANY),
                example="surrogate(alpha = linear(1.0, 5.0))",
            ),
            ItemSpec(
                "cosine",
                "half a cosine from one to the other",
                _ramp(ANY),
                example="surrogate(alpha = cosine(1.0, 5.0))",
            ),
            ItemSpec(
                "exponential",
                "by an equal factor in equal times",
                _ramp(POSITIVE),
                example="surrogate(alpha = exponential(1.0, 5.0))",
            ),
        ),
        "loss": LOSSES,
        "gradient": _family(
            ItemSpec("bptt", "through all time steps at once"),
            ItemSpec(
                "truncated",
                "through parts of `steps` time steps, one part after the other: memory does not grow "
                "with T",
                (Argument("steps", IntType(1, 10_000), None, "of a part"),),
                example="truncated(2)",
            ),
            ItemSpec(
                "online",
                "through each time step by itself, without its temporal part (SLTT: Meng et al., "
                "ICCV 2023), or with a trace of each layer's inputs in place of it (OTTT: Xiao et "
                "al., NeurIPS 2022)",
                (
                    Argument(
                        "trace",
                        FRACTION,
                        0.0,
                        "how much of the trace is left after a step; a neuron's leak, 1 - 1 / tau",
                    ),
                ),
            ),
        ),
        "augment": _family(
            ItemSpec(
                "random_resized_crop",
                "a part of random area and aspect, resized",
                (
                    Argument("size", SIZE, None, "of the result"),
                    Argument("smallest", FloatType(0, 1, open_low=True), 0.08, "share of the area"),
                ),
                example="random_resized_crop(224)",
            ),
            ItemSpec(
                "random_crop",
                "a part at a random place",
                (
                    Argument("size", SIZE, None, "of the result"),
                    Argument("padding", IntType(0, 1000), 0, "zeros around the image"),
                ),
                example="random_crop(32, padding = 4)",
            ),
            ItemSpec(
                "horizontal_flip",
                "left for right",
                (Argument("p", PROBABILITY, 0.5, "how often", 0),),
            ),
            ItemSpec(
                "auto_augment",
                "Cubuk et al., CVPR 2019",
                (
                    Argument(
                        "policy",
                        ChoiceType(("imagenet", "cifar10", "svhn")),
                        "imagenet",
                        "the data set it was learnt on",
                    ),
                ),
            ),
            ItemSpec("trivial_augment", "Mueller and Hutter, ICCV 2021"),
            ItemSpec(
                "rand_augment",
                "Cubuk et al., 2020",
                (
                    Argument("n", IntType(1, 20), 2, "operations for an image"),
                    Argument("m", IntType(0, 30), 9, "their strength"),
                ),
            ),
            ItemSpec(
                "color_jitter",
                "random brightness, contrast, saturation and hue",
                (
                    Argument("brightness", FloatType(0.0, 10.0), 0.4, "factor up to 1 + this", 0),
                    Argument("contrast", FloatType(0.0, 10.0), 0.4, "factor up to 1 + this", 0),
                    Argument("saturation", FloatType(0.0, 10.0), 0.4, "factor up to 1 + this", 0),
                    Argument("hue", FloatType(0.0, 0.5), 0.0, "share of the colour circle", 0),
                ),
            ),
            RESIZE,
            CENTER_CROP,
            NORMALIZE,
            ItemSpec(
                "random_erasing",
                "a random rectangle is made 0",
                (Argument("p", PROBABILITY, 0.25, "how often", 0),),
            ),
            ItemSpec(
                "mixup",
                "Zhang et al., ICLR 2018",
                (Argument("alpha", POSITIVE, 0.2, "of the beta distribution"),),
                whole_batch=True,
            ),
            ItemSpec(
                "cutmix",
                "Yun et al., ICCV 2019",
                (Argument("alpha", POSITIVE, 1.0, "of the beta distribution"),),
                whole_batch=True,
            ),
        ),
        "evaluate": _family(RESIZE, CENTER_CROP, NORMALIZE),
    }
)


def describe(kind: Type) -> str:
    """What a value of a type is, as an error says it."""
    match kind:
        case IntType():
            return "a whole number"
        case FloatType():
            return "a number"
        case BoolType():
            return "`true` or `false`"
        case ChoiceType(words):
            *some, last = (f"`{word}`" for word in words)
            return f"{', '.join(some)} or {last}"
        case ItemType("optimizer"):
            return "an optimizer"
        case ItemType("gradient"):
            return "a way of gradients"
        case SumType(family):
            return f"a {family}, or several times numbers and added up"
        case ItemType(family):
            return f"a {family}"
        case ChangeType(_, parts):
            example = " or ".join(f"`{part}(NAME = linear(1.0, 2.0))`" for part in parts)
            return f"{example}, several added up, or `none`"
        case FlowType():
            return "steps joined by `->`, or `none`"
        case PhaseType():
            return "the name of an earlier phase"
        case NameType():
            return "a name"
        case PathType():
            return "a path in quotes"
        case FunctionType():
            return 'a function of a Python file in quotes, "FILE.py:NAME"'


def describe_range(kind: IntType | FloatType) -> str:
    """The range of a number, as an error says it."""
    if isinstance(kind, IntType):
        return f"from {kind.low} to {kind.high}"
    low = f"{'above' if kind.open_low else 'at least'} {kind.low:g}"
    if kind.high == inf:
        return low
    return f"{low} and {'below' if kind.open_high else 'at most'} {kind.high:g}"


def contains(kind: IntType | FloatType, value: float) -> bool:
    """Whether a number is in the range of its type."""
    if isinstance(kind, IntType):
        return kind.low <= value <= kind.high
    above = value > kind.low if kind.open_low else value >= kind.low
    below = value < kind.high if kind.open_high else value <= kind.high
    return above and below and value != inf
