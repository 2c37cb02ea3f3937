"""The examples run and do what they say."""

from __future__ import annotations

import re
import warnings
from pathlib import Path

import pytest
import torch

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("name", "shortened", "least"),
    [
        ("own_loop", {"range(4)": "range(1)"}, 30),
        (
            "lightning_loop",
            {
                "EPOCHS = 4": "EPOCHS = 2",
                " logger=False,": " logger=False, limit_train_batches=35,",
            },
            35,
        ),
    ],
)
def test_a_loop_trains_a_network(
    name: str, shortened: dict[str, str], least: float, capsys: pytest.CaptureFixture[str]
) -> None:
    """As the example has it, but for fewer epochs, and over a part of the images."""
    program = (EXAMPLES / f"{name}.py").read_text("utf-8")
    if name.startswith("lightning"):
        pytest.importorskip("lightning")
    for long, short in shortened.items():
        assert program.count(long) == 1
        program = program.replace(long, short)
    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Lightning, on how many workers to take
        exec(compile(program, f"{name}.py", "exec"), {"__name__": name})
    found = re.fullmatch(r"test accuracy (.*)%\n", capsys.readouterr().out)
    assert float(found[1]) > least  # of ten classes
