"""The errors of a model for inputs that it does not take, and the inputs that it takes."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import danetc
from danetc.compiler.emit.fx import emit
from danetc.compiler.emit.inference import fold
from danetc.compiler.emit.program import standalone
from danetc.compiler.emit.python import emit_python
from danetc.runtime.model.built import Model
from danetc.runtime.system.errors import DataError
from tests.differential.helpers import text
from tests.differential.networks import small

STATIC = text(small("stage(basic(4), 1) via sew"))
EVENTS = text(small("stage(basic(4), 1) via sew", input="events(2, 8, 8)"))
TIMED = text(small("stage(basic(4), 1) via sew", settings="neuron = LIF; norm = tebn"))
BOTH = r"the model takes \[N, 3, 8, 8\] or \[T, N, 3, 8, 8\], not "
FRAME = r"the model takes \[N, 3, 8, 8\], not "

SHAPES: list[tuple[tuple[int, ...], str]] = [
    ((2, 3, 6, 6), r"\[2, 3, 6, 6\]$"),
    ((2, 3, 8, 9), r"\[2, 3, 8, 9\]$"),
    ((2, 1, 8, 8), r"\[2, 1, 8, 8\]$"),
    ((3, 8, 8), r"\[3, 8, 8\]$"),
    ((2, 8, 8, 3), r"\[2, 8, 8, 3\]"),
    ((1, 2, 2, 3, 8, 8), r"\[1, 2, 2, 3, 8, 8\]$"),
    ((4, 3), r"\[4, 3\]$"),
    ((), r"\[\]$"),
]
ONES = torch.ones(2, 3, 8, 8)
BYTES = r"not uint8; take x.to\(torch.float32\) / 255 for an image in bytes$"
VALUES: list[tuple[Any, type[Exception], str]] = [
    (ONES.numpy(), TypeError, "not a ndarray"),
    (ONES.tolist(), TypeError, "not a list"),
    (None, TypeError, "not a NoneType"),
    ([ONES], TypeError, "not a list"),
    (ONES.byte(), ValueError, BYTES),
    (ONES.double(), ValueError, r"takes float32, as its weights are, not float64; take"),
    (ONES.half(), ValueError, "not float16"),
    (ONES.bool(), ValueError, r"not bool; take x.to\(torch.float32\)$"),
    (ONES.long(), ValueError, r"not int64; take x.to\(torch.float32\)$"),
    (ONES.to(torch.complex64), ValueError, "not complex64"),
    (ONES.to("meta"), ValueError, r"weights are on cpu, the input is on meta: .* x.to\('cpu'\)"),
]


@pytest.fixture(scope="module", params=["eager", "fused", "recompute", "folded"])
def model(request: pytest.FixtureRequest) -> Model:
    if request.param == "folded":
        return fold(emit(STATIC))
    if request.param == "recompute":
        return emit(STATIC, 0, "fused", "recompute")
    return emit(STATIC, 0, request.param)


def ours(model: nn.Module, x: Any, kind: type[Exception], message: str, stream: bool) -> None:
    """The error says what was expected and comes from the signature check, not from an operation."""
    with pytest.raises(kind, match=message) as caught:
        model.stream(x) if stream else model(x)  # type: ignore[operator]
    assert caught.traceback[-1].path.name == "signature.py"


REFUSED = [
    *((torch.zeros(shape), ValueError, message, True) for shape, message in SHAPES),
    *((*row, False) for row in VALUES),
]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("value", "kind", "message", "is_shape"), REFUSED)
def test_what_is_refused(
    model: Model, value: Any, kind: type[Exception], message: str, is_shape: bool, stream: bool
) -> None:
    message = (FRAME if stream else BOTH) * is_shape + message
    ours(model, value, kind, message, stream)
    if not stream:
        with pytest.raises(kind, match=message):
            model(x=value)


def test_a_network_for_sequences_takes_sequences_alone() -> None:
    model = emit(EVENTS)
    assert model(torch.zeros(2, 2, 2, 8, 8)).shape == (2, 5)
    taken = r"the model takes \[T, N, 2, 8, 8\], not "
    ours(model, torch.zeros(2, 2, 8, 8), ValueError, taken + r"\[2, 2, 8, 8\]$", False)
    larger = taken + r"\[2, 2, 2, 9, 9\]$"
    ours(model, torch.zeros(2, 2, 2, 9, 9), ValueError, larger, False)
    assert model.stream(torch.zeros(2, 2, 8, 8))[0].shape == (2, 5)


def test_sequences_have_any_length_where_nothing_depends_on_it() -> None:
    model, timed = emit(STATIC), emit(TIMED)
    for length in (1, 2, 3, 5):
        x = torch.rand(length, 2, 3, 8, 8)
        assert model(x).shape == (2, 5)
        message = rf"takes sequences of T = 3 .*, not of {length}: .*norm"
        if length == 3:
            assert timed(x).shape == (2, 5)
        else:
            ours(timed, x, ValueError, message, False)
    ours(model, torch.rand(0, 2, 3, 8, 8), ValueError, "one time step or more, not T = 0", False)


def test_all_that_fits_is_taken(model: Model) -> None:
    x = torch.rand(2, 3, 8, 8)
    expected = model.eval()(x)
    with torch.no_grad():
        last = x.to(memory_format=torch.channels_last)
        for same in (nn.Parameter(x), last, x.flip(3).flip(3), x.as_subclass(Image)):
            torch.testing.assert_close(model(same).as_subclass(Tensor), expected.detach())
        assert model(x[:0]).shape == (0, 5)
        assert model(x=x).shape == (2, 5)
        for dtype in (torch.float32, torch.float16, torch.bfloat16):
            with torch.autocast("cpu", torch.bfloat16):
                assert model(x.to(dtype)).shape == (2, 5)
    with torch.autocast("cpu", torch.bfloat16):
        ours(model, x.double(), ValueError, "not float64", False)


class Image(Tensor):
    """A subclass like torchvision's tv_tensors."""


def test_the_type_of_the_weights_is_that_of_the_input() -> None:
    model = emit(STATIC).double()
    assert model(torch.rand(2, 3, 8, 8).double()).dtype == torch.float64
    x = torch.rand(2, 3, 8, 8)
    ours(model, x, ValueError, "takes float64, as its weights are, not float32", False)
    bare = emit(
        text(
            "network bare { input = image(3, 8, 8); steps = 2; neuron = IF\n"
            "surrogate = atan; head = spike -> avgpool -> mean_over_time }"
        )
    )
    assert not list(bare.parameters())
    for dtype in (torch.float32, torch.float64):
        assert bare(torch.rand(2, 3, 8, 8).to(dtype)).dtype == dtype
    ours(bare, torch.ones(2, 3, 8, 8).long(), ValueError, "takes float32", False)


def test_samples_before_steps_are_warned_of(recwarn: pytest.WarningsRecorder) -> None:
    """An input [N, T, ...] instead of [T, N, ...] gives a warning where the sizes show it."""
    model = emit(EVENTS)
    steps = model.signature.steps
    for shape in ((steps, 7), (steps, steps), (7, 3), (7, steps)):
        model(torch.rand(*shape, 2, 8, 8))
        expected = shape == (7, steps)
        assert len(recwarn) == expected, shape
    said = recwarn.pop(RuntimeWarning)
    assert f"the model has T = {steps}, the input T = 7" in str(said.message)
    assert "as from x.transpose(0, 1)" in str(said.message)
    assert said.filename == __file__
    with pytest.raises(ValueError, match=r"of T = 3 time steps, not of 7: .*may be \[N, T, ...\]"):
        emit(TIMED)(torch.rand(7, 3, 3, 8, 8))


def test_hooks_may_prepare_the_input() -> None:
    """The hooks of FSDP and accelerate move the input to the device that they compute on."""
    model = emit(STATIC)
    handle = model.register_forward_pre_hook(lambda module, args: (args[0].float() / 255,))
    assert model(ONES.byte()).shape == (2, 5)
    handle.remove()
    ours(model, ONES.byte(), ValueError, BYTES, False)
    for arguments in ((), (ONES, ONES)):  # wrong numbers of arguments are left to Python
        with pytest.raises(TypeError, match="forward"):
            model(*arguments)


def test_a_summary_prints_and_has_its_facts() -> None:
    model = danetc.build("danet_c_small", backend="eager")
    found = model.summary()
    assert found.parameters == sum(each.numel() for each in model.parameters())
    assert f"parameters  {found.parameters:,}" in str(found)
    assert str(found).count("densely_additive") == 3


# -- model.py --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("shape", "message"), SHAPES)
def test_model_py_says_so_too(shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=BOTH + message.removesuffix("$")):
        standalone(emit_python(STATIC), "net")(torch.zeros(shape))


# -- numbers --------------------------------------------------------------------------------------

BOUNDED = text(small("stage(basic(4), 1) via sew", input="events(2, 8, 8, bound = 2)"))


@pytest.mark.parametrize("backend", ["eager", "fused"])
@pytest.mark.parametrize(
    ("value", "held"), [(3.0, "3"), (-1.0, "-1"), (0.5, "0.5"), (float("nan"), "nan")]
)
def test_what_the_spec_promises_of_the_input_is_held(backend: str, value: float, held: str) -> None:
    """Frames are packed into two bits here, which would change other values."""
    model = emit(BOUNDED, 0, backend)
    x = torch.randint(0, 3, (3, 2, 2, 8, 8)).float()
    assert model(x).isfinite().all()
    x[1, 0, 1, 2, 3] = value
    with pytest.raises(DataError, match=rf"`bound = 2`.* holds {held}; change the bound"):
        model(x)
