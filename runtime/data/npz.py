"""``npz:FILE``: arrays by name, as numpy.savez writes them."""

from __future__ import annotations

from pathlib import Path

from danetc.runtime.data.arrays import ArraySplit, Reading, array_set, texts_of
from danetc.runtime.data.files import read_numpy
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
    arrays = read_numpy(str(path), lambda names: wanted)
    if not isinstance(arrays, dict):
        raise DataError(f"{path} cannot be read: it is no file of numpy.savez")

    def part(names: tuple[str, str]) -> ArraySplit:
        shown = (f"`{names[0]}` of {path}", f"`{names[1]}` of {path}")
        return ArraySplit(arrays[names[0]], arrays[names[1]], shown)

    classes = class_list(asked.get("classes"))
    if not classes and roles.classes is not None:
        found = arrays[roles.classes]
        if found.ndim == 1 and found.dtype.kind in "US":
            classes = tuple(texts_of(found, f"`{roles.classes}` of {path}"))
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
