"""Tables of the items of recipes: optimizers, schedules, losses and image transforms.

A new loss is a row here and a function in ``runtime.training.losses``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from danetc.dsl.recipe.schema import (
    Argument,
    ChoiceType,
    FloatType,
    IntType,
    ItemSpec,
    LossSpec,
    OptimizerSpec,
    WordType,
)


def family(*items: Any) -> Mapping[str, Any]:
    """Return items by name."""
    return {item.name: item for item in items}


PROBABILITY = FloatType(0.0, 1.0)
FRACTION = FloatType(0.0, 1.0, open_high=True)  # below 1
POSITIVE = FloatType(0.0, open_low=True)
SIZE = IntType(1, 10_000)  # size of an image in pixels
MIXING = "parameter of the beta distribution of the mixing weights"
RATE = Argument("lr", FloatType(0.0, 1000.0, open_low=True), None, "learning rate")
DECAY = Argument("weight_decay", FloatType(0.0, 1.0), 0.0, "weight decay")
DECAYED = Argument(
    "decay",
    ChoiceType(("all", "weights")),
    "all",
    "parameters that decay: all, or only the weights of convolutions and linear layers",
)
SMOOTHING = Argument(
    "label_smoothing", FRACTION, 0.0, "share of the target distributed over all classes"
)
ANY = FloatType(-1e6, 1e6)
UNTIL = Argument(
    "epochs",
    FloatType(0.0, 100_000.0),
    0.0,
    "duration of the change in epochs, after which the value stays; 0 is the whole phase",
)
OUTPUT = Argument(
    "output", WordType.NAME, "", "output that the loss reads; by default the trained output"
)
FUNCTION = Argument("function", WordType.FUNCTION, None, "Python file and name of the function")
NEURON = Argument("neuron", WordType.NAME, "", "neuron whose layers are included; by default all")
OF = Argument(
    "of",
    ChoiceType(("potential", "current", "spikes")),
    "potential",
    "values of a layer: its membrane potentials before the reset, its input, or its output",
)
LAYERS = Argument(
    "layers",
    WordType.LAYERS,
    "",
    "names of the layers that are included, where `*` stands for any text; by default all",
)

OPTIMIZERS: Mapping[str, OptimizerSpec] = family(
    OptimizerSpec(
        "sgd",
        "stochastic gradient descent: `torch.optim.SGD`",
        (
            RATE,
            Argument("momentum", FRACTION, 0.0, "momentum factor"),
            DECAY,
            Argument("nesterov", WordType.BOOL, False, "if true, use Nesterov momentum"),
            DECAYED,
        ),
        torch="SGD",
        largest_rate=30.0,  # linear scaling of 0.1 gives 25.6 for a batch of 65,536
        example="sgd(lr = 0.1, momentum = 0.9)",
    ),
    OptimizerSpec(
        "adamw",
        "Adam with decoupled weight decay: `torch.optim.AdamW`",
        (
            RATE,
            DECAY,
            Argument("beta1", FRACTION, 0.9, "decay of the running mean of the gradients"),
            Argument(
                "beta2", FRACTION, 0.999, "decay of the running mean of the squared gradients"
            ),
            DECAYED,
        ),
        torch="AdamW",
        largest_rate=1.0,  # in each step, a weight changes by about the learning rate
        example="adamw(lr = 0.01)",
    ),
    OptimizerSpec(
        "python",
        "optimizer made by a Python function of groups of parameters and named numbers",
        (FUNCTION, RATE, DECAY, DECAYED),
        others=True,
        example='python("my_optimizer.py:make", lr = 0.01)',
    ),
)

GRADIENTS: Mapping[str, ItemSpec] = family(
    ItemSpec("bptt", "backpropagates through all time steps"),
    ItemSpec(
        "truncated",
        "backpropagates through segments of `steps` time steps, so that memory does not grow with T",
        (Argument("steps", IntType(1, 10_000), None, "number of time steps per segment"),),
        example="truncated(2)",
    ),
    ItemSpec(
        "online",
        "backpropagates through each time step separately; the temporal part of the gradient is dropped "
        "(SLTT: Meng et al., ICCV 2023) or replaced by a trace of the inputs of each layer (OTTT: Xiao "
        "et al., NeurIPS 2022)",
        (
            Argument(
                "trace",
                FRACTION,
                0.0,
                "decay factor of the trace per step, usually the leak of the neuron, 1 - 1 / tau",
            ),
            Argument(
                "trace_first",
                WordType.BOOL,
                True,
                "if false, layers that no neuron precedes have no trace, as in OTTT's code",
            ),
            Argument(
                "steps",
                IntType(0, 10_000),
                0,
                "number of time steps, drawn for each batch, that are backpropagated (SLTT-K); 0 for all",
            ),
            Argument(
                "update",
                ChoiceType(("batch", "step")),
                "batch",
                "when the optimizer changes the weights: after the last time step, or after each",
            ),
        ),
        example="online(trace = 0.5, trace_first = false, update = step)",
    ),
    ItemSpec(
        "eprop",
        "backpropagates through the states of neurons over all time steps, but not through loops over "
        "time between layers (e-prop: Bellec et al., Nature Communications 2020)",
    ),
    ItemSpec(
        "representation",
        "replaces the gradient of each neuron by that of its firing rate, a clamped linear function of its "
        "mean input, for neurons with a soft reset (DSR: Meng et al., CVPR 2022)",
        (
            Argument(
                "slope",
                FloatType(0.0, 1e6),
                0.0,
                "slope of the rate; 0 takes that of the equations",
            ),
        ),
    ),
)
"""Gradient rules."""


SCHEDULES: Mapping[str, ItemSpec] = family(
    ItemSpec("constant", "constant learning rate"),
    ItemSpec(
        "step",
        "multiplies the learning rate by `factor` at each of the given epochs",
        (
            Argument(
                "factor", FloatType(0.0, 1.0, open_low=True), 0.1, "factor of the learning rate"
            ),
        ),
        Argument("epochs", POSITIVE, None, "epochs, counted from the start of the phase"),
        example="step(5, 8, factor = 0.1)",
    ),
    ItemSpec(
        "cosine",
        "decreases the learning rate along half a cosine, from the end of the warm-up to the last step",
        (Argument("end", PROBABILITY, 0.0, "final learning rate, as a share of `lr`"),),
    ),
)
"""Schedules of the learning rate."""

CHANGES: Mapping[str, ItemSpec] = family(
    *(
        ItemSpec(
            name,
            f"{shape} from one number to another",
            (
                Argument("start", number, None, "value at the first step"),
                Argument("end", number, None, "value at the last step"),
                UNTIL,
            ),
            example=f"surrogate(alpha = {name}(1.0, 5.0))",
        )
        for name, shape, number in (
            ("linear", "linear change", ANY),
            ("cosine", "change along half a cosine", ANY),
            ("exponential", "exponential change", POSITIVE),
        )
    )
)
"""Changes of parameters of the network."""

LOSSES: Mapping[str, LossSpec] = family(
    LossSpec(
        "cross_entropy",
        "cross-entropy of the output averaged over time, for the class of each image or pixel; of the "
        "output at each step if each step has a class, as the next token of a text",
        (SMOOTHING, OUTPUT),
        targets=("classes", "steps", "pixels"),
    ),
    LossSpec(
        "mse",
        "mean squared error of the output averaged over time; for classes, the target is 1 for the "
        "class of the image and 0 for the others",
        (OUTPUT,),
        targets=("classes", "numbers"),
    ),
    LossSpec(
        "tet",
        "temporal efficient training: (1 - weight) times the cross-entropy of each time step, averaged "
        "over time, plus weight times the mean squared error to `target` (Deng et al., ICLR 2022)",
        (
            Argument("weight", PROBABILITY, 0.05, "weight of the squared error"),
            Argument(
                "target",
                FloatType(-1000.0, 1000.0),
                1.0,
                "target of all outputs in the squared error",
            ),
            SMOOTHING,
            OUTPUT,
        ),
        targets=("classes", "pixels"),
    ),
    LossSpec(
        "distill",
        "distillation: temperature^2 times the Kullback-Leibler divergence between the predictions of a "
        "teacher and of the network, both softened by the temperature (Hinton et al., 2015)",
        (
            Argument("teacher", WordType.PATH, None, "directory of a built or trained network"),
            Argument("temperature", POSITIVE, 4.0, "divisor of the outputs before the softmax"),
            OUTPUT,
        ),
        reads="teacher",
        training=True,
        targets=("classes",),
        example='cross_entropy + 0.5 * distill(teacher = "runs/teacher")',
    ),
    LossSpec(
        "firing_rate",
        "difference between the firing rate of each layer of neurons and `target`, raised to a power and "
        "averaged over the layers",
        (
            Argument(
                "target",
                FloatType(0.0, 1000.0),
                0.0,
                "target rate, in spikes per neuron and time step",
            ),
            Argument("power", FloatType(1.0, 4.0), 2.0, "exponent of the absolute difference"),
            NEURON,
            LAYERS,
        ),
        reads="neurons",
        training=True,
        example="cross_entropy + 0.1 * firing_rate(target = 0.1)",
    ),
    LossSpec(
        "membrane",
        "squared difference between the mean membrane potential of each layer of neurons before the "
        "reset and `target`, averaged over the layers (IM-Loss, at the threshold: Guo et al., NeurIPS "
        "2022)",
        (
            Argument("target", FloatType(-1000.0, 1000.0), 1.0, "target of the mean"),
            OF,
            NEURON,
            LAYERS,
        ),
        reads="neurons",
        training=True,
        example="cross_entropy + 0.01 * membrane(target = 1.0)",
    ),
    LossSpec(
        "python",
        "loss computed by a Python function of the output, the labels and named numbers",
        (FUNCTION, OUTPUT),
        training=True,
        others=True,
        example='python("my_loss.py:focal", gamma = 2.0)',
    ),
    LossSpec(
        "python_membrane",
        "loss computed by a Python function of the membrane potentials of a layer of neurons before the "
        "reset, or of other values of it, averaged over the layers",
        (FUNCTION, OF, NEURON, LAYERS),
        reads="neurons",
        training=True,
        others=True,
        example='cross_entropy + 0.1 * python_membrane("my_loss.py:near_the_threshold")',
    ),
)

RESIZE = ItemSpec(
    "resize",
    "resizes the shorter side to this size",
    (Argument("size", SIZE, None, "size of the shorter side, in pixels"),),
    example="resize(256)",
)
CENTER_CROP = ItemSpec(
    "center_crop",
    "crops the centre of the image",
    (Argument("size", SIZE, None, "height and width of the result, in pixels"),),
    example="center_crop(224)",
)
NORMALIZE = ItemSpec(
    "normalize",
    "subtracts the mean of each channel and divides by its standard deviation",
    (
        Argument(
            "statistics",
            ChoiceType(("imagenet", "cifar10", "cifar100", "fashion_mnist")),
            "imagenet",
            "data set whose mean and standard deviation are used",
        ),
    ),
)


AUGMENT: Mapping[str, ItemSpec] = family(
    ItemSpec(
        "random_resized_crop",
        "crops a random area with a random aspect ratio and resizes it",
        (
            Argument("size", SIZE, None, "height and width of the result, in pixels"),
            Argument(
                "smallest", FloatType(0, 1, open_low=True), 0.08, "smallest share of the image area"
            ),
        ),
        example="random_resized_crop(224)",
    ),
    ItemSpec(
        "random_crop",
        "crops the image at a random position",
        (
            Argument("size", SIZE, None, "height and width of the result, in pixels"),
            Argument("padding", IntType(0, 1000), 0, "zero padding on each side, in pixels"),
        ),
        example="random_crop(32, padding = 4)",
    ),
    ItemSpec(
        "horizontal_flip",
        "flips the image horizontally",
        (Argument("p", PROBABILITY, 0.5, "probability of a flip"),),
    ),
    ItemSpec(
        "auto_augment",
        "applies a random sub-policy of AutoAugment (Cubuk et al., CVPR 2019)",
        (
            Argument(
                "policy",
                ChoiceType(("imagenet", "cifar10", "svhn")),
                "imagenet",
                "data set that the policy was learnt on",
            ),
        ),
    ),
    ItemSpec(
        "trivial_augment",
        "applies one random operation of random strength per image (Mueller and Hutter, ICCV 2021)",
    ),
    ItemSpec(
        "rand_augment",
        "applies random operations of a fixed strength (RandAugment: Cubuk et al., 2020)",
        (
            Argument("n", IntType(1, 20), 2, "number of operations per image"),
            Argument("m", IntType(0, 30), 9, "strength of the operations"),
        ),
    ),
    ItemSpec(
        "color_jitter",
        "randomly changes brightness, contrast, saturation and hue",
        (
            *(
                Argument(name, FloatType(0.0, 10.0), 0.4, "maximum deviation of the factor from 1")
                for name in ("brightness", "contrast", "saturation")
            ),
            Argument(
                "hue", FloatType(0.0, 0.5), 0.0, "maximum shift, as a share of the colour circle"
            ),
        ),
    ),
    RESIZE,
    CENTER_CROP,
    NORMALIZE,
    ItemSpec(
        "random_erasing",
        "sets a random rectangle to 0",
        (Argument("p", PROBABILITY, 0.25, "probability of erasing"),),
    ),
    ItemSpec(
        "python",
        "changes each image by a Python function of the image and named numbers",
        (FUNCTION,),
        others=True,
        example='horizontal_flip -> python("my_augment.py:noise", sigma = 0.1)',
    ),
    ItemSpec(
        "mixup",
        "mixes pairs of images and of their labels with random weights (Zhang et al., ICLR 2018)",
        (Argument("alpha", POSITIVE, 0.2, MIXING),),
        whole_batch=True,
    ),
    ItemSpec(
        "cutmix",
        "pastes a rectangle of one image into another and mixes labels by area (Yun et al., ICCV 2019)",
        (Argument("alpha", POSITIVE, 1.0, MIXING),),
        whole_batch=True,
    ),
)
"""Transforms of training images."""

EVALUATE: Mapping[str, ItemSpec] = family(RESIZE, CENTER_CROP, NORMALIZE)
"""Transforms of test images, which are deterministic."""

PARTS: Mapping[str, ItemSpec] = family(
    ItemSpec("stem", "layers before the stages"),
    ItemSpec("stages", "all stages, or those of the given numbers, counted from 0"),
    ItemSpec("head", "layers after the stages"),
)
"""Common parts of a network. All layers that a network defines by name are parts."""

ITEMS: Mapping[str, Mapping[str, ItemSpec]] = {
    "optimizer": OPTIMIZERS,
    "schedule": SCHEDULES,
    "change": CHANGES,
    "loss": LOSSES,
    "gradient": GRADIENTS,
    "augment": AUGMENT,
    "evaluate": EVALUATE,
    "part": PARTS,
}
"""Items by family."""


def item_spec(family: str, name: str) -> ItemSpec | None:
    """Return the row of an item; every name may be a part of a network, with numbers of stages."""
    if family == "part":
        return ItemSpec(name, "", many=Argument("numbers", IntType(), (), "numbers of stages"))
    return ITEMS[family].get(name)
