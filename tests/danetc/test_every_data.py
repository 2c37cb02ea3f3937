"""Every kind of data: a killed training goes on with the same bits, and processes share an epoch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import replace
from functools import cache
from math import ceil
from pathlib import Path
from typing import Any

import pytest
import torch

import danetc
from danetc.dsl.recipe.settings import Phase
from danetc.runtime.data.batch import Batch
from danetc.runtime.data.batches import Batches
from danetc.runtime.data.dataset import DataSet, Memory
from danetc.runtime.data.registry import open_data
from danetc.runtime.data.sources import SOURCES
from danetc.runtime.training.checkpoints import Checkpoints
from danetc.runtime.training.distributed import World, alone, joined
from danetc.runtime.training.engine import fit
from danetc.runtime.training.run import PhaseRun
from danetc.runtime.training.settings import RunSettings
from danetc.runtime.training.signals import StopRequest
from tests.forked import in_two
from tests.runtime.training.common import TIMES, phase

from .datasets import SMALL_DATA, Small
from .test_as_trained import spec

SHARED = ("npz", "python", "huggingface", "tonic", "events")
"""Sources of data of one's own, which two processes train on."""


FEW = 24


class Killed(Exception):
    """Ends a training as a SIGKILL does: nothing is saved."""


class Killing(StopRequest):
    """Is asked after each step."""

    def __init__(self, step: int) -> None:
        super().__init__()
        self._left = step

    @property
    def wanted(self) -> bool:
        self._left -= 1
        if not self._left:
            raise Killed
        return False


def batch_of(data: DataSet) -> int:
    """Of all processes together: a few make an epoch."""
    return max(8, len(data.train) // 8 * 2)


def recipe_of(small: Small, data: DataSet) -> Phase:
    return phase(
        f"epochs = 2; batch = {batch_of(data)}; optimizer = adamw(lr = 0.02); "
        f"augment = {small.augment}; evaluate = {small.evaluate}"
    )


def opened(small: Small, text: str) -> DataSet:
    """Few of those in memory, which are all alike."""
    data = open_data(text, frames=3, classes=2 if small.options else None)
    if not isinstance(data.train, Memory):
        return data
    few = (
        each.select(torch.arange(min(FEW, len(each))), each.labels[:FEW])
        for each in (data.train, data.test)
    )
    return replace(data, train=next(few), test=next(few))


@cache
def network(text: str) -> Any:
    return danetc.build(text=text, seed=1, backend="eager")


def trained(small: Small, data: DataSet, world: World | None = None, **rest: Any) -> PhaseRun:
    model = deepcopy(network(spec(small, "batch = 8")))
    settings = RunSettings(seed=5, sync_norm=True, checkpoint_steps=1)
    recipe, resume = recipe_of(small, data), rest.pop("resume", None)
    run = PhaseRun(model, data, recipe, settings, world=world or alone(), **rest)
    fit(run, resume)
    return run


def figures(found: PhaseRun) -> list[dict[str, Any]]:
    return [
        {k: v for k, v in row.items() if k not in (*TIMES, "warnings")} for row in found.history
    ]


@pytest.mark.thorough
@pytest.mark.parametrize("name", SOURCES)
def test_a_training_that_is_killed_goes_on_with_the_same_bits(tmp_path: Path, name: str) -> None:
    """In the middle of its second epoch; what it goes on from is the checkpoint of a step."""
    small = SMALL_DATA[name]
    text = small.make(tmp_path / "data")
    data = opened(small, text)
    whole = trained(small, data)
    notes: list[str] = []
    checkpoints = Checkpoints(tmp_path / "checkpoints", notes.append, lambda path: None)
    # Asked after each step, and after each batch of an evaluation.
    asked = sum(ceil(len(each) / batch_of(data)) for each in (data.train, data.test)) + 2
    with pytest.raises(Killed):
        trained(small, data, checkpoints=checkpoints, stop=Killing(asked))
    state = checkpoints.latest()
    assert (state.position.epoch, state.position.step > 0) == (1, True)
    again = opened(small, text)
    assert again.fingerprint == data.fingerprint
    rest = trained(small, again, checkpoints=checkpoints, resume=state)
    assert figures(rest) == figures(whole)
    assert min(whole.history[-1]["firing"].values()) > 0.001
    for key, value in whole.weights.items():
        assert torch.equal(value, rest.weights[key]), key
    assert notes == []


CACHED = """
import numpy as np
from tonic import DiskCachedDataset

EVENT = np.dtype([("x", int), ("y", int), ("t", int), ("p", int)])


class Clicks:
    sensor_size = (8, 8, 2)

    def __init__(self, count):
        self.count = count

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        dice = np.random.default_rng(index)
        events = np.zeros(60, EVENT)
        events["x"] = dice.integers(0, 8, 60) // (1 + index % 2)
        events["y"], events["p"] = dice.integers(0, 8, 60), dice.integers(0, 2, 60)
        events["t"] = np.sort(dice.integers(0, 1000, 60))
        return events, index % 2


def make():
    return DiskCachedDataset(Clicks(24), "{0}/train"), DiskCachedDataset(Clicks(9), "{0}/test")
"""


def cached_by_tonic(root: Path) -> str:
    """Own code whose samples tonic keeps in files as they are read: nothing is there at first."""
    root.with_suffix(".py").write_text(CACHED.replace("{0}", root.as_posix()))
    return f"{root.with_suffix('.py')}:make"


OWN = {name: SMALL_DATA[name] for name in SHARED} | {
    "cached by tonic": Small(cached_by_tonic, 2, 8, 2, frames=3)
}


def train_on_each(texts: Mapping[str, str], folder: Path, rank: int) -> None:
    """Train on each data set, and leave the weights and the indices of each epoch."""
    plain = Batches.epoch
    seen: list[list[int]] = []

    def epoch(self: Batches, *where: Any, **rest: Any) -> Iterator[Batch]:
        found: list[int] = []
        if self._train:
            seen.append(found)
        for batch in plain(self, *where, **rest):
            found += batch.indices.tolist()
            yield batch

    Batches.epoch = epoch  # type: ignore[method-assign]
    found: dict[str, Any] = {}
    with joined(Exception) as world:
        for name, text in texts.items():
            seen.clear()
            result = trained(OWN[name], opened(OWN[name], text), world)
            found[name] = {
                "weights": dict(result.weights), "seen": list(seen), "figures": figures(result)
            }  # fmt: skip
    torch.save(found, folder / f"{rank}.pt")


@pytest.mark.thorough
def test_two_processes_train_on_data_of_ones_own(tmp_path: Path) -> None:
    """Each sample is seen once an epoch by one of them, and they learn what one process does."""
    texts = {
        name: small.make(tmp_path / f"data{number}")
        for number, (name, small) in enumerate(OWN.items())
    }
    in_two(train_on_each, texts, tmp_path)
    first, second = (torch.load(tmp_path / f"{n}.pt", weights_only=True) for n in range(2))
    for name, text in texts.items():
        one, two = first[name], second[name]
        data = opened(OWN[name], text)
        assert len(one["seen"]) == len(two["seen"]) == 2
        for mine, yours in zip(one["seen"], two["seen"], strict=True):
            assert sorted(mine + yours) == [*range(len(data.train))], name
            assert min(len(mine), len(yours)) > 0
        own = trained(OWN[name], data)
        assert min(own.history[-1]["firing"].values()) > 0.001
        for key, value in own.weights.items():
            assert torch.equal(one["weights"][key], two["weights"][key]), (name, key)
            torch.testing.assert_close(one["weights"][key], value, rtol=1e-3, atol=1e-4)
        assert one["figures"][-1]["train_loss"] == pytest.approx(
            own.history[-1]["train_loss"], rel=1e-3
        )
