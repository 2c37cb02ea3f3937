"""Texts of specs: files, shipped specs, and the version of the language in their first line."""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Mapping
from functools import cache
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import BinaryIO

from danetc.dsl.diagnostics.diagnostic import Diagnostic, SpecError, did_you_mean
from danetc.dsl.syntax.source import SourceFile, Span

MAX_FILE_BYTES = 1_000_000
SUFFIX = ".danet"
ZOO = "zoo/"  # prefix and folder of published networks
_MAX_ENTRIES = 1000  # of a folder that are compared with a missing name
LANGUAGE = 1
FIRST_LINE = f"# danet {LANGUAGE}"
_FIRST_LINE = re.compile(r"\ufeff?# *danet +([0-9]{1,9})[ \t]*(?:\r?\n|\Z)")


class NotRegular(OSError):
    """The path is a device or a pipe, from which reading may never end."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        super().__init__(errno.EINVAL, "not a regular file", os.fspath(path))


def open_regular(path: str | os.PathLike[str]) -> BinaryIO:
    """Open a regular file for reading. Raises OSError for anything else, without opening it."""
    mode = os.stat(path).st_mode
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
    if not stat.S_ISREG(mode):
        raise NotRegular(path)
    # it may have been replaced since: a FIFO must not wait for its writer
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    stream = os.fdopen(os.open(path, flags), "rb")
    if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
        stream.close()
        raise NotRegular(path)
    return stream


class Unreadable(Exception):
    """The parts of a diagnostic of a file that cannot be read."""

    def __init__(self, code: str, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.code, self.message, self.hint = code, message, hint


def read_text(path: Path, name: str, written: str | None = None) -> str:
    """Return the text of a file, up to the size limit.

    Only a regular file whose name, and that of a link's target, ends in ``.danet`` is opened, so that
    no spec can name a device, or show a file of another kind in an excerpt. ``written`` is the path
    of a `use`, if that is not the name of the file.
    """
    try:
        data = _read_file(path, name, written or name)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise Unreadable("E0202", f"`{name}` cannot be read: {reason}") from None
    if len(data) > MAX_FILE_BYTES:
        raise Unreadable(
            "E0901",
            f"`{name}` is larger than {MAX_FILE_BYTES // 1_000_000} MB",
            "specs are small; is this the right file?",
        )
    return _decode(data, name)


def _read_file(path: Path, name: str, written: str) -> bytes:
    """Read one byte more than the size limit at most. Raises Unreadable, OSError."""
    if path.is_dir():
        raise _is_folder(name)
    if not path.exists():
        raise Unreadable("E0201", f"there is no file `{name}`", _similar_file(path, written))
    if path.suffix != SUFFIX:
        raise Unreadable(
            "E0202",
            f"`{name}` does not end in `{SUFFIX}`, so it is not read",
            _similar_file(path, written) or f"the name of a spec ends in `{SUFFIX}`",
        )
    target = os.path.realpath(path)
    if os.path.splitext(target)[1] != SUFFIX:
        raise Unreadable(
            "E0202",
            f"`{name}` is a link to a file that does not end in `{SUFFIX}`, so it is not read",
            f"let it link to a file whose name ends in `{SUFFIX}`",
        )
    with open_regular(target) as stream:
        return stream.read(MAX_FILE_BYTES + 1)


def _is_folder(name: str) -> Unreadable:
    return Unreadable("E0202", f"`{name}` is a folder, not a `{SUFFIX}` file")


def _decode(data: bytes, name: str) -> str:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise Unreadable(
            "E0202",
            f"`{name}` is not UTF-8 text (byte {data[error.start]:#04x} in line {line})",
            "save it as UTF-8; a spec is plain text",
        ) from None
    if "\0" in text:
        raise Unreadable(
            "E0202", f"`{name}` is a binary file, not text", "a spec is plain text in UTF-8"
        )
    return text


def _similar_file(path: Path, name: str) -> str | None:
    try:
        near = islice(path.parent.iterdir(), _MAX_ENTRIES)
        entries = [entry.name for entry in near if entry.name.endswith(SUFFIX)]
    except OSError:
        folder = os.path.dirname(name)
        return f"there is no folder `{folder}` either" if folder else None
    hint = did_you_mean(os.path.basename(name), entries)
    if hint is None or not os.path.dirname(name):
        return hint
    return hint.replace("`", f"`{os.path.dirname(name)}/", 1)


def read_source(path: str | Path) -> SourceFile:
    """Read a spec file. Raises SpecError: E0201 missing, E0202 no text, E0901 too large."""
    name = str(path)
    try:
        return SourceFile(name, read_text(Path(path), name))
    except Unreadable as problem:
        raise _spec_error(problem, name) from None


def _spec_error(problem: Unreadable, name: str) -> SpecError:
    nowhere = Span(SourceFile(name, ""), 0, 0)
    return SpecError([Diagnostic(problem.code, problem.message, nowhere, hint=problem.hint)])


@cache
def shipped_specs() -> Mapping[str, Path]:
    """Return the networks of the package by name: ``sew_r18``, ``zoo/plif_net``."""
    top = Path(__file__).parents[1] / "specs"
    found = {
        prefix + entry.name.removesuffix(SUFFIX): entry
        for prefix, folder in (("", top), (ZOO, top / ZOO))
        for entry in folder.iterdir()
        if entry.name.endswith(SUFFIX)
    }
    return MappingProxyType(dict(sorted(found.items())))


def find_spec(name_or_path: str) -> Path:
    """Return the file of a path or of a shipped spec's name. Raises SpecError (E0201, E0202).

    The name of a shipped spec takes precedence over a path without ``.danet``.
    """
    path = Path(name_or_path)
    if not name_or_path.endswith(SUFFIX) and name_or_path in shipped_specs():
        return shipped_specs()[name_or_path]
    try:
        exists, is_folder = path.exists(), path.is_dir()
    except (OSError, ValueError):
        exists = is_folder = False
    if exists and not is_folder:
        return path  # an error is reported when it is read
    if is_folder:
        problem = _is_folder(name_or_path)
    elif os.path.dirname(name_or_path) or name_or_path.endswith(SUFFIX):
        hint = _similar_file(path, name_or_path) or did_you_mean(
            path.name.removesuffix(SUFFIX), shipped_specs()
        )
        problem = Unreadable("E0201", f"there is no file `{name_or_path}`", hint)
    else:
        hint = did_you_mean(name_or_path, shipped_specs()) or _similar_file(
            path, f"{name_or_path}{SUFFIX}"
        )
        problem = Unreadable(
            "E0201", f"there is no file and no shipped spec `{name_or_path}`", hint
        )
    raise _spec_error(problem, name_or_path)


def later_version(source: SourceFile) -> tuple[int, Span] | None:
    """Return the version of the language in a file's first line, and its place, if it is later.

    The line is a comment, so that each version of danetc can read it. The version is increased when
    the meaning of existing files changes.
    """
    found = _FIRST_LINE.match(source.text)
    if found is None or int(found[1]) <= LANGUAGE:
        return None
    return int(found[1]), Span(source, *found.span(1))
