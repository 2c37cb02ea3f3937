"""``npz:FILE``: arrays by name, as numpy.savez writes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from danetc.runtime.data.arrays import ArraySplit, Reading, array_set
from danetc.runtime.data.files import NumpyError, numpy_file
from danetc.runtime.data.source import DataSet
from danetc.runtime.sources.arrays import npz_place
from danetc.runtime.sources.options import class_list
from danetc.runtime.sources.request import DataRequest
from danetc.runtime.system.errors import DataError


def open_source(request: DataRequest) -> DataSet:
    """Images and labels by the names of their arrays: x_train and y_train, train_images and
    train_labels, or as the options ``train`` and ``test`` say. Raises DataError.
    """
    asked, roles = npz_place(request.argument)
    path = Path(asked.place).expanduser()
    wanted = [*roles.train, *(roles.test or ())] + ([roles.classes] if roles.classes else [])
    arrays = _load(path, wanted)

    def part(names: tuple[str, str]) -> ArraySplit:
        shown = (f"`{names[0]}` of {path}", f"`{names[1]}` of {path}")
        return ArraySplit(arrays[names[0]], arrays[names[1]], shown)

    classes = class_list(asked.get("classes"))
    if not classes and roles.classes is not None:
        found = arrays[roles.classes]
        classes = tuple(map(str, found)) if found.ndim == 1 and found.dtype.kind in "US" else ()
    notices: tuple[str, ...] = ()
    if roles.unused:
        notices = (f"{path.name}: the arrays {', '.join(roles.unused)} are not used",)
    share = asked.share
    return array_set(
        request,
        part(roles.train),
        share if roles.test is None and share is not None else part(roles.test or roles.train),
        Reading(asked.get("layout"), asked.get("targets"), classes),
        name=path.name,
        notices=notices,
    )


def _load(path: Path, names: list[str]) -> dict[str, Any]:
    """These arrays of a file. Raises DataError; nothing is unpickled."""
    found = {}
    name = ""
    try:
        with numpy_file(str(path)) as arrays:
            for name in names:
                found[name] = arrays[name]
    except NumpyError as error:
        raise DataError(f"`{name}` of {path} cannot be read: {error}") from error
    return found
