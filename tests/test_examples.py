"""The examples run and do what they say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

EXAMPLES = Path(__file__).parents[1] / "examples"


def test_a_plain_loop_trains_a_network(capsys: pytest.CaptureFixture[str]) -> None:
    """As the example has it, but for one epoch."""
    program = (EXAMPLES / "own_loop.py").read_text("utf-8")
    assert program.count("range(4)") == 1
    with torch.random.fork_rng():
        exec(compile(program.replace("range(4)", "range(1)"), "own_loop.py", "exec"), {})
    found = re.fullmatch(r"test accuracy (.*)%\n", capsys.readouterr().out)
    assert found is not None
    assert float(found[1]) > 30  # of ten classes
