"""Requests for data: a source, a place and options. Never imports torch.

Functions of this room raise DataError, whose message is for the user.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from danetc.dsl.diagnostics.diagnostic import instead
from danetc.dsl.kinds import Kind
from danetc.runtime.system.errors import DataError

Policy = Literal["stop", "skip"]
"""Effect of an unreadable sample: it ends the run, or it is skipped and counted."""
Target = Literal["classes", "steps", "pixels", "numbers"]
"""Targets of training: a class for each sample, time step or pixel, or real numbers."""
Split = Literal["test", "train", "val"]
T = TypeVar("T")
IGNORED = -100
"""Class index that is ignored by the losses (the default of torch). In files it is 255."""

SPLIT_NAMES: Mapping[str, tuple[str, ...]] = {
    "train": ("train", "training"),
    "test": ("val", "test", "validation", "valid", "testing"),
}
"""Usual names of splits, in the order in which they are tried."""
_OPTION = re.compile(r"\s*([A-Za-z_]\w*)\s*=(.*)", re.DOTALL)
_VAL = re.compile(r"(?:^|,)\s*val\s*=([^,]*)")
MOST_CLASSES = 100_000


@dataclass(frozen=True, slots=True)
class TokenInput:
    """The tokens that a network takes: ``length`` at once, or one at each time step if it is 1."""

    vocabulary: int
    length: int

    @staticmethod
    def of(kind: Kind, shape: Sequence[int]) -> TokenInput | None:
        """Return the tokens of an input; None if its values are numbers."""
        return TokenInput(kind.high + 1, shape[0]) if kind.is_token else None


@dataclass(frozen=True, slots=True)
class DataRequest:
    """The data that a user asks for: ``NAME:PLACE,option=value,...``.

    ``frames`` is the T into which recordings are cut, if known; ``tokens`` are None for a network of numbers.
    """

    name: str
    argument: str
    place: str
    options: Mapping[str, str]
    classes: tuple[str, ...] = ()
    policy: Policy = "stop"
    frames: int | None = None
    tokens: TokenInput | None = None
    share: float | None = None
    """Fraction of the samples to hold out; None if ``test`` is the name of a split."""
    val: float | None = None
    """Fraction of the training samples for validation."""

    @property
    def text(self) -> str:
        return f"{self.name}{':' * (self.argument[:1] not in ('', ','))}{self.argument}"

    def splits(self, there: Mapping[str, T], kind: str, where: str) -> dict[str, T]:
        """Return what is ``there`` to train on, and to test on unless a share of it is held out."""
        return {
            split: there[self.chosen(split, usual, there, kind, where)]
            for split, usual in SPLIT_NAMES.items()
            if split == "train" or self.share is None
        }

    def chosen(
        self, option: str, usual: Sequence[str], there: Collection[str], kind: str, where: str
    ) -> str:
        """Return the name ``there`` that an option gives, by default the first usual one."""
        names = (self.options[option],) if option in self.options else usual
        for name in names:
            if name in there:
                return name
        known = [name for name in there if name]
        hint = f"; {instead(names[0], known, 'it has')}" if known else ""
        share = "; every epoch is tested on one, or on a share: ,test=0.2" * (option == "test")
        missing = " or ".join(f"`{name}`" for name in names[:2])
        raise DataError(f"{where} has no {kind} {missing}{hint} (say ,{option}=NAME{share})")


@dataclass(frozen=True, slots=True)
class DataSource:
    """A kind of data that ``--data`` takes. ``look`` checks that they exist, without importing torch or reading
    them. Its result is passed to ``open``, which returns the ``DataSet``."""

    usage: str
    meaning: str
    look: Callable[[DataRequest], Any]
    open: Callable[[DataRequest, Any], Any]
    options: tuple[str, ...] = ()
    ending: str = ""
    """Ending of the files that need no name in front, as in ``--data FILE.npz``."""

    @property
    def name(self) -> str:
        return re.split(r"[:\[]", self.usage)[0]

    def request(self, argument: str, **asked: Any) -> DataRequest:
        """Parse ``PLACE,key=value,...``, where every source has ``val``; ``asked`` are further fields."""
        given = _VAL.findall(argument)
        options = {"val": " and ".join(map(str.strip, given))} if given else {}
        parts = _VAL.sub("", argument).split(",")
        while self.options and len(parts) > 1 and (match := _OPTION.fullmatch(parts[-1])):
            key, value = match[1], match[2].strip()
            if key not in self.options:
                if Path(",".join(parts)).expanduser().exists():
                    break  # the comma belongs to the path
                raise DataError(
                    f"`{self.name}` has no option `{key}`; {instead(key, self.options)}"
                )
            wrong = ""
            if key in options:
                wrong = f"`{self.name}` has the option `{key}` twice; leave one out"
            elif not value:
                wrong = f"the option `{key}` of `{self.name}` is empty; write {key}=VALUE"
            elif key == "by" and value not in ("number", "time"):
                wrong = f"the option `by` of `{self.name}` is number or time, not `{value}`"
            elif key == "size" and not re.fullmatch(r"0*[1-9]\d*x0*[1-9]\d*", value):
                wrong = f"the option `size` is `{value}`; it is height x width, as in 128x128"
            if wrong:
                raise DataError(wrong)
            options[key] = value
            parts.pop()
        classes = class_list(options["classes"]) if "classes" in options else ()
        held: dict[str, Any] = {}
        for field, option, example in (("share", "test", 0.2), ("val", "val", 0.1)):
            if option in options:
                with suppress(ValueError):
                    held[field] = float(options[option])
                if not 0 < held.get(field, 0.5 if option == "test" else 0) < 1:
                    raise DataError(
                        f"the option `{option}` of `{self.name}` is {options[option] or 'empty'}; a share "
                        f"is between 0 and 1, as in {option}={example}"
                    )
        place = ",".join(parts)
        return DataRequest(self.name, argument, place, options, classes, **held, **asked)


def has_validation(text: str) -> bool:
    """True if validation samples are held out of the data ``NAME:PLACE,option=value,...``."""
    return _VAL.search(text.partition(":")[2] or text) is not None


def class_list(text: str) -> tuple[str, ...]:
    """Return the class names in the lines of a file."""
    path = existing(text, "classes:FILE", "the name of one class in each line")
    names = [line.strip() for line in read_text(path).splitlines() if line.strip()]
    if len({*names}) < len(names) or not 2 <= len(names) <= MOST_CLASSES:
        raise DataError(f"{path} must name 2 or more different classes, one in each line")
    return tuple(names)


@contextmanager
def reported(
    what: str,
    reason: str | Callable[[Exception], str] | None = None,
    kind: type[DataError] = DataError,
) -> Iterator[None]:
    """Turn errors into DataErrors ``WHAT: REASON``, by default with the first line of the error. If ``reason`` is a
    text, that of the operating system comes first, and that of the error last."""
    try:
        yield
    except DataError:
        raise
    except Exception as error:
        if callable(reason):  # so that decoders and code of users tell of a lack of memory, too
            why = reason(error)
        elif isinstance(error, MemoryError):
            raise
        elif reason is None:
            why = str(error).partition("\n")[0]
        else:
            why = getattr(error, "strerror", None) or reason
        raise kind(f"{what}: {why or str(error) or type(error).__name__}") from error


def read_text(path: Path) -> str:
    """Return the text of a file. Raises DataError."""
    with reported(f"{path} cannot be read", "it is not UTF-8 text"):
        return path.read_text("utf-8")


def existing(place: str, form: str, holds: str) -> Path:
    """Return the path of ``place``, which the user writes as ``form`` (``npz:FILE`` or ``folder:DIR``).

    It must not be missing, of another kind, or an empty folder. ``holds`` is what it should hold.
    """
    name, _, variable = form.rpartition(":")
    kind = "file" if variable == "FILE" else "folder"
    if not place:
        raise DataError(f"`{name}` needs a {kind}: {form}, where {variable} holds {holds}")
    path, wrong = Path(place).expanduser(), ""
    if not path.exists():
        wrong = f"there is no {kind} {path}"
    elif not (path.is_file() if kind == "file" else path.is_dir()):
        wrong = f"{path} is not a {kind}"
    elif kind == "folder" and not any(path.iterdir()):
        wrong = f"the folder {path} is empty"
    if wrong:
        raise DataError(f"{wrong}; {form} takes one that holds {holds}")
    return path


EXTENSIONS: dict[str, tuple[str, ...]] = {
    "images": (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp"),
    "recordings": (".npz", ".npy"),
}
"""Endings of files; those of images are torchvision's."""


def without_files(folder: Path, content: str) -> DataError:
    """Return the error for the folder of a class without files."""
    return DataError(
        f"{folder} holds no {content} ({', '.join(EXTENSIONS[content])}); fill it, or remove the class "
        "from train and val"
    )
