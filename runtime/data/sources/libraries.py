"""Data sets of libraries: ``huggingface:PLACE``, of the library ``datasets``, and ``tonic:NAME:DIR``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import redirect_stderr
from dataclasses import replace
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any

from danetc.dsl.diagnostics.diagnostic import instead
from danetc.runtime.data.request import DataRequest, DataSource, existing, reported
from danetc.runtime.system.errors import DataError

_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")
_PARQUET = ".parquet"
_IMAGES = ("image", "img", "images", "x", "pixel_values", "frames")
_TEXTS = ("input_ids", "tokens", "text", "sentence", "content")
_LABELS = ("label", "labels", "fine_label", "target", "y", "class", "annotation", "mask")


def _look_at_tables(request: DataRequest) -> Path:
    """Return the path of a folder or a file, or of the name of a data set of the hub."""
    path = Path(request.place).expanduser()
    is_file = path.suffix.lower() == _PARQUET
    if is_file or path.exists() or path.is_absolute() or not _NAME.fullmatch(request.place):
        form = f"huggingface:{'FILE' if is_file else 'DIR'}"
        return existing(request.place, form, "what `save_to_disk` has written, or parquet")
    return path


def _open_tables(request: DataRequest, path: Path) -> Any:
    """Return the columns of two splits. The library downloads a data set of the hub that its cache lacks."""
    from danetc.runtime.data.images import Rows
    from danetc.runtime.data.own import own_set
    from danetc.runtime.data.texts import joined, text_set

    where, name = f"`{request.place}`", Path(request.place).name
    tables = _tables(request.place, path, request.options.get("config"))
    chosen = request.splits(tables, "split", where)
    train, usual = chosen["train"], {"image": _IMAGES, "label": _LABELS}
    if request.tokens is not None:
        usual = {"text": _TEXTS}
        if "label" in request.options or {*_LABELS} & {*train.column_names}:
            usual["label"] = _LABELS
    columns = [
        request.chosen(option, names, train.column_names, "column", where)
        for option, names in usual.items()
    ]
    if request.tokens is None:
        pairs = {split: Rows(table, *columns) for split, table in chosen.items()}
        return own_set(request, pairs, name, columns=columns)
    texts: dict[str, Any] = {
        split: tuple(list(table[column]) for column in columns) for split, table in chosen.items()
    }
    if len(columns) == 1:  # without labels, the texts are one corpus
        texts = {split: joined(rows, where) for split, (rows,) in texts.items()}
    classes = getattr(train.features[columns[-1]], "names", None)
    request = replace(request, classes=request.classes or tuple(classes or ()))
    return text_set(request, texts, name, columns=columns)


def _tables(place: str, path: Path, config: str | None) -> Mapping[str, Any]:
    """Return the tables of all splits by their names."""
    try:
        import datasets
    except ImportError as error:
        raise DataError(
            "`huggingface` needs the library datasets, which is not installed; "
            "pip install 'danetc[huggingface]'"
        ) from error
    try:
        with redirect_stderr(StringIO()):  # progress bars
            if any((path / name).is_file() for name in ("dataset_dict.json", "state.json")):
                found = datasets.load_from_disk(str(path))
            elif path.suffix.lower() == _PARQUET:
                found = datasets.load_dataset("parquet", data_files={"train": str(path)})
            else:
                found = datasets.load_dataset(str(path) if path.is_dir() else place, config)
    except ConnectionError as error:
        raise DataError(
            f"`{place}` is not in the cache of the library datasets ({datasets.config.HF_DATASETS_CACHE}), "
            f"and the hub cannot be reached ({error}); where it can, "
            f'datasets.load_dataset("{place}").save_to_disk(DIR) writes what huggingface:DIR takes'
        ) from error
    except Exception as error:  # of any of its readers
        reason = str(error).strip()
        if "Config name is missing" in reason:
            reason = f"it has several configurations; add ,config=NAME: {' '.join(reason.split())}"
        reason = reason.partition("\n")[0] or type(error).__name__
        raise DataError(f"{place} cannot be opened by the library datasets: {reason}") from error
    return found if isinstance(found, Mapping) else {"train": found}


HUGGINGFACE = DataSource(
    "huggingface:DIR",
    "Hugging Face data set: a folder of save_to_disk or of parquet files, a parquet file, or a name "
    "of the hub; also written FILE.parquet; needs danetc[huggingface]",
    _look_at_tables,
    _open_tables,
    ("train", "test", "image", "text", "label", "classes", "config", "tokenizer"),
    _PARQUET,
)


def _look_at_events(request: DataRequest) -> tuple[str, Path]:
    """Return the name and the folder."""
    name, _, directory = request.place.partition(":")
    if not name.isidentifier():
        raise DataError(
            f"`tonic` needs a set and a folder: tonic:NMNIST:DIR, not `{request.place}`"
        )
    holds = f"{name}/ with the published files of {name}, as tonic's save_to has it"
    return name, existing(directory, f"tonic:{name}:DIR", holds)


def _open_events(request: DataRequest, found: tuple[str, Path]) -> Any:
    """Return recordings. A data set without its own split needs a share to test on: ``,test=0.2``."""
    from danetc.runtime.data.own import own_set, returned
    from danetc.runtime.system.locks import alone

    name, directory = found
    try:
        import tonic
    except ImportError as error:
        raise DataError(
            f"`tonic` needs the library tonic, which cannot be imported ({error}); "
            "pip install 'danetc[tonic]'"
        ) from error
    known = [each for each in dir(tonic.datasets) if each[0].isupper()]
    if name not in known:
        raise DataError(f"tonic has no data set `{name}`; {instead(name, known)}")

    def download(self: Any) -> None:
        raise DataError(
            f"{name} is not in {self.location_on_system}; nothing is downloaded here: fetch "
            f"{getattr(self, 'url', 'its files')} and unpack it there"
        )

    kind = type(name, (getattr(tonic.datasets, name),), {"download": download})
    with reported(f"{name} in {directory} cannot be opened"), alone(directory / ".tonic.lock"):
        # other processes wait for the unpacked files
        return own_set(request, returned(partial(kind, save_to=str(directory)), request), name)


TONIC = DataSource(
    "tonic:NAME:DIR",
    "event data set of tonic, from the published files in DIR; needs danetc[tonic]",
    _look_at_events,
    _open_events,
    ("train", "test", "size", "by"),
)
