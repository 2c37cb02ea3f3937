"""Networks with each part of the language: exact resume, and gradients in half precision."""

import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from danetc.compiler.emit.fx import emit
from danetc.compiler.ir.graph import Graph
from danetc.runtime.data.dataset import DataSet, Memory
from danetc.runtime.model.signature import outputs_of
from danetc.runtime.training.checkpoints import Checkpoints
from danetc.runtime.training.distributed import World
from danetc.runtime.training.engine import PhaseRun, fit
from danetc.runtime.training.observer import RunSettings
from danetc.runtime.training.signals import Stopped, StopRequest
from tests.differential import helpers
from tests.differential.networks import VARIETY
from tests.runtime.training.common import phase

BODY = "epochs = 2; batch = 4; optimizer = sgd(lr = 0.05, momentum = 0.9); ema = 0.5"
NAMES = [
    "loops", "attention", "axes", "swapped", "over_time", "along", "causal", "windows", "ordinary",
    "learnt_values", "learnt_in_blocks", "cumulative", "scheduled", "weights",
]  # fmt: skip
"""Networks that have state or random numbers, or that mix time steps, channels or tokens."""
HALF = (torch.bfloat16, torch.float16)


class After(StopRequest):
    """A stop request that is made after ``wanted`` has been read ``questions`` times."""

    def __init__(self, questions: int) -> None:
        super().__init__()
        self.left = questions

    @property
    def wanted(self) -> bool:
        self.left -= 1
        if self.left < 0:
            self.signal = signal.SIGTERM
        return super().wanted


def data(graph: Graph) -> DataSet:
    """Eight images or recordings, so an epoch has two steps."""
    value = graph.input.value
    shape = (8, graph.steps, *value.shape) if value.varies else (8, *value.shape)
    images = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    if value.kind.is_integer:
        images = (2 * images).floor()
    memory = Memory(images, torch.arange(8) % 5)
    return DataSet("made", "made", tuple("abcde"), memory, memory, shape[1:], "made", value.varies)


def trained(
    graph: Graph, folder: Path | None, stop: StopRequest | None = None
) -> dict[str, Tensor]:
    """Train, or resume from the newest checkpoint in ``folder``, and return the weights."""
    kept = Checkpoints(folder, lambda text: None, lambda path: None) if folder else None
    rest = {"world": World(torch.device("cpu")), "checkpoints": kept, "stop": stop or StopRequest()}
    run = PhaseRun(emit(graph, 1), data(graph), phase(BODY), RunSettings(seed=3), **rest)
    fit(run, None if kept is None else kept.latest())
    return run.weights


def check_resumed(graph: Graph, folder: Path) -> None:
    """A training that stops at its second step and resumes ends with the weights of a whole one."""
    with pytest.raises(Stopped):
        trained(graph, folder, After(1))
    torch.testing.assert_close(trained(graph, folder), trained(graph, None), rtol=0, atol=0)


@pytest.mark.parametrize("name", [*NAMES, "dropped", "poisson", "random", "tebn"])
def test_resumed_bit_for_bit(name: str, tmp_path: Path) -> None:
    check_resumed(helpers.text(VARIETY[name]), tmp_path)


@pytest.mark.thorough
@pytest.mark.parametrize("dtype", HALF, ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_half_precision(name: str, dtype: torch.dtype) -> None:
    """Initial outputs are close to those in float32. The gradients are finite."""
    graph = helpers.text(VARIETY[name])
    x = data(graph).train.images  # type: ignore[attr-defined]
    x = x.transpose(0, 1) if graph.input.value.varies else x

    def outputs(half: bool) -> tuple[Any, Tensor]:
        model = emit(graph, 1)
        torch.manual_seed(0)  # for the same dropout
        with torch.autocast("cpu", dtype, half):
            found = outputs_of(model(x))
        flat = torch.cat([y.float().flatten() for y in found])
        flat.square().mean().backward()
        return model, flat.detach()

    (one, whole), (other, half) = outputs(False), outputs(True)
    assert torch.isfinite(half).all()
    assert F.cosine_similarity(whole, half, dim=0) > 0.9
    for (key, p), (_, q) in zip(one.named_parameters(), other.named_parameters(), strict=True):
        assert (p.grad is None) == (q.grad is None), key
        assert q.grad is None or torch.isfinite(q.grad).all(), key
