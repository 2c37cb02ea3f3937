"""``masks:DIR``: images with maps of the classes of their pixels, side by side in folders."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from danetc.dsl.files import open_regular
from danetc.runtime.data.arrays import classes_of_pixels, held_out
from danetc.runtime.data.class_files import files_fingerprint
from danetc.runtime.data.files import Strings
from danetc.runtime.data.folder import ImageFiles
from danetc.runtime.data.images import DECODING, open_image, reason
from danetc.runtime.data.source import DataSet, Source, facts_fingerprint
from danetc.runtime.sources.masks import MaskFolders, Pairs, mask_folders
from danetc.runtime.sources.request import DataRequest, Policy
from danetc.runtime.sources.target import IGNORED
from danetc.runtime.system.errors import DataError, UnreadableError

LOOKED = 8
"""Masks whose values are looked at where names say how many classes there are."""
MANY = 1000
"""Masks that are read in seconds; of more it is said that all were."""
_MODES = ("1", "L", "P", "I", "I;16", "I;16B", "I;16L")
"""Of files with a whole number for each pixel."""


@dataclass(frozen=True, eq=False)
class MaskedImages(ImageFiles):
    """Images [3, H, W], uint8, each with a mask [H, W], int64.

    ``values`` are those of the pixels of each class; other pixels are of none. Without them the value
    is the class, and 255 none.
    """

    pairs: Pairs
    masks: Strings
    values: tuple[int, ...]

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        image, mask = self.read(index), self.mask(index)
        if image.shape[1:] != mask.shape:
            sizes = (" x ".join(map(str, each)) for each in (mask.shape, image.shape[1:]))
            raise UnreadableError(
                f"{self.of_mask(index)} is {next(sizes)}, but its image is {next(sizes)}"
            )
        return image, mask

    def of_mask(self, index: int) -> str:
        return str(self.pairs.masks / self.masks[index])

    def mask(self, index: int) -> Tensor:
        """Raises UnreadableError."""
        pixels = read_mask(self.of_mask(index))
        if not self.values:
            return classes_of_pixels(pixels, self.of_mask(index))
        mask = torch.full_like(pixels, IGNORED)
        for number, value in enumerate(self.values):
            mask[pixels == value] = number
        return mask


def read_mask(where: str) -> Tensor:
    """The values of a file's pixels [H, W], int64: of a palette their numbers. Raises UnreadableError."""
    try:
        with open_regular(where) as stream, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on EXIF data
            with open_image(stream) as image:
                mode, pixels = image.mode, np.asarray(image)
    except DECODING as error:
        raise UnreadableError(f"{where} cannot be read: {reason(error)}") from error
    if mode not in _MODES:
        raise UnreadableError(
            f"{where} is in colour (mode {mode}); a mask has one number for each pixel: grey, or with a "
            "palette"
        )
    return torch.from_numpy(pixels.astype(np.int64))


def open_source(request: DataRequest) -> DataSet:
    """DIR/train/images with DIR/train/masks, and the same of val or test; or DIR/images/train and so on.

    An image and its mask have the same name. Without names of classes, or values, all masks are read
    once to see how many there are. Raises DataError where the folders are not so.
    """
    found = mask_folders(request.argument)
    first = _source(found.train, found, request.policy)
    sources = [first] if found.test is None else [first, _source(found.test, found, request.policy)]
    sides: list[Source] = [*sources]
    if found.share is not None:
        sides = [*held_out(first, found.share, "pixels")]
    names = found.classes or tuple(map(str, range(len(found.values) or _classes(sources))))
    if found.classes and not found.values:
        _classes(sources, LOOKED)
    files = [
        part
        for each in sources
        for part in (
            (each.root, each.names, each.labels),
            (each.pairs.masks, each.masks, each.labels),
        )
    ]
    return DataSet(
        name="masks",
        text=request.text,
        class_names=names,
        train=sides[0],
        test=sides[1],
        shape=None,
        fingerprint=facts_fingerprint(
            (files_fingerprint(names, *files, share=found.share), found.values)
        ),
        target="pixels",
        details={"channels": 3},
        notices=tuple(_notices(sources, found)),
    )


def _source(pairs: Pairs, found: MaskFolders, policy: Policy) -> MaskedImages:
    images, masks = (Strings(column) for column in zip(*pairs.files, strict=True))
    labels = torch.zeros(len(pairs.files), dtype=torch.int64)
    return MaskedImages(images, labels, policy, pairs.images, pairs, masks, found.values)


def _classes(sources: list[MaskedImages], most: int | None = None) -> int:
    """How many classes all masks (or ``most`` of each split) have. Raises DataError."""
    largest, voids = -1, False
    for source in sources:
        for index in range(min(len(source), most or len(source))):
            try:
                mask = source.mask(index)
            except UnreadableError:
                if source.on_unreadable == "stop":
                    raise
                continue
            largest = max(largest, int(mask.max()))
            voids = voids or bool((mask == IGNORED).any())
    if largest < 1:
        what = "0 and 255" if voids and largest == 0 else "no" if largest < 0 else "one value"
        raise DataError(
            f"the masks in {sources[0].pairs.masks} hold {what} alone, and 255 is a pixel of no class; say "
            "which value each class has, as in ,values=0;255"
        )
    return largest + 1


def _notices(sources: list[MaskedImages], found: MaskFolders) -> list[str]:
    notices = []
    count = sum(map(len, sources))
    if count > MANY and not (found.classes or found.values):
        notices.append(
            f"all {count:,} masks were read once for the number of classes; names of them spare that: "
            ",classes=FILE"
        )
    unused = sum(each.pairs.unused for each in sources)
    if unused:
        notices.append(f"{unused} masks in {sources[0].pairs.masks} have no image and are not used")
    return notices
