"""Packing is exact: every bound, size, dtype and layout."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from danetc.runtime.packing import MAX_BITS, Kept, bits_for, note_parts, pack, unpack
from tests.generating import examples

DTYPES = (
    torch.float32,
    torch.float64,
    torch.float16,
    torch.bfloat16,
    torch.uint8,
    torch.int64,
)


def whole(
    bound: int, *shape: int, dtype: torch.dtype = torch.float32, seed: int = 0
) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, bound + 1, shape, generator=generator).to(dtype)


@pytest.mark.parametrize("bound", range(1, 256))
def test_every_value_of_every_bound(bound: int) -> None:
    bits = bits_for(bound)
    assert 2 ** (bits - 1) <= bound < 2**bits
    values = torch.arange(bound + 1)
    for dtype in DTYPES:
        x = values.to(dtype)
        assert torch.equal(x.long(), values), "the dtype itself holds the values"
        packed = pack(x, bits)
        assert packed.dtype == torch.uint8
        assert packed.shape == (bits, (bound + 8) // 8)
        assert torch.equal(unpack(packed, x.shape, dtype), x)


@given(
    values=st.lists(st.integers(0, 255), max_size=70),
    extra=st.integers(0, 3),
    dtype=st.sampled_from(DTYPES),
)
@examples(200)
def test_any_values(values: list[int], extra: int, dtype: torch.dtype) -> None:
    bits = min(MAX_BITS, max([1, *(value.bit_length() for value in values)]) + extra)
    x = torch.tensor(values, dtype=torch.int64).to(dtype)
    packed = pack(x, bits)
    assert packed.numel() == bits * -(-len(values) // 8)
    assert torch.equal(unpack(packed, x.shape, dtype), x)


def test_no_packing_where_it_would_not_pay() -> None:
    assert bits_for(0) == 0
    assert bits_for(255) == MAX_BITS
    assert bits_for(256) == 0


@pytest.mark.parametrize("bound", [1, 5, 255])
def test_any_layout(bound: int) -> None:
    x = whole(bound, 2, 3, 4, 5, 6)
    for form in (
        x,
        x[1],
        x.flatten(0, 1),
        x.flatten(0, 1).to(memory_format=torch.channels_last),
        x.transpose(0, 1),
        x[:, :, :, ::2],
        x[0, :1].expand(3, -1, -1, -1),
    ):
        kept = Kept(form, bits_for(bound))
        assert torch.equal(kept.restore(kept.keep(form)), form)


def test_channels_last_stays_channels_last() -> None:
    x = whole(1, 2, 3, 4, 5).to(memory_format=torch.channels_last)
    kept = Kept(x, 1)
    assert kept.restore(kept.keep(x)).stride() == x.stride()


def test_kept_as_it_is_without_bits() -> None:
    x = torch.randn(3)
    kept = Kept(x, 0)
    assert kept.restore(kept.keep(x)) is x


def test_packed_once_for_all_views() -> None:
    """A neuron's output is packed for the convolution and for the region that reads it."""
    x = whole(1, 2, 3, 4)
    first = Kept(x, 1).keep(x)
    flat = x.flatten(0, 1)
    assert Kept(flat, 1).keep(flat) is first
    part = x[1:]
    other = Kept(part, 1).keep(part)
    assert other is not first
    assert torch.equal(unpack(other, part.shape, part.dtype), part)


def test_packed_again_after_a_change() -> None:
    x = whole(1, 2, 3)
    first = Kept(x, 1).keep(x)
    x.fill_(1)
    second = Kept(x, 1).keep(x)
    assert second is not first
    assert unpack(second, x.shape, x.dtype).eq(1).all()


def test_what_is_joined_is_kept_as_its_parts() -> None:
    """Once, however often it is joined; as it is after a change, and in bits where it has some."""
    a, b, c = (torch.randn(2, 3, channels, 4, 4) for channels in (1, 2, 3))
    ab = torch.cat([a, b], -3)
    note_parts(ab, [a, b], -3)
    abc = torch.cat([ab, c], -3)
    note_parts(abc, [ab, c], -3)
    for x in (abc, abc.flatten(0, 1)):
        kept = Kept(x, 0)
        parts = kept.split(x)
        assert [part.data_ptr() for part in parts] == [t.data_ptr() for t in (a, b, c)]
        assert torch.equal(kept.join(parts), x)
        assert kept.join(parts).shape == x.shape
    part = Kept(abc[:1], 0)
    assert len(part.split(abc[:1])) == 1
    abc += 1
    kept = Kept(abc, 0)
    (alone,) = kept.split(abc)
    assert kept.join([alone]) is abc
    ab.zero_()
    kept = Kept(ab, 1)
    assert torch.equal(kept.join(kept.split(ab)), ab)
