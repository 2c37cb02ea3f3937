"""Packing is exact for every bound, sign, unit, size, dtype and layout."""

from unittest.mock import Mock, call

import pytest
import torch

from danetc.dsl.kinds import ANALOG, SPIKE, Kind, count
from danetc.runtime.kernels import bit_packing
from danetc.runtime.kernels.bit_packing import SavedTensor, pack, save_slices, unpack

DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.uint8, torch.int64)


def whole(bound: int, *shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, bound + 1, shape, generator=generator).to(dtype)


@pytest.mark.parametrize("bound", range(1, 256))
def test_every_value_of_every_bound(bound: int) -> None:
    kind, bits = count(bound), count(bound).bits
    assert 2 ** (bits - 1) <= bound < 2**bits
    values = torch.arange(bound + 1)
    for dtype in DTYPES:
        x = values.to(dtype)
        assert torch.equal(x.long(), values), "the dtype itself holds the values"
        packed, _ = pack(x, kind)
        assert packed.dtype == torch.uint8
        assert packed.shape == (bits, (bound + 8) // 8)
        assert torch.equal(unpack(packed, x.shape, dtype, kind, x.stride()), x)


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [
        (Kind(1000, 1001, 1.0), torch.bfloat16),
        (Kind(-300, 0, 1.0), torch.bfloat16),
        (Kind(0, 4000, 1.0), torch.float16),
        (Kind(0, 1, 2.0**20), torch.float16),
        (Kind(0, 1, 2.0**-20), torch.float16),
        (Kind(0, 1, 2.0**-140), torch.float32),
    ],
)
def test_no_packing_of_what_a_precision_does_not_have(kind: Kind, dtype: torch.dtype) -> None:
    """The dtype lacks these values, or has them only as subnormals, which some machines flush to 0."""
    assert kind.bits == 0
    assert not kind.is_exact(str(dtype).removeprefix("torch."))
    exact = torch.arange(kind.low, kind.high + 1).double() * kind.unit
    there = exact.to(dtype).double()
    assert (there != exact).any() or there[there > 0].min() < torch.finfo(dtype).tiny


def test_packed_once_for_all_views() -> None:
    """The convolution and the fusion group that read a neuron's output share its packed copy."""
    x = whole(1, 2, 3, 4)
    first = SavedTensor(x, SPIKE).save(x)
    flat = x.flatten(0, 1)
    assert SavedTensor(flat, SPIKE).save(flat) is first
    part = x[1:]
    other = SavedTensor(part, SPIKE).save(part)
    assert other is not first
    assert torch.equal(unpack(other, part.shape, part.dtype, SPIKE, part.stride()), part)
    x.fill_(1)  # a changed tensor is packed again
    again = SavedTensor(x, SPIKE).save(x)
    assert again is not first
    assert unpack(again, x.shape, x.dtype, SPIKE, x.stride()).eq(1).all()


def test_what_is_joined_is_kept_as_its_parts() -> None:
    """Nested joins save each part once. A changed result is saved whole, or packed if its kind has bits."""
    a, b, c = (torch.randn(2, 3, channels, 4, 4) for channels in (1, 2, 3))
    ab = torch.cat([a, b], -3)
    save_slices(ab, [a, b], -3)
    abc = torch.cat([ab, c], -3)
    save_slices(abc, [ab, c], -3)
    for x in (abc, abc.flatten(0, 1)):
        kept = SavedTensor(x, ANALOG)
        parts = kept.split(x)
        assert [part.data_ptr() for part in parts] == [t.data_ptr() for t in (a, b, c)]
        assert torch.equal(kept.join(parts), x)
        assert kept.join(parts).shape == x.shape
    part = SavedTensor(abc[:1], ANALOG)
    assert len(part.split(abc[:1])) == 1
    abc += 1
    kept = SavedTensor(abc, ANALOG)
    (alone,) = kept.split(abc)
    assert kept.join([alone]) is abc
    ab.zero_()
    kept = SavedTensor(ab, SPIKE)
    assert torch.equal(kept.join(kept.split(ab)), ab)


@pytest.mark.usefixtures("compiling")
def test_packing_runs_in_cpp(monkeypatch: pytest.MonkeyPatch) -> None:
    if bit_packing._native("pack") is None:
        pytest.skip("there is no library here")
    native = Mock(side_effect=bit_packing._native)
    monkeypatch.setattr(bit_packing, "_native", native)
    monkeypatch.setattr(bit_packing, "_packing", lambda *args: pytest.fail("torch has packed"))
    x = whole(1, 2, 3)
    kept = SavedTensor(x, SPIKE)
    assert torch.equal(kept.restore(kept.save(x)), x)
    native.assert_has_calls([call("pack"), call("unpack")], any_order=True)


@pytest.mark.usefixtures("compiling")
@pytest.mark.parametrize("count", [8, 61, 64, 70_000, 70_001])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("value", [0.0, -0.0, 1.0, 1e-6, 1 - 1e-6, 0.5, -1.0, 2.0, float("nan")])
def test_spikes_are_packed_in_cpp_as_by_torch(
    count: int, dtype: torch.dtype, value: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Values within rounding of 0 and 1 are included, at three places."""
    for place in (0, count // 3, count - 1):
        x = whole(1, count, dtype=dtype)
        x[place] = value
        bits, are_spikes = pack(x, SPIKE)
        with monkeypatch.context() as patched:
            patched.setattr("danetc.runtime.kernels.compiled.COMPILE", False)
            expected, expected_flag = pack(x, SPIKE)
        assert are_spikes == expected_flag
        if are_spikes:
            assert torch.equal(bits, expected)


@pytest.mark.parametrize("value", [0.5, -1.0, 2.0, 1e-3, 1e9, float("inf"), float("nan")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("is_compiled", [False, True])
def test_what_is_not_of_the_kind_is_kept_as_it_is(
    value: float, dtype: torch.dtype, is_compiled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such values occur where a hook or another module changes a layer's output."""
    monkeypatch.setattr("danetc.runtime.kernels.compiled.COMPILE", is_compiled)
    x = torch.zeros(3, 7, dtype=dtype)
    for place in ((0, 0), (1, 3), (2, 6)):
        changed = x.clone()
        changed[place] = value
        kept = SavedTensor(changed, SPIKE)
        assert kept.restore(kept.save(changed)) is changed
    kept = SavedTensor(x, SPIKE)
    assert kept.save(x).dtype is torch.uint8
