"""The tests of a GPU pass on pretended devices, in processes of their own; so do those of training."""

from __future__ import annotations

import subprocess

import pytest

from tests.gpu.pretended import inside, lacking, rows

NO_GRAPHS = "--ignore=tests/runtime/training/test_graphs.py"
"""Its graphs record what one thread computes; the backward pass of a device has its own."""
pytestmark = pytest.mark.skipif(lacking() is not None, reason=str(lacking()))


@pytest.mark.parametrize(
    "tests",
    [
        ["tests/gpu/test_on_gpu.py"],
        pytest.param(["tests/gpu/test_on_gpu.py", "-m", "thorough"], marks=pytest.mark.thorough),
        pytest.param(["tests/runtime/training", "-m", "", NO_GRAPHS], marks=pytest.mark.thorough),
    ],
    ids=lambda words: "-".join(words).replace("/", "."),
)
def test_tests_pass_on_pretended_devices(tests: list[str]) -> None:
    run = inside(
        "pytest", "-p", "tests.gpu.device", "-q", "-x", *tests,
        devices=4, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout
    assert " passed" in run.stdout


@pytest.mark.thorough
def test_rows_of_shipped_networks() -> None:
    found = rows()
    assert len(found) == 8
    for fused, eager in zip(found[::2], found[1::2], strict=True):
        assert (fused["network"], fused["reads"], fused["writes"]) == (eager["network"], 0, 0)
        assert 100 < fused["launches"] < eager["launches"] / 3
