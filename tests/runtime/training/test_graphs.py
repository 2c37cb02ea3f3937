"""Steps as CUDA graphs, on a stand-in that records CPU operations and repeats them on the same memory."""

import re
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from danetc.runtime.system.errors import TrainingError
from danetc.runtime.training import backward
from danetc.runtime.training.backward import WARM_UP

from .common import digits, phase, run, small

SGD = "batch = 20; optimizer = sgd(lr = 0.1)"

READS = {torch.ops.aten._local_scalar_dense, torch.ops.aten.nonzero, torch.ops.aten.is_nonzero}


def tensors(values: object) -> list[Tensor]:
    return [value for value in tree_leaves(values) if isinstance(value, Tensor)]


def storage(x: Tensor) -> int:
    return x.untyped_storage()._cdata


class Graph(TorchDispatchMode):
    """Records operations as if they had not run. On exit, older tensors get back their values, and results
    are NaN until ``replay``. The host may not read values while operations are recorded."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Callable[[], None]] = []
        self.replays = 0
        self.results: dict[int, Tensor] = {}
        self.before: dict[int, tuple[Tensor, Tensor]] = {}

    def __enter__(self) -> Any:
        self.state = torch.get_rng_state()
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        torch.set_rng_state(self.state)
        for place, value in self.before.values():
            place.copy_(value)
        for result in self.results.values():
            if result.is_floating_point():
                result.fill_(torch.nan)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.overloadpacket in READS:
            raise RuntimeError("operation not permitted when stream is capturing")
        taken = {storage(x): x for x in tensors((args, kwargs))}
        for key, x in taken.items():
            if key not in self.results and key not in self.before:
                whole = x.detach().as_strided(
                    (x.untyped_storage().nbytes() // x.itemsize,), (1,), 0
                )
                self.before[key] = whole, whole.clone()
        run = partial(func, *args, **(kwargs or {}))
        out = run()
        new = {place: x for place, x in enumerate(tensors(out)) if storage(x) not in taken}
        self.results |= {storage(x): x for x in new.values()}

        def again() -> None:
            found = tensors(run())
            for place, x in new.items():
                x.copy_(found[place])

        self.calls.append(again)
        return out

    def replay(self) -> None:
        self.replays += 1
        with torch.no_grad():
            for call in self.calls:
                call()


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[Graph]:
    found: list[Graph] = []

    def new() -> Graph:
        found.append(Graph())
        return found[-1]

    monkeypatch.setattr(torch.cuda, "CUDAGraph", new)
    monkeypatch.setattr(torch.cuda, "graph", lambda graph, capture_error_mode: graph)
    monkeypatch.setattr(backward, "DEVICES", ("cpu",))
    return found


@pytest.mark.parametrize(
    "body",
    [
        "batch = 25; optimizer = sgd(lr = 0.1)",  # the last batch has 10 images
        pytest.param(
            "batch = 20; optimizer = adamw(lr = 0.01); clip = 0.5; ema = 0.9; schedule = cosine; "
            "augment = mixup(1)",
            marks=pytest.mark.thorough,
        ),
    ],
)
def test_training_has_the_bits_of_ordinary_steps(made: list[Graph], body: str) -> None:
    data, chosen = digits(60, 20), phase(f"epochs = 3; {body}")
    plain = run(small(), data, chosen)
    assert not made
    graphed = run(small(), data, chosen, cuda_graphs=True)
    (graph,) = made
    assert graph.replays == 3 * (60 // chosen.batch) - WARM_UP
    assert graphed.figures == plain.figures
    torch.testing.assert_close(graphed.weights, plain.weights, rtol=0, atol=0)


def test_a_step_that_reads_values_is_an_error(made: list[Graph]) -> None:
    model = small()
    model.register_forward_hook(lambda module, args, out: print(out.detach().sum().item()))
    says = r"reads values of the device, as a hook.* --cuda-graphs"
    with pytest.raises(TrainingError, match=says):
        run(model, digits(60, 20), phase(f"epochs = 2; {SGD}"), cuda_graphs=True)
    assert len(made) == 1


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("accumulate = 2", "`accumulate = 2` adds the gradients of parts"),
        ("gradient = truncated(1)", "`gradient = truncated` is not `bptt`"),
    ],
)
def test_what_cannot_be_recorded_is_an_error(
    made: list[Graph], body: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for device, text in {"cpu": reason, "cuda": f"the device is cpu; {reason}"}.items():
        monkeypatch.setattr(backward, "DEVICES", (device,))
        says = re.escape(f"cannot use CUDA graphs: {text}; train")
        with pytest.raises(TrainingError, match=says):
            run(small(), digits(60, 20), phase(f"epochs = 1; {SGD}; {body}"), cuda_graphs=True)
    assert not made
