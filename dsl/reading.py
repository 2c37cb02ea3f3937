"""Texts of specs: files, and those that come with the package."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from types import MappingProxyType

from danetc.dsl.diagnostics import Diagnostic, SpecError, did_you_mean
from danetc.dsl.source import SourceFile, Span

MAX_FILE_BYTES = 1_000_000

Location = Path | Traversable


class Unreadable(Exception):
    """A file that gives no text, as the parts of a diagnostic."""

    def __init__(self, code: str, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.code, self.message, self.hint = code, message, hint


def read_text(location: Location, name: str, written: str | None = None) -> str:
    """The text at a location; nothing beyond the size limit is read.

    ``written`` is the path as a `use` has it, where that is not the name of the file.
    """
    try:
        if location.is_dir():
            raise Unreadable("E0202", f"`{name}` is a folder, not a `.danet` file")
        if not location.is_file():
            if isinstance(location, Path) and location.exists():
                raise Unreadable("E0202", f"`{name}` is not an ordinary file")
            raise Unreadable(
                "E0201", f"there is no file `{name}`", _similar_file(location, written or name)
            )
        with location.open("rb") as stream:
            data = stream.read(MAX_FILE_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise Unreadable("E0202", f"`{name}` cannot be read: {reason}") from None
    if len(data) > MAX_FILE_BYTES:
        raise Unreadable(
            "E0901",
            f"`{name}` is larger than {MAX_FILE_BYTES // 1_000_000} MB",
            "a spec is a page of text; is this the right file?",
        )
    return _decode(data, name)


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


def _similar_file(location: Location, name: str) -> str | None:
    parent = folder_of(location)
    if parent is None:
        return None
    try:
        entries = [entry.name for entry in parent.iterdir() if entry.name.endswith(".danet")]
    except OSError:
        folder = os.path.dirname(name)
        return f"there is no folder `{folder}` either" if folder else None
    hint = did_you_mean(os.path.basename(name), entries)
    if hint is None or not os.path.dirname(name):
        return hint
    return hint.replace("`", f"`{os.path.dirname(name)}/", 1)


def folder_of(location: Location) -> Location | None:
    """The folder of a file. Traversable does not promise ``parent``, both its kinds have it."""
    parent = getattr(location, "parent", None)
    return parent if isinstance(parent, Path | Traversable) else None


def read_source(path: str | Location) -> SourceFile:
    """The text of a spec file. Raises SpecError: E0201 missing, E0202 no text, E0901 too large."""
    location = Path(path) if isinstance(path, str) else path
    name = str(path)
    try:
        return SourceFile(name, read_text(location, name))
    except Unreadable as problem:
        raise _spec_error(problem, name) from None


def _spec_error(problem: Unreadable, name: str) -> SpecError:
    nowhere = Span(SourceFile(name, ""), 0, 0)
    return SpecError([Diagnostic(problem.code, problem.message, nowhere, hint=problem.hint)])


@cache
def shipped_specs() -> Mapping[str, Traversable]:
    """The networks that come with the package, by name."""
    found = {
        entry.name.removesuffix(".danet"): entry
        for entry in files("danetc.specs").iterdir()
        if entry.name.endswith(".danet")
    }
    return MappingProxyType(dict(sorted(found.items())))


def find_spec(name_or_path: str) -> Location:
    """A file at this path, else the shipped spec of this name. Raises SpecError (E0201)."""
    path = Path(name_or_path)
    try:
        if path.is_file():
            return path
        exists = path.exists()
    except (OSError, ValueError):
        exists = False
    shipped = shipped_specs()
    if name_or_path in shipped:
        return shipped[name_or_path]
    if exists:
        problem = Unreadable("E0202", f"`{name_or_path}` is not a `.danet` file")
    elif os.path.dirname(name_or_path) or name_or_path.endswith(".danet"):
        hint = _similar_file(path, name_or_path) or did_you_mean(
            path.name.removesuffix(".danet"), shipped
        )
        problem = Unreadable("E0201", f"there is no file `{name_or_path}`", hint)
    else:
        hint = did_you_mean(name_or_path, shipped) or _similar_file(path, f"{name_or_path}.danet")
        problem = Unreadable(
            "E0201", f"there is no file and no shipped spec `{name_or_path}`", hint
        )
    raise _spec_error(problem, name_or_path)
