"""Under torch's transforms, a model agrees with its ``model.py``, or its error says what to do."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.autograd.functional import hessian, jacobian, jvp
from torch.func import functional_call

from danetc.compiler.emit.fx import emit
from danetc.compiler.emit.program import standalone
from danetc.compiler.emit.python import emit_python
from danetc.compiler.ir.graph import Graph
from danetc.runtime.model.built import Model
from tests.differential.helpers import randn, shake, text
from tests.differential.networks import LEARNT, VARIETY, variety
from tests.runtime.test_fused import inputs

pytestmark = pytest.mark.filterwarnings(
    "ignore:the memory policy", "ignore::torch.jit.TracerWarning",
    "ignore:`torch.jit", "ignore:.*torch.jit.trace", "ignore:There is a performance drop",
)  # fmt: skip

Function = Callable[[Any, Tensor], Any]


def models(graph: Graph, backend: str, training: bool) -> tuple[Model, Any]:
    model = emit(graph, 0, backend).double()
    shake(model)
    other = standalone(emit_python(graph), "net").double()
    other.load_state_dict(model.state_dict())
    return model.train(training), other.train(training)


def joined(outputs: Any) -> Tensor:
    """All outputs of a model as one vector."""
    each = outputs if isinstance(outputs, tuple) else (outputs,)
    return torch.cat([y.flatten() for y in each])


def loss(model: Any, x: Tensor) -> Tensor:
    y = joined(model(x))
    weights = torch.arange(1.0, len(y) + 1, dtype=y.dtype).sin()  # (not random, for vmap)
    return (y * weights).sum() + y.square().sum()


def tangent(x: Tensor) -> Tensor:
    return randn(*x.shape, seed=6)


def forward_mode(model: Any, x: Tensor) -> Any:
    with forward_ad.dual_level():
        dual = forward_ad.unpack_dual(joined(model(forward_ad.make_dual(x, tangent(x)))))
        return dual.primal, dual.tangent


def forward_over_backward(model: Any, x: Tensor) -> Tensor:
    x = x.clone().requires_grad_()
    with forward_ad.dual_level():
        out = loss(model, forward_ad.make_dual(x, tangent(x)))
        (grad,) = torch.autograd.grad(out, x)
        found = forward_ad.unpack_dual(grad).tangent
    assert found is not None
    return found


def gradients(model: Any, x: Tensor) -> list[Tensor]:
    values = [x.clone().requires_grad_(), *model.parameters()]
    total = loss(model, values[0])
    return list(torch.autograd.grad(total, values, allow_unused=True, materialize_grads=True))


def transformed_gradients(model: Any, x: Tensor) -> list[Tensor]:
    def run(params: dict[str, Tensor], x: Tensor, buffers: dict[str, Tensor]) -> Tensor:
        return loss(lambda x: functional_call(model, (params, buffers), (x,)), x)

    params = {name: value.detach() for name, value in model.named_parameters()}
    buffers = {name: value.clone() for name, value in model.named_buffers()}
    of_params, of_x = torch.func.grad(run, argnums=(0, 1))(params, x, buffers)
    return [of_x, *of_params.values()]


def second_gradients(model: Any, x: Tensor) -> list[Tensor]:
    """Gradients of the squared norm of the first gradients."""
    values = [x.clone().requires_grad_(), *model.parameters()]
    options: Any = {"allow_unused": True, "materialize_grads": True}
    found = torch.autograd.grad(loss(model, values[0]), values, create_graph=True, **options)
    return list(torch.autograd.grad(sum(g.square().sum() for g in found), values, **options))


def batched_gradients(model: Any, x: Tensor) -> Tensor:
    x = x.clone().requires_grad_()
    y = joined(model(x))
    directions = torch.stack([randn(*y.shape, seed=seed) for seed in (7, 8)])
    return torch.autograd.grad(y, x, directions, is_grads_batched=True)[0]


def gradients_one_by_one(model: Any, x: Tensor) -> Tensor:
    x = x.clone().requires_grad_()
    y = joined(model(x))
    seeds = [randn(*y.shape, seed=seed) for seed in (7, 8)]
    return torch.stack([torch.autograd.grad(y, x, v, retain_graph=True)[0] for v in seeds])


def per_sample(model: Any, x: Tensor) -> Any:
    params = {name: value.detach() for name, value in model.named_parameters()}

    def run(params: dict[str, Tensor], x: Tensor) -> Tensor:
        return loss(lambda x: functional_call(model, params, (x,)), x.unsqueeze(0))

    return list(torch.func.vmap(torch.func.grad(run), in_dims=(None, 0))(params, x).values())


def per_sample_by_hand(model: Any, x: Tensor) -> Any:
    rows = [gradients(model, sample.unsqueeze(0))[1:] for sample in x]
    return [torch.stack(each) for each in zip(*rows, strict=True)]


def output(model: Any, x: Tensor) -> Tensor:
    return joined(model(x))


def function(model: Any) -> Callable[[Tensor], Tensor]:
    return partial(output, model)


def of_jvp(model: Any, x: Tensor) -> Any:
    return jvp(function(model), x, tangent(x))


def of_jacobian(model: Any, x: Tensor) -> Any:
    return jacobian(function(model), x)


def of_hessian(model: Any, x: Tensor) -> Any:
    return hessian(partial(loss, model), x)


SECOND = "create_graph"
MUTATES = "in-place"
"""The error for running statistics that are not arguments of the transformed function."""
TABLE: dict[str, tuple[Function, Function, str | None, str | None]] = {
    # ours, the reference, the error of the backend `fused`, and the error in training mode
    "func.jvp": (
        lambda m, x: torch.func.jvp(function(m), (x,), (tangent(x),)), of_jvp, None, MUTATES
    ),
    "forward_ad": (forward_mode, of_jvp, None, None),
    "forward over backward": (
        forward_over_backward,
        lambda m, x: of_hessian(m, x).flatten(x.dim()) @ tangent(x).flatten(), None, None,
    ),
    "func.grad": (transformed_gradients, gradients, None, None),
    "func.vjp": (
        lambda m, x: torch.func.vjp(partial(loss, m), x)[1](torch.tensor(1.0).double())[0],
        lambda m, x: gradients(m, x)[0], None, MUTATES,
    ),
    "jacrev": (lambda m, x: torch.func.jacrev(function(m))(x), of_jacobian, None, MUTATES),
    "jacfwd": (lambda m, x: torch.func.jacfwd(function(m))(x), of_jacobian, None, MUTATES),
    "hessian": (lambda m, x: torch.func.hessian(partial(loss, m))(x), of_hessian, None, MUTATES),
    "vmap": (
        lambda m, x: torch.func.vmap(function(m))(torch.stack([x, -x])),
        lambda m, x: torch.stack([output(m, x), output(m, -x)]), None, "atched",
    ),
    "per sample": (per_sample, per_sample_by_hand, None, MUTATES),
    "functional_call": (
        lambda m, x: joined(functional_call(m, dict(m.named_parameters()), (x,))),
        output, None, None,
    ),
    "double backward": (second_gradients, second_gradients, SECOND, None),
    "functional.jvp": (of_jvp, of_jvp, SECOND, None),
    "functional.hessian": (of_hessian, of_hessian, SECOND, None),
    "is_grads_batched": (batched_gradients, gradients_one_by_one, SECOND, None),
    "jit.trace": (
        lambda m, x: function(torch.jit.trace(m, (-x,), check_trace=False))(x), output, None, None
    ),
    "jit.script": (lambda m, x: torch.jit.script(m), lambda m, x: (), "jit.trace", "jit.trace"),
}  # fmt: skip


def check(row: str, model: Model, other: Any, x: Tensor, error: str | None) -> None:
    ours, reference, *_ = TABLE[row]
    if error is not None:
        with pytest.raises(RuntimeError, match=error):
            ours(model, x)
        return
    mine, theirs = ours(model, x), reference(other, x)
    pairs = [(mine, theirs)] if isinstance(mine, Tensor) else zip(mine, theirs, strict=True)
    for a, b in pairs:
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-9 * max(1.0, float(b.abs().max())))


TINY = f"""
{LEARNT}
network net {{
  input = image(2, 4, 4); steps = 3; neuron = leaky; surrogate = sigmoid(alpha = scheduled(3.0))
  a = in -> conv(3) -> norm -> spike
  b = a -> maxpool(2) -> conv(3) -> norm
  out = (b + (a -> avgpool(2))) -> two_states -> avgpool -> mean_over_time -> linear(2)
}}
"""


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("backend", ["eager", "fused"])
@pytest.mark.parametrize(
    "row",
    [pytest.param(r, marks=[pytest.mark.thorough] * ("hess" in r or "over" in r)) for r in TABLE],
)
def test_the_table(row: str, backend: str, training: bool) -> None:
    x = randn(1 if "hessian" in row or "over" in row else 3, 2, 4, 4)
    of_fused, of_training = TABLE[row][2:]
    error = of_fused if backend == "fused" or row == "jit.script" else None
    model, other = models(text(TINY), backend, training)
    check(row, model, other, x, error or (of_training if training else None))


RANDOM = ("dropped", "dropout", "ordinary", "poisson", "random")
OTHERS = ("two_inputs", "functions")
"""One needs two inputs; the other has values of 1e17 that differ in their last digits."""


@pytest.mark.parametrize("backend", ["eager", "fused"])
@pytest.mark.thorough
@pytest.mark.parametrize("row", ["func.jvp", "func.grad", "double backward", "jit.trace"])
@pytest.mark.parametrize("name", sorted(set(VARIETY) - {*RANDOM, *OTHERS}))
def test_every_kind_of_network(name: str, row: str, backend: str) -> None:
    for x in inputs(variety(name)):
        model, other = models(variety(name), backend, training="grad" in row or "double" in row)
        check(row, model, other, x[..., :2, :, :, :], TABLE[row][2] if backend == "fused" else None)
