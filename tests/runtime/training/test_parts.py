"""Parts of a network that are frozen, or have a learning rate of their own, against loops in plain torch."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

import danetc
from danetc.runtime.data.augment import image_transform
from danetc.runtime.data.batches import Batches
from danetc.runtime.data.dataset import DataSet
from danetc.runtime.system.seeds import derive
from tests.runtime.training.common import NETWORK, STILL, phase, run

ALIVE = STILL.replace("LIF", "LIF(v_threshold = 0.2)")
"""A network whose neurons all fire."""
BODY = (
    "epochs = 1; batch = 50; freeze = stem; lr_scale = 0.1 * stages + 3 * head; schedule = cosine"
)
OPTIMIZERS: dict[str, tuple[str, Any]] = {
    "sgd": (
        "sgd(lr = 0.1, momentum = 0.9, weight_decay = 0.01)",
        lambda groups: torch.optim.SGD(groups, momentum=0.9, weight_decay=0.01),
    ),
    "adamw": (
        "adamw(lr = 0.1, weight_decay = 0.01)",
        lambda groups: torch.optim.AdamW(groups, weight_decay=0.01),
    ),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_loop_with_torch_groups_gives_the_same_weights(few: DataSet, name: str) -> None:
    """In float64. The optimizer of the loop has no group for the stem, which computes as in a test."""
    text, make = OPTIMIZERS[name]
    first, model = (danetc.build(text=ALIVE, seed=1, backend="eager").double() for _ in range(2))
    start = {key: value.clone() for key, value in first.state_dict().items()}
    done = run(first, few, phase(f"{BODY}; optimizer = {text}"))
    model.train()
    rates = {"stages": 0.01, "head": 0.3}
    groups = [{"params": [*getattr(model, part).parameters()], "lr": rates[part]} for part in rates]
    optimizer = make(groups)
    batches = Batches(
        few.train, image_transform(()), batch=50, seed=derive("phase", 3, 0), train=True
    )
    for step, batch in enumerate(batches.epoch(0)):
        model.stem.eval()
        for group, rate in zip(optimizer.param_groups, rates.values(), strict=True):
            group["lr"] = rate * (1 + math.cos(math.pi * step / 3)) / 2
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(batch.images.double()), batch.labels).backward()
        optimizer.step()
    for key, value in model.state_dict().items():
        torch.testing.assert_close(done.weights[key], value, rtol=1e-9, atol=1e-10, msg=key)
        is_frozen = key.startswith("stem.")
        assert is_frozen == torch.equal(value, start[key]), key
    assert done.watcher.steps[0].learning_rate == 0.1


WAYS = {
    "ema": ("ema = 0.5", {}),
    "decay": ("optimizer = adamw(lr = 0.01, weight_decay = 0.1, decay = weights)", {}),
    "clip": ("clip = 0.01; accumulate = 2; precision = bf16", {}),
    "truncated": ("gradient = truncated(1)", {}),
    "online": ("gradient = online(trace = 0.5)", {}),
    "rates": ("loss = cross_entropy + 0.1 * firing_rate(target = 0.1)", {}),
    "fused": ("", {"backend": "fused"}),
    "recompute": ("", {"memory": "recompute"}),
    "fused recompute": ("ema = 0.5", {"backend": "fused", "memory": "recompute"}),
}


@pytest.mark.parametrize("way", WAYS)
def test_frozen_parts_keep_their_bits(few: DataSet, way: str) -> None:
    """The middle of a network, norms and neurons with a learnt value included; all else learns."""
    body, built = WAYS[way]
    text = (
        NETWORK.replace("LIF", "PLIF").replace("basic(8), 1", "basic(8), 3") % "mean_over_time ->"
    )
    model = danetc.build(text=text, **{"backend": "eager", "seed": 1, **built})
    before = {key: value.clone() for key, value in model.state_dict().items()}
    optimizer = "" if "optimizer" in body else "optimizer = sgd(lr = 0.1, weight_decay = 0.01)"
    settings = ["epochs = 1; batch = 50; freeze = stem + stages(0)", optimizer, body]
    done = run(model, few, phase("; ".join(filter(None, settings))))
    for key, value in done.weights.items():
        assert torch.equal(value, before[key]) == (not key.startswith("head.")), key


@pytest.mark.parametrize("policy", ["none", "recompute"])
def test_the_memory_policy_and_the_backend_change_no_weight(few: DataSet, policy: str) -> None:
    """A frozen stage between parts that learn, through which gradients pass."""
    body = phase("epochs = 1; batch = 50; optimizer = adamw(lr = 0.01); freeze = stages + head")
    one, two = (
        run(danetc.build(text=ALIVE, seed=1, backend=backend, memory=memory).double(), few, body)
        for backend, memory in (("eager", "none"), ("fused", policy))
    )
    for key, value in one.weights.items():
        torch.testing.assert_close(two.weights[key], value, rtol=1e-9, atol=1e-10, msg=key)
