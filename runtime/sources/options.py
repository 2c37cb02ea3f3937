"""Options behind the place of a source: ``npz:FILE,test=0.2,layout=hwc``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from danetc.dsl.diagnostics.diagnostic import did_you_mean, instead
from danetc.runtime.sources.places import existing_file
from danetc.runtime.system.errors import DataError

_OPTION = re.compile(r"\s*([A-Za-z_]\w*)\s*=(.*)", re.DOTALL)
OPTIONS: Mapping[str, str] = {
    "train": "the split, or the two arrays A;B, to train on",
    "test": "the split, or the two arrays A;B, to test on; or a share of the samples, as in 0.2",
    "classes": "names of classes in their order: a file with one in each line, or A;B;C",
    "targets": "classes, or numbers for a regression",
    "layout": "of images, chw or hwc",
    "image": "the column of images",
    "label": "the column of labels",
    "size": "height and width of recordings, HxW, as in 128x128",
    "config": "the configuration of a data set of the hub that has several",
    "by": "what the frames of a recording have in common: number of events, or time that they take",
}
"""THE options of sources, each with its meaning. A source takes some of them."""
CHOICES: Mapping[str, tuple[str, ...]] = {
    "targets": ("classes", "numbers"),
    "layout": ("chw", "hwc"),
    "by": ("number", "time"),
}
_MOST_CLASSES = 100_000


@dataclass(frozen=True, slots=True)
class Placed:
    """What a source is asked for: a place, and options by their names."""

    place: str
    options: Mapping[str, str]

    def get(self, name: str) -> str | None:
        return self.options.get(name)

    def several(self, name: str) -> tuple[str, ...]:
        """``A;B;C`` of an option; () where it is not given."""
        return tuple(filter(None, (each.strip() for each in self.options.get(name, "").split(";"))))

    @property
    def share(self) -> float | None:
        """The share of samples that ``test`` holds out; None where it names a split."""
        text = self.options.get("test", "")
        try:
            return float(text)
        except ValueError:
            return None


def placed(text: str, kind: str, known: tuple[str, ...]) -> Placed:
    """``PLACE,key=value,...`` of a source that takes these options.

    Raises DataError for an option that it does not take, or a value that is none.
    """
    options: dict[str, str] = {}
    parts = text.split(",")
    while len(parts) > 1 and (match := _OPTION.fullmatch(parts[-1])) is not None:
        key, value = match[1], match[2].strip()
        if key not in known:
            if Path(",".join(parts)).expanduser().exists():
                break  # a comma of the place's own
            hint = instead(key, known)
            raise DataError(f"`{kind}` has no option `{key}`; {hint}")
        if key in options:
            raise DataError(f"`{kind}` is given the option `{key}` twice; leave one out")
        _check_value(kind, key, value)
        options[key] = value
        parts.pop()
    found = Placed(",".join(parts), options)
    if found.share is not None and not 0 < found.share < 1:
        raise DataError(
            f"the option `test` of `{kind}` is {options['test']}; a share is between 0 and 1, as in "
            "test=0.2"
        )
    return found


def parse_size(text: str) -> tuple[int, int]:
    """Height and width of the option ``size``. Raises DataError."""
    height, mark, width = text.partition("x")
    if not (mark and height.isdecimal() and width.isdecimal() and int(height) and int(width)):
        raise DataError(f"the option `size` is `{text}`; it is height x width, as in 128x128")
    return int(height), int(width)


def _check_value(kind: str, key: str, value: str) -> None:
    if not value:
        raise DataError(f"the option `{key}` of `{kind}` is empty; it is {OPTIONS[key]}")
    choices = CHOICES.get(key)
    if choices is not None and value not in choices:
        hint = did_you_mean(value, choices) or f"it is {' or '.join(choices)}"
        raise DataError(f"the option `{key}` of `{kind}` is `{value}`; {hint}")
    if key == "size":
        parse_size(value)


def class_list(text: str | None) -> tuple[str, ...]:
    """The names of classes that the option ``classes`` gives; () without it. Raises DataError."""
    if text is None:
        return ()
    if ";" in text:
        names = [name.strip() for name in text.split(";")]
        source = "the option `classes`"
    else:
        path = existing_file(text, "classes", "the name of one class in each line")
        try:
            lines = path.read_text("utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is no text (UTF-8)"
            raise DataError(f"{path} cannot be read: {reason}") from error
        names, source = [line.strip() for line in lines if line.strip()], str(path)
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise DataError(f"{source} names the class `{twice}` twice; each has one number")
    if not 2 <= len(names) <= _MOST_CLASSES or not all(names):
        raise DataError(f"{source} holds {len(names)} names of classes; give 2 or more")
    return tuple(names)
