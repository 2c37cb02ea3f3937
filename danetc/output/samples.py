"""Samples of data as a picture: a row for each class. Needs Pillow alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw

if TYPE_CHECKING:
    from torch import Tensor

CELL, LARGEST = 96, 192
"""Smallest and largest number of pixels of a sample's longer side."""
COLUMNS, FRAMES = 8, 6
"""Images in a row, and frames of a recording."""
CHARACTERS, TEXT, GAP = 16, 14, 6
"""Length of a label below a sample, the height of its line, and the gap between cells."""
COLOURS = np.array(
    [(40, 40, 40), (230, 97, 1), (94, 60, 153), (27, 158, 119), (231, 41, 138), (102, 166, 30),
     (230, 171, 2), (31, 120, 180), (178, 223, 138), (166, 118, 29)], np.uint8,
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class ShownSample:
    """A sample as a network sees it: an image [C, H, W] or frames [T, C, H, W], its label, and the
    classes of its pixels if it has them.
    """

    image: Tensor
    label: str
    mask: Tensor | None = None


def picture(samples: Sequence[ShownSample]) -> Image.Image:
    """Return all samples, those of one class side by side; frames of events from left to right.

    Values from 0 to 1 are shown as they are, others from the smallest (black) to the largest (white).
    Red counts events of polarity 1, blue those of 0.
    """
    low = min(float(each.image.min()) for each in samples)
    high = max(float(each.image.max()) for each in samples)
    if low >= 0 and high <= 1:
        low, high = 0.0, 1.0
    cells = [
        [(_cell(each, low, high if high > low else low + 1), each.label) for each in row]
        for row in _rows(samples)
    ]
    width = max(cell.width for row in cells for cell, _ in row)
    height = max(cell.height for row in cells for cell, _ in row)
    across, down = width + GAP, height + TEXT + GAP
    size = (max(map(len, cells)) * across + GAP, len(cells) * down + GAP)
    whole = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(whole)
    fits = max(4, min(CHARACTERS, width // 6))
    for y, row in enumerate(cells):
        for x, (cell, label) in enumerate(row):
            place = GAP + x * across, GAP + y * down
            whole.paste(cell, place)
            text = label if len(label) <= fits else f"{label[: fits - 3]}..."
            below = place[0], place[1] + height + 1
            draw.text(below, text.encode("ascii", "replace").decode(), fill="black")
    return whole


def _rows(samples: Sequence[ShownSample]) -> Iterator[list[ShownSample]]:
    """Yield the rows of the picture, each of a single class if most classes have several samples."""
    groups = [list(group) for _, group in groupby(samples, key=lambda each: each.label)]
    if len(groups) > len(samples) // 2 and len(groups) > 1:  # numbers, mixed classes
        groups = [list(samples)]
    recordings = samples[0].image.dim() == 4
    columns = 2 if recordings else COLUMNS
    for group in groups:
        for start in range(0, columns if recordings else len(group), columns):
            yield group[start : start + columns]


def _cell(sample: ShownSample, low: float, high: float) -> Image.Image:
    """Return the frames of a sample side by side, and the classes of its pixels."""
    events = sample.image.dim() == 4
    parts = list(sample.image[:FRAMES]) if events else [sample.image]
    pixels = [_pixels(each, low, high, events=events) for each in parts]
    if sample.mask is not None:
        classes = sample.mask.numpy()
        pixels.append(np.where(classes[..., None] < 0, 255, COLOURS[classes % len(COLOURS)]))
    image = Image.fromarray(np.concatenate(pixels, axis=1).astype(np.uint8))
    scale = max(1, -(-CELL // max(pixels[0].shape[:2])))
    whole = image.resize((image.width * scale, image.height * scale), Image.Resampling.NEAREST)
    whole.thumbnail((LARGEST * len(pixels), LARGEST))
    return whole


def _pixels(image: Tensor, low: float, high: float, *, events: bool) -> np.ndarray:
    """Return [C, H, W] as bytes [H, W, 3]."""
    values = ((image.double() - low) / (high - low)).clamp(0, 1).numpy()
    if values.shape[1:] == (1, 1):  # features, as a square
        side = int(np.ceil(len(values) ** 0.5))
        values = np.pad(values.ravel(), (0, side * side - len(values))).reshape(1, side, side)
    if len(values) == 1:
        values = values.repeat(3, 0)
    elif len(values) == 2:
        off, on = values
        nothing = np.zeros_like(on)
        values = np.stack([on, nothing, off] if events else [on, off, nothing])
    rgb: np.ndarray = (values[:3].transpose(1, 2, 0) * 255).round().astype(np.uint8)
    return rgb
