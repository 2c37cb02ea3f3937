"""Shards of images, by a folder or by paths with braces: which are there, and for what."""

from __future__ import annotations

import os
import re
from itertools import islice
from pathlib import Path

from danetc.runtime.sources.places import near
from danetc.runtime.system.errors import DataError

USAGE = "webdataset:DIR or webdataset:'/data/{train,val}-{000..009}.tar'"
_TRAIN = re.compile(r"(?<![a-z])train(ing)?(?![a-z])", re.IGNORECASE)
_TEST = re.compile(r"(?<![a-z])(val|valid|validation|test|testing)(?![a-z])", re.IGNORECASE)
_VARIABLE = re.compile(r"\$\{(\w+)\}")
_RANGE = re.compile(r"\{(-?\d+)\.\.(-?\d+)")
_MOST = 100_000
"""Shards that braces may stand for."""


def shards(text: str) -> tuple[list[Path], list[Path]]:
    """The shards for training and those for testing. Raises DataError."""
    return _sides(_expand(text))


def _expand(text: str) -> list[Path]:
    if not text:
        raise DataError(f"`webdataset` needs shards: {USAGE}")
    if Path(text).expanduser().is_dir():
        folder = Path(text).expanduser()
        shards = (*folder.glob("*.tar"), *folder.glob("*/*.tar"))
        found = sorted(path for path in shards if path.is_file())
        if not found:
            raise DataError(f"{folder} holds no shards (*.tar); {USAGE}")
        return found
    text = re.sub(r"(^|::)file:(//)?", r"\1", text)
    for part in text.split("::"):
        scheme, mark, _ = part.partition(":")
        if mark and re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]+", scheme):
            raise DataError(
                f"{part} is not a local file: images are read in random order, which a stream does "
                "not allow; copy the shards to a disk first"
            )
    paths = _paths(text)
    missing = [path for path in paths if not path.is_file()]
    if missing:
        hint = near(missing[0]) or USAGE
        raise DataError(
            f"there is no shard {missing[0]} ({len(missing)} of the {len(paths)} shards of "
            f"`{text}` are missing); {hint}"
        )
    return paths


def _paths(text: str) -> list[Path]:
    """What a text with braces, ``::`` and variables stands for, as the webdataset library has it."""
    try:
        import braceexpand
    except ImportError as error:
        raise DataError(
            "`webdataset` with a pattern needs braceexpand, which is not installed; "
            "pip install 'danetc[webdataset]', or name a folder of shards"
        ) from error
    try:
        # braceexpand writes a range out before it gives its first path
        many = any(abs(int(a) - int(b)) >= _MOST for a, b in _RANGE.findall(text))
        parts = [] if many else [_VARIABLE.sub(_variable, part) for part in text.split("::")]
        found = [
            path for part in parts for path in islice(braceexpand.braceexpand(part), _MOST + 1)
        ]
    except (ValueError, KeyError) as error:  # braces that do not close, variables that are not set
        reason = f"there is no variable {error}" if isinstance(error, KeyError) else error
        raise DataError(f"`{text}` cannot be expanded to paths: {reason}") from error
    if many or len(found) > _MOST:
        raise DataError(f"`{text}` stands for more than {_MOST:,} shards")
    return [Path(path).expanduser() for path in found]


def _variable(match: re.Match[str]) -> str:
    """``${NAME}`` is the environment's ``WDS_NAME``."""
    return os.environ[f"WDS_{match[1]}"]


def _sides(paths: list[Path]) -> tuple[list[Path], list[Path]]:
    train: list[Path] = []
    test: list[Path] = []
    for path in paths:
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
            raise DataError(f"none of the {len(paths)} shards is for {name}; {USAGE}")
    return train, test
