"""What changes over a training: schedules of the learning rate, and changes of parameters."""

from __future__ import annotations

from collections.abc import Mapping

from danetc.dsl.recipe.schema import (
    ANY,
    POSITIVE,
    PROBABILITY,
    UNTIL,
    Argument,
    FloatType,
    ItemSpec,
    family,
)


def _ramp(number: FloatType) -> tuple[Argument, ...]:
    """From one number to another."""
    return (
        Argument("start", number, None, "at the first step"),
        Argument("end", number, None, "at the last step"),
        UNTIL,
    )


SCHEDULES: Mapping[str, ItemSpec] = family(
    ItemSpec("constant", "the learning rate stays as it is"),
    ItemSpec(
        "step",
        "the learning rate is multiplied by `factor` at each of these epochs",
        (Argument("factor", FloatType(0.0, 1.0, open_low=True), 0.1, "what it is multiplied by"),),
        Argument("epochs", POSITIVE, None, "epochs, counted from the start"),
        example="step(5, 8, factor = 0.1)",
    ),
    ItemSpec(
        "cosine",
        "the learning rate falls along half a cosine, from the end of the warm-up to the last step",
        (Argument("end", PROBABILITY, 0.0, "share of the learning rate left at the end"),),
    ),
)
"""Of the learning rate."""

CHANGES: Mapping[str, ItemSpec] = family(
    ItemSpec(
        "linear",
        "from one number to another in equal steps",
        _ramp(ANY),
        example="surrogate(alpha = linear(1.0, 5.0))",
    ),
    ItemSpec(
        "cosine",
        "from one number to another along half a cosine",
        _ramp(ANY),
        example="surrogate(alpha = cosine(1.0, 5.0))",
    ),
    ItemSpec(
        "exponential",
        "from one number to another, by equal factors in equal times",
        _ramp(POSITIVE),
        example="surrogate(alpha = exponential(1.0, 5.0))",
    ),
)
"""Of parameters of the network."""
