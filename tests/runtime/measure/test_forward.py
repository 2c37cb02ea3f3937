"""Measures of forward passes against the same network in plain PyTorch."""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import numpy
import pytest
import torch
from torch import Tensor

import danetc
from danetc.compiler.analysis.summary import summarise
from danetc.compiler.emit.layout import layout_of
from danetc.runtime.measure.operations import ADDITION, MAC
from danetc.runtime.model.built import Model
from tests.differential.networks import ANALOG_STEM, small

from .conftest import DENSE, SEW, SPEC, batch, build, measure
from .plain import THRESHOLD, Plain, slope

BATCHES = [(x.double(), labels) for x, labels in (batch(4, 0), batch(3, 1))]
"""In float64, so that both networks round alike."""


def passes_of(model: Model, sew: bool) -> list[Plain]:
    """The plain passes of all batches; they give the model's own output."""
    passes = []
    for x, _ in BATCHES:
        plain = Plain(model.state_dict())
        with torch.no_grad():
            assert torch.allclose(plain.forward(x, 3, sew), model(x), atol=1e-10)
        passes.append(plain)
    return passes


Both: TypeAlias = tuple[Model, Any, list[Plain]]


@pytest.fixture
def both(wiring: str) -> Both:
    """A network, what was measured, and the plain passes."""
    model = build(wiring).double()
    return model, measure(model, BATCHES), passes_of(model, wiring == SEW)


def joined(passes: list[Plain], layer: str, what: str) -> Tensor:
    """All values of a layer, [T, N, ...]."""
    return torch.cat([torch.stack(getattr(one.layers[layer], what)) for one in passes], 1)


def test_values_of_a_block_whose_neuron_another_block_reads_too() -> None:
    """Both blocks start with the same neuron, which is merged: the first block passes on two values."""
    rule = "rule side_by_side { in[i] = in; result = sum(out[0 .. n-1]) }"
    form = {**ANALOG_STEM, "stem": "conv(4) -> norm", "input": "image(2, 6, 6)"}
    stages = "stage(basic(4), 2) via pa_a by side_by_side"
    spec = small(stages, settings="neuron = IF", more=rule, **form)
    model = danetc.build(text=f"use std{spec}", seed=0, backend="eager").double()
    (stage,) = layout_of(model.topology).stages
    assert [index for _, index in stage.blocks] == [1, None]
    passed: list[Tensor] = []
    for name, _ in stage.blocks:
        model.get_submodule(name).register_forward_hook(
            lambda module, args, out: passed.append(out[1] if isinstance(out, tuple) else out)
        )
    ((found,),) = (measure(model, BATCHES[:1], only=["values"]).values.stages,)
    passed.clear()
    with torch.no_grad():
        model.eval()(BATCHES[0][0])
    ranges = [(float(out.min()), float(out.max())) for out in passed]
    assert len(set(ranges)) == 2
    for block, (least, most) in zip(found.blocks, ranges, strict=True):
        assert (block.least, block.most) == pytest.approx((least, most))


def test_firing_rates(both: Both) -> None:
    _, measures, passes = both
    found = measures.firing_rate
    assert not found.skipped
    assert [layer.layer for layer in found.layers] == list(passes[0].layers)
    spikes = [joined(passes, layer.layer, "spikes") for layer in found.layers]
    for layer, fired in zip(found.layers, spikes, strict=True):
        assert 0.02 < layer.rate < 0.9
        assert layer.rate == pytest.approx(float(fired.mean()), rel=1e-12)
        assert layer.steps == pytest.approx(fired.mean((1, 2, 3, 4)).tolist(), rel=1e-12)
        silent = fired.amax((0, 1)).eq(0).double().mean()
        assert layer.silent == pytest.approx(float(silent), abs=1e-12)
        assert layer.neurons == 3 * 6 * 6
    assert found.mean_of_layers == pytest.approx(
        float(torch.stack([s.mean() for s in spikes]).mean())
    )


def test_gradient_stability(both: Both) -> None:
    _, measures, passes = both
    found = measures.gradient_stability
    product = 1.0
    for layer in found.layers:
        slopes = slope(joined(passes, layer.layer, "potentials") - THRESHOLD)
        expected = float(slopes.mean((1, 2, 3, 4)).sum())
        assert layer.stability == pytest.approx(expected, rel=1e-10)
        product *= expected
    assert found.counted == len(found.layers) == 7
    assert found.overall == pytest.approx(product, rel=1e-10)
    assert found.log10_overall == pytest.approx(math.log10(product), rel=1e-10)
    assert found.geometric_mean == pytest.approx(product ** (1 / 7), rel=1e-10)


def test_membrane_potentials_before_the_reset(both: Both) -> None:
    _, measures, passes = both
    found = measures.potential
    assert not found.skipped
    for layer, rate in zip(found.layers, measures.firing_rate.layers, strict=True):
        potentials = joined(passes, layer.layer, "potentials").numpy().ravel()
        seen = layer.distribution
        assert (layer.variable, layer.threshold) == ("v", THRESHOLD)
        assert layer.firing == rate.rate == numpy.mean(potentials >= THRESHOLD)
        assert seen.count == potentials.size
        assert seen.mean == pytest.approx(potentials.mean(), abs=1e-10)
        assert seen.std == pytest.approx(potentials.std(), rel=1e-9)
        assert (seen.least, seen.most) == pytest.approx((potentials.min(), potentials.max()))
        edges = numpy.array(seen.histogram.edges())
        counts, _ = numpy.histogram(potentials.astype(numpy.float32), edges)
        # Values may stand on an edge, which float32 and float64 put to either side.
        assert numpy.abs(counts / potentials.size - seen.histogram.shares).sum() < 0.01
        whole = sum(seen.histogram.shares) + seen.histogram.below + seen.histogram.above
        assert whole == pytest.approx(1)


def test_inputs_of_neurons(both: Both) -> None:
    _, measures, passes = both
    for layer in measures.input.layers:
        inputs = joined(passes, layer.layer, "inputs").numpy().ravel()
        assert layer.threshold == THRESHOLD
        assert layer.distribution.mean == pytest.approx(inputs.mean(), abs=1e-10)
        assert layer.distribution.std == pytest.approx(inputs.std(), rel=1e-9)
        normal = 0.5 * (1 + torch.erf(torch.from_numpy(numpy.sort(inputs)) / math.sqrt(2)))
        steps = torch.arange(1, inputs.size + 1) / inputs.size
        kolmogorov = float((normal - steps).abs().max())
        assert layer.distance == pytest.approx(kolmogorov, abs=0.05)


def test_values_from_block_to_block(both: Both, wiring: str) -> None:
    _, measures, passes = both
    (stage,) = measures.values.stages
    assert stage.kind == ("0 .. 4" if wiring == SEW else "spike")
    assert (stage.connection, stage.rule) == (
        ("sew", "chain") if wiring == SEW else ("origin", "densely_additive")
    )
    outputs = [
        torch.cat([torch.stack(one.blocks[block]) for one in passes], 1) for block in range(3)
    ]
    for block, out in zip(stage.blocks, outputs, strict=True):
        assert (block.least, block.most) == (float(out.min()), float(out.max()))
        assert block.mean == pytest.approx(float(out.mean()), rel=1e-10)
        assert block.std == pytest.approx(float(out.std(correction=0)), rel=1e-9)
        assert block.zeros == pytest.approx(float(out.eq(0).double().mean()))
    assert stage.most == max(float(out.max()) for out in outputs)
    assert stage.most > 1 or wiring == DENSE


def test_operations_and_energy(both: Both, wiring: str) -> None:
    """Also against the compiler's count, from shapes alone."""
    model, measures, passes = both
    found = measures.operations
    additions = macs = dense = 0.0
    kinds = {}
    for layer in found.layers:
        weight = model.state_dict()[f"{layer.layer}.weight"]
        # The image does not vary: the stem is computed once. Nor does what was averaged.
        steps, places = (1, 1) if layer.layer == "head.linear" else (3, 36)
        steps = 1 if layer.layer == "stem.conv" else steps
        whole = weight.numel() * places * steps
        x = torch.cat([torch.stack(one.weighted[layer.layer]) for one in passes], 1)
        kinds[layer.layer] = layer.kind
        match "count" if ".." in layer.kind else layer.kind:
            case "spike":
                assert set(x.unique().tolist()) <= {0.0, 1.0}
                additions += whole * float(x.mean())
            case "count":
                macs += whole * float(x.ne(0).double().mean())
            case "analog":
                macs += whole
        dense += whole
    assert kinds["stem.conv"] == kinds["head.linear"] == "analog"
    assert sum(".." in kind for kind in kinds.values()) == (2 if wiring == SEW else 1)
    assert found.dense_macs == dense
    assert found.additions == pytest.approx(additions, rel=1e-10)
    assert found.macs == pytest.approx(macs, rel=1e-10)
    assert found.energy == pytest.approx(1e-12 * (ADDITION * additions + MAC * macs), rel=1e-10)
    assert found.dense_energy == pytest.approx(1e-12 * MAC * dense)
    summary = summarise(model.topology)  # type: ignore[arg-type]
    assert found.dense_macs == summary.macs + summary.additions


def test_layers_in_shortcuts_are_measured_but_not_counted() -> None:
    """SEW has a neuron in the shortcut of a stage that changes the shape."""
    text = SPEC.format(steps=3, wiring="sew").replace(
        "stage(basic(3), 3)", "stage(basic(6), 1, stride = 2)"
    )
    found = measure(danetc.build(text=text, seed=1), [batch()])
    stabilities = {each.main: [] for each in found.gradient_stability.layers}  # type: ignore[var-annotated]
    for each in found.gradient_stability.layers:
        stabilities[each.main].append(each.stability)
    assert (len(stabilities[True]), len(stabilities[False])) == (3, 1)
    assert found.gradient_stability.counted == 3
    assert found.gradient_stability.overall == pytest.approx(math.prod(stabilities[True]))
    rates = [each.rate for each in found.firing_rate.layers if each.main]
    assert found.firing_rate.mean_of_layers == pytest.approx(sum(rates) / 3)


@pytest.mark.parametrize("steps", [1, 5])
def test_a_sequence_counts_its_own_steps(steps: int) -> None:
    """Of 5 equal frames, or of one: the rates of that T, and the stem is computed T times."""
    x, labels = batch()
    frames = x.expand(steps, *x.shape)
    sequence = measure(build(steps=3), [(frames, labels)])
    static = measure(build(steps=steps), [(x, labels)])
    assert sequence.firing_rate == static.firing_rate
    assert sequence.gradient_stability.overall == pytest.approx(static.gradient_stability.overall)
    stem, same = sequence.operations.layers[0], static.operations.layers[0]
    assert stem.dense == steps * same.dense


def test_only_what_is_asked_for_is_measured() -> None:
    found = measure(build().double(), BATCHES, only=["values", "firing-rate"])
    assert list(found.as_dict()) == [
        "network", "images", "batches", "statistics", "firing_rate", "values",
    ]  # fmt: skip
    assert (found.images, found.batches) == (7, 2)
