"""Inputs of tokens: what an embedding computes, what a model takes, and what else reads tokens."""

from __future__ import annotations

import pytest
import torch

from danetc.compiler import check_text, graph_of
from danetc.compiler.analysis.summary import summarise
from danetc.compiler.draw.legend import network_facts
from danetc.compiler.emit.fx import emit
from danetc.compiler.emit.nir import emit_nir
from danetc.compiler.emit.onnx import emit_onnx
from danetc.dsl.diagnostics.diagnostic import SpecError
from danetc.errors import UserError
from danetc.runtime.model.signature import outputs_of
from danetc.runtime.system.errors import DataError
from danetc.tasks.equivalence import equivalence
from danetc.tasks.formats import Content, _run_onnx
from tests.differential.helpers import built, streamed, text
from tests.differential.networks import TOKENS

VOCABULARY = 9


def indices(*shape: int) -> torch.Tensor:
    return torch.randint(VOCABULARY, shape, generator=torch.Generator().manual_seed(0))


def network(out: str, size: str = "9") -> str:
    return f"""use std
    network net {{ input = tokens({size}); steps = 3; neuron = LIF; surrogate = atan; out = {out} }}"""


def test_an_embedding_is_a_table_of_rows_and_costs_no_additions() -> None:
    in_time = graph_of(check_text(network("in -> embedding(6)")))
    model = emit(in_time).double()
    x = indices(3, 2, 1)
    y = model(x)
    (weight,) = model.parameters()
    assert torch.equal(y, weight[x[..., 0]])
    y.square().sum().backward()
    counts = x.flatten().bincount(minlength=VOCABULARY)
    assert torch.allclose(weight.grad, 2 * weight.detach() * counts[:, None])
    summary = summarise(in_time)
    assert (summary.parameters, summary.macs) == (VOCABULARY * 6, 0)
    assert "1 of 9 tokens" in str(summary)
    assert "input 1 of 9 tokens" in network_facts(in_time)

    at_once = emit(graph_of(check_text(network("in -> embedding(6)", "9, length = 4")))).double()
    x = indices(2, 4)
    (weight,) = at_once.parameters()
    for step in at_once(x):
        assert torch.equal(step, weight[x].mT.unsqueeze(-2))


def test_a_shared_embedding_gives_logits_of_tied_weights() -> None:
    lines = "table = shared(embedding(6, vocabulary = 9)); out = in -> table -> tanh -> table"
    graph = graph_of(check_text(network("in").replace("out = in", lines)))
    model = emit(graph).double()
    (weight,) = model.parameters()
    x = indices(3, 2, 1)
    y = model(x)
    expected = weight[x[..., 0]].tanh() @ weight.T
    assert torch.allclose(y, expected)
    assert torch.allclose(
        *(torch.autograd.grad(z.square().sum(), weight)[0] for z in (y, expected))
    )
    summary = summarise(graph)
    assert (summary.parameters, summary.macs) == (VOCABULARY * 6, 3 * VOCABULARY * 6)


def test_first_vectors_are_normal_and_those_that_the_spec_names() -> None:
    by_default, small = (
        emit(graph_of(check_text(network(f"in -> embedding(64{init})", "2000"))))
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
            for found, y in zip(
                _run_onnx(made.SerializeToString(), content)(x), wanted, strict=True
            ):
                assert torch.allclose(found, y, atol=1e-5)
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


@pytest.mark.parametrize(
    ("out", "words"),
    [
        ("in -> linear(4)", "linear computes with numbers, but its input is tokens"),
        ("in + in", "add computes with numbers"),
        ("in -> spike", "neuron computes with numbers"),
        ("in -> embedding(4) -> embedding(4)", "embedding takes tokens, but its input is analog"),
        (
            "in -> embedding(4) -> embedding(5, vocabulary = 9)",
            "vectors of 5 elements .* with 4 channels",
        ),
        ("in -> embedding(4, vocabulary = 8)", "a vocabulary of 8 tokens, but its input has 9"),
        ("in", "network `net` returns its tokens"),
    ],
)
def test_nothing_computes_with_tokens(out: str, words: str) -> None:
    with pytest.raises(SpecError, match=words):
        check_text(network(out))


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
