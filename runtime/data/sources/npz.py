"""``npz:FILE``: named arrays, as numpy.savez writes them."""

from __future__ import annotations

import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from danetc.runtime.data.array_names import Roles, roles
from danetc.runtime.data.request import DataRequest, DataSource, existing
from danetc.runtime.system.errors import DataError


def _look(request: DataRequest) -> tuple[Path, Roles]:
    """Return the file and the roles of its arrays, by their names."""
    holds = "arrays of images and labels, such as x_train, y_train, x_test and y_test"
    path = existing(request.place, "npz:FILE", holds)
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name.removesuffix(".npy") for name in archive.namelist()]
    except (zipfile.BadZipFile, OSError) as error:
        reason = getattr(error, "strerror", None) or "it is not a file of numpy.savez"
        raise DataError(f"{path} cannot be read: {reason}") from error
    return path, roles(names, request, str(path))


def _open(request: DataRequest, found: tuple[Path, Roles]) -> Any:
    from danetc.runtime.data.arrays import texts_of
    from danetc.runtime.data.files import read_numpy
    from danetc.runtime.data.own import Arrays, own_set

    path, named = found
    wanted = [*named.train, *(named.test or ()), *filter(None, [named.classes])]
    arrays = read_numpy(str(path), lambda names: wanted)
    if not isinstance(arrays, dict):
        raise DataError(f"{path} cannot be read: it is not a file of numpy.savez")

    def side(x: str, y: str) -> Arrays:
        return Arrays(arrays[x], arrays[y], f"`{x}` of {path}", f"`{y}` of {path}")

    classes: tuple[str, ...] = ()
    if named.classes is not None and not request.classes:
        texts = arrays[named.classes]
        if texts.ndim == 1 and texts.dtype.kind in "US":
            classes = tuple(texts_of(texts, f"`{named.classes}` of {path}"))
    train, test = side(*named.train), named.test and side(*named.test)
    data = own_set(request, train, test, path.name, classes=classes)
    if not named.unused:
        return data
    notice = f"{path.name}: the arrays {', '.join(named.unused)} are not used"
    return replace(data, notices=(notice,))


SOURCE = DataSource(
    "npz",
    "npz:FILE",
    "arrays by name, x_train, y_train, x_test, y_test; FILE.npz alone means it too",
    _look,
    _open,
    ("train", "test", "classes", "targets", "layout"),
    ".npz",
)
