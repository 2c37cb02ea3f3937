"""Samples of data as a picture."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, islice
from typing import TYPE_CHECKING

import torch
from PIL import ImageDraw
from torch.nn import functional as F
from torchvision.transforms.functional import to_pil_image
from torchvision.utils import make_grid

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

SIDE, GAP = 96, 16
"""Smallest number of pixels of a sample's longer side, and the gap for labels."""
COLUMNS, FRAMES, RECORDINGS = 8, 6, 2
"""Images in a row, frames of a recording, and recordings of a class."""


@dataclass(frozen=True, eq=False)
class ShownSample:
    """A sample as a network sees it: an image [C, H, W] or frames [T, C, H, W], its label, and the
    classes of its pixels if it has them.
    """

    image: Tensor
    label: str
    mask: Tensor | None = None


def picture(samples: Sequence[ShownSample]) -> Image:
    """Return all samples, each with its label below. A recording has a row, its frames from left to right.

    Values from 0 to 1 are shown as they are, others from the smallest (black) to the largest (white).
    Red counts events of polarity 1, blue those of 0. Classes of pixels are colours beside the image.
    """
    low = min(0.0, *(float(each.image.min()) for each in samples))
    high = max(1.0, *(float(each.image.max()) for each in samples))
    if samples[0].image.dim() == 4:
        groups = groupby(samples, key=lambda each: each.label)
        samples = [each for _, group in groups for each in islice(group, RECORDINGS)]
    parts = [list(_parts(each, low, high)) for each in samples]
    across = len(parts[0])
    height, width = parts[0][0].shape[1:]
    scale = max(1, -(-SIDE // max(height, width)))
    size = [height * scale, width * scale]
    cells = [F.interpolate(part[None], size)[0] for each in parts for part in each]
    columns = across * max(1, COLUMNS // across)
    grid = make_grid(torch.stack(cells), columns, padding=GAP, pad_value=1)
    image: Image = to_pil_image((255 * grid).round().byte())
    draw = ImageDraw.Draw(image)
    for number, each in enumerate(samples):
        row, column = divmod(number * across, columns)
        text = each.label.encode("ascii", "replace").decode()[: across * size[1] // 6]
        place = GAP + column * (size[1] + GAP), (row + 1) * (size[0] + GAP)
        draw.text(place, text, fill="black")
    return image


def _parts(sample: ShownSample, low: float, high: float) -> Iterator[Tensor]:
    """Yield the images of a sample, [3, H, W] from 0 to 1."""
    events = sample.image.dim() == 4
    for image in sample.image[:FRAMES] if events else [sample.image]:
        values = (image.float() - low) / (high - low)
        if values.shape[1:] == (1, 1):  # features, as a row
            values = values.reshape(1, 1, -1)
        if len(values) == 2:
            off, on = values
            values = torch.stack([on, torch.zeros_like(on), off])
        yield values[:3] if len(values) >= 3 else values[:1].expand(3, -1, -1)
    if sample.mask is not None:
        dice = torch.Generator().manual_seed(0)
        colours = torch.rand(int(sample.mask.max()) + 2, 3, generator=dice)
        yield colours[sample.mask + 1].permute(2, 0, 1)
