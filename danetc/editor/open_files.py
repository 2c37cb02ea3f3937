"""The open files of an editor. Their texts take precedence over the files on disk."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from danetc.dsl.reading import MAX_FILE_BYTES, SUFFIX
from danetc.editor.analysis import Analysis, analyse
from danetc.editor.outline import OutlineSymbol, symbols

MOST_FOLDERS = 1_000
"""Maximum number of folders to search."""
_SKIPPED = frozenset(("node_modules", "build", "__pycache__"))


class OpenFiles:
    """The open files and their analyses.

    ``folders`` are the folders of the workspace, whose files are also searched for names.
    """

    def __init__(self, folders: Iterable[str] = ()) -> None:
        self.folders = list(folders)
        self.texts: dict[str, str] = {}  # by real path
        self._names: dict[str, str] = {}  # real path by the name of an open file
        self._known: dict[str, tuple[int, Analysis]] = {}  # generation and analysis by name
        self._generation = 0

    def change(self, name: str, text: str) -> None:
        """Open a file, or replace the text of an open file."""
        key = os.path.realpath(name)
        if self.texts.get(key) != text or name not in self._names:
            self._names[name] = key
            self.texts[key] = text
            self._generation += 1

    def close(self, name: str) -> None:
        """Close a file, so that its text is read from disk."""
        key = self._names.pop(name, "")
        if key not in self._names.values():  # the file is not open under another name
            self.texts.pop(key, None)
        self._known.pop(name, None)
        self._generation += 1

    def disk_changed(self) -> None:
        """Discard the analyses that depend on other files."""
        self._generation += 1

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all open files."""
        return tuple(self._names)

    def is_open(self, name: str) -> bool:
        return name in self._names

    def analysis(self, name: str) -> Analysis:
        """Return the analysis of a file, open or on disk. Raises OSError, UnicodeDecodeError."""
        key = self._names.get(name)
        text = self.texts[key] if key is not None else _read(name)
        generation, known = self._known.get(name, (-1, None))
        if (
            known is not None
            and known.text == text
            and (generation == self._generation or not _uses_files(known))
        ):
            return known
        others = {path: other for path, other in self.texts.items() if path != key}
        found = analyse(text, name, others, known)
        if key is not None:
            self._known[name] = self._generation, found
        return found

    def dependents(self, name: str) -> tuple[str, ...]:
        """Return the open files that may be affected by a change of this file."""
        return tuple(
            other for other in self._names if other != name and _uses_files(self.analysis(other))
        )

    def others(self, name: str) -> tuple[Analysis, ...]:
        """Return the analyses of the other open files."""
        return tuple(self.analysis(other) for other in self._names if other != name)

    def mentioning(self, word: str) -> Iterator[Analysis]:
        """Yield the analyses of open files and files of the folders that contain a word."""
        seen = set(self.texts)
        for name, key in self._names.items():
            if word in self.texts[key]:
                yield self.analysis(name)
        for path in self._in_folders():
            key = os.path.realpath(path)
            if key not in seen:
                seen.add(key)
                try:
                    if word in _read(str(path)):
                        yield self.analysis(str(path))
                except (OSError, UnicodeDecodeError):
                    continue

    def workspace_symbols(self, query: str) -> Iterator[OutlineSymbol]:
        """Yield the declarations of all files whose names contain the letters of a query in order."""
        letters = re.compile(".*".join(map(re.escape, query)), re.IGNORECASE)
        for analysis in self.mentioning(""):
            yield from (item for item in symbols(analysis) if letters.search(item.name))

    def _in_folders(self) -> Iterator[Path]:
        places = (place for folder in self.folders for place in os.walk(folder))
        for _, (place, inner, names) in zip(range(MOST_FOLDERS), places, strict=False):
            inner[:] = sorted(
                each for each in inner if not each.startswith(".") and each not in _SKIPPED
            )
            yield from (Path(place, name) for name in sorted(names) if name.endswith(SUFFIX))


def _uses_files(analysis: Analysis) -> bool:
    return any(use.is_path for use in analysis.program.uses)


def _read(name: str) -> str:
    with open(name, "rb") as stream:
        return stream.read(MAX_FILE_BYTES).decode("utf-8-sig")
