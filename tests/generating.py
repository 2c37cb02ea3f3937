"""The number of examples that generated tests draw.

Examples are the same in every run, so that only a change of the code changes the outcome.
``DANETC_EXAMPLES=50 pytest ...`` draws new ones, 50 times as many.
"""

import os

from hypothesis import HealthCheck, settings

FACTOR = int(os.environ.get("DANETC_EXAMPLES", "0"))


def examples(count: int) -> settings:
    """Settings of a generated test that draws so many examples."""
    return settings(
        max_examples=count * max(1, FACTOR),
        derandomize=FACTOR == 0,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
