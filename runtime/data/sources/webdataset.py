"""``webdataset:SHARDS``: images and labels in local tar files, as the library webdataset writes them."""

from __future__ import annotations

import re
from itertools import islice
from pathlib import Path
from typing import Any

from danetc.runtime.data.request import DataRequest, DataSource
from danetc.runtime.system.errors import DataError

_USAGE = "webdataset:DIR or webdataset:'/data/{train,val}-{000..009}.tar'"
_TRAIN = re.compile(r"(?<![a-z])train(ing)?(?![a-z])", re.IGNORECASE)
_TEST = re.compile(r"(?<![a-z])(val|valid|validation|test|testing)(?![a-z])", re.IGNORECASE)
_RANGE = re.compile(r"\{(-?\d+)\.\.(-?\d+)")
_MOST = 100_000
"""Largest number of shards that braces may stand for."""


def _look(request: DataRequest) -> tuple[list[Path], list[Path]]:
    """Return the shards to train and to test on, by the names of their files or else folders."""
    shards = _shards(request.argument)
    train: list[Path] = []
    test: list[Path] = []
    for path in shards:
        for text in (path.name, path.parent.name):
            is_train, is_test = bool(_TRAIN.search(text)), bool(_TEST.search(text))
            if is_train != is_test:
                (train if is_train else test).append(path)
                break
        else:
            raise DataError(
                f"the name of {path} does not say whether it is for training or testing; name "
                "shards train-... and val-..., or put them into folders of such names"
            )
    for side, name in ((train, "training (train-*.tar)"), (test, "testing (val-*.tar)")):
        if not side:
            raise DataError(f"none of the {len(shards)} shards is for {name}; {_USAGE}")
    return train, test


def _shards(text: str) -> list[Path]:
    """Return the shards in a folder, or the paths of a pattern."""
    if not text:
        raise DataError(f"`webdataset` needs shards: {_USAGE}")
    folder = Path(text).expanduser()
    if folder.is_dir():
        shards = (*folder.glob("*.tar"), *folder.glob("*/*.tar"))
        found = sorted(path for path in shards if path.is_file())
        if not found:
            raise DataError(f"{folder} holds no shards (*.tar); {_USAGE}")
        return found
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:", text):
        raise DataError(
            f"{text} is not a local file: images are read in random order, which a stream does not "
            "allow; copy the shards to a disk first"
        )
    paths = _expanded(text)
    missing = [path for path in paths if not path.is_file()]
    if missing:
        raise DataError(
            f"there is no shard {missing[0]} ({len(missing)} of the {len(paths)} shards of "
            f"`{text}` are missing); {_USAGE}"
        )
    return paths


def _expanded(text: str) -> list[Path]:
    """Expand braces as the library does."""
    try:
        import braceexpand
    except ImportError as error:
        raise DataError(
            "`webdataset` with a pattern needs braceexpand, which is not installed; "
            "pip install 'danetc[webdataset]', or name a folder of shards"
        ) from error
    # braceexpand creates the whole range before it returns the first path.
    many = any(abs(int(a) - int(b)) >= _MOST for a, b in _RANGE.findall(text))
    try:
        found = [] if many else list(islice(braceexpand.braceexpand(text), _MOST + 1))
    except ValueError as error:
        raise DataError(f"`{text}` cannot be expanded to paths: {error}") from error
    if many or len(found) > _MOST:
        raise DataError(f"`{text}` stands for more than {_MOST:,} shards")
    return [Path(path).expanduser() for path in found]


def _open(request: DataRequest, found: tuple[list[Path], list[Path]]) -> Any:
    from danetc.runtime.data.shards import shard_set

    return shard_set(request, *found)


SOURCE = DataSource("webdataset:SHARDS", "images in local tar files of WebDataset", _look, _open)
