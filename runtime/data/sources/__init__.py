"""Table of data sets, whose modules import torch only when one is opened."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from danetc.dsl.diagnostics.diagnostic import did_you_mean
from danetc.runtime.data.request import DataSource, reported
from danetc.runtime.data.sources import folders, libraries, own_files, published, python, synthetic
from danetc.runtime.system.errors import DataError

SOURCES: Mapping[str, DataSource] = {
    source.name: source
    for source in (
        published.DIGITS,
        published.FASHION_MNIST,
        published.CIFAR10,
        published.CIFAR100,
        folders.IMAGES,
        folders.WEBDATASET,
        own_files.NPZ,
        python.PYTHON,
        libraries.HUGGINGFACE,
        libraries.TONIC,
        folders.EVENTS,
        own_files.TOKENS,
        synthetic.SOURCE,
    )
}
KNOWN = "Data sets are " + ", ".join(source.usage for source in SOURCES.values())
_NOT_READ = {
    "csv": "tables are not read: save their columns as arrays with numpy.savez for npz:FILE",
    "masks": "folders of masks are not read: write a Dataset, python:FILE.py:NAME, whose samples are an "
    "image and its map of classes [H, W]",
}
"""Names of data that are not read, with what to use instead."""


def find(text: str) -> tuple[DataSource, str]:
    """Return the source that ``text`` names, and its argument. Raises DataError.

    The name can be omitted for code and for files with a known ending.
    """
    name = re.split("[:,]", text, maxsplit=1)[0]
    if isinstance(text, python.InMemory):
        return replace(python.MEMORY, look=lambda request: text), text.removeprefix(python.NAME)
    if name == python.NAME:
        raise DataError(python.GONE)
    if name in SOURCES:
        return SOURCES[name], text[len(name) :].removeprefix(":")
    place = Path(text.partition(",")[0])
    # `digits.npz` is a misspelt name unless there is such a file
    misspelt = place.name.partition(".")[0] in SOURCES and not place.exists()
    for source in SOURCES.values():
        if source.ending and source.ending == place.suffix.lower() and not misspelt:
            return source, text
    if python.names_code(text):
        return python.PYTHON, text
    stem = name.partition(".")[0]
    hint = _NOT_READ.get(name) or _NOT_READ.get(place.suffix.lower().removeprefix("."))
    hint = hint or (f"did you mean `{stem}`?" if stem in SOURCES else did_you_mean(stem, SOURCES))
    raise DataError(f"there is no data set `{text:.200}`{f'; {hint}' if hint else f'. {KNOWN}'}")


def look_at(text: str) -> None:
    """Raise DataError unless the data that ``text`` names exist, as far as quick checks tell."""
    # a name that is too long or has a zero byte; no access; `~somebody` who does not exist
    with reported(f"`{text:.200}`", ""):
        source, argument = find(text)
        source.look(source.request(argument))
