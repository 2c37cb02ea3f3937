"""Files of one's own: ``npz:FILE``, arrays as numpy.savez writes them, whose names say which split they belong to,
and ``tokens:FILE`` and ``tokens:DIR``, texts or the tokens of a text."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Collection
from itertools import chain
from pathlib import Path
from typing import Any

from danetc.dsl.diagnostics.diagnostic import instead
from danetc.runtime.data.request import SPLIT_NAMES, DataRequest, DataSource, existing, reported
from danetc.runtime.system.errors import DataError

_SPLITS = "training|train|validation|valid|val|testing|test"
_ROLE = re.compile(
    rf"(?:(?P<before>{_SPLITS})[\W_]*)?"
    r"(?:(?P<images>images?|x|data|inputs?|features?|frames|samples)|labels?|y|targets?|masks?)"
    rf"(?:[\W_]*(?P<behind>{_SPLITS}))?",
    re.IGNORECASE,
)
_CLASSES = re.compile(r"(class|label|target)_?names?|classes|names|categories", re.IGNORECASE)

_NO_ARCHIVE = "it is not a file of numpy.savez"
Roles = tuple[dict[str, tuple[str, str]], str | None]
"""Names of images and labels for each split (train alone if a share is held out), and of class names."""


def roles(names: Collection[str], request: DataRequest, where: str) -> Roles:
    """Find the roles of arrays by their names; the options ``train`` and ``test`` override them."""
    found: dict[str, dict[bool, str]] = {}
    for name in names:
        match = _ROLE.fullmatch(name)
        if match is not None and not (match["before"] and match["behind"]):
            split = (match["before"] or match["behind"] or "").lower()  # "" without one
            found.setdefault(split, {}).setdefault(match["images"] is not None, name)
    pairs = {split: (each[True], each[False]) for split, each in found.items() if len(each) == 2}
    chosen = {}
    for option, usual in SPLIT_NAMES.items():
        if option == "test" and request.share is not None:
            break
        given = [name.strip() for name in (request.options.get(option) or "").split(";")]
        if len(given) == 1 and pairs:
            names_of = (*usual, *[""] * (option == "train"))
            name = request.chosen(option, names_of, pairs, "images and labels of", where)
            chosen[option] = pairs[name]
            continue
        missing = [name for name in given if name not in names]
        if len(given) != 2 or missing:
            hint = instead("".join(missing[:1]), names, "it holds")
            raise DataError(
                f"{where} needs arrays of images and labels for {option}: ,{option}=IMAGES;LABELS ({hint})"
            )
        chosen[option] = given[0], given[1]
    return chosen, next((name for name in names if _CLASSES.fullmatch(name)), None)


def _look_at_arrays(request: DataRequest) -> tuple[Path, Roles]:
    """Return the file and the roles of its arrays, by their names."""
    holds = "arrays of images and labels, such as x_train, y_train, x_test and y_test"
    path = existing(request.place, "npz:FILE", holds)
    with reported(f"{path} cannot be read", _NO_ARCHIVE), zipfile.ZipFile(path) as archive:
        names = [name.removesuffix(".npy") for name in archive.namelist()]
    return path, roles(names, request, str(path))


def _open_arrays(request: DataRequest, found: tuple[Path, Roles]) -> Any:
    from danetc.runtime.data.arrays import read_numpy, texts_of
    from danetc.runtime.data.own import own_set

    path, (pairs, names) = found
    wanted = [*chain(*pairs.values()), *filter(None, [names])]
    arrays = read_numpy(str(path), lambda there: wanted)
    if not isinstance(arrays, dict):
        raise DataError(f"{path} cannot be read: {_NO_ARCHIVE}")
    classes: tuple[str, ...] = ()
    if names is not None and arrays[names].ndim == 1 and arrays[names].dtype.kind in "US":
        classes = tuple(texts_of(arrays[names], f"`{names}` of {path}"))
    splits = {split: [arrays[each] for each in pair] for split, pair in pairs.items()}
    return own_set(request, {**splits, "class_names": classes}, path.name)


NPZ = DataSource(
    "npz:FILE",
    "NumPy arrays named x_train, y_train, x_test and y_test; also written FILE.npz",
    _look_at_arrays,
    _open_arrays,
    ("train", "test", "classes"),
    ".npz",
)


_HOLDS = "a text, labelled lines (tsv) or tokens (npy)"


def _look_at_texts(request: DataRequest) -> dict[str, Path]:
    """Return the file of each split."""
    path = Path(request.place).expanduser()
    if not path.is_dir():
        found = existing(request.place, "tokens:FILE", _HOLDS)
        if request.share is None:
            raise DataError(f"{found} is one file; hold out a share to test on, as in ,test=0.1")
        return {"train": found}
    existing(request.place, "tokens:DIR", f"train.txt and test.txt, each {_HOLDS}")
    files = {each.stem: each for each in path.iterdir() if each.suffix in (".txt", ".tsv", ".npy")}
    return request.splits(files, "file", str(path))


def _open_texts(request: DataRequest, files: dict[str, Path]) -> Any:
    from danetc.runtime.data.texts import read_texts, text_set

    splits = {split: read_texts(path) for split, path in files.items()}
    if len({isinstance(each, tuple) for each in splits.values()}) > 1:
        raise DataError(f"{request.place} has labels in one of its files only")
    return text_set(request, splits, Path(request.place).name)


TOKENS = DataSource(
    "tokens:FILE",
    "a text to learn the next token of, or lines LABEL<tab>TEXT in a tsv file, or tokens in an npy file; "
    "or a folder of train and test files. ,tokenizer=bytes (the default), characters, or a file or name of "
    "danetc[tokenizers]",
    _look_at_texts,
    _open_texts,
    ("train", "test", "classes", "tokenizer"),
)
