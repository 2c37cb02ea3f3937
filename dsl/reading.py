"""Reading of specs: files, shipped specs, and the language version in the first line."""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Mapping
from functools import cache
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from danetc.dsl.diagnostics.diagnostic import Diagnostic, SpecError, did_you_mean
from danetc.dsl.syntax.source import SourceFile, Span

MAX_FILE_BYTES = 1_000_000
SUFFIX = ".danet"
ZOO = "zoo/"  # prefix and folder of published networks
_SPECS = Path(__file__).parents[1] / "specs"
_MAX_ENTRIES = 1000  # maximum number of files compared with the name of a missing one
LANGUAGE = 1
FIRST_LINE = f"# danet {LANGUAGE}"
VERSION = re.compile(r"\ufeff?# *danet +([0-9]{1,9})[ \t]*(?:\r?\n|\Z)")
"""First line with the language version, which increases when the meaning of files changes."""


def open_regular(path: str | os.PathLike[str]) -> BinaryIO:
    """Open a regular file for reading. Raises OSError for anything else without reading from it.

    Reading from a device or a pipe may never end.
    """
    odd = OSError(errno.EINVAL, "not a regular file", os.fspath(path))
    mode = os.stat(path).st_mode
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
    if not stat.S_ISREG(mode):
        raise odd
    # opening must not block if the file has meanwhile been replaced by a FIFO
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    stream = os.fdopen(os.open(path, flags), "rb")
    if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
        stream.close()
        raise odd
    return stream


def unreadable(name: str, code: str, message: str, hint: str | None = None) -> SpecError:
    """Return the error of a file that cannot be read: one diagnostic, which has no place."""
    return SpecError([Diagnostic(code, message, Span(SourceFile(name, ""), 0, 0), hint=hint)])


def read_text(path: Path, name: str, written: str | None = None) -> str:
    """Return the text of a file, up to the size limit. Raises SpecError.

    The name of the file, and of the target of a link, must end in ``.danet``, so that a spec cannot
    read a device or show another kind of file in an excerpt. ``written`` is the path in a `use`, if
    it differs from the name of the file.
    """
    if os.path.isdir(path):
        raise _is_folder(name)
    if not os.path.exists(path):
        hint = _similar_file(path, written or name)
        raise unreadable(name, "E0201", f"there is no file `{name}`", hint)
    target = os.path.realpath(path)
    if path.suffix != SUFFIX or os.path.splitext(target)[1] != SUFFIX:
        what = "is a link to a file that" if path.suffix == SUFFIX else "has a name that"
        message = f"`{name}` {what} does not end in `{SUFFIX}`, so it is not read"
        hint = _similar_file(path, written or name) or f"the name of a spec ends in `{SUFFIX}`"
        raise unreadable(name, "E0202", message, hint)
    try:
        with open_regular(target) as stream:
            data = stream.read(MAX_FILE_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise unreadable(name, "E0202", f"`{name}` cannot be read: {reason}") from None
    return spec_text(data, name)


def spec_text(data: bytes, name: str) -> str:
    """Decode a spec. Raises SpecError if it exceeds the size limit or is not UTF-8 text."""
    if len(data) > MAX_FILE_BYTES:
        message = f"`{name}` is larger than {MAX_FILE_BYTES // 1_000_000} MB"
        raise unreadable(name, "E0901", message, "specs are small; is this the right file?")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        message = f"`{name}` is not UTF-8 text (byte {data[error.start]:#04x} in line {line})"
        raise unreadable(name, "E0202", message, "save it as UTF-8; a spec is plain text") from None
    if "\0" in text:
        hint = "a spec is plain text in UTF-8"
        raise unreadable(name, "E0202", f"`{name}` is a binary file, not text", hint)
    return text


def _is_folder(name: str) -> SpecError:
    return unreadable(name, "E0202", f"`{name}` is a folder, not a `{SUFFIX}` file")


def _similar_file(path: Path, name: str) -> str | None:
    """Return the hint for a missing file: a similar name in its folder."""
    folder = os.path.dirname(name)
    try:
        near = islice(path.parent.iterdir(), _MAX_ENTRIES)
        entries = [entry.name for entry in near if entry.name.endswith(SUFFIX)]
    except (OSError, ValueError):
        return f"there is no folder `{folder}` either" if folder else None
    hint = did_you_mean(os.path.basename(name), entries)
    return hint if hint is None or not folder else hint.replace("`", f"`{folder}/", 1)


def read_source(path: str | Path) -> SourceFile:
    """Read a spec file. Raises SpecError: E0201 missing, E0202 not text, E0901 too large."""
    name = str(path)
    return SourceFile(name, read_text(Path(path), name))


@cache
def zoo_files() -> Mapping[str, Path]:
    """Return the paths of the files that `use` knows by the names ``zoo.vit``, ``zoo.tokens``."""
    paths = (path for folder in ("", "lib/") for path in _SPECS.glob(f"{ZOO}{folder}*{SUFFIX}"))
    return {f"zoo.{path.stem}": path for path in sorted(paths)}


@cache
def shipped_specs() -> Mapping[str, Path]:
    """Return the paths of the shipped specs by name: ``sew_r18``, ``zoo/plif_net``."""
    found = {
        start + path.stem: path for start in ("", ZOO) for path in _SPECS.glob(f"{start}*{SUFFIX}")
    }
    return dict(sorted(found.items()))


def find_spec(name_or_path: str) -> Path:
    """Return the file for a path or the name of a shipped spec. Raises SpecError (E0201, E0202).

    The name of a shipped spec takes precedence over a path without ``.danet``. A model directory
    stands for its ``spec.danet``.
    """
    path, name, shipped = Path(name_or_path), name_or_path, shipped_specs()
    is_path = bool(os.path.dirname(name)) or name.endswith(SUFFIX)
    if not name.endswith(SUFFIX) and name in shipped:
        return shipped[name]
    if os.path.isfile(path / f"spec{SUFFIX}"):
        return path / f"spec{SUFFIX}"
    if os.path.isdir(path):
        raise _is_folder(name)
    if os.path.exists(path):
        return path  # an error is reported when it is read
    similar = _similar_file(path, name if is_path else f"{name}{SUFFIX}")
    near = did_you_mean(path.name.removesuffix(SUFFIX) if is_path else name, shipped)
    hint = similar or near if is_path else near or similar
    message = f"there is no file {'' if is_path else 'and no shipped spec '}`{name}`"
    raise unreadable(name, "E0201", message, hint)
