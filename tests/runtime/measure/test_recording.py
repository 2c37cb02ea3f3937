"""Recordings against equations and SpikingJelly's monitors; figures show what was measured."""

import re
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import danetc
from danetc.errors import UserError
from danetc.runtime.measure.plots import FIGURES, Entry, draw_all

from .conftest import DENSE, SEW, batch, build, measure
from .plain import Plain

STREAM = pytest.mark.parametrize("stream", [False, True], ids=["forward", "stream"])
IF = """
use std
network recurrent {
  input = events(1, 6, 6); steps = 4; neuron = IF(v_threshold = 0.5); surrogate = sigmoid
  stem = conv(3, kernel = 3) -> spike
  head = avgpool -> mean_over_time -> linear(2)
}"""
record: Any = danetc.record


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
    expected, found = Plain(before), record(model, x, stream=stream)
    expected.forward(x, 3, wiring == "sew")
    assert {*found} == {*expected.layers}
    for name, layer in expected.layers.items():
        one = found[name]
        assert torch.equal(one.spikes, torch.stack(layer.spikes))
        for mine, theirs in ((one.current, layer.inputs), (one.potential, layer.potentials)):
            assert torch.allclose(mine, torch.stack(theirs), atol=1e-5)
        assert (one.threshold == 1).all()
    torch.testing.assert_close(dict(model.state_dict()), before, rtol=0, atol=0)


@STREAM
def test_frames_of_events_reach_integrate_and_fire(stream: bool) -> None:
    model = danetc.build(text=IF, seed=3).eval()
    frames = torch.rand(4, 2, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    found = record(model, frames, "stem", stream=stream)["stem.spike"]
    v, weight = torch.zeros(2, 3, 6, 6), model.state_dict()["stem.conv.weight"]
    for t, frame in enumerate(frames):
        current = torch.nn.functional.conv2d(frame, weight, padding=1)
        v = v + current
        assert torch.allclose(found.current[t], current, atol=1e-6)
        assert torch.allclose(found.potential[t], v, atol=1e-6)
        assert torch.equal(found.spikes[t], (v >= 0.5).float())
        v = v.where(v < 0.5, 0)
    assert 0 < found.spikes.mean() < 1


def test_potentials_are_those_of_spikingjelly_s_monitor() -> None:
    neuron = pytest.importorskip("spikingjelly.activation_based.neuron")
    monitor = pytest.importorskip("spikingjelly.activation_based.monitor")
    found = record(build(), batch()[0], "stem")["stem.spike"]
    node = neuron.LIFNode(tau=2.0, v_reset=0.0, step_mode="m", store_v_seq=True)
    potentials = monitor.AttributeMonitor("v_seq", False, torch.nn.Sequential(node), neuron.LIFNode)
    assert torch.equal(found.spikes, node(found.current))
    after = potentials.records[0]  # SpikingJelly keeps the potential after the reset
    assert torch.allclose(found.potential * (1 - found.spikes), after, atol=1e-6)


def test_relu_has_no_potential() -> None:
    changes = {"input": "image(1, 6, 6)", "neuron": "ReLU"}
    found = record(danetc.build(text=IF, set=changes), torch.rand(2, 1, 6, 6))
    (layer,) = found.values()
    assert layer.spikes.shape == (4, 2, 3, 6, 6)
    assert layer.potential is None
    assert torch.equal(layer.spikes, layer.current.relu())
    with pytest.raises(UserError, match="no recording of"):
        found.traces()


@pytest.fixture(scope="module")
def recording() -> Any:
    return record(build(), batch()[0])


def test_the_file_has_what_the_object_has(recording: Any, tmp_path: Path) -> None:
    recording.save(tmp_path / "a.npz")
    expected = {
        f"{name}/{key}": getattr(recording[name], key).numpy()
        for name in recording
        for key in ("spikes", "current", "potential", "threshold")
    }
    with np.load(tmp_path / "a.npz") as found:
        np.testing.assert_equal(dict(found), expected)
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
    traces = partial(recording.traces, neurons=[108])
    for message, call in {
        "did you mean `stem.spike`": lambda: record(model, x, "stem.spik"),
        "not [4, 2, 5, 6]": lambda: record(model, x[:, :, 1:]),
        "a folded model has no norms": lambda: record(danetc.fold(model), x),
        "images are a tensor": lambda: record(model, [x]),
        "image must be from 0 to 3, not 4": lambda: recording.raster(image=4),
        "the number of a neuron must be from 0 to 107, not 108": traces,
    }.items():
        with pytest.raises(UserError, match=re.escape(message)):
            call()


NOTHING = dict.fromkeys([name.replace("-", "_") for name in FIGURES if name != "firing-rate"])


@pytest.fixture(scope="module")
def entries() -> list[Entry]:
    pytest.importorskip("matplotlib")
    models = {"danet_c": build(DENSE), "sew": build(SEW)}
    return [(name, measure(model, [batch()])) for name, model in models.items()]


@pytest.mark.thorough
def test_each_measure_has_a_figure_twice_alike(entries: list[Entry], tmp_path: Path) -> None:
    written = draw_all(entries, tmp_path)
    assert [path.name for path in written] == [f"{name.replace('-', '_')}.svg" for name in FIGURES]
    (tmp_path / "again").mkdir()
    rates = [(label, replace(measures, **NOTHING)) for label, measures in entries]  # type: ignore[arg-type]
    (again,) = draw_all(rates, tmp_path / "again")
    assert again.read_bytes() == written[0].read_bytes()


def test_lines_are_the_layers_of_the_main_path(entries: list[Entry]) -> None:
    for name, value in (("firing-rate", "rate"), ("gradient-stability", "stability")):
        left, _ = FIGURES[name](entries).axes
        drawn = {line.get_label(): line for line in left.get_lines()}
        for label, measures in entries:
            layers = [each for each in measures.taken()[name].layers if each.main]
            assert drawn[label].get_ydata() == pytest.approx([getattr(e, value) for e in layers])
            assert list(drawn[label].get_xdata()) == list(range(1, len(layers) + 1))
    # Lines differ without colour, by dash and by marker.
    lines = [drawn[label] for label, _ in entries]
    assert len({line.get_linestyle() for line in lines}) == len(entries)
    assert len({line.get_marker() for line in lines}) == len(entries)


@pytest.mark.thorough
@pytest.mark.parametrize("name", list(FIGURES))
@pytest.mark.parametrize("count", [1, 2])
def test_nothing_is_cut_off(entries: list[Entry], name: str, count: int) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    figure = FIGURES[name](entries[:count])
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    drawn = figure.get_tightbbox(canvas.get_renderer())  # the box of all that is drawn, in inches
    width, height = figure.get_size_inches()
    assert -0.02 <= drawn.x0 < drawn.x1 <= width + 0.02
    assert -0.02 <= drawn.y0 < drawn.y1 <= height + 0.02
    for axes in figure.axes:
        for bar in axes.patches:
            box = bar.get_window_extent(canvas.get_renderer())
            assert box.y0 >= axes.bbox.y0 - 2
            assert box.y1 <= axes.bbox.y1 + 2
            assert box.x1 <= axes.bbox.x1 + 2
