"""Measures agree with plain PyTorch, autograd and numpy, and do not change the network."""

import copy
import math
from math import inf, nan
from typing import Any, TypeAlias

import numpy
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import danetc
from danetc.compiler import check_file, graph_of
from danetc.compiler.analysis.summary import summarise
from danetc.compiler.emit.layout import eager_twin, layout_of
from danetc.errors import UserError
from danetc.runtime.layers.neuron import Neuron
from danetc.runtime.measure import Measures
from danetc.runtime.measure.distribution import Gathered, densities
from danetc.runtime.measure.gradients import Split, split_gradients
from danetc.runtime.measure.observers import GradientStability
from danetc.runtime.measure.operations import ADDITION, MAC
from danetc.runtime.measure.run import mean_loss
from danetc.runtime.model.built import Model
from tests.differential.helpers import text
from tests.differential.networks import ANALOG_STEM, small
from tests.runtime.conftest import step

from .conftest import DENSE, SEW, SPEC, batch, build, layout, measure
from .plain import TAU, THRESHOLD, Layer, Plain, slope

BATCHES = [(x.double(), labels) for x, labels in (batch(4, 0), batch(3, 1))]
"""In float64, so that both networks round alike."""


Both: TypeAlias = tuple[Model, Any, list[Plain]]


@pytest.fixture
def both(wiring: str) -> Both:
    """A network, its measures, and the plain passes, which have the network's output."""
    model = build(wiring).double()
    passes = []
    for x, _ in BATCHES:
        passes.append(Plain(model.state_dict()))
        with torch.no_grad():
            assert torch.allclose(passes[-1].forward(x, 3, wiring == SEW), model(x), atol=1e-10)
    return model, measure(model, BATCHES), passes


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
    (found,) = measure(model, BATCHES[:1], only=["values"]).values.stages
    passed.clear()
    with torch.no_grad():
        model.eval()(BATCHES[0][0])
    ranges = [(float(out.min()), float(out.max())) for out in passed]
    assert len(set(ranges)) == 2
    for block, (least, most) in zip(found.blocks, ranges, strict=True):
        assert (block.least, block.most) == pytest.approx((least, most))


def test_neurons(both: Both) -> None:
    _, measures, passes = both
    rates, stability = measures.firing_rate, measures.gradient_stability
    potential, inputs = measures.potential, measures.input
    assert not rates.skipped
    assert not potential.skipped
    for measured in (rates, stability, potential, inputs):
        assert [layer.layer for layer in measured.layers] == list(passes[0].layers)
    means, product = [], 1.0
    for rate in rates.layers:
        fired = joined(passes, rate.layer, "spikes")
        means.append(float(fired.mean()))
        assert 0.02 < rate.rate < 0.9
        assert rate.rate == pytest.approx(means[-1], rel=1e-12)
        assert rate.steps == pytest.approx(fired.mean((1, 2, 3, 4)).tolist(), rel=1e-12)
        silent = fired.amax((0, 1)).eq(0).double().mean()
        assert rate.silent == pytest.approx(float(silent), abs=1e-12)
        assert rate.neurons == 3 * 6 * 6
    assert rates.mean_of_layers == pytest.approx(sum(means) / 7)
    for layer in stability.layers:
        slopes = slope(joined(passes, layer.layer, "potentials") - THRESHOLD)
        expected = float(slopes.mean((1, 2, 3, 4)).sum())
        assert layer.stability == pytest.approx(expected, rel=1e-10)
        product *= expected
    assert stability.counted == len(stability.layers) == 7
    assert stability.overall == pytest.approx(product, rel=1e-10)
    assert stability.log10_overall == pytest.approx(math.log10(product), rel=1e-10)
    assert stability.geometric_mean == pytest.approx(product ** (1 / 7), rel=1e-10)
    for layer, rate in zip(potential.layers, rates.layers, strict=True):
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
        # A value on an edge may fall on either side in float32 and in float64.
        assert numpy.abs(counts / potentials.size - seen.histogram.shares).sum() < 0.01
        whole = sum(seen.histogram.shares) + seen.histogram.below + seen.histogram.above
        assert whole == pytest.approx(1)
    for layer in inputs.layers:
        given = joined(passes, layer.layer, "inputs").numpy().ravel()
        assert layer.threshold == THRESHOLD
        assert layer.distribution.mean == pytest.approx(given.mean(), abs=1e-10)
        assert layer.distribution.std == pytest.approx(given.std(), rel=1e-9)
        normal = torch.special.ndtr(torch.from_numpy(numpy.sort(given)))
        kolmogorov = float((normal - torch.arange(1, given.size + 1) / given.size).abs().max())
        assert layer.distance == pytest.approx(kolmogorov, abs=0.05)


def test_values_from_block_to_block(both: Both, wiring: str) -> None:
    _, measures, passes = both
    (stage,) = measures.values.stages
    assert stage.kind == ("0 .. 4" if wiring == SEW else "spike")
    assert f"{stage.connection} by {stage.rule}" == (f"{SEW} by chain" if wiring == SEW else DENSE)
    outputs = []
    for place, block in enumerate(stage.blocks):
        out = torch.cat([torch.stack(one.blocks[place]) for one in passes], 1)
        outputs.append(out)
        assert (block.least, block.most) == (float(out.min()), float(out.max()))
        assert block.mean == pytest.approx(float(out.mean()), rel=1e-10)
        assert block.std == pytest.approx(float(out.std(correction=0)), rel=1e-9)
        assert block.zeros == pytest.approx(float(out.eq(0).double().mean()))
    assert stage.most == max(float(out.max()) for out in outputs)
    assert stage.most > 1 or wiring == DENSE


def test_operations_and_energy(both: Both, wiring: str) -> None:
    model, measures, passes = both
    found = measures.operations
    additions = macs = dense = 0.0
    kinds = {}
    for layer in found.layers:
        weight = model.state_dict()[f"{layer.layer}.weight"]
        # The image and the mean over time do not vary, so stem and head are computed once.
        steps, places = (1, 1) if layer.layer == "head.linear" else (3, 36)
        steps = 1 if layer.layer == "stem.conv" else steps
        whole = weight.numel() * places * steps
        x = torch.cat([torch.stack(one.weighted[layer.layer]) for one in passes], 1)
        kinds[layer.layer] = layer.kind
        share = 1.0 if layer.kind == "analog" else float(x.ne(0).double().mean())
        if layer.kind == "spike":
            assert set(x.unique().tolist()) <= {0.0, 1.0}
            additions += whole * share
        else:
            macs += whole * share
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
    text = SPEC.format(wiring="sew").replace("stage(basic(3), 3)", "stage(basic(6), 1, stride = 2)")
    found = measure(danetc.build(text=text, seed=1), [batch()])
    stability = found.gradient_stability
    main = [each.stability for each in stability.layers if each.main]
    assert (len(stability.layers), len(main), stability.counted) == (4, 3, 3)
    assert stability.overall == pytest.approx(math.prod(main))
    rates = [each.rate for each in found.firing_rate.layers if each.main]
    assert found.firing_rate.mean_of_layers == pytest.approx(sum(rates) / 3)


@pytest.mark.parametrize("steps", [1, 5])
def test_a_sequence_counts_its_own_steps(steps: int) -> None:
    """A sequence of T equal frames has the rates of T steps, and the stem is computed T times."""
    x, labels = batch()
    frames = x.expand(steps, *x.shape)
    sequence = measure(build(), [(frames, labels)])
    static = measure(build(steps=steps), [(x, labels)])
    assert sequence.firing_rate == static.firing_rate
    assert sequence.gradient_stability.overall == pytest.approx(static.gradient_stability.overall)
    stem, same = sequence.operations.layers[0], static.operations.layers[0]
    assert stem.dense == steps * same.dense


@pytest.mark.parametrize(
    ("depth", "main"), [("r18", 17), ("r34", 33), ("r50", 49), ("r101", 100), ("r152", 151)]
)
@pytest.mark.parametrize("family", ["origin", "sew", "danet_a", "danet_b", "danet_c", "danet_d"])
def test_main_path_has_depth_minus_one_neurons(family: str, depth: str, main: int) -> None:
    """Neurons in shortcuts (SEW has one for each stage that changes shape) do not count."""
    layout = layout_of(graph_of(check_file(f"{family}_{depth}"), None, {}))
    assert sum(layer.main for layer in layout.neurons) == main
    shapes = 3 if depth in ("r18", "r34") else 4  # a bottleneck widens in its first stage too
    assert len(layout.neurons) - main == (shapes if family == "sew" else 0)
    blocks = sum(len(stage.blocks) for stage in layout.stages)
    interblock = sum(layer.interblock for layer in layout.neurons)
    assert interblock == (blocks if family in ("origin", "danet_c", "danet_d") else 0)
    # There is one convolution before or after each neuron, and the classifier.
    assert sum(layer.main for layer in layout.weights) == main + 1


@pytest.mark.parametrize("name", ["danet_c_r18", "sew_r18", "danet_a_r18", "spiking_densenet121"])
def test_layouts_name_modules_of_the_model(name: str) -> None:
    model = danetc.build(name, set={"steps": 1})
    layout = layout_of(model.topology)
    neurons = [n for n, module in model.named_modules() if isinstance(module, Neuron)]
    assert sorted(layer.name for layer in layout.neurons) == sorted(neurons)
    weighted = [n for n, m in model.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert sorted(layer.name for layer in layout.weights) == sorted(weighted)
    for stage in layout.stages:
        for block in stage.blocks:
            model.get_submodule(block[0])
    for neuron in layout.neurons:
        of = [stage.name for stage in layout.stages if neuron.name.startswith(f"{stage.name}.")]
        assert of == ([] if neuron.stage is None else [layout.stages[neuron.stage].name])


def test_a_block_that_computes_what_another_does_has_its_output() -> None:
    more = (
        "block pool(n) { out = in -> maxpool(3, stride = 1) }\n"
        "rule parallel { in[i] = in; result = sum(out[0 .. n-1]) }"
    )
    (stage,) = layout_of(text(small("stage(pool(4), 2) by parallel", more=more))).stages
    assert stage.blocks == (("stages.0.blocks.0", None), ("stages.0.blocks.0.maxpool", None))


def gathered(parts: list[torch.Tensor], reach: float | None = None, bins: int = 40):  # type: ignore[no-untyped-def]
    found = Gathered(reach, bins)
    for part in parts:
        found.add(part)
    return found.result()


def test_moments_and_histogram_do_not_depend_on_the_parts() -> None:
    x = 100 + torch.randn(3000, generator=torch.Generator().manual_seed(0)).exp()  # skewed
    parts = list(x.view(3, 2, 500))
    parts[1] = parts[1] + 5
    whole = torch.stack(parts).double().numpy().ravel()
    found = gathered(parts)
    assert found.count == 3000
    assert found.mean == pytest.approx(whole.mean(), rel=1e-12)
    assert found.std == pytest.approx(whole.std(), rel=1e-9)
    assert (found.least, found.most) == (whole.min(), whole.max())
    assert found.histogram is None
    histogram = gathered([part - 103 for part in parts], reach=1.5).histogram
    shifted = torch.stack(parts).numpy().ravel() - 103
    counts, edges = numpy.histogram(shifted, 40, (-1.5, 1.5))
    assert histogram.edges() == pytest.approx(edges.tolist())
    assert histogram.shares == pytest.approx((counts / 3000).tolist(), abs=5e-4)
    assert histogram.below == pytest.approx((shifted < -1.5).mean())
    assert histogram.above == pytest.approx((shifted > 1.5).mean())


def test_distance_to_a_normal_distribution() -> None:
    generator = torch.Generator().manual_seed(0)
    normal = gathered([2 * torch.randn(100_000, generator=generator)], reach=10.0).histogram
    assert normal.distance_to_normal(2.0) < 0.01
    # N(0, 1) and N(0, 4) are furthest apart where their densities cross, at 2 sqrt(2 ln 2 / 3).
    assert normal.distance_to_normal(1.0) == pytest.approx(0.162, abs=0.01)
    shifted = gathered([torch.full((10,), 1.0)], reach=4.0).histogram
    assert shifted.distance_to_normal(1.0) == pytest.approx(0.84, abs=0.03)


def test_constant_and_missing_and_infinite_values() -> None:
    constant = gathered([torch.zeros(5)])
    assert (constant.mean, constant.std, constant.zeros) == (0.0, 0.0, 1.0)
    with pytest.raises(ValueError, match="no values"):
        Gathered().result()
    for bad in (float("nan"), float("inf")):
        with pytest.raises(ValueError, match="not finite"):
            Gathered().add(torch.tensor([1.0, bad]))


def test_densities_of_layers_share_an_axis() -> None:
    generator = torch.Generator().manual_seed(0)
    narrow = gathered([torch.randn(20_000, generator=generator)], reach=4.0)
    wide = gathered([1 + 3 * torch.randn(20_000, generator=generator)], reach=12.0)
    low, high, rows = densities([narrow, wide], rows=60)
    assert low == pytest.approx(-8, abs=0.2)
    assert high == pytest.approx(10, abs=0.2)
    columns = torch.tensor(rows).T
    assert columns.shape == (2, 60)
    assert columns.amax(1).tolist() == [1.0, 1.0]
    centres = [low + (high - low) * (row + 0.5) / 60 for row in range(60)]
    assert centres[int(columns[0].argmax())] == pytest.approx(0, abs=0.6)
    assert centres[int(columns[1].argmax())] == pytest.approx(1, abs=1.5)


def split(model: Model, x: Tensor, labels: Tensor) -> Split:
    return split_gradients(model, layout(model), x, labels, mean_loss)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(
    ("wiring", "neuron"),
    [
        *((wiring, "LIF(tau = 2.0)") for wiring in (DENSE, SEW, "pa_a", "pa_b", "baa", "tdbn")),
        ("origin", "PLIF"),
    ],
)
def test_the_parts_add_up_to_the_gradient_of_autograd(
    wiring: str, neuron: str, training: bool
) -> None:
    """The test covers float64, norms with running and batch statistics, and learnt neurons."""
    model = build(wiring, neuron=neuron).double().train(training)
    x, labels = batch()
    x = x.double()
    found = split(model, x, labels)
    assert all(value.grad is None for value in model.parameters())
    F.cross_entropy(model(x), labels).backward()
    for name, value in model.named_parameters():
        parts = found.spatial[name] + found.temporal[name] + found.direct[name]
        scale = float(value.grad.abs().max()) or 1.0
        # A batch norm subtracts its channels' means, so those gradients are 0 up to rounding.
        assert torch.allclose(found.whole[name], value.grad, rtol=0, atol=1e-12 * scale + 1e-15)
        assert torch.allclose(parts, value.grad, rtol=0, atol=1e-12 * scale + 1e-15)
    temporal = sum(float(value.abs().sum()) for value in found.temporal.values())
    assert temporal > 1e-3
    learnt = [name for name, _ in model.named_parameters() if name.endswith(".w")]
    assert len(learnt) == (7 if neuron == "PLIF" else 0)
    assert all(bool(found.temporal[name].any()) for name in learnt)


def by_hand(layer: Layer, t: int) -> tuple[Tensor, Tensor]:
    """Eqs. 5 and 6 up to X_t: dL/dS dS/dV dV/dX, and dL/dU dU/dV dV/dX."""
    v, s, u = (each[t] for each in (layer.potentials, layer.spikes, layer.states))
    fires = slope(v - THRESHOLD).detach()
    through_reset = (1 - s - v * fires).detach()
    above = s.grad if s.grad is not None else torch.zeros_like(s)
    later = u.grad if u.grad is not None else torch.zeros_like(u)
    return above * fires / TAU, later * through_reset / TAU


def test_the_parts_are_those_of_the_equations(wiring: str) -> None:
    model = build(wiring).double()
    x, labels = batch()
    x = x.double()
    found = split(model, x, labels)
    state = dict(model.named_parameters()) | dict(model.named_buffers())
    plain = Plain(state)
    F.cross_entropy(plain.forward(x, 3, wiring == SEW), labels).backward(retain_graph=True)
    for name, layer in plain.layers.items():
        parts = [by_hand(layer, t) for t in range(3)]
        for part, mine in zip(zip(*parts, strict=True), found.inputs[name], strict=True):
            theirs = torch.stack(part)
            # The image is the same at all steps, so the layer takes one input for all of them.
            assert torch.allclose(mine, theirs.sum(0) if mine.dim() == 4 else theirs, atol=1e-13)
        # The weights directly before a layer reach the loss only through that layer.
        weight = f"{layer.behind}.weight"
        for place, part in enumerate((found.spatial, found.temporal)):
            (expected,) = torch.autograd.grad(
                layer.inputs, [state[weight]], [each[place] for each in parts], retain_graph=True
            )
            assert bool(expected.any())
            assert torch.allclose(part[weight], expected, rtol=0, atol=1e-13)


def test_norms_are_means_over_batches_and_frozen_weights_are_left_out() -> None:
    model = build()
    model.stem.conv.weight.requires_grad_(False)
    batches = [batch(4, 0), batch(4, 1)]
    taken = measure(model, batches, only=["gradients", "firing-rate"])
    keys = ["network", "images", "batches", "statistics", "firing_rate", "gradients"]
    assert list(taken.as_dict()) == keys
    assert (taken.images, taken.batches) == (8, 2)
    found = taken.gradients
    assert found.batches == 2
    norms = {each.parameter: each for each in found.parameters}
    assert "stem.conv.weight" not in norms
    name = "stages.0.blocks.1.branch.conv1.weight"
    parts = [split(model, *each) for each in batches]
    for part in ("whole", "spatial", "temporal"):
        expected = sum(float(getattr(each, part)[name].norm()) for each in parts) / 2
        assert getattr(norms[name], part) == pytest.approx(expected, rel=1e-5)
    assert found.residual < 1e-5
    assert all(each.residual < 1e-5 for each in norms.values())
    layer = found.neurons[-1]
    whole = [sum(each.inputs[layer.layer]) * 4 for each in parts]  # for each image's own loss
    expected = sum(float(value.pow(2).sum().div(4).sqrt()) for value in whole) / 2  # type: ignore[union-attr]
    assert layer.whole == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("backend", ["eager", "fused", "spikingjelly"])
@pytest.mark.parametrize("statistics", ["running", "batch"])
def test_the_model_is_left_as_it_was(backend: str, statistics: str) -> None:
    if backend == "spikingjelly":
        pytest.importorskip("spikingjelly")
    model = build(backend=backend).train()
    x, labels = batch()
    start = copy.deepcopy(model.state_dict())
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    measure(model, [(x, labels)], statistics=statistics)  # type: ignore[arg-type]
    assert torch.equal(torch.rand(1), expected)
    torch.testing.assert_close(dict(model.state_dict()), dict(start), rtol=0, atol=0)
    assert all(module.training for module in model.modules())
    assert all(value.grad is None for value in model.parameters())
    assert not any(module._forward_hooks for module in model.modules())
    other = build(backend=backend).train()
    torch.testing.assert_close(step(model, x), step(other, x), rtol=0, atol=0)


def test_another_backend_is_measured_on_a_twin_of_the_same_tensors() -> None:
    """A fusion group hides its neuron's input. Recomputed blocks are measured once."""
    fused = build(backend="fused")
    twin = eager_twin(fused)
    assert twin is not fused
    theirs = dict(fused.named_parameters())
    assert all(value is theirs[name] for name, value in twin.named_parameters())
    eager = build()
    assert eager_twin(eager) is eager
    x, labels = batch()
    for other in (fused, build(memory="recompute")):
        assert measure(other, [(x, labels)]) == measure(eager, [(x, labels)])
    rates = measure(fused, [(x, labels)], only=["firing-rate"]).firing_rate
    # The rates of the fused kernels, which may round differently at the threshold.
    fired: list[float] = []
    for layer in rates.layers:
        module = fused.get_submodule(layer.layer)
        module.register_forward_hook(lambda _, args, out: fired.append(float(out.detach().mean())))
    fused(x)
    assert [layer.rate for layer in rates.layers] == pytest.approx(fired, abs=0.01)


@pytest.mark.thorough
def test_what_cannot_be_measured() -> None:
    pair, labels, model = [batch()], batch()[1], build()
    broken, bad, tiny = build(), build(), build(input="image(2, 1, 1)", steps=1)
    with torch.no_grad():
        broken.stem.conv.weight.fill_(nan)
        bad.head.linear.weight.fill_(inf)
    one, arrays = [(torch.rand(1, 2, 1, 1), torch.tensor([0]))], [(labels.numpy(), labels)]
    other, large = ((torch.rand(4, *shape), labels) for shape in ((5, 6, 6), (2, 8, 8)))
    given = r"the model takes \[N, 2,"
    for subject, data, told, options in (
        (danetc.fold(build()), pair, "folded", {}),
        (model, [], "no batch", {}),
        (model, [*pair, other], rf"batch 2 of \[4, 5, 6, 6\]: {given}", {}),
        (model, [*pair, large], rf"batch 2 of \[4, 2, 8, 8\]: {given}", {}),
        (model, arrays, r"batch 1 is not a pair of tensors \(images, labels\)", {}),
        (model, pair, "there is no measure rate; ", {"only": ["rate"]}),
        (tiny, one, r"1 of \[1, 2, 1, 1\]: .* more than one value", {"statistics": "batch"}),
        (broken, pair, r"stem\.spike: there are values that are not finite", {}),
        (bad, pair, "loss is not finite", {"only": ["gradients"]}),
    ):
        with pytest.raises(UserError, match=told):
            measure(subject, data, **options)


def test_a_product_too_large_for_a_number_is_json() -> None:
    stability = GradientStability((), 900, inf, 400.0, 2.8, ())
    measures = Measures(layout(build()), 1, 1, "running", gradient_stability=stability)
    found: Any = measures.as_dict()["gradient_stability"]
    assert (found["overall"], found["log10_overall"]) == (None, 400.0)
