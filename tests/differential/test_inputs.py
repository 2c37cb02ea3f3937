"""Networks with several inputs: how they are given, what does not fit, and what is made of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

import danetc
from danetc.compiler import check_text, graph_of
from danetc.compiler.emit.python import emit_python
from danetc.compiler.ir.at_node import taken
from danetc.compiler.ir.graph import Graph
from danetc.dsl.diagnostics.diagnostic import SpecError
from danetc.errors import UserError
from danetc.runtime.data.augment import image_transform
from danetc.runtime.data.fit import check_fit
from danetc.runtime.data.registry import open_data
from danetc.runtime.system.errors import DataError
from danetc.tasks.equivalence import equivalence
from tests.differential.helpers import built, randn, streamed, text
from tests.differential.networks import TWO_INPUTS
from tests.differential.test_forms import executed

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
    still = randn(N, 3, 6, 6)
    moving = torch.randint(0, 3, (T, N, 2, 8, 8), generator=torch.Generator().manual_seed(2))
    return still, moving.double()


def test_inputs_go_in_by_place_by_name_and_where_they_fit_in_one_tensor() -> None:
    model = built(text(TWO_INPUTS)).eval()
    left, right = randn(N, 2, 8, 8), randn(N, 1, 8, 8, seed=2)
    y = model(left, right)
    assert torch.equal(y, model(right=right, left=left))
    assert torch.equal(y, model(left, right=right))
    assert torch.equal(y, model(torch.cat([left, right], 1)))
    assert not torch.equal(y, model(left, right.flip(0)))
    steps = streamed(model, [(left, right)] * T)
    assert torch.allclose(torch.stack(steps).mean(0), y, atol=1e-12)
    several = torch.cat([left, right], 1).expand(5, N, 3, 8, 8)
    assert model(several).shape == (N, 5)


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
    assert skipped is not None
    assert "one image cannot hold" in skipped


def test_data_give_the_channels_of_all() -> None:
    data = open_data("synthetic:classes=5,size=8,count=20")
    way = image_transform((), events=False)
    signature = built(text(TWO_INPUTS)).signature
    check_fit(data, signature, evaluate=way, output=(5,))
    with pytest.raises(DataError, match="takes 3 x 8 x 8; a sample holds the channels of all"):
        check_fit(
            replace(data, train=_grey(data.train), test=_grey(data.test), shape=(1, 8, 8)),
            signature,
            evaluate=way,
            output=(5,),
        )
    with pytest.raises(DataError, match="still 3 x 6 x 6, moving 2 x 8 x 8 at each step"):
        check_fit(data, built(text(SIZES)).signature, evaluate=way, output=(5,))
    with pytest.raises(UserError, match="one image cannot hold"):
        taken(text(SIZES))


def _grey(source):  # type: ignore[no-untyped-def]
    return replace(source, images=source.images[:, :1])


@pytest.mark.thorough
def test_it_is_trained_and_exported(tmp_path: Path) -> None:
    source = tmp_path / "two.danet"
    recipe = "recipe r { epochs = 1; batch = 20; optimizer = sgd(lr = 0.1) }"
    source.write_text(f"use std\n{TWO_INPUTS}\n{recipe}\n")
    model = danetc.build(source)
    assert model(torch.rand(2, 2, 8, 8), torch.rand(2, 1, 8, 8)).shape == (2, 5)
    data = "synthetic:classes=5,size=8,count=20"
    trained = danetc.train(source, data=data, output=tmp_path / "run")
    assert trained is not None
    graph = text(SIZES)
    module = executed(emit_python(graph)).float().eval()
    still, moving = (x.float() for x in both(graph))
    batch = torch.export.Dim("batch", min=1)
    program = torch.export.export(module, (still, moving), dynamic_shapes=({0: batch}, {1: batch}))
    for a, b in zip(program.module()(still, moving), module(still, moving), strict=True):
        assert torch.allclose(a, b, atol=1e-6)


ERRORS = {
    "E0302": "inputs(a = image(1, 8, 8), a = image(1, 8, 8))",
    "E0303": "inputs(a = image(1, 8, 8))",
    "E0307": "inputs(image(1, 8, 8), b = image(1, 8, 8))",
    "E0502": "inputs(a = conv(3), b = image(1, 8, 8))",
    "E0212": "inputs(first = image(1, 8, 8), b = image(1, 8, 8))",
    "E0210": "inputs(a = image(1, 8, 8), b = image(1, 8, 8))",
}


@pytest.mark.parametrize("code", ERRORS)
def test_what_is_wrong_with_them_is_said(code: str) -> None:
    source = f"""use std
network n {{
  input = {ERRORS[code]}; steps = 2; neuron = IF; surrogate = atan
  first = in -> conv(2) -> spike
  out = first -> avgpool -> linear(2)
}}
"""
    with pytest.raises(SpecError) as caught:
        check_text(source)
    assert code in {item.code for item in caught.value.diagnostics}
    if code == "E0210":
        (found,) = caught.value.diagnostics
        assert found.hint == "the network has several inputs: name one, as in `a -> ...`"


def test_it_says_what_becomes_of_them() -> None:
    source = "use std\nnetwork n { input = inputs(a = image(1, 8, 8), b = image(1, 8, 8)); neuron = IF; head = linear(2) }"
    with pytest.raises(SpecError, match=r"add `out = \.\.\.` that reads `a`, `b`"):
        check_text(source)
