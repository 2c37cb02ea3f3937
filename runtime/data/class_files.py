"""The files of a folder of class folders, and a fingerprint of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from danetc.runtime.data.arrays import held_out
from danetc.runtime.data.files import Files, Strings
from danetc.runtime.data.source import DataSet, Source, facts_fingerprint
from danetc.runtime.sources.folders import EXTENSIONS, ClassFolders, without_files
from danetc.runtime.sources.request import DataRequest
from danetc.runtime.system.errors import DataError

_SIZED = 1000  # files whose sizes go into the fingerprint: asking for a million takes minutes


def class_files(split: Path, classes: Sequence[str], what: str) -> tuple[Strings, Tensor]:
    """All images or recordings as paths below ``split``, and their classes, in a fixed order.

    Raises DataError where a class has none.
    """
    from torchvision.datasets.folder import make_dataset

    table = {name: number for number, name in enumerate(classes)}
    found = make_dataset(str(split), table, extensions=EXTENSIONS[what], allow_empty=True)
    labels = torch.tensor([label for _, label in found], dtype=torch.int64)
    counts = labels.bincount(minlength=len(classes))
    if not counts.all():
        raise without_files(split / classes[int(counts.argmin())], what)
    below = f"{split}{os.sep}"
    names = (path.removeprefix(below).replace(os.sep, "/") for path, _ in found)
    return Strings(names), labels


def files_fingerprint(
    classes: Sequence[str], *parts: tuple[Path, Strings, Tensor], share: float | None = None
) -> str:
    """Of all names and labels, of the sizes of files evenly spread over them, and of the share of them
    that is held out.
    """
    facts: list[object] = [tuple(classes), *([] if share is None else [share])]
    for root, names, labels in parts:
        counts: object = labels.tolist() if labels.dim() > 1 else labels.bincount().tolist()
        facts += [names.digest(), counts]
        try:
            facts += [
                (root / names[index]).stat().st_size
                for index in range(0, len(names), max(1, len(names) // _SIZED))
            ]
        except OSError as error:
            raise DataError(f"{error.filename} cannot be read: {error.strerror}") from error
    return facts_fingerprint(facts)


def class_folder_set(
    request: DataRequest,
    found: ClassFolders,
    train: tuple[Strings, Tensor],
    what: str,
    make: Callable[[Strings, Tensor, Path], Files],
    **facts: Any,
) -> DataSet:
    """A data set of two folders of class folders, of which ``train`` is read already.

    ``make`` makes a source of files, their classes and the folder that they are below; ``facts`` are
    further fields. Raises DataError.
    """
    test = class_files(found.test, found.classes, what)
    first = make(*train, found.train)
    if found.share is None:
        sides: tuple[Source, Source] = first, make(*test, found.test)
    else:
        sides = held_out(first, found.share)
    return DataSet(
        text=request.text,
        class_names=found.classes,
        train=sides[0],
        test=sides[1],
        fingerprint=files_fingerprint(
            found.classes, (found.train, *train), (found.test, *test), share=found.share
        ),
        **facts,
    )
