"""The readings of the densely additive rule, compared with plain loops and with each other."""

from collections.abc import Callable
from functools import reduce
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from danetc.compiler.passes import PIPELINE, Pass
from danetc.runtime.model.built import Model
from tests.differential.helpers import all_zero, assert_same, built, observe, randn, text

PASSES: dict[str, tuple[Pass, ...]] = {"as_written": (), "all_passes": PIPELINE}

NETWORK = """
backbone tiny = stage(basic(4), 5) -> stage(basic(8), 4, stride = 2)
network net {{
  input = image(3, 8, 8); steps = 3
  neuron = LIF(tau = 1.5); surrogate = sigmoid(alpha = 4)
  stem = conv(4) -> norm -> spike
  stages = tiny via {connection} by {rule}
  head = avgpool -> mean_over_time -> linear(5)
}}
"""


def network(
    connection: str, rule: str, passes: tuple[Pass, ...] = PIPELINE, more: str = ""
) -> Model:
    return built(text(more + NETWORK.format(connection=connection, rule=rule), passes))


# -- plain loops that follow the paper ------------------------------------------------------------

Run = Callable[[nn.Module, Tensor], Tensor]


def at_each_step(layer: nn.Module, x: Tensor) -> Tensor:
    """Apply a layer without a time dimension to [T, N, ...]."""
    y: Tensor = layer(x.flatten(0, 1)).unflatten(0, x.shape[:2])
    return y


def conv_norm(part: Any, x: Tensor, number: str = "") -> Tensor:
    conv, norm = (getattr(part, f"{name}{number}") for name in ("conv", "norm"))
    return at_each_step(norm, at_each_step(conv, x))


def origin(block: Any, x: Tensor, start: Tensor | None = None) -> Tensor:
    """Fig. 1a. The shortcut starts from the block's input, or from ``start`` if it is given."""
    y = conv_norm(block.branch, x, "1")
    y = conv_norm(block.branch, block.branch.spike(y), "2")
    start = x if start is None else start
    shortcut = conv_norm(block.shortcut, start) if hasattr(block, "shortcut") else start
    return block.spike(y + shortcut)  # type: ignore[no-any-return]


def baa(block: Any, x: Tensor) -> Tensor:
    """Fig. 1c: the norm follows the addition."""
    branch = block.branch
    y = at_each_step(branch.norm, at_each_step(branch.conv1, x))
    y = at_each_step(branch.conv2, branch.spike(y))
    shortcut = conv_norm(block.shortcut, x) if hasattr(block, "shortcut") else x
    return block.spike(at_each_step(block.norm, y + shortcut))  # type: ignore[no-any-return]


def eq_11(blocks: Any, x: Tensor, block: Run) -> Tensor:
    """x_i = sum of o_j for j < i; the stage returns the output of its last block."""
    outs = [block(blocks[0], x)]
    for each in blocks[1:]:
        outs.append(block(each, reduce(torch.add, outs)))
    return outs[-1]


def listing_1(blocks: Any, x: Tensor, block: Run) -> Tensor:
    """Each output is added to a running sum, which feeds the next block and is returned at the end."""
    total = block(blocks[0], x)
    for each in blocks[1:]:
        total = total + block(each, total)
    return total


def after_the_opening_block(blocks: Any, x: Tensor, block: Run) -> Tensor:
    """Listing 1 applied to the second and later blocks."""
    return listing_1(blocks[1:], block(blocks[0], x), block)


APART = """
rule apart {
  in[i]       = out[i-1]
  shortcut[i] = sum(out[0 .. i-1])
  result      = max(out[n-1], out[0])
}
"""


def fed_apart(blocks: Any, x: Tensor, block: Callable[..., Tensor]) -> Tensor:
    """Branches read the previous output, shortcuts the sum of all. The result keeps the first spikes."""
    outs = [block(blocks[0], x)]
    for each in blocks[1:]:
        outs.append(block(each, outs[-1], torch.stack(outs).sum(0)))
    return torch.maximum(outs[-1], outs[0])


class Plain(nn.Module):
    """The layers of a built model, called by a plain loop instead of its graph."""

    def __init__(self, model: Any, stage: Callable[..., Tensor], block: Run) -> None:
        super().__init__()
        self.stem, self.stages, self.head = model.stem, model.stages, model.head
        self.rule, self.block = stage, block

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem.spike(conv_norm(self.stem, x))
        for stage in self.stages:
            x = self.rule([*stage.blocks.children()], x, self.block)
        x = at_each_step(self.head.avgpool, x).mean(0)
        return self.head.linear(x.flatten(1))  # type: ignore[no-any-return]


@pytest.mark.parametrize("passes", PASSES)
@pytest.mark.parametrize(
    ("connection", "block", "rule", "stage"),
    [
        ("origin", origin, "densely_additive", eq_11),
        ("origin", origin, "densely_additive_all", listing_1),
        ("origin", origin, "densely_additive_after_opening", after_the_opening_block),
        ("origin", origin, "apart", fed_apart),
        ("baa", baa, "densely_additive", eq_11),
    ],
)
def test_a_reading_is_its_plain_loop(
    connection: str, block: Run, rule: str, stage: Callable[..., Tensor], passes: str
) -> None:
    frames = randn(3, 2, 3, 8, 8)
    seen = observe(network(connection, rule, PASSES[passes], APART), frames)
    expected = observe(Plain(network(connection, rule, (), APART), stage, block), frames)
    assert len(seen.spikes) == len(expected.spikes)
    assert all(torch.equal(a, b) for a, b in zip(seen.spikes, expected.spikes, strict=True))
    assert not all_zero(seen.gradients.values())
    assert_same(seen, expected, gradients=1e-12)


OPENING = {
    "pa_a": "each = spike -> conv -> norm; projection = conv -> norm",
    "pa_b": "each = norm -> spike -> conv; projection = conv -> norm",
    "sew": "each = conv -> norm -> spike; projection = conv -> norm -> spike",
}

# -- the theorem ----------------------------------------------------------------------------------


@pytest.mark.parametrize("passes", PASSES)
@pytest.mark.parametrize("connection", OPENING)
def test_a_chain_with_identity_is_the_dense_form_without(connection: str, passes: str) -> None:
    """Connections without interblock modules: block 0 is the whole opening block, later blocks
    drop their identity, and the stage returns the sum of all outputs."""
    out = "out = branch + shortcut if i == 0 else branch"
    dense = f"connection bare {{ {OPENING[connection]}; {out} }}"
    frames = randn(3, 2, 3, 8, 8)
    chain = observe(network(connection, "chain", PASSES[passes]), frames)
    sums = observe(network("bare", "densely_additive_all", PASSES[passes], dense), frames)
    assert not all_zero(chain.gradients.values())
    assert_same(chain, sums, gradients=1e-12)
