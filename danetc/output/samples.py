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

CELL = 96
"""Pixels of a sample's larger side, at least."""
_LARGEST = 192
_COLUMNS = 8
_TEXT = 14
_GAP = 6
_FRAMES = 6
"""Frames of a recording that are shown."""
_CHARACTERS = 16
"""Of a label below a sample."""


@dataclass(frozen=True, eq=False)
class ShownSample:
    """A sample as a network sees it: an image [C, H, W] or frames [T, C, H, W], what it is called,
    and the classes of its pixels, where it has them.
    """

    image: Tensor
    label: str
    mask: Tensor | None = None


def picture(samples: Sequence[ShownSample]) -> Image.Image:
    """All samples, those of one class side by side; frames of events from left to right.

    Values from 0 to 1 are shown as they are; others from the smallest (black) to the largest (white).
    Of events, red counts those of polarity 1, blue those of 0.
    """
    low, high = _range(samples)
    cells = [[(_cell(each, low, high), each.label) for each in row] for row in _rows(samples)]
    width = max(cell.width for row in cells for cell, _ in row)
    height = max(cell.height for row in cells for cell, _ in row)
    columns = max(map(len, cells))
    whole = Image.new(
        "RGB",
        (columns * (width + _GAP) + _GAP, len(cells) * (height + _TEXT + _GAP) + _GAP),
        "white",
    )
    draw = ImageDraw.Draw(whole)
    for down, row in enumerate(cells):
        for across, (cell, label) in enumerate(row):
            x, y = _GAP + across * (width + _GAP), _GAP + down * (height + _TEXT + _GAP)
            whole.paste(cell, (x, y))
            fits = max(4, min(_CHARACTERS, width // 6))
            text = label if len(label) <= fits else f"{label[: fits - 3]}..."
            draw.text((x, y + height + 1), text.encode("ascii", "replace").decode(), fill="black")
    return whole


def _rows(samples: Sequence[ShownSample]) -> Iterator[list[ShownSample]]:
    """At most so many in a row, and of one class each where each class has some."""
    groups = [list(group) for _, group in groupby(samples, key=lambda each: each.label)]
    if len(groups) > len(samples) // 2 and len(groups) > 1:  # numbers, mixed classes
        groups = [list(samples)]
    columns = _COLUMNS if samples[0].image.dim() == 3 else 2
    for group in groups:
        for start in range(0, len(group), columns):
            yield group[start : start + columns]
            if samples[0].image.dim() == 4:
                break  # one row of recordings for each class


def _range(samples: Sequence[ShownSample]) -> tuple[float, float]:
    low = min(float(each.image.min()) for each in samples)
    high = max(float(each.image.max()) for each in samples)
    if low >= 0 and high <= 1:
        return 0.0, 1.0
    return low, high if high > low else low + 1


def _cell(sample: ShownSample, low: float, high: float) -> Image.Image:
    image = sample.image
    parts = list(image[:_FRAMES]) if image.dim() == 4 else [image]
    pictures = [_pixels(each, low, high, events=image.dim() == 4) for each in parts]
    if sample.mask is not None:
        pictures.append(_classes(sample.mask))
    side = max(pictures[0].shape[:2])
    scale = max(1, -(-CELL // side))
    found = [_scaled(each, scale) for each in pictures]
    whole = Image.new("RGB", (sum(each.width + 2 for each in found) - 2, found[0].height), "white")
    x = 0
    for each in found:
        whole.paste(each, (x, 0))
        x += each.width + 2
    return whole


def _scaled(pixels: np.ndarray, scale: int) -> Image.Image:
    image = Image.fromarray(pixels)
    size = (image.width * scale, image.height * scale)
    if max(size) > _LARGEST:
        share = _LARGEST / max(size)
        return image.resize((max(1, int(size[0] * share)), max(1, int(size[1] * share))))
    return image.resize(size, Image.Resampling.NEAREST)


def _pixels(image: Tensor, low: float, high: float, *, events: bool) -> np.ndarray:
    """[C, H, W] as bytes [H, W, 3]."""
    values = ((image.double() - low) / (high - low)).clamp(0, 1)
    if values.shape[1:] == (1, 1):  # features, as a square
        count = len(values)
        side = int(np.ceil(count**0.5))
        flat = np.zeros(side * side)
        flat[:count] = values.flatten().numpy()
        grey = flat.reshape(side, side)
        rows = [grey, grey, grey]
    elif len(values) == 1:
        rows = [values[0].numpy()] * 3
    elif len(values) == 2:
        off, on = (each.numpy() for each in values)
        rows = [on, np.zeros_like(on), off] if events else [on, off, np.zeros_like(on)]
    else:
        rows = [each.numpy() for each in values[:3]]
    return np.ascontiguousarray((np.stack(rows, -1) * 255).round().astype(np.uint8))


_COLOURS = np.array(
    [(40, 40, 40), (230, 97, 1), (94, 60, 153), (27, 158, 119), (231, 41, 138), (102, 166, 30),
     (230, 171, 2), (31, 120, 180), (178, 223, 138), (166, 118, 29)], np.uint8,
)  # fmt: skip


def _classes(mask: Tensor) -> np.ndarray:
    """Classes of pixels [H, W] as colours; those of no class are white."""
    found = _COLOURS[mask.clamp(min=0).numpy() % len(_COLOURS)]
    found[mask.numpy() < 0] = 255
    return np.ascontiguousarray(found)


def in_terminal(image: Image.Image, width: int) -> Iterator[list[tuple[str, str]]]:
    """A picture as lines of half blocks, each with its two colours as ``#RRGGBB on #RRGGBB``."""
    share = min(1.0, width / image.width)
    size = (max(1, int(image.width * share)), max(2, int(image.height * share) // 2 * 2))
    pixels = np.asarray(image.resize(size, Image.Resampling.BOX))
    for upper, lower in zip(pixels[::2], pixels[1::2], strict=True):
        yield [
            ("▀", f"#{a[0]:02x}{a[1]:02x}{a[2]:02x} on #{b[0]:02x}{b[1]:02x}{b[2]:02x}")
            for a, b in zip(upper.tolist(), lower.tolist(), strict=True)
        ]
