"""The examples run and do what they say."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest
import torch

EXAMPLES = Path(__file__).parents[1] / "examples"


def test_a_plain_loop_trains_a_network(capsys: pytest.CaptureFixture[str]) -> None:
    with torch.random.fork_rng():
        runpy.run_path(str(EXAMPLES / "own_loop.py"))
    found = re.fullmatch(r"test accuracy (.*)%\n", capsys.readouterr().out)
    assert found is not None
    assert float(found[1]) > 85
