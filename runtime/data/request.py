"""Requests for data: a source, a place and options. Never imports torch.

Functions of this room raise DataError, whose message is for the user.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from danetc.dsl.diagnostics.diagnostic import instead
from danetc.dsl.kinds import Kind
from danetc.runtime.system.errors import DataError

Policy = Literal["stop", "skip"]
"""Effect of an unreadable sample: it ends the run, or it is skipped and counted."""
Target = Literal["classes", "steps", "pixels", "numbers"]
"""Targets of training: a class for each sample, time step or pixel, or real numbers."""
Split = Literal["test", "train", "val"]
IGNORED = -100
"""Class index that is ignored by the losses (the default of torch). In files it is 255."""

TRAIN_NAMES = ("train", "training")
TEST_NAMES = ("val", "test", "validation", "valid", "testing")
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

    ``classes`` are the names that the option ``classes`` lists. ``frames`` is the number of frames
    T into which recordings of events are cut, None if unknown. ``tokens`` are those that a network
    takes, None if it takes numbers.
    """

    name: str
    argument: str
    place: str
    options: Mapping[str, str]
    classes: tuple[str, ...] = ()
    policy: Policy = "stop"
    frames: int | None = None
    tokens: TokenInput | None = None

    @property
    def text(self) -> str:
        return f"{self.name}{':' * (self.argument[:1] not in ('', ','))}{self.argument}"

    @property
    def share(self) -> float | None:
        """Fraction of the samples to hold out; None if ``test`` is the name of a split."""
        try:
            return float(self.options.get("test", ""))
        except ValueError:
            return None

    @property
    def val(self) -> float | None:
        """Fraction of the training samples for validation; None without the option ``val``."""
        try:
            return float(self.options["val"]) if "val" in self.options else None
        except ValueError:
            return float("nan")

    @property
    def size(self) -> tuple[int, int] | None:
        """Height and width of recordings, from the option ``size``."""
        text = self.options.get("size")
        if text is None:
            return None
        match = re.fullmatch(r"0*([1-9]\d*)x0*([1-9]\d*)", text)
        if match is None:
            raise DataError(f"the option `size` is `{text}`; it is height x width, as in 128x128")
        return int(match[1]), int(match[2])

    def chosen(
        self, option: str, usual: Sequence[str], there: Collection[str], kind: str, where: str
    ) -> str:
        """Return the name ``there`` that an option gives, by default the first usual one."""
        given = self.options.get(option)
        names = usual if given is None else (given,)
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
    """A kind of data that ``--data`` takes.

    ``look`` checks that the data exist, without importing torch or reading the data. Its result is
    passed to ``open``, which returns the ``DataSet``.
    """

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

    def request(
        self,
        argument: str,
        policy: Policy = "stop",
        frames: int | None = None,
        tokens: TokenInput | None = None,
    ) -> DataRequest:
        """Parse ``PLACE,key=value,...``, where every source has the option ``val``."""
        shares = _VAL.findall(argument)
        options = {"val": " and ".join(map(str.strip, shares))} if shares else {}
        parts = _VAL.sub("", argument).split(",")
        while self.options and len(parts) > 1 and (match := _OPTION.fullmatch(parts[-1])):
            key, value = match[1], match[2].strip()
            if key not in self.options:
                if Path(",".join(parts)).expanduser().exists():
                    break  # the comma belongs to the path
                raise DataError(
                    f"`{self.name}` has no option `{key}`; {instead(key, self.options)}"
                )
            if key in options:
                raise DataError(f"`{self.name}` has the option `{key}` twice; leave one out")
            if not value:
                raise DataError(f"the option `{key}` of `{self.name}` is empty; write {key}=VALUE")
            if key == "by" and value not in ("number", "time"):
                raise DataError(
                    f"the option `by` of `{self.name}` is number or time, not `{value}`"
                )
            options[key] = value
            parts.pop()
        classes = class_list(options["classes"]) if "classes" in options else ()
        place = ",".join(parts)
        found = DataRequest(self.name, argument, place, options, classes, policy, frames, tokens)
        for option, share, example in (("test", found.share, 0.2), ("val", found.val, 0.1)):
            if share is not None and not 0 < share < 1:
                raise DataError(
                    f"the option `{option}` of `{self.name}` is {options[option] or 'empty'}; a share "
                    f"is between 0 and 1, as in {option}={example}"
                )
        _ = found.size  # raises where it is malformed
        return found


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


def read_text(path: Path) -> str:
    """Return the text of a file. Raises DataError."""
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise DataError(f"{path} cannot be read: {reason}") from error


def existing(place: str, form: str, holds: str) -> Path:
    """Return the path of ``place``, which the user writes as ``form`` (``npz:FILE`` or ``folder:DIR``).

    It must not be missing, of another kind, or an empty folder. ``holds`` describes what it should
    hold.
    """
    name, _, variable = form.rpartition(":")
    kind = "file" if variable == "FILE" else "folder"
    if not place:
        raise DataError(f"`{name}` needs a {kind}: {form}, where {variable} holds {holds}")
    path = Path(place).expanduser()
    takes = f"{form} takes one that holds {holds}"
    if not path.exists():
        raise DataError(f"there is no {kind} {path}; {takes}")
    if not (path.is_file() if kind == "file" else path.is_dir()):
        raise DataError(f"{path} is not a {kind}; {takes}")
    if kind == "folder" and not any(path.iterdir()):
        raise DataError(f"the folder {path} is empty; {takes}")
    return path


EXTENSIONS: dict[str, tuple[str, ...]] = {
    "images": (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp"),
    "recordings": (".npz", ".npy"),
}
"""Endings of files; those of images are torchvision's."""


@dataclass(frozen=True, slots=True)
class ClassFolders:
    """Folders of the two splits, which have the same class folders. Both are the same folder if a
    fraction of the samples is held out. ``content`` is a key of ``EXTENSIONS``."""

    train: Path
    test: Path
    content: str
    classes: tuple[str, ...]

    @property
    def endings(self) -> tuple[str, ...]:
        return EXTENSIONS[self.content]

    def without_files(self, split: Path, number: int) -> DataError:
        """Return the error for a class without files."""
        return DataError(
            f"{split / self.classes[number]} holds no {self.content} ({', '.join(self.endings)}); "
            "fill it, or remove the class from train and val"
        )
