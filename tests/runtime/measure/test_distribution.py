"""Gathered distributions against numpy."""

from __future__ import annotations

import numpy
import pytest
import torch

from danetc.runtime.measure.distribution import Gathered, densities


def gathered(parts: list[torch.Tensor], reach: float | None = None, bins: int = 40):  # type: ignore[no-untyped-def]
    found = Gathered(reach, bins)
    for part in parts:
        found.add(part)
    return found.result()


def test_moments_do_not_depend_on_the_parts() -> None:
    generator = torch.Generator().manual_seed(0)
    x = 100 + torch.randn(3000, generator=generator).exp()  # skewed, far from 0
    parts = list(x.view(3, 2, 500))
    parts[1] = parts[1] + 5
    whole = torch.stack(parts).double().numpy().ravel()
    found = gathered(parts)
    assert found.count == 3000
    assert found.mean == pytest.approx(whole.mean(), rel=1e-12)
    assert found.std == pytest.approx(whole.std(), rel=1e-9)
    assert (found.least, found.most) == (whole.min(), whole.max())
    assert found.histogram is None


def test_a_histogram_has_all_values() -> None:
    x = torch.randn(5000, generator=torch.Generator().manual_seed(0)).double()
    found = gathered([x], reach=1.5).histogram
    counts, edges = numpy.histogram(x.float().numpy(), 40, (-1.5, 1.5))
    assert found.edges() == pytest.approx(edges.tolist())
    assert found.shares == pytest.approx((counts / 5000).tolist(), abs=5e-4)
    assert found.below == pytest.approx(float((x < -1.5).double().mean()))
    assert found.above == pytest.approx(float((x > 1.5).double().mean()))


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
