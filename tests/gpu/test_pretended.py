"""The GPU tests and the training tests pass on pretended devices, in separate processes."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.gpu.pretended import ROOT, inside, lacking

NO_GRAPHS = "--ignore=tests/runtime/training/test_graphs.py"
"""Its graphs record one thread; the backward pass of a device runs in a thread of its own."""
pytestmark = [
    pytest.mark.thorough,
    pytest.mark.skipif(lacking() is not None, reason=str(lacking())),
]


@pytest.mark.parametrize(
    "tests",
    [["tests/gpu/test_on_gpu.py"], ["tests/runtime/training", NO_GRAPHS]],
    ids=lambda words: "-".join(words).replace("/", "."),
)
def test_tests_pass_on_pretended_devices(tests: list[str]) -> None:
    run = inside(
        "pytest", "-p", "tests.gpu.device", "-q", "-x", "-m", "", *tests,
        devices=4, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout
    assert " passed" in run.stdout


def test_steps_of_shipped_networks() -> None:
    networks = ("danet_c_small", "sew_r18", "danet_c_r50", "zoo/spikformer")
    run = inside("tests.gpu.steps", *networks, check=True, stdout=subprocess.PIPE)
    found = json.loads(run.stdout)
    assert len(found) == 8
    for fused, eager in zip(found[::2], found[1::2], strict=True):
        assert (fused["network"], fused["reads"], fused["writes"]) == (eager["network"], 0, 0)
        assert 100 < fused["launches"] < eager["launches"] / 3


SMALL = """
use std

network small {
  input = image(1, 8, 8); steps = 2; neuron = IF; surrogate = atan
  out = in -> conv(4) -> norm -> spike -> avgpool -> mean_over_time -> linear(2)
}
recipe short { epochs = 1; batch = 4; optimizer = sgd(lr = 0.1) }
"""
IN_EVERY_PROCESS = """
import atexit
import sys

import tests.gpu.device
import torch

atexit.register(lambda: print("peaks", *map(torch.cuda.max_memory_allocated, (0, 1)), file=sys.stderr))
"""


def test_each_job_has_a_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each training is a separate process, in which Python imports ``sitecustomize`` first. None of them uses
    the other device."""
    (tmp_path / "sitecustomize.py").write_text(IN_EVERY_PROCESS)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join((str(tmp_path), str(ROOT))))
    (tmp_path / "a.danet").write_text(SMALL)
    data = "synthetic:size=8,channels=1,classes=2,count=8,test=2"
    options = ("--data", data, "--seeds", "3", "--jobs", "2", "-o", str(tmp_path / "out"))
    run = inside("danetc", "compare", str(tmp_path / "a.danet"), *options, devices=2)
    assert run.returncode == 0
    logs = [path.read_text() for path in sorted(tmp_path.glob("out/small/log-seed-*.txt"))]
    used = [[peak != "0" for peak in log.split("peaks ")[1].split()] for log in logs]
    assert len(used) == 3
    assert all(sum(each) == 1 for each in used)
    assert used[0] != used[1]
