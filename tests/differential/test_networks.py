"""Several inputs, tokens, shared layers, ``zero_init``, and layers applied to weights."""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

import danetc
from danetc.compiler import check_text, graph_of
from danetc.compiler.analysis.equivalence import Same, compare_graphs
from danetc.compiler.analysis.summary import summarise
from danetc.compiler.draw.legend import network_facts
from danetc.compiler.emit.fx import emit
from danetc.compiler.emit.nir import emit_nir
from danetc.compiler.emit.onnx import emit_onnx
from danetc.compiler.ir.at_node import taken, weights_of
from danetc.compiler.ir.graph import Graph
from danetc.dsl.diagnostics.diagnostic import SpecError
from danetc.errors import UserError
from danetc.runtime.data.augment import image_transform
from danetc.runtime.data.fit import check_fit
from danetc.runtime.data.registry import open_data
from danetc.runtime.layers.weight_layer import computed_state
from danetc.runtime.model.signature import outputs_of
from danetc.runtime.model.weights import match
from danetc.runtime.system.errors import DataError
from danetc.runtime.training.backward import Part, make_backward
from danetc.tasks.equivalence import equivalence
from danetc.tasks.formats import Content, _run_onnx
from tests.differential.helpers import built, model_py, randn, streamed, text
from tests.differential.networks import ANALOG_STEM, SHARED, TOKENS, TWINS, TWO_INPUTS, small
from tests.runtime.training.common import phase

# -- several inputs --------------------------------------------------------------------------------

T, N = 3, 4
SIZES = """
network seen_and_heard {
  input = inputs(still = image(3, 6, 6), moving = events(2, 8, 8, bound = 2))
  steps = 3; neuron = IF; surrogate = sigmoid(alpha = 4)
  a = still -> conv(4) -> norm -> spike -> avgpool
  b = moving -> conv(4) -> norm -> spike -> avgpool
  out = outputs((a + b) -> linear(5), b -> mean_over_time -> linear(2))
}
"""


def both(graph: Graph) -> tuple[Tensor, Tensor]:
    moving = torch.randint(0, 3, (T, N, 2, 8, 8), generator=torch.Generator().manual_seed(2))
    return randn(N, 3, 6, 6), moving.double()


def test_inputs_go_in_by_place_by_name_and_where_they_fit_in_one_tensor() -> None:
    model = built(text(TWO_INPUTS)).eval()
    left, right = randn(N, 2, 8, 8), randn(N, 1, 8, 8, seed=2)
    y = model(left, right)
    assert torch.equal(y, model(left, right=right))
    assert torch.equal(y, model(torch.cat([left, right], 1)))
    steps = streamed(model, [(left, right)] * T)
    assert torch.allclose(torch.stack(steps).mean(0), y, atol=1e-12)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (lambda a, b: (a,), TypeError, "inputs still, moving: missing .*moving"),
        (lambda a, b: (a, b, b), TypeError, "too many"),
        (lambda a, b: (a, b[0]), ValueError, r"\[T, N, 2, 8, 8\] as `moving`, not"),
        (lambda a, b: (a[:2], b), ValueError, "T = 3, N = 2 and T = 3, N = 4"),
        (lambda a, b: (a, b[:2]), ValueError, "T = 2, N = 4 and T = 3, N = 4"),
        (lambda a, b: (a, b + 1), DataError, "`bound = 2`"),
        (lambda a, b: (a.numpy(), b), TypeError, "as `still`, not a ndarray"),
    ],
)
def test_what_does_not_fit_is_refused(change, error, words: str) -> None:  # type: ignore[no-untyped-def]
    graph = text(SIZES)
    with pytest.raises(error, match=words):
        built(graph)(*change(*both(graph)))


def test_equal_numbers_are_seen_where_one_tensor_holds_them() -> None:
    late, early = (
        TWO_INPUTS.replace(
            "c = concat(a, b, right)", f"l = (a - (l -> {back})) -> tanh; c = concat(l, b, right)"
        )
        for back in ("delay(1) -> conv(4, kernel = 1)", "conv(4, kernel = 1) -> delay(1)")
    )
    graphs = (graph_of(check_text(f"use std\n{lines}"), passes=()) for lines in (late, early))
    assert equivalence(*graphs).word == "equal in numbers"
    sizes = text(SIZES, ())
    skipped = equivalence(sizes, text(SIZES.replace("a + b", "b - a"), ())).skipped
    assert "one image cannot hold" in str(skipped)


def test_data_give_the_channels_of_all() -> None:
    data = open_data("synthetic:classes=5,size=8,count=20")
    way = image_transform((), events=False)
    signature = built(text(TWO_INPUTS)).signature
    check_fit(data, signature, evaluate=way, output=(5,))
    grey = replace(data.train, images=data.train.images[:, :1])  # type: ignore[type-var]
    few = replace(data, train=grey, test=grey, shape=(1, 8, 8))
    with pytest.raises(DataError, match="takes 3 x 8 x 8; a sample holds the channels of all"):
        check_fit(few, signature, evaluate=way, output=(5,))
    with pytest.raises(DataError, match="still 3 x 6 x 6, moving 2 x 8 x 8 at each step"):
        check_fit(data, built(text(SIZES)).signature, evaluate=way, output=(5,))
    with pytest.raises(UserError, match="one image cannot hold"):
        taken(text(SIZES))


@pytest.mark.thorough
def test_it_is_trained_and_exported(tmp_path: Path) -> None:
    source = tmp_path / "two.danet"
    recipe = "recipe r { epochs = 1; batch = 20; optimizer = sgd(lr = 0.1) }"
    source.write_text(f"use std\n{TWO_INPUTS}\n{recipe}\n")
    data = "synthetic:classes=5,size=8,count=20"
    assert danetc.train(source, data=data, output=tmp_path / "run") is not None
    graph = text(SIZES)
    module = model_py(graph).float().eval()
    still, moving = (x.float() for x in both(graph))
    batch = torch.export.Dim("batch", min=1)
    program = torch.export.export(module, (still, moving), dynamic_shapes=({0: batch}, {1: batch}))
    for a, b in zip(program.module()(still, moving), module(still, moving), strict=True):
        assert torch.allclose(a, b, atol=1e-6)


# -- tokens ---------------------------------------------------------------------------------------

VOCABULARY = 9


def indices(*shape: int) -> torch.Tensor:
    return torch.randint(VOCABULARY, shape, generator=torch.Generator().manual_seed(0))


def network(out: str, size: str = "9") -> Graph:
    lines = f"input = tokens({size}); steps = 3; neuron = LIF; surrogate = atan; out = {out}"
    return text(f"network net {{ {lines} }}")


def test_tokens_and_their_tables_are_counted() -> None:
    """An embedding costs no MACs. A table that also computes logits has its parameters counted once."""
    in_time = network("in -> embedding(6)")
    summary = summarise(in_time)
    assert (summary.parameters, summary.macs) == (VOCABULARY * 6, 0)
    assert "1 of 9 tokens" in str(summary)
    assert "input 1 of 9 tokens" in network_facts(in_time)
    tied = network("in -> table -> tanh -> table; table = shared(embedding(6, vocabulary = 9))")
    summary = summarise(tied)
    assert (summary.parameters, summary.macs) == (VOCABULARY * 6, 3 * VOCABULARY * 6)


def test_first_vectors_are_normal_and_those_that_the_spec_names() -> None:
    by_default, small = (
        emit(network(f"in -> embedding(64{init})", "2000"))
        for init in ("", ", init = normal(0.02)")
    )
    for model, std in ((by_default, 1.0), (small, 0.02)):
        (weight,) = model.state_dict().values()
        assert abs(float(weight.std()) / std - 1) < 0.02
        assert abs(float(weight.mean())) < 0.02 * std


@pytest.mark.parametrize("name", TOKENS)
def test_files_and_streams_give_what_the_model_gives(name: str) -> None:
    graph = text(TOKENS[name])
    model = built(graph).float().eval()
    x = indices(graph.steps, 2, 1) if name == "tokens_in_time" else indices(2, 5)
    with torch.no_grad():
        wanted = outputs_of(model(x))
        if name == "tokens_in_time":
            assert torch.allclose(torch.stack(streamed(model, x)), wanted[0], atol=1e-6)
        weights = {key: value.numpy() for key, value in model.state_dict().items()}
        for streaming in (False, True):
            made = emit_onnx(graph, weights, streaming=streaming)
            content = Content(graph, model, streaming)
            found = [*_run_onnx(made.SerializeToString(), content)(x)]
            torch.testing.assert_close(found, [*wanted], rtol=1e-5, atol=1e-5)
    if len(graph.outputs) == 1:
        with pytest.raises(UserError, match="embedding: NIR has no node for embedding"):
            emit_nir(graph, weights)
    assert equivalence(graph, graph).word == "equal"


@pytest.mark.parametrize("name", TOKENS)
@pytest.mark.parametrize("backend", ["eager", "fused"])
def test_indices_stay_int64_in_bfloat16(name: str, backend: str) -> None:
    model = emit(text(TOKENS[name]), 0, backend)
    x = indices(4, 2, 1) if name == "tokens_in_time" else indices(2, 5)
    for dtype in (torch.float32, torch.bfloat16):
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.float32):
            outputs = outputs_of(model.to(dtype)(x))
        sum(y.float().sum() for y in outputs).backward()
        assert all(each.grad is not None for each in model.parameters())
        model.zero_grad()


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (lambda x: x.float(), ValueError, "tokens, int64 indices, not float32; take x.long()"),
        (lambda x: x.int(), ValueError, "tokens, int64 indices, not int32"),
        (lambda x: x[..., 0], ValueError, r"\[T, N, 1\], not \[4, 2\]"),
        (
            lambda x: x.index_fill(0, torch.tensor(2), 9),
            DataError,
            r"the token 9 at \[2, 0, 0\] of the input is not one of the vocabulary of 9 tokens, 0 to 8",
        ),
        (lambda x: x - 9, DataError, r"the token -\d at \[0, 0, 0\]"),
    ],
)
def test_what_is_not_a_token_is_refused(change, error, words: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(error, match=words):
        built(text(TOKENS["tokens_in_time"]))(change(indices(4, 2, 1)))


def test_tokens_and_an_image_are_two_inputs() -> None:
    graph = text(
        """network net {
          input = inputs(words = tokens(9, length = 4), photo = image(1, 4, 4)); steps = 2
          neuron = IF; surrogate = atan
          out = (words -> embedding(8) -> avgpool -> flatten) + (photo -> linear(8))
        }"""
    )
    model = built(graph)
    y = model(words=indices(2, 4), photo=torch.rand(2, 1, 4, 4, dtype=torch.float64))
    assert y.shape == (2, 2, 8)
    assert model.signature.input == ()


# -- layers that are shared by several places -----------------------------------------------------


def test_graphs_are_compared_with_their_shared_weights() -> None:
    graph = text(SHARED, ())
    written = SHARED.replace("f", "first").replace("big", "a").replace("small", "b")
    sums = "(a + (b -> upsample(2)) + (in -> g))", "((in -> g) + (b -> upsample(2)) + a)"
    written = written.replace(*sums)
    assert "first = shared(" in written
    found = equivalence(graph, text(written, ()), numbers=False)
    assert found.word == "equal"
    assert sum("conv" in path for path, _ in found.pairs()) == 5
    for old, new in (
        ("f = shared(conv(w)", "f = (conv(w)"),
        ("avgpool(2) -> f -> g", "avgpool(2) -> g -> f"),
        ("big = in -> f", "big = in -> conv(w) -> norm -> spike"),
    ):
        assert equivalence(graph, text(SHARED.replace(old, new), ()), numbers=False).word == "different"  # fmt: skip


def test_it_is_measured_place_by_place() -> None:
    graph = text(TWINS)
    x, labels = randn(4, 4, 6, 6).float(), torch.zeros(4, dtype=torch.int64)
    found = danetc.measure(emit(graph), [(x, labels)], only=["operations"])
    single = danetc.measure(
        emit(text(TWINS.replace("shared(", "("))), [(x, labels)], only=["operations"]
    )
    mine = {item.layer: item for item in found.operations.layers}
    other = {item.layer: item for item in single.operations.layers}
    assert mine.keys() == other.keys()
    assert {"x.f.conv", "y.f.conv", "x.g.conv", "x.g2.conv", "y.g.conv"} <= mine.keys()


# -- zero_init --------------------------------------------------------------------------------------


@pytest.mark.parametrize("connection", ["sew", "pa_a", "pa_b", "ms"])
def test_a_zero_initialised_block_starts_as_its_shortcut(connection: str) -> None:
    stem = {} if connection == "sew" else ANALOG_STEM

    x = randn(3, 2, 4, 4, 4).abs() + 1.0
    for zero in ("true", "false"):
        settings = f"neuron = IF; zero_init = {zero}"
        network = emit(text(small(f"tiny via {connection}", settings=settings, **stem))).double()
        starts = zero == "true" or connection == "ms"  # the last norm of ``ms`` starts at 0
        assert torch.equal(network.stages[0].blocks[1](x), x) is starts


@pytest.mark.parametrize("connection", ["baa", "plain", "dense_layer"])
def test_zero_init_may_not_silence_a_block(connection: str) -> None:
    """In BAA, the norm follows the addition. The other connections have no shortcut."""
    rule = " by densely_concatenated" if connection == "dense_layer" else ""
    settings = "neuron = IF; zero_init = true"
    stage = f"stage(basic(4), 2) via {connection}{rule}"
    with pytest.raises(SpecError) as caught:
        text(small(stage, settings=settings))
    assert [diagnostic.code for diagnostic in caught.value.diagnostics] == ["E0503"]
    text(small(stage, settings="neuron = IF; zero_init = false"))


# -- layers that are applied to weights -----------------------------------------------------------

SPEC = """
block standardised(eps = 0.00001, gain = learn(1.0, per = channel)) {
  m = in - (in -> mean(over = pixels))
  out = gain * m / sqrt(((m * m) -> mean(over = pixels)) + eps)
}
block other(gain = learn(1.0, per = channel), eps = 0.00001) {
  c = in - (in -> mean(over = pixels))
  out = (c * gain) / sqrt(eps + ((c * c) -> mean(over = pixels)))
}
neuron clipped(low, high) { s = round(min(max(x, low), high)) }
block quantised(bits) {
  a = learn(0.02, above = 0)
  out = a * ((in / a) -> clipped(-(2 * bits), 2 * bits - 1))
}
neuron sign { s = 2 * heaviside(x) - 1 }
block binary { out = (in -> sign) * (abs(in) -> mean(over = pixels)) }
network net {
  input = image(3, 8, 8); steps = 3; neuron = LIF; surrogate = sigmoid(alpha = 4)
  LINES
}"""
NET = SPEC.replace(
    "LINES",
    """stem = conv(8, weight = LAYER) -> norm -> spike
  head = conv(4, stride = 2, groups = 2) -> norm -> spike -> avgpool -> mean_over_time -> linear(5)""",
)


def standardised(weight: Tensor) -> Tensor:
    """Standardised weights as in OTTT (Xiao et al., NeurIPS 2022) with a gain of 1."""
    of = (1, 2, 3)
    return (weight - weight.mean(of, keepdim=True)) / torch.sqrt(
        weight.var(of, unbiased=False, keepdim=True) + 1e-5
    )


def quantised(weight: Tensor) -> Tensor:
    return 0.02 * torch.round(torch.clamp(weight / 0.02, -8, 7))


def binary(weight: Tensor) -> Tensor:
    return torch.where(weight >= 0, 1.0, -1.0) * weight.abs().mean((1, 2, 3), keepdim=True)


@pytest.mark.parametrize("backend", ["eager", "fused"])
@pytest.mark.parametrize(
    ("layer", "function"),
    [("standardised", standardised), ("quantised(4)", quantised), ("binary", binary)],
)
def test_it_is_the_network_with_computed_weights(
    layer: str, function: Callable[[Tensor], Tensor], backend: str
) -> None:
    model = emit(text(NET.replace("LAYER", layer)), 0, backend)
    plain = emit(text(NET.replace("LAYER", "none")), 0, backend)
    raw = model.stem.conv.weight_raw
    with torch.no_grad():
        plain.stem.conv.weight.copy_(function(raw))
    x = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(model.stem.conv.weight, plain.stem.conv.weight, rtol=1e-5, atol=1e-6)
    with torch.no_grad():  # the outputs are compared bit for bit
        plain.stem.conv.weight.copy_(model.stem.conv.weight)
    for training in (True, False):
        assert torch.equal(model.train(training)(x), plain.train(training)(x))
    model.train()(x).square().sum().backward()
    plain.train()(x).square().sum().backward()
    (expected,) = torch.autograd.grad(model.stem.conv.weight, raw, plain.stem.conv.weight.grad)
    assert raw.grad is not None
    assert torch.allclose(raw.grad, expected, rtol=1e-4, atol=1e-6)


def test_it_folds_and_its_state_loads() -> None:
    model = emit(text(NET.replace("LAYER", "standardised")), 1)
    raw = model.stem.conv.weight_raw
    x = torch.rand(4, 3, 8, 8)
    for _ in range(3):
        model.train()(x)
    folded = danetc.fold(model.eval())
    assert torch.allclose(folded(x), model(x), atol=1e-5)
    assert "stem.conv.weight" in folded.state_dict()
    assert not any("weight_layer" in name for name in folded.state_dict())
    plain = emit(text(NET.replace("LAYER", "none")), 1)
    assert torch.equal(raw, plain.stem.conv.weight)  # initialised alike
    plain.load_state_dict(computed_state(model))
    assert torch.equal(plain.eval()(x), model(x))


def test_identity_is_no_layer_and_settings_reach_every_layer() -> None:
    plain, same = text(NET.replace("LAYER", "none")), text(NET.replace("LAYER", "identity"))
    assert compare_graphs(plain, same) == Same(compare_graphs(plain, plain).weights)  # type: ignore[union-attr]
    setting = "weight = standardised\n  out = in -> conv(4) -> linear(5, weight = none)"
    graph = text(SPEC.replace("LINES", setting))
    assert sum(weights_of(graph, node) for node in graph.nodes.values()) == 108 + 4 + 1285


def test_equivalence_compares_the_layers_of_weights() -> None:
    one, same, other = (
        text(NET.replace("LAYER", layer), ()) for layer in ("standardised", "other", "binary")
    )
    assert isinstance(compare_graphs(one, same), Same)
    assert "with weight standardised and binary" in compare_graphs(one, other).reason  # type: ignore[union-attr]
    more = text(NET.replace("LAYER", "standardised(eps = 0.1)"), ())
    assert "other layers applied to the weight" in compare_graphs(one, more).reason  # type: ignore[union-attr]


def test_weights_of_the_plain_network_are_taken() -> None:
    """They are matched by name, or by order if the names differ."""
    model = emit(text(NET.replace("LAYER", "quantised(4)")), 1)
    plain = emit(text(NET.replace("LAYER", "none")), 2).state_dict()
    renamed = {
        name.replace("stem", "first").replace("head", "last"): x for name, x in plain.items()
    }
    for file, how in ((plain, "name"), (renamed, "order"), (model.state_dict(), "name")):
        report = match(model, file)
        assert (report.how, report.unexpected) == (how, ())
        assert set(report.missing) <= {"stem.conv.weight_layer.quantised.a.weight_raw"}
        stored = file[report.matched["stem.conv.weight_raw"]]
        assert torch.equal(report.state["stem.conv.weight_raw"], stored)
        model.load_state_dict(report.state)


def test_masks_depend_on_the_seed_and_the_name_alone() -> None:
    line = (
        "out = in -> conv(8, weight = mask(0.3)) -> conv(8, weight = mask(parts = 4), kernel = 1)"
    )
    graph = text(SPEC.replace("LINES", line))
    masks = [dict(emit(graph, seed).named_buffers()) for seed in (1, 1, 2)]
    first, parts = masks[0].values()
    assert all(torch.equal(masks[0][name], masks[1][name]) for name in masks[0])
    assert not any(torch.equal(masks[0][name], masks[2][name]) for name in masks[0])
    assert 0.2 < float(first.mean()) < 0.4
    assert torch.equal(parts.view(4, 2, 8).sum(0), torch.ones(2, 8))  # each entry is in one part
    assert torch.equal(parts.view(4, 2, 8).sum(2), torch.full((4, 2), 2.0))  # equal sizes
    biased = line.replace("conv(8, weight", "conv(8, bias = true, weight")
    more = biased.replace("out = in", "out = in -> conv(3)")
    other, kept = (emit(text(SPEC.replace("LINES", each)), 1) for each in (more, biased))
    assert not torch.equal(other.conv2.weight_layer.mask.mask, first)  # conv2 is a different name
    assert torch.equal(kept.conv1.weight_layer.mask.mask, first)


def squares(y: Tensor, share: float, **rest: object) -> Tensor:
    return share * y.square().sum()


@pytest.mark.parametrize("layer", ["standardised", "quantised(4)", "mask(0.5)"])
def test_online_traces_give_the_gradient_of_the_result(layer: str) -> None:
    """The gradient of raw weights is that of the computed weights in a plain network, by the chain rule."""
    chosen = phase("epochs = 1; optimizer = sgd(lr = 0.1); gradient = online(trace = 0.5)")
    model, plain = (emit(text(NET.replace("LAYER", of)), 0).double() for of in (layer, "none"))
    with torch.no_grad():
        plain.stem.conv.weight.copy_(model.stem.conv.weight)
    x = randn(2, 3, 8, 8)
    for each in (model, plain):
        part = Part(each, each, x, squares, Tensor.backward, nullcontext)
        make_backward(chosen.gradient)(part)
    raw = model.stem.conv.weight_raw
    (expected,) = torch.autograd.grad(model.stem.conv.weight, raw, plain.stem.conv.weight.grad)
    assert float(expected.abs().max()) > 0
    assert torch.allclose(raw.grad, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("ending", ["onnx", "nir", "pt2", "py"])
def test_files_compute_the_same(ending: str, tmp_path: Path) -> None:
    """``export`` reads each file back and compares it with the model."""
    spec = tmp_path / "net.danet"
    lines = NET.replace("LAYER", "standardised").replace("head =", "weight = kept\n  head =")
    lines = lines.replace("= LIF", "= LIF(v_threshold = 0.1)")
    spec.write_text(f"# allow W0102\nuse std\nblock kept {{ out = in -> mask(0.7) }}\n{lines}")
    done = danetc.export(spec, tmp_path / f"file.{ending}")
    assert done.compared is not None
    assert done.compared.agreeing > 90
