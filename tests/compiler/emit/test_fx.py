"""Emission to torch.fx: structure, layouts, names, initial weights."""

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from scipy import stats
from torch import Tensor, nn
from torch.nn import functional as F

from danetc.compiler import check_text, graph_of
from danetc.compiler.emit.fx import emit, resolve
from danetc.compiler.emit.names import RESERVED, attribute
from danetc.compiler.emit.program import standalone
from danetc.compiler.emit.python import emit_python
from danetc.compiler.ir.graph import Attribute, Graph, Value
from danetc.compiler.ir.ops import OPS
from danetc.compiler.ir.ops.row import nothing
from danetc.dsl.first_weights import FIRST_WEIGHTS
from danetc.dsl.kinds import ANALOG, tokens
from danetc.runtime.model.signature import random_input
from tests.compiler.emit.graphs import DEFAULTS, Net, resnet
from tests.differential.helpers import randn


def test_scopes_follow_the_spec_and_blocks_are_indexed() -> None:
    model = emit(resnet())
    for m in (model, copy.deepcopy(model), copy.deepcopy(copy.deepcopy(model))):
        assert [name for name, _ in m.named_children()] == ["stem", "stages", "head"]
        assert [name for name, _ in m.stages[1].named_children()] == ["blocks"]
        blocks = m.stages[1].blocks
        children = [name for name, _ in blocks[0].named_children()]
        assert children == ["branch", "shortcut", "spike"]
        assert blocks[1].branch.conv2 is m.get_submodule("stages.1.blocks.1.branch.conv2")
        assert (len(m.stages), len(blocks)) == (2, 3)
        assert blocks[2] is blocks[-1] is m.get_submodule("stages.1.blocks.2")
        assert list(blocks) == [blocks[0], blocks[1], blocks[2]]
        with pytest.raises(IndexError):
            blocks[3]
        assert bool(m.stem)


EXAMPLES: dict[str, dict[str, Attribute]] = {
    **DEFAULTS,
    "conv": {"width": 6, "bias": True, "stride": 2},
    "linear": {"width": 3, "bias": True},
    "groupnorm": {"groups": 2, "init": 0.5},
    "neuron": {"neuron": "IF"},
    "affine": {"factor": 2.0, "offset": 3.0},
    "upsample": {"scale": 2},
    "dropout": {"p": 0.5},
    "random": {"law": "normal 0.5 1.0", "evaluate": "mean"},
    "droppath": {"p": 0.5},
    "latency": {"tau": 2.0},
    **{key: {"over": "channels", "groups": 2} for key in ("sum_over", "mean_over", "max_over")},
    "swap": {"a": "channels", "b": "rows"},
    "steps_as_axis": {"axis": "channels", "steps": 3},
    "axis_as_steps": {"axis": "channels", "steps": 3},
    "swap_with_time": {"axis": "channels", "steps": 3},
    "repeat_channels": {"scale": 2},
    "conv_over": {"width": 6, "axis": "columns", "stride": 2},
    "conv_over_time": {"width": 6, "before": 1, "after": 1},
    "embedding": {"width": 4},
    "mask": {"kept": 0.5},
    "linear_over_time": {"steps": 3},
    "conv_transposed": {"width": 6, "bias": True, "output_padding": 1},
    "batchnorm": {"bias": False, "pad": 2},
    "resize": {"height": 9, "width": 4},
    "pad": {"before": 1, "after": 2, "over": "pixels"},
    "slice": {"first": 1, "last": 2},
    "shuffle": {"groups": 2},
    "transform": {"by": "dct", "over": "rows"},
    "table": {"numbers": "f8:1x1x1:AAAAAAAA8D8="},
    "reshape": {"channels": 2, "rows": 72, "columns": 1},
    "scores": {"heads": 2},
    "keys_first": {"heads": 2},
    "running_mean": {"groups": 2, "momentum": 0.1},
    "parameter": {"init": 0.5, "channels": 4, "height": 1, "width": 1},
}
SHAPES: dict[str, tuple[int, ...]] = {
    "linear": (4,),
    "embedding": (5,),
    "as_map": (4,),
    "steps_as_axis": (1, 6, 6),
    "axis_as_steps": (3, 6, 6),
    "swap_with_time": (3, 6, 6),
    "mix": (4, 1, 1),
}


# Inputs and operations that lowering resolves (tdbn) have no call. Only a loop creates a carry.
CALLED = [
    n for n, row in OPS.items() if row.emit is not nothing and n != "carry" and not row.opaque
]


def of_one_operation(name: str, varies: bool) -> tuple[Graph, Value]:
    """A network of one operation on varying or static values, and the value of its output."""
    row = OPS[name]
    moves = row.takes_steps or (varies and not (row.time == "creates" and row.fixes_steps))
    kind = tokens(9) if name == "embedding" else ANALOG
    net = Net(shape=SHAPES.get(name, (4, 6, 6)), varies=moves, kind=kind)
    varies = net.nodes[0].value.varies
    lowest, _ = OPS[name].operands
    # lowering repeats the static input of an operation that mixes time steps
    read = net("repeat", 0) if OPS[name].time == "mixes" and not varies else 0
    x = net(name, *[read] * lowest, **EXAMPLES.get(name, {}))
    if not row.for_samples:
        x = net("add", x, 0)
    alike = net.nodes[x].value.shape == net.nodes[0].value.shape
    if lowest == 2 and OPS[name].operands[1] is None and alike:
        x = net(name, x, 0)
    return net.finish(x), net.nodes[x].value


@pytest.mark.parametrize("name", CALLED)
@pytest.mark.parametrize("varies", [False, True], ids=["static", "varying"])
def test_every_operation_gives_the_shape_the_table_says(name: str, varies: bool) -> None:
    graph, value = of_one_operation(name, varies)
    model = emit(graph)
    lead = (3, 2) if graph.input.value.varies else (2,)
    size = (*lead, *graph.input.value.shape)
    x = random_input(graph.input.value.kind, size, torch.Generator().manual_seed(0))
    y = model(x.abs() + 0.1 if x.is_floating_point() else x)
    assert y.shape == ((3, 2) if value.varies else (2,)) + value.shape
    if value.kind.is_integer:
        assert set(y.unique().tolist()) <= set(value.kind.range.numbers())
    y.sum().backward() if y.requires_grad else None
    assert all(p.grad is not None for p in model.parameters())


def test_sums_fold_from_the_left() -> None:
    net = Net(shape=(1,), varies=True)
    parts = [
        net("affine", 0, factor=factor, offset=0.0, name=f"part{index}")
        for index, factor in enumerate((1.0, 1e-16, 1e-16, -1.0))
    ]
    model = emit(net.finish(net("add", *parts)))
    x = torch.ones(1, 1, 1, dtype=torch.float64)
    assert model(x).item() == ((1.0 + 1e-16) + 1e-16) - 1.0
    assert model(x).item() != 1.0 + (1e-16 + 1e-16) - 1.0


def tangled() -> Graph:
    """Each of the scopes ``a`` and ``b`` reads a value that the other computes from one of its own."""
    net = Net(varies=True)
    with net.within("a", "first"):
        x = net("conv", 0, width=4, name="one")
    with net.within("b"):
        y = net("conv", x, width=4, name="two")
    with net.within("a", "second"):
        x = net("add", x, net("conv", y, width=4, name="three"))
    with net.within("b"):
        z = net("conv", x, width=4, name="four")
    with net.within("c"):
        z = net("conv", z, width=4, name="five")
    return net.finish(z, y)


def test_scopes_that_need_each_other() -> None:
    model = emit(tangled()).double()
    places = ("a.first.one", "a.second.three", "b.two", "b.four", "c.five")
    assert [name for name, _ in model.named_parameters()] == [f"{each}.weight" for each in places]
    for m in (model, copy.deepcopy(model)):
        x = randn(2, 2, 3, 8, 8)
        z, y = m(x)

        def conv(x: Tensor, layer: nn.Conv2d) -> Tensor:
            return F.conv2d(x.flatten(0, 1), layer.weight, padding=1).unflatten(0, (2, 2))

        one = conv(x, m.a.first.one)
        two = conv(one, m.b.two)
        four = conv(one + conv(two, m.a.second.three), m.b.four)
        assert torch.equal(y, two)
        assert torch.equal(z, conv(four, m.c.five))


def test_every_attribute_of_a_model_is_reserved() -> None:
    model = emit(resnet(blocks=1))
    ours = {name for name, _ in model.named_children()}
    taken = {name for name in dir(model) if not name.startswith("_")} - ours
    assert taken <= RESERVED
    assert attribute("train") == "train_"
    assert attribute("conv1") == "conv1"
    names = ["train", "train_", "train__", "class", "class_", "_x", "_x_", "x_", "x"]
    assert len({attribute(name) for name in names}) == len(names), "two names, one module"


def test_only_known_modules_are_called() -> None:
    hostile = "os.system builtins.eval torch.hub.load torch._C operator.__add__ eval"
    for target in hostile.split():
        with pytest.raises(ValueError, match="may not call"):
            resolve(target)


def test_first_weights_are_those_of_torchvision() -> None:
    net = Net(shape=(16, 8, 8))
    x = net("conv", 0, name="conv", width=64, kernel=3)
    x = net("batchnorm", x, name="norm", init=0.5)
    x = net("conv", x, name="biased", width=32, kernel=1, bias=True)
    x = net("linear", net("flatten", net("groupnorm", x, init=0.0, name="group")), width=100)
    model = emit(net.finish(x))
    conv = model.conv.weight
    assert conv.std().item() == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.05)  # He, fan_out
    assert abs(conv.mean().item()) < 0.005
    assert torch.equal(model.norm.weight, torch.full((64,), 0.5))
    assert torch.equal(model.norm.bias, torch.zeros(64))
    assert torch.equal(model.group.weight, torch.zeros(32))
    for drawn, bound in ((model.biased.bias, 1 / 8), (model.linear.weight, 2048**-0.5),
                         (model.linear.bias, 2048**-0.5)):  # fmt: skip
        assert 0.6 * bound < drawn.abs().max() <= bound
    assert model.linear.weight.std().item() == pytest.approx(2048**-0.5 / 3**0.5, rel=0.02)


WIDTH, CHANNELS, KERNEL = 96, 64, 3
FAN_IN, FAN_OUT = CHANNELS * KERNEL**2, WIDTH * KERNEL**2


def is_drawn_from(law: Any) -> Callable[[Tensor], bool]:
    """A check of 55,296 draws by mean, deviation and Kolmogorov-Smirnov statistic."""

    def check(w: Tensor) -> bool:
        std, shift = float(w.std()) / law.std(), abs(float(w.mean()) - law.mean()) / law.std()
        gap = stats.kstest(w.flatten().double().numpy(), law.cdf).statistic
        return abs(std - 1) < 0.02 and shift < 0.02 and gap < 0.01

    return check


def is_normal(std: float, mean: float = 0.0) -> Callable[[Tensor], bool]:
    return is_drawn_from(stats.norm(mean, std))


def is_uniform(bound: float) -> Callable[[Tensor], bool]:
    is_drawn = is_drawn_from(stats.uniform(-bound, 2 * bound))
    return lambda w: is_drawn(w) and float(abs(w).max()) <= bound


def is_orthogonal(w: Tensor) -> bool:
    rows = w.flatten(1).double()
    return torch.allclose(rows @ rows.T, 4 * torch.eye(WIDTH, dtype=torch.float64), atol=1e-4)


CASES: dict[str, tuple[str, Callable[[Tensor], bool]]] = {
    "zeros": ("zeros", lambda w: not w.any()),
    "constant": ("constant(0.25)", lambda w: bool((w == 0.25).all())),
    "normal": ("normal(0.05, mean = 0.2)", is_normal(0.05, 0.2)),
    "uniform": ("uniform(0.1)", is_uniform(0.1)),
    "truncated_normal": (
        "truncated_normal(0.3, cut = 0.3)",
        is_drawn_from(stats.truncnorm(-1, 1, scale=0.3)),
    ),
    "xavier_normal": ("xavier_normal(gain = 2)", is_normal(2 * math.sqrt(2 / (FAN_IN + FAN_OUT)))),
    "xavier_uniform": ("xavier_uniform", is_uniform(math.sqrt(6 / (FAN_IN + FAN_OUT)))),
    "he_normal": ("he_normal", is_normal(math.sqrt(2 / FAN_OUT))),
    "he_uniform": ("he_uniform(mode = fan_in)", is_uniform(math.sqrt(6 / FAN_IN))),
    "lecun_normal": ("lecun_normal", is_normal(math.sqrt(1 / FAN_IN))),
    "torch_uniform": ("torch_uniform", is_uniform(math.sqrt(1 / FAN_IN))),
    "orthogonal": ("orthogonal(gain = 2)", is_orthogonal),
}


def network(given: str, setting: str = "") -> str:
    return f"""use std
network net {{
  input = image({CHANNELS}, 4, 4); steps = 1; neuron = IF; surrogate = atan
  {setting}
  stem = conv({WIDTH}, {given}bias = true) -> spike
  head = avgpool -> linear(2)
}}"""


def weights(text: str, seed: int = 0) -> dict[str, Tensor]:
    return {**emit(graph_of(check_text(text)), seed).state_dict()}


@pytest.mark.parametrize("name", FIRST_WEIGHTS)
def test_weights_start_as_the_spec_says(name: str) -> None:
    written, holds = CASES[name]
    before = torch.get_rng_state()
    first = weights(network(f"init = {written}, "))
    assert torch.equal(torch.get_rng_state(), before)
    torch.randn(5)
    assert holds(first["stem.conv.weight"])
    assert not first["stem.conv.bias"].any()
    again, other = (weights(network(f"init = {written}, "), seed) for seed in (0, 1))
    assert torch.equal(first["stem.conv.weight"], again["stem.conv.weight"])
    same = torch.equal(first["stem.conv.weight"], other["stem.conv.weight"])
    assert same == (not FIRST_WEIGHTS[name].random)
    alike = weights(network("", f"init = {written}"))
    assert torch.equal(alike["stem.conv.weight"], first["stem.conv.weight"])
    assert not alike["head.linear.bias"].any()
    assert torch.equal(first["head.linear.weight"], weights(network(""))["head.linear.weight"])
    text = emit_python(graph_of(check_text(network(f"init = {written}, "))))
    alone = standalone(text, "small").state_dict()
    assert holds(alone["stem.conv.weight"])
    assert not alone["stem.conv.bias"].any()
