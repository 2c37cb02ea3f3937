"""The device that a command runs on, with pretended accelerators."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest
import torch
from torch import nn

from danetc.errors import UserError
from danetc.runtime.data.batches import Batch, on_device
from danetc.runtime.system.devices import accelerators, device_name, find_device, has_streams
from danetc.runtime.system.errors import TrainingError
from danetc.runtime.training import distributed
from danetc.runtime.training.state import (
    optimizer_state,
    random_state,
    set_optimizer_state,
    set_random_state,
)
from danetc.runtime.training.totals import Clock, Totals
from danetc.tasks.measuring.data import open_subject
from danetc.tasks.training import provenance
from danetc.tasks.training.plan import backend_on

CPU, META = torch.device("cpu"), torch.device("meta")


def pretend(monkeypatch: pytest.MonkeyPatch, kind: str | None, count: int) -> None:
    """Pretend that the machine has ``count`` accelerators of a kind."""
    found, module = None if kind is None else torch.device(kind), torch.accelerator
    monkeypatch.setattr(module, "current_accelerator", lambda check_available=False: found)
    monkeypatch.setattr(module, "device_count", lambda: count)


@pytest.mark.parametrize(
    ("kind", "count", "name", "expected"),
    [
        (None, 0, None, "cpu"),
        ("cuda", 2, None, "cuda"),
        ("cuda", 2, "cpu", "cpu"),
        ("cuda", 2, "cuda", "cuda"),
        ("cuda", 2, "cuda:1", "cuda:1"),
        ("mps", 1, None, "mps"),
        ("xpu", 1, "xpu:0", "xpu:0"),
        (None, 0, "cuda", "has no device cuda; it has cpu$"),
        ("cuda", 2, "cuda:2", "has no device cuda:2; it has cpu, cuda:0, cuda:1$"),
        ("mps", 1, "cuda", "has no device cuda; it has cpu, mps:0$"),
        ("cuda", 1, "gpu", "has no device gpu; it has cpu, cuda:0$"),
    ],
)
def test_a_device_by_its_name(
    kind: str | None, count: int, name: str | None, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(monkeypatch, kind, count)
    if expected.startswith("has"):
        with pytest.raises(UserError, match=expected):
            find_device(name)
        return
    assert find_device(name) == torch.device(expected)
    assert accelerators() == [f"{kind}:{number}" for number in range(count)]


def test_under_torchrun_each_process_has_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "under_torchrun", lambda: True)
    monkeypatch.setattr(distributed, "local_rank", lambda: 2)
    monkeypatch.setattr(distributed, "rendezvous", Mock(side_effect=RuntimeError))
    for kind, name, message in (
        ("cuda", None, "has no GPU: there are 2"),
        ("cuda", "cuda:1", "--device cuda$"),
        ("mps", "mps", "has no GPU"),
        ("mps", None, "cannot connect to each other"),  # trains on the CPU
    ):
        pretend(monkeypatch, kind, 2)
        with pytest.raises(TrainingError, match=message), distributed.joined(device=name):
            pass


def test_only_cuda_has_streams() -> None:
    kinds = [kind for kind in ("cpu", "mps", "xpu", "cuda") if has_streams(torch.device(kind))]
    assert kinds == ["cuda"]
    clock = Clock(torch.device("mps"))
    clock.lap("data")
    assert clock.shares()["data"] == 1
    batch = Batch(torch.ones(2, 1, 4, 4), torch.tensor([0, 1]), torch.arange(2), ("a",), total=3)
    (moved,) = on_device(iter([batch]), META, lambda it: replace(it, images=it.images.half()))
    assert {moved.images.device, moved.labels.device} == {META}
    assert moved.images.dtype == torch.half
    assert (moved.unreadable, moved.total) == (("a",), 3)


@pytest.mark.parametrize("target", ["classes", "pixels", "numbers"])
def test_totals_without_float64_on_the_device(target: Any) -> None:
    places = (2, 3) if target == "pixels" else ()
    output = torch.randn(4, 7, *places)
    labels = torch.randn(4, 7) if target == "numbers" else torch.randint(7, (4, *places))
    found = []
    for device in ("cpu", "mps"):  # totals of mps are summed on the CPU
        totals = Totals(torch.device(device), target, 7)
        totals.add(output, labels, torch.tensor(0.5))
        found.append(totals.read())
    assert found[0].values == found[1].values
    assert found[0].images == 4


@pytest.mark.parametrize("kind", ["cuda", "xpu", "mps"])
def test_random_states_of_another_device(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    state, calls = torch.arange(4), []
    module = SimpleNamespace(get_rng_state=lambda: state, set_rng_state=calls.append)
    monkeypatch.setattr(torch, "get_device_module", lambda device: module)
    device = torch.device(kind)
    saved = random_state(device)
    assert saved[kind] is state
    set_random_state(saved, device)
    assert calls == [state]
    first = torch.rand(3)
    set_random_state(saved, CPU)  # the run resumes on the CPU
    assert torch.equal(torch.rand(3), first)
    set_random_state(random_state(CPU), device)  # and back
    assert calls == [state]


@pytest.mark.parametrize("fused", [True, False])
def test_the_count_of_steps_is_where_the_optimizer_wants_it(fused: bool) -> None:
    model = nn.Linear(2, 2)
    optimizer = torch.optim.AdamW(model.parameters(), fused=fused)
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    tensors, state = optimizer_state(model, optimizer)
    state["weight"]["step"] = fused  # as on an accelerator, where torch counts on the CPU
    set_optimizer_state(model.to(META), optimizer, tensors, state)
    restored = optimizer.state[model.weight]
    assert restored["exp_avg"].device == META
    assert restored["step"].device == (META if fused else CPU)


@pytest.mark.parametrize(
    ("wanted", "expected", "notes"),
    [(None, "eager", 1), ("fused", "fused", 1), ("eager", "eager", 0)],
)
def test_the_backend_without_kernels(wanted: str | None, expected: str, notes: int) -> None:
    said: list[str] = []
    assert backend_on(torch.device("mps"), wanted, said.append) == expected
    assert said == ["fused has no kernels for mps: the network runs operation by operation"] * notes


def test_measures_need_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, "mps", 1)
    subject = open_subject("pretrained:danet_c_small_digits", None, {}, 0, None)
    assert next(subject.model.parameters()).device == CPU
    with pytest.raises(UserError, match="use --device cpu"):
        open_subject("pretrained:danet_c_small_digits", None, {}, 0, "mps")


def test_the_record_of_a_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.version, "hip", "6.4")
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "MI300X")
    world = replace(provenance.World(CPU), device=torch.device("cuda"))
    assert device_name(world.device) == "MI300X"
    file = tmp_path / "version"
    monkeypatch.setattr(provenance, "DRIVERS", (str(tmp_path / "none"), str(file)))
    module = "Kernel Module  550.54.15  Tue\nGCC 9"
    for text, driver in ((None, None), (module, "550.54.15"), ("", None)):
        if text is not None:
            file.write_text(text)
        facts = provenance.machine_facts(world)
        assert (facts["device"], facts["hip"], facts["driver"]) == ("MI300X", "6.4", driver)
    facts = provenance.machine_facts(provenance.World(CPU))
    assert (facts["device"], facts["hip"], facts["driver"]) == ("cpu", None, None)
