"""``huggingface:PLACE``: a folder of the library ``datasets``, a parquet file, or a name of the hub."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from danetc.dsl.diagnostics.diagnostic import instead
from danetc.runtime.sources.arrays import TRAINING
from danetc.runtime.sources.folders import TEST_NAMES
from danetc.runtime.sources.options import Placed, class_list, placed
from danetc.runtime.sources.places import near
from danetc.runtime.system.errors import DataError

KNOWN = ("train", "test", "image", "label", "classes", "targets", "layout", "config")
PARQUET = ".parquet"
USAGE = (
    "huggingface:DIR, which `save_to_disk` has written or holds parquet files, one such FILE, or NAME of "
    "the hub"
)
_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")
IMAGES = ("image", "img", "images", "x", "pixel_values", "frames")
LABELS = ("label", "labels", "fine_label", "target", "y", "class", "annotation", "mask")


def huggingface_place(text: str) -> Placed:
    """A folder or a file that is there, or a name. Raises DataError."""
    found = placed(text, "huggingface", KNOWN)
    class_list(found.get("classes"))
    place = found.place
    path = Path(place).expanduser()
    if not place:
        raise DataError(f"`huggingface` needs a place: {USAGE}")
    if path.is_dir():
        if not any(path.iterdir()):
            raise DataError(f"the folder {path} is empty; {USAGE}")
        return found
    file = path.suffix.lower() == PARQUET
    if file and path.is_file():
        if found.share is None:
            raise DataError(
                f"{path} is one split, and every epoch is tested on another: hold out a share "
                "(,test=0.2), or name a folder with train.parquet and test.parquet"
            )
        return found
    if file or path.exists() or not _NAME.fullmatch(place) or path.is_absolute():
        hint = near(path) or USAGE
        raise DataError(f"there is no {'file' if file else 'folder'} {path}; {hint}")
    return found


def column(there: Sequence[str], asked: str | None, usual: Sequence[str], what: str) -> str:
    """The column of images, or of labels. Raises DataError where none is called so."""
    if asked is not None and asked not in there:
        hint = instead(asked, there)
        raise DataError(f"there is no column `{asked}`; {hint}")
    found = asked or next((name for name in usual if name in there), None)
    if found is None:
        raise DataError(
            f"no column is called {usual[0]}; name the one of {what}: ,{what}=NAME (there is "
            f"{', '.join(there)})"
        )
    return found


def splits(there: Sequence[str], asked: Placed) -> tuple[str, str | None]:
    """The split to train on, and that to test on; None where a share is held out. Raises DataError."""
    train = _split(there, asked.get("train"), TRAINING, "train")
    if asked.share is not None:
        return train, None
    return train, _split(there, asked.get("test"), TEST_NAMES, "test")


def _split(there: Sequence[str], asked: str | None, usual: Sequence[str], what: str) -> str:
    names = (asked,) if asked else usual
    found = next((name for name in names if name in there), None)
    if found is None:
        hint = instead(names[0], there, "its splits are")
        share = "; or hold out a share: ,test=0.2" if what == "test" else ""
        raise DataError(f"there is no split `{names[0]}`; {hint}: say ,{what}=NAME{share}")
    return found
