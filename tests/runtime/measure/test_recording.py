"""Recordings against the equations of LIF and IF in plain PyTorch, and SpikingJelly's monitors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import danetc
from danetc.errors import UserError
from danetc.runtime.model.built import Model

from .conftest import batch, build
from .plain import Plain

STREAM = pytest.mark.parametrize("stream", [False, True], ids=["forward", "stream"])
IF = """
use std
network recurrent {{
  input = {input}(1, 6, 6); steps = 4; neuron = IF(v_threshold = 0.5); surrogate = sigmoid
  stem = conv(3, kernel = 3) -> spike
  head = avgpool -> mean_over_time -> linear(2)
}}"""


@STREAM
@pytest.mark.parametrize("memory", ["none", "recompute"])
@pytest.mark.parametrize("backend", ["eager", "fused", "spikingjelly"])
def test_layers_do_what_the_equations_of_lif_say(
    wiring: str, backend: str, memory: str, stream: bool
) -> None:
    if backend == "spikingjelly":
        pytest.importorskip("spikingjelly")
    model, (x, _) = build(wiring, backend=backend, memory=memory), batch()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    expected, found = Plain(before), danetc.record(model, x, stream=stream)
    expected.forward(x, 3, wiring == "sew")
    assert {*found} == {*expected.layers}
    for name, layer in expected.layers.items():
        one = found[name]
        assert torch.equal(one.spikes, torch.stack(layer.spikes))
        for mine, theirs in ((one.current, layer.inputs), (one.potential, layer.potentials)):
            assert torch.allclose(mine, torch.stack(theirs), atol=1e-5)  # type: ignore[arg-type]
        assert one.threshold is not None
        assert (one.threshold == 1).all()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@STREAM
def test_frames_of_events_reach_integrate_and_fire(stream: bool) -> None:
    model = danetc.build(text=IF.format(input="events"), seed=3).eval()
    frames = torch.rand(4, 2, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    found = danetc.record(model, frames, "stem", stream=stream)["stem.spike"]
    v, weight = torch.zeros(2, 3, 6, 6), model.state_dict()["stem.conv.weight"]
    for t, frame in enumerate(frames):
        current = torch.nn.functional.conv2d(frame, weight, padding=1)
        v = v + current
        assert torch.allclose(found.current[t], current, atol=1e-6)
        assert torch.allclose(found.potential[t], v, atol=1e-6)  # type: ignore[index]
        assert torch.equal(found.spikes[t], (v >= 0.5).float())
        v = v.where(v < 0.5, 0)
    assert 0 < found.spikes.mean() < 1


def test_potentials_are_those_of_spikingjelly_s_monitor() -> None:
    neuron = pytest.importorskip("spikingjelly.activation_based.neuron")
    monitor = pytest.importorskip("spikingjelly.activation_based.monitor")
    found = danetc.record(build(), batch()[0], "stem")["stem.spike"]
    node = neuron.LIFNode(tau=2.0, v_reset=0.0, step_mode="m", store_v_seq=True)
    potentials = monitor.AttributeMonitor("v_seq", False, torch.nn.Sequential(node), neuron.LIFNode)
    spikes = node(found.current)
    assert torch.equal(found.spikes, spikes)
    after = potentials.records[0]  # SpikingJelly keeps the potential after the reset
    assert found.potential is not None
    assert torch.allclose(found.potential * (1 - found.spikes), after, atol=1e-6)


def test_relu_has_no_potential() -> None:
    text = IF.format(input="image").replace("IF(v_threshold = 0.5)", "ReLU")
    found = danetc.record(danetc.build(text=text), torch.rand(2, 1, 6, 6))
    (layer,) = found.values()
    assert layer.spikes.shape == (4, 2, 3, 6, 6)
    assert layer.potential is None
    assert torch.equal(layer.spikes, layer.current.relu())
    with pytest.raises(UserError, match="no recording of"):
        found.traces()


@pytest.fixture(scope="module")
def recording() -> Any:
    return danetc.record(build(), batch()[0])


def test_the_file_has_what_the_object_has(recording: Any, tmp_path: Path) -> None:
    recording.save(tmp_path / "a.npz")
    with np.load(tmp_path / "a.npz") as found:
        assert {*found} == {
            f"{name}/{key}"
            for name in recording
            for key in ("spikes", "current", "potential", "threshold")
        }
        for name in recording:
            assert np.array_equal(found[f"{name}/potential"], recording[name].potential.numpy())
    with pytest.raises(UserError, match=r"ends in \.npz"):
        recording.save(tmp_path / "a.png")


def test_figures_show_each_spike(recording: Any) -> None:
    pytest.importorskip("matplotlib")
    spikes: Tensor = recording["stem.spike"].spikes[:, 1].flatten(1)
    (axes,) = recording.raster("stem", image=1).axes
    marks = {
        (round(x.mean()), int(y[0])) for x, y in (s.T for s in axes.collections[0].get_segments())
    }
    assert marks == {(t + 1, n) for t, n in spikes.nonzero().tolist()}
    (axes,) = recording.traces("stem.spike", [5], image=1).axes
    lines = {line.get_label(): line.get_ydata() for line in axes.lines}
    potential = recording["stem.spike"].potential[:, 1].flatten(1)[:, 5]
    assert np.array_equal(lines["potential"], potential.numpy())
    assert {"current", "threshold"} < {*lines}


def test_what_cannot_be_recorded(recording: Any) -> None:
    model, (x, _) = build(), batch()
    folded: Model = danetc.fold(model)
    for message, call in {
        "did you mean `stem.spike`": lambda: danetc.record(model, x, "stem.spik"),
        "not [4, 2, 5, 6]": lambda: danetc.record(model, x[:, :, 1:]),
        "a folded model has no norms": lambda: danetc.record(folded, x),
        "images are a tensor": lambda: danetc.record(model, [x]),  # type: ignore[arg-type]
        "image must be from 0 to 3, not 4": lambda: recording.raster(image=4),
        "the number of a neuron must be from 0 to 107, not 108": lambda: recording.traces(
            neurons=[108]
        ),
    }.items():
        with pytest.raises(UserError) as error:
            call()
        assert message in str(error.value)
