"""``masks:DIR``: images and maps of the classes of their pixels, side by side in folders."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from danetc.dsl.diagnostics.diagnostic import did_you_mean
from danetc.runtime.sources.folders import (
    EXTENSIONS,
    IMAGE_FOLDERS,
    IMAGES,
    MASK_FOLDERS,
    TEST_NAMES,
)
from danetc.runtime.sources.options import Placed, class_list, placed
from danetc.runtime.sources.places import existing
from danetc.runtime.system.errors import DataError

KNOWN = ("train", "test", "classes", "values", "image", "label")
USAGE = "train/images/ and train/masks/, and the same below val; or images/train/ and masks/train/"
_MASK = "_mask"
"""What may stand behind the name of an image in that of its mask."""
_LARGEST = 65_535


@dataclass(frozen=True, slots=True)
class Pairs:
    """Files of images below ``images``, and of their masks below ``masks``, in the same order."""

    images: Path
    masks: Path
    files: tuple[tuple[str, str], ...]
    unused: int
    """Masks of no image."""


@dataclass(frozen=True, slots=True)
class MaskFolders:
    """What there is to train on, and to test on: None where a share of the first is held out.

    ``values`` are those of the pixels of each class, () where they are the classes' numbers.
    """

    train: Pairs
    test: Pairs | None
    share: float | None
    classes: tuple[str, ...]
    values: tuple[int, ...]


def mask_folders(text: str) -> MaskFolders:
    """Those of ``masks:DIR``, with options behind. Raises DataError where they are not so."""
    asked = placed(text, "masks", KNOWN)
    root = existing(asked.place, "masks", USAGE)
    classes, values = class_list(asked.get("classes")), _values(asked)
    if classes and values and len(classes) != len(values):
        raise DataError(
            f"`classes` names {len(classes)} classes, and `values` has {len(values)}; give one value "
            "for each class"
        )
    if asked.share is not None:
        sides = _folders(root, asked.get("train") or "train", asked) or _side_by_side(root, asked)
        if sides is None:
            raise _missing(root, asked, "train")
        return MaskFolders(_pairs(*sides), None, asked.share, classes, values)
    found = []
    for option, usual in (("train", ("train",)), ("test", TEST_NAMES)):
        given = asked.get(option)
        names = (given,) if given is not None else usual
        both = next(filter(None, (_folders(root, name, asked) for name in names)), None)
        if both is None:
            raise _missing(root, asked, names[0])
        found.append(_pairs(*both))
    return MaskFolders(found[0], found[1], None, classes, values)


def _values(asked: Placed) -> tuple[int, ...]:
    texts = asked.several("values")
    if not all(text.isdecimal() and int(text) <= _LARGEST for text in texts):
        raise DataError(
            f"the option `values` is `{asked.get('values')}`; it has the value of each class's pixels, "
            "as in 0;255"
        )
    values = tuple(map(int, texts))
    if asked.get("values") is not None and (len(values) < 2 or len({*values}) < len(values)):
        raise DataError("the option `values` needs two values or more, each once")
    return values


def _folders(root: Path, split: str, asked: Placed) -> tuple[Path, Path] | None:
    """The folders of a split: of images and masks in one of the split, or the other way round."""
    inside = _side_by_side(root / split, asked)
    if inside is not None:
        return inside
    both = _side_by_side(root, asked)
    if both is None or not all((each / split).is_dir() for each in both):
        return None
    return both[0] / split, both[1] / split


def _side_by_side(root: Path, asked: Placed) -> tuple[Path, Path] | None:
    """The folder of images and that of masks."""
    found = []
    for option, usual in (("image", IMAGE_FOLDERS), ("label", MASK_FOLDERS)):
        given = asked.get(option)
        names = (given,) if given is not None else usual
        found.append(next((root / name for name in names if (root / name).is_dir()), None))
    images, masks = found
    return None if images is None or masks is None else (images, masks)


def _missing(root: Path, asked: Placed, split: str) -> DataError:
    there = sorted(each.name for each in root.iterdir() if each.is_dir())
    listed = f"it has {', '.join(there[:8])}" if there else "it has no folders"
    known = [*asked.options.values(), split, IMAGE_FOLDERS[0], MASK_FOLDERS[0]]
    guesses = (did_you_mean(name, there) for name in known if name not in there)
    hint = next(filter(None, guesses), None)
    return DataError(
        f"{root} has no images and masks of the split `{split}`"
        + (f"; {hint}" if hint else "")
        + f" ({listed}; masks:DIR takes {USAGE}; other names: ,image=NAME,label=NAME,train=NAME,test=NAME; "
        "a share to test on: ,test=0.2)"
    )


def _pairs(images: Path, masks: Path) -> Pairs:
    """Each image with the mask of its name. Raises DataError where one has none."""
    there = {_key(name): name for name in _files(masks)}
    plain = {name.removesuffix(_MASK): file for name, file in there.items()}
    found: list[tuple[str, str]] = []
    without: list[str] = []
    for name in _files(images):
        mask = there.get(_key(name)) or plain.get(_key(name))
        if mask is None:
            without.append(name)
        else:
            found.append((name, mask))
    if without:
        raise DataError(
            f"{images / without[0]} has no mask {masks / _key(without[0])}.png "
            f"({len(without)} of {len(without) + len(found)} images have none)"
        )
    if not found:
        raise DataError(f"{images} holds no images ({', '.join(EXTENSIONS[IMAGES])})")
    return Pairs(images, masks, tuple(found), len(there) - len({mask for _, mask in found}))


def _key(name: str) -> str:
    return name[: name.rindex(".")]


def _files(folder: Path) -> Sequence[str]:
    """All images below a folder, as paths from there, in the order of their names."""
    return sorted(_below(folder))


def _below(folder: Path) -> Iterator[str]:
    for place, _, names in os.walk(folder, followlinks=True):
        for name in names:
            if name.lower().endswith(EXTENSIONS[IMAGES]):
                yield Path(place, name).relative_to(folder).as_posix()
