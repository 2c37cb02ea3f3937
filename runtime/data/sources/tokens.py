"""``tokens:FILE`` and ``tokens:DIR``: texts, or the tokens of a text."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from danetc.runtime.data.request import (
    TEST_NAMES,
    TRAIN_NAMES,
    DataRequest,
    DataSource,
    existing,
)
from danetc.runtime.system.errors import DataError

_HOLDS = "a text, labelled lines (tsv) or tokens (npy)"


def _look(request: DataRequest) -> dict[str, Path]:
    """Return the file of each split."""
    path = Path(request.place).expanduser()
    if not path.is_dir():
        found = existing(request.place, "tokens:FILE", _HOLDS)
        if request.share is None:
            raise DataError(f"{found} is one file; hold out a share to test on, as in ,test=0.1")
        return {"train": found}
    existing(request.place, "tokens:DIR", f"train.txt and test.txt, each {_HOLDS}")
    files = {each.stem: each for each in path.iterdir() if each.suffix in (".txt", ".tsv", ".npy")}
    chosen = {"train": files[request.chosen("train", TRAIN_NAMES, files, "file", str(path))]}
    if request.share is None:
        chosen["test"] = files[request.chosen("test", TEST_NAMES, files, "file", str(path))]
    return chosen


def _open(request: DataRequest, files: dict[str, Path]) -> Any:
    from danetc.runtime.data.texts import read_texts, text_set

    splits = {split: read_texts(path) for split, path in files.items()}
    if len({isinstance(each, tuple) for each in splits.values()}) > 1:
        raise DataError(f"{request.place} has labels in one of its files only")
    name = Path(request.place).name
    return replace(text_set(request, splits, name), name=name)


TOKENS = DataSource(
    "tokens:FILE",
    "a text to learn the next token of, or lines LABEL<tab>TEXT in a tsv file, or tokens in an npy file; "
    "or a folder of train and test files. ,tokenizer=bytes (the default), characters, or a file or name of "
    "danetc[tokenizers]",
    _look,
    _open,
    ("train", "test", "classes", "tokenizer"),
)
