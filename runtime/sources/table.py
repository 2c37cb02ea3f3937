"""Data sets by name: ``--data NAME[:ARGUMENT]``. A new one is a row here and its module in ``data``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from danetc.dsl.diagnostics.diagnostic import did_you_mean
from danetc.runtime.sources.arrays import npz_place
from danetc.runtime.sources.callables import names_code, python_place
from danetc.runtime.sources.folders import IMAGES, RECORDINGS, class_folders
from danetc.runtime.sources.huggingface import huggingface_place
from danetc.runtime.sources.places import near
from danetc.runtime.sources.published import cifar_place, fashion_mnist_files
from danetc.runtime.sources.recordings import SETS, named_set, set_folder, tonic_place
from danetc.runtime.sources.request import DataRequest
from danetc.runtime.sources.shards import shards
from danetc.runtime.sources.synthetic import parse_options
from danetc.runtime.system.errors import DataError


@dataclass(frozen=True, slots=True)
class Row:
    """A kind of data: how it is written and what it is.

    ``look`` raises DataError where what it names is not there, as far as names of files tell; it is
    quick. ``open_source`` of ``module`` (in ``danetc.runtime.data``) opens it.
    """

    usage: str
    meaning: str
    look: Callable[[DataRequest], object]
    module: str
    ending: str = ""
    """Of files that are taken by their name alone, as in ``--data FILE.npz``."""


def _no_argument(request: DataRequest) -> None:
    if request.argument:
        raise DataError(f"`{request.name}` takes no argument, but got `{request.argument}`")


def _events(request: DataRequest) -> None:
    named = named_set(request.argument)
    if named is None:
        class_folders(request.argument, request.name, RECORDINGS)
    else:
        set_folder(*named)


SOURCES: Mapping[str, Row] = MappingProxyType(
    {
        "digits": Row(
            "digits", "1,797 hand-written digits of 8x8 pixels, built in", _no_argument, "digits"
        ),
        "fashion-mnist": Row(
            "fashion-mnist:DIR",
            "70,000 images of clothes, 28x28: the published idx files in DIR",
            lambda request: fashion_mnist_files(request.argument),
            "fashion_mnist",
        ),
        "cifar10": Row(
            "cifar10:DIR",
            "60,000 images of 10 classes, 32x32 in colour: the published files in DIR",
            lambda request: cifar_place(request.name, request.argument),
            "cifar",
        ),
        "cifar100": Row(
            "cifar100:DIR",
            "60,000 images of 100 classes, 32x32 in colour: the published files in DIR",
            lambda request: cifar_place(request.name, request.argument),
            "cifar",
        ),
        "folder": Row(
            "folder:DIR",
            "DIR/train/CLASS/ and DIR/val/CLASS/ with images",
            lambda request: class_folders(request.argument, request.name, IMAGES),
            "folder",
        ),
        "webdataset": Row(
            "webdataset:SHARDS",
            "images in local tar files",
            lambda request: shards(request.argument),
            "webdataset",
        ),
        "npz": Row(
            "npz:FILE",
            "arrays by name, x_train, y_train, x_test, y_test; FILE.npz alone means it too",
            lambda request: npz_place(request.argument),
            "npz",
            ".npz",
        ),
        "python": Row(
            "python:MODULE:NAME",
            "your own code: a function that returns train and test, Datasets or arrays; MODULE:NAME "
            "or FILE.py:NAME alone mean it too",
            lambda request: python_place(request.argument),
            "callables",
        ),
        "huggingface": Row(
            "huggingface:DIR",
            "a data set of the library datasets: a folder of save_to_disk or of parquet files, one such "
            "file, or a name of the hub; FILE.parquet alone means it too; needs danetc[huggingface]",
            lambda request: huggingface_place(request.argument),
            "huggingface",
            ".parquet",
        ),
        "tonic": Row(
            "tonic:NAME:DIR",
            "an event data set of tonic, from its published files in DIR; needs danetc[tonic]",
            lambda request: tonic_place(request.argument),
            "tonic_sets",
        ),
        "events": Row(
            "events:DIR",
            "as folder, with frames [T, C, H, W] or events t, x, y, p in npz or npy; events:NAME:DIR is a data set of "
            "SpikingJelly's",
            _events,
            "events",
        ),
        "synthetic": Row(
            "synthetic[:classes=10,size=32,count=512,...]",
            "made on the spot",
            lambda request: parse_options(request.argument),
            "synthetic",
        ),
    }
)
KNOWN = "Data sets are " + ", ".join(row.usage for row in SOURCES.values())
_LONGEST = 200
_KNOWN_AS = {
    "imagenet": "folder",
    "imagefolder": "folder",
    "tar": "webdataset",
    "wds": "webdataset",
} | {name: f"events:{name}" for name in SETS}
"""What others call them, or what stands behind another name here."""
_DATASET = "give a Dataset of your own, python:FILE.py:NAME, whose samples are"
_NOT_READ: Mapping[str, str] = {
    "csv": "tables are not read: save their columns as arrays with numpy.savez for npz:FILE, or "
    f"{_DATASET} images and labels",
    "masks": f"folders of masks are not read: {_DATASET} an image and its map of classes [H, W]",
}
"""What to use instead of formats that people look for."""


def find(text: str) -> tuple[Row, str, str]:
    """The row that ``text`` names, its name, and the argument. Raises DataError."""
    name, _, argument = text.partition(":")
    if name in SOURCES:
        return SOURCES[name], name, argument
    ending = Path(text.partition(",")[0]).suffix.lower().removeprefix(".")
    unread = _NOT_READ.get(name) or _NOT_READ.get(ending)
    if unread is not None and not Path(f"{name}.py").is_file():  # a module of that name
        raise DataError(f"`{text}`: {unread}")
    alone = _alone(text)
    if alone is not None:
        return SOURCES[alone], alone, text
    message = _missing(text, name) if name else "no data set is named"
    raise DataError(f"{message}{'' if message.endswith('?') else '.'} {KNOWN}")


def _alone(text: str) -> str | None:
    """The data set that a file, or code, stands for without a name before it; None for none."""
    place = text.partition(",")[0]
    for name, row in SOURCES.items():
        if row.ending and place.lower().endswith(row.ending):
            stem = Path(place).name.partition(".")[0]
            return None if stem in SOURCES and not Path(place).exists() else name
    return "python" if names_code(text) else None


def look_at(text: str) -> None:
    """Raise DataError where the data that ``text`` names are not there, as far as can be seen
    without opening them.
    """
    try:
        row, name, argument = find(text)
        row.look(DataRequest(name, argument))
    except DataError:
        raise
    except (OSError, ValueError, RuntimeError) as error:
        # A name that is too long or has a zero byte, no access; `~somebody` who is not there.
        shown = text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
        raise DataError(f"`{shown}`: {getattr(error, 'strerror', None) or error}") from error


def _missing(text: str, name: str) -> str:
    """What is wrong with a text that names no data set."""
    place = Path(text).expanduser()
    if place.exists():
        kinds = [f"`{each}:{text}`" for each in SOURCES if _takes(each, text)]
        what = "a folder" if place.is_dir() else "a file"
        if kinds:
            return (
                f"`{text}` is {what}, and no data set says of what kind; write {' or '.join(kinds)}"
            )
        message = f"`{text}` is {what} that no kind of data set is made of"
        close = _close(name)
        return message if close is None else f"{message}; {close}"
    hint = _close(name)
    if hint is None and ("/" in text or "\\" in text or place.suffix):
        hint = near(place)
        return f"there is no file or folder `{text}`" + (f"; {hint}" if hint else "")
    return f"there is no data set `{name}`" + (f"; {hint}" if hint else "")


def _close(name: str) -> str | None:
    """The data set that a name may mean: also by its beginning, as in `digits.npz`."""
    stem = name.partition(".")[0]
    if stem in SOURCES and stem != name:
        return f"did you mean `{stem}`?"
    if name.lower() in _KNOWN_AS:
        return f"did you mean `{_KNOWN_AS[name.lower()]}:DIR`?"
    return did_you_mean(name, SOURCES) or did_you_mean(stem, SOURCES)


def _takes(name: str, text: str) -> bool:
    """Whether what lies at a place can be a data set of this kind."""
    try:
        SOURCES[name].look(DataRequest(name, text))
    except (DataError, OSError):
        return False
    return True
