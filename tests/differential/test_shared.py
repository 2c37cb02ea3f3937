"""Layers of the same weights at several places: `shared(...)`. The interpreter runs ``SIAMESE``."""

from __future__ import annotations

import pytest
import torch

import danetc
from danetc.compiler import check_text
from danetc.compiler.emit.fx import emit
from danetc.dsl.diagnostics.diagnostic import SpecError
from danetc.tasks.equivalence import equivalence
from tests.differential.helpers import randn, text
from tests.differential.networks import SHARED

NETWORK = """
network net {
  input = inputs(a = image(2, 6, 6), b = image(2, 6, 6))
  steps = 3; neuron = IF; surrogate = sigmoid(alpha = 4)
  f = shared(conv(4) -> norm -> spike)
  g = shared(conv(4, kernel = 1) -> norm -> spike)
  x = a -> f -> g -> g
  y = b -> f -> g
  out = concat(x -> avgpool, y -> avgpool) -> linear(5)
}
"""
SIAMESE = {
    "siamese": NETWORK.replace("-> norm -> spike)", "-> norm -> PLIF)"),
    "siamese, scheduled": NETWORK.replace("alpha = 4", "alpha = scheduled(4.0)"),
}


def test_graphs_are_compared_with_their_shared_weights() -> None:
    graph = text(SHARED, ())
    written = (
        SHARED.replace("f", "first").replace("big", "a").replace("small", "b")
        .replace("(a + (b -> upsample(2)) + (in -> g))", "((in -> g) + (b -> upsample(2)) + a)")
    )  # fmt: skip
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
    graph = text(NETWORK)
    x, labels = randn(4, 4, 6, 6).float(), torch.zeros(4, dtype=torch.int64)
    found = danetc.measure(emit(graph), [(x, labels)], only=["operations"])
    single = danetc.measure(
        emit(text(NETWORK.replace("shared(", "("))), [(x, labels)], only=["operations"]
    )
    mine = {item.layer: item for item in found.operations.layers}
    other = {item.layer: item for item in single.operations.layers}
    assert mine.keys() == other.keys()
    assert {"x.f.conv", "y.f.conv", "x.g.conv", "x.g2.conv", "y.g.conv"} <= mine.keys()


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("b = (concat(a, a) -> f)", "of a shared layer differ here"),
        ("b = (in -> avgpool -> shared(3))", "takes a layer, not the number 3"),
    ],
)
def test_what_does_not_fit_is_said(body: str, words: str) -> None:
    source = f"""use std
network n {{
  input = image(4, 8, 8); steps = 2; neuron = IF; surrogate = atan
  f = shared(conv(4) -> norm -> spike)
  a = in -> f; {body}
  out = (a + b) -> avgpool -> linear(2)
}}
"""
    with pytest.raises(SpecError, match=words):
        check_text(source)
