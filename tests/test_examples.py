"""The examples run and do what they say."""

from __future__ import annotations

import re
import warnings
from pathlib import Path

import pytest
import torch

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.mark.thorough
def test_a_plain_loop_trains_a_network(capsys: pytest.CaptureFixture[str]) -> None:
    """As the example has it, but for one epoch."""
    program = (EXAMPLES / "own_loop.py").read_text("utf-8")
    assert program.count("range(4)") == 1
    with torch.random.fork_rng():
        exec(compile(program.replace("range(4)", "range(1)"), "own_loop.py", "exec"), {})
    found = re.fullmatch(r"test accuracy (.*)%\n", capsys.readouterr().out)
    assert found is not None
    assert float(found[1]) > 30  # of ten classes


@pytest.mark.thorough
def test_lightning_trains_a_network(capsys: pytest.CaptureFixture[str]) -> None:
    """As the example has it, but for two epochs over a part of the images."""
    pytest.importorskip("lightning")
    program = (EXAMPLES / "lightning_loop.py").read_text("utf-8")
    assert program.count("EPOCHS = 4") == program.count("    logger=False,") == 1
    program = program.replace("EPOCHS = 4", "EPOCHS = 2")
    program = program.replace("    logger=False,", "    logger=False, limit_train_batches=35,")
    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Lightning, on how many workers to take
        exec(compile(program, "lightning_loop.py", "exec"), {"__name__": "lightning_loop"})
    found = re.fullmatch(r"test accuracy (.*)%\n", capsys.readouterr().out)
    assert found is not None
    assert float(found[1]) > 35  # of ten classes
