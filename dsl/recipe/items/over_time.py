"""Schedules of the learning rate and of parameters during training."""

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
    """Return the arguments of a change from one number to another."""
    return (
        Argument("start", number, None, "value at the first step"),
        Argument("end", number, None, "value at the last step"),
        UNTIL,
    )


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
    ItemSpec(
        "linear",
        "linear change from one number to another",
        _ramp(ANY),
        example="surrogate(alpha = linear(1.0, 5.0))",
    ),
    ItemSpec(
        "cosine",
        "change from one number to another along half a cosine",
        _ramp(ANY),
        example="surrogate(alpha = cosine(1.0, 5.0))",
    ),
    ItemSpec(
        "exponential",
        "exponential change from one number to another",
        _ramp(POSITIVE),
        example="surrogate(alpha = exponential(1.0, 5.0))",
    ),
)
"""Changes of parameters of the network."""
