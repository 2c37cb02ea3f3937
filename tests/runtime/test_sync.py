"""Norms over all processes: two gloo processes equal one process with the whole batch."""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from danetc.compiler.emit.fx import emit
from danetc.runtime.kernels import compiled as compiler
from danetc.runtime.kernels.compiled import CompiledFunction
from danetc.runtime.layers.fused import FusedNeuron
from danetc.runtime.layers.sync import Synchronisable, convert_sync, is_synchronised
from tests.differential.helpers import randn, shake, text
from tests.differential.networks import small
from tests.forked import in_two
from tests.runtime.conftest import step

PARTS = (3, 1)  # images of each process; the counts may differ
LAYERS = "backbone layers = stage(basic(4), 1) -> stage(basic(4), 1, stride = 2)"


def sew(norm: str, stem: str = "conv(4) -> norm -> spike") -> str:
    return small("layers via sew", more=LAYERS, settings=f"neuron = IF; norm = {norm}", stem=stem)


NETWORKS = {
    "static": small("layers via origin", more=LAYERS),
    "tebn": sew("tebn"),
    "per_step": sew(
        "batchnorm(per_step = true)",
        "conv(4) -> batchnorm(per_step = true, eps = 0.01, bias = false) -> spike",
    ),
    "step": sew("batchnorm(statistics = step)"),
    "cumulative": sew("batchnorm(statistics = cumulative)"),
    "bordered": sew("batchnorm", "conv(4) -> batchnorm(pad = 1, bias = false) -> spike"),
    "layernorm": sew("layernorm"),
    "running_mean": small(
        "stage(scaled(4), 2)",
        more="""block scaled(w) {
          a = in -> conv(w) -> norm -> spike
          out = (a / (0.1 + (a -> running_mean(groups = 4)))) -> conv(w) -> norm -> spike
        }""",
        settings="neuron = IF",
    ),
}
BACKENDS = ("eager", "fused")
GPU = ("eager, GPU", "fused, GPU")
"""Backends as on a GPU, with the operations of ``OF_A_GPU``."""
CASES = [(name, backend) for name in NETWORKS for backend in BACKENDS + GPU]
COMPILED = ("static", "fused, compiled")


def stats(x: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    variance, mean = torch.var_mean(x.transpose(0, 1).flatten(1), 1, correction=0)
    return mean, (variance + eps).rsqrt()


def gather_stats(x: Tensor, means: Tensor, inverses: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    running_mean, running_var, momentum, eps, counts = rest
    shares = (counts / counts.sum()).unsqueeze(1)
    mean = (means * shares).sum(0)
    squares = (inverses**-2 - eps + means.square()) * shares
    variance = squares.sum(0) - mean.square()
    running_mean.lerp_(mean, momentum)
    running_var.lerp_(variance * counts.sum() / (counts.sum() - 1), momentum)
    return mean, (variance + eps).rsqrt()


def over(x: Tensor, *columns: Tensor) -> list[Tensor]:
    return [each.view(1, -1, *[1] * (x.dim() - 2)) for each in columns]


def elemt(x: Tensor, *columns: Any) -> Tensor:
    weight, bias, mean, inverse = over(x, *columns[:4])
    return (x - mean) * inverse * weight + bias


def backward_reduce(grad: Tensor, x: Tensor, mean: Tensor, inverse: Tensor, *_: Any) -> Any:
    parts = grad, grad * (x - over(x, mean)[0])
    bias, weight = (part.transpose(0, 1).flatten(1).sum(1) for part in parts)
    return bias, weight, weight * inverse, bias


def backward_elemt(grad: Tensor, x: Tensor, *columns: Tensor) -> Tensor:
    mean, inverse, weight, bias, product = over(x, *columns[:5])
    count = int(columns[5].sum())
    return (
        (grad - bias / count - (x - mean) * inverse.square() * product / count) * inverse * weight
    )


OF_A_GPU = {
    "batch_norm_stats": stats,
    "batch_norm_gather_stats_with_counts": gather_stats,
    "batch_norm_elemt": elemt,
    "batch_norm_backward_reduce": backward_reduce,
    "batch_norm_backward_elemt": backward_elemt,
}


@contextmanager
def as_on_a_gpu(calls: Counter[str]) -> Iterator[None]:
    """Norms and fused layers take the path of a GPU; ``calls`` counts kernels and operations."""

    def counted(name: str, run: Any) -> Any:
        return lambda *args: (calls.update([name]), run(*args))[1]

    def kernel(self: CompiledFunction, *args: Tensor) -> Any:
        calls[self.name.rpartition(", ")[2]] += 1
        return self.function(*args)

    with (
        pytest.MonkeyPatch.context() as patch,
        torch.library._scoped_library("aten", "IMPL") as ops,
    ):
        for name, run in OF_A_GPU.items():
            ops.impl(name, counted(name, run), "CPU")
        patch.setattr("danetc.runtime.layers.sync._has_kernels", lambda *_: True)
        patch.setattr(compiler, "COMPILE", True)
        patch.setattr(compiler, "DEVICES", ("cpu",))
        patch.setattr(CompiledFunction, "__call__", kernel)
        yield


def model_of(name: str, backend: str) -> nn.Module:
    model = emit(text(NETWORKS[name]), 0, backend.partition(",")[0]).double()
    shake(model)
    return model


def data() -> tuple[Tensor, Tensor]:
    return randn(sum(PARTS), 3, 8, 8), randn(sum(PARTS), 5, seed=2)


def process(folder: Path, cases: Sequence[tuple[str, str]], rank: int) -> None:
    compiler.COMPILE = False
    dist.init_process_group("gloo")
    start = sum(PARTS[:rank])
    x, weight = (values[start : start + PARTS[rank]] for values in data())
    results: dict[Any, dict[str, Tensor]] = {}
    for name, backend in cases:
        model: Any = convert_sync(model_of(name, backend))
        if "compiled" in backend:
            model = torch.compile(model, backend="aot_eager", fullgraph=True)
        calls: Counter[str] = Counter()
        with as_on_a_gpu(calls) if backend in GPU else nullcontext():
            found = step(model, x, weight=weight) | {
                f"calls {k}": torch.tensor(v) for k, v in calls.items()
            }
        results[name, backend] = found
        if "compiled" not in backend:
            model.eval()(x)
    torch.save(results, folder / f"{rank}.pt")
    dist.destroy_process_group()


Results = list[dict[Any, dict[str, Tensor]]]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    return results_of(CASES, tmp_path_factory.mktemp("sync"))


def results_of(cases: Sequence[tuple[str, str]], folder: Path) -> Results:
    in_two(process, folder, cases)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


@pytest.mark.parametrize("case", CASES, ids=", ".join)
def test_two_processes_are_one(case: tuple[str, str], results: Results) -> None:
    check_one(case, results)


@pytest.mark.thorough
def test_two_processes_are_one_compiled_as_a_whole(tmp_path: Path) -> None:
    check_one(COMPILED, results_of([COMPILED], tmp_path))


def check_one(case: tuple[str, str], results: Results) -> None:
    x, weight = data()
    expected = step(model_of(*case), x, weight=weight)
    parts = [{key.replace("_orig_mod.", ""): v for key, v in r[case].items()} for r in results]
    assert {key for key in parts[0] if not key.startswith("calls")} == set(expected)
    for key, value in expected.items():
        if key in ("output", "input 0"):
            found = torch.cat([part[key] for part in parts])
        elif key.startswith("gradient"):  # of the sum of the processes' losses
            found = sum((part[key] for part in parts), torch.zeros_like(value))
        else:
            found = parts[0][key]
            assert torch.equal(found, parts[1][key]), "buffers are the same everywhere"
        near = {"rtol": 1e-9, "atol": 1e-9 * max(1.0, float(value.abs().max()))}
        torch.testing.assert_close({key: found}, {key: value}, **near)


@pytest.mark.parametrize("backend", BACKENDS)
def test_one_process_is_as_before(backend: str) -> None:
    plain, model = model_of("static", backend), model_of("static", backend)
    names = list(model.state_dict())
    identities = [id(p) for p in model.parameters()]
    assert convert_sync(model) is model
    assert list(model.state_dict()) == names
    assert [id(p) for p in model.parameters()] == identities
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    assert norms
    assert all(isinstance(norm, Synchronisable) and norm.across_processes for norm in norms)
    assert not any(map(is_synchronised, norms))
    used = [n for m in model.modules() if isinstance(m, FusedNeuron) for n in m._norms if n]
    assert {id(norm) for norm in used} <= {id(norm) for norm in norms}
    found, expected = (step(each, data()[0]) for each in (model, plain))
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_norms_go_the_way_of_a_gpu(results: Results) -> None:
    """Norms of fused layers use kernels of danetc, others use the operators of torch's SyncBatchNorm."""
    eager, fused = (
        {key.removeprefix("calls ") for key in results[0]["static", backend] if "calls" in key}
        for backend in GPU
    )
    assert eager == {*OF_A_GPU}
    assert "batch_norm_elemt" not in fused
    parts = {"sums of the backward pass", "gradients of inputs"}
    assert parts | {"scale and shift of a norm from parts"} < fused
