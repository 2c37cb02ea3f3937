"""`use`: which file a name comes from.

A program sees its own declarations and those it takes by `use`, which it does not export. Two
different declarations of one name are an error; one declaration that arrives in two ways is not. A
declaration of the standard library is parsed when its name is first read.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import field
from functools import cache, partial
from itertools import chain, pairwise
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar

from danetc.dsl.diagnostics.diagnostic import Label, Reporter, did_you_mean
from danetc.dsl.diagnostics.fixes import Hint, line_removed, replacing
from danetc.dsl.diagnostics.suggestions import nearest
from danetc.dsl.modules import Module, Resolved
from danetc.dsl.reading import LANGUAGE, SUFFIX, Unreadable, later_version, read_source, read_text
from danetc.dsl.record import record
from danetc.dsl.syntax.parser import parse
from danetc.dsl.syntax.source import SourceFile, Span
from danetc.dsl.syntax.tree import DECLARATION_KINDS, Declaration, Program, Use
from danetc.dsl.work import current

MAX_FILES = 200
MAX_DEPTH = 50
MAX_TOTAL_SIZE = 4_000_000


Named = TypeVar("Named")


class _Names(Mapping[str, Named]):
    """Mapping of names to values that are computed when first read."""

    def __init__(self) -> None:
        self._lookups: dict[str, Callable[[], Named]] = {}
        self._found: dict[str, Named] = {}

    def add(self, name: str, lookup: Callable[[], Named]) -> None:
        self._lookups.setdefault(name, lookup)

    def __getitem__(self, name: str) -> Named:
        if name not in self._found:
            self._found[name] = self._lookups[name]()
        return self._found[name]

    def __contains__(self, name: object) -> bool:
        return name in self._lookups

    def __iter__(self) -> Iterator[str]:
        return iter(self._lookups)

    def __len__(self) -> int:
        return len(self._lookups)


@record(eq=False)
class _File:
    """A file: what it uses, and its declarations with the places of their names."""

    source: SourceFile
    uses: Sequence[Use]
    own: Mapping[str, Declaration]
    places: Mapping[str, Span]
    read: Callable[[], Program]
    complete: bool = True


_OPENING = re.compile(rf"^(?:{'|'.join(DECLARATION_KINDS)})[ \t]+([A-Za-z_]\w*)", re.MULTILINE)


class _StdFile:
    """A file of the standard library, parsed by declaration.

    The first part, "", is the text before the first declaration; comments belong to the one before.
    """

    def __init__(self, source: SourceFile) -> None:
        self.source = source
        opened = [*_OPENING.finditer(source.text)]
        self.places = {match[1]: Span(source, match.start(1), match.end(1)) for match in opened}
        self.own = _Names[Declaration]()
        self._parts = _Names[Program]()
        starts = [0, *(match.start() for match in opened)]
        ends = pairwise([*starts, len(source.text)])
        for name, part in zip(("", *self.places), ends, strict=True):
            self._parts.add(name, partial(self._parsed, Span(source, *part)))
            if name:
                self.own.add(name, partial(self._declaration, name))

    def file(self) -> _File:
        return _File(self.source, self._parts[""].uses, self.own, self.places, self._program)

    def _program(self) -> Program:
        items = chain.from_iterable(part.items for part in self._parts.values())
        comments = chain.from_iterable(part.comments for part in self._parts.values())
        whole = Span(self.source, 0, len(self.source.text))
        return Program(tuple(items), tuple(comments), span=whole)

    def _declaration(self, name: str) -> Declaration:
        (declaration,) = self._parts[name].declarations
        return declaration

    def _parsed(self, part: Span) -> Program:
        reporter = Reporter()
        program = parse(self.source, reporter, part)
        reporter.raise_if_errors()
        return program


class _Std:
    """The files of the standard library."""

    def __init__(self) -> None:
        self.folder = Path(__file__).with_name("std")
        self.files: dict[str, _StdFile] = {}
        self.file_of: dict[str, str] = {}  # of each declaration
        self._modules: dict[str, Module] = {}
        for path in sorted(self.folder.iterdir()):
            if path.suffix != SUFFIX:
                continue
            source = SourceFile(f"std/{path.name}", path.read_bytes().decode())
            file = self.files[path.name] = _StdFile(source)
            self.file_of |= dict.fromkeys(file.places, path.name)
        self.sources = {file.source for file in self.files.values()}
        places = {name: self.files[file].places[name] for name, file in self.file_of.items()}
        self.exports = _Exports("std", places, self.resolve)

    def module(self, file: str) -> Module:
        if file not in self._modules:
            reporter = Reporter()
            linked = _Loader(reporter).linked(self.files[file].file(), self.folder / file)
            reporter.raise_if_errors()
            self._modules[file] = linked
        return self._modules[file]

    def resolve(self, name: str) -> Resolved:
        return self.module(self.file_of[name]).resolve(name)


@cache
def _std() -> _Std:
    return _Std()


def std_names() -> frozenset[str]:
    """Return the names of all declarations of the standard library."""
    return frozenset(_std().file_of)


@cache
def standard() -> Mapping[str, Resolved]:
    """Return the declarations of the standard library by name."""
    return {name: _std().resolve(name) for name in _std().file_of}


def std_files() -> tuple[SourceFile, ...]:
    """Return the files of the standard library, sorted by name."""
    return tuple(file.source for file in _std().files.values())


@record(eq=False)
class _Exports:
    """Names that one `use` can bring: the place of each declaration, and how to get it."""

    origin: str
    places: Mapping[str, Span] = field(default_factory=dict)
    resolve: Callable[[str], Resolved] | None = None
    complete: bool = True


@record(frozen=False)
class _Loader:
    reporter: Reporter
    texts: Mapping[str, str] = field(default_factory=dict)  # in place of files, by their keys
    _modules: dict[str, Module] = field(default_factory=dict)
    _failed: set[str] = field(default_factory=set)
    _open: dict[str, Use | None] = field(default_factory=dict)  # being loaded, and what asked
    _exports_of: dict[tuple[str, SourceFile], _Exports] = field(default_factory=dict)
    _size: int = 0

    def module(self, source: SourceFile, path: Path, key: str) -> Module:
        """Parse a file and all that it uses."""
        self._open.setdefault(key, None)
        self._size += len(source.text)
        before = len(self.reporter.diagnostics)
        program = self._parsed(source)
        complete = len(self.reporter.diagnostics) == before

        garbled = [d.span for d in self.reporter.diagnostics[before:] if d.span.source is source]
        own = self._own(program, garbled)
        uses = [
            use  # a `use` with a syntax error may name something else
            for use in program.uses
            if not any(s.start <= use.span.end and use.span.start <= s.end for s in garbled)
        ]
        places = {name: item.name_span for name, item in own.items()}
        file = _File(source, uses, MappingProxyType(own), places, lambda: program, complete)
        module = self.linked(file, path)
        self._modules[key] = module
        del self._open[key]
        return module

    def linked(self, file: _File, path: Path) -> Module:
        """Return a file with all names that it sees."""
        current().allow(len(file.source.text))
        complete = file.complete
        names = _Names[Resolved]()
        taken: dict[str, tuple[Span, Span]] = {}
        lost: set[str] = set()
        brings: list[tuple[Use, frozenset[str]]] = []
        whole: dict[_Exports, frozenset[str]] = {}  # names of what is taken as a whole
        for use in file.uses:
            exports = self._exports(use, path)
            if use.names is None:
                if exports in whole:
                    brings.append((use, whole[exports]))
                    continue
                complete = complete and exports.complete
                current().spend(len(exports.places), use.span)
                places = dict.fromkeys(exports.places, use.span)
                whole[exports] = frozenset(exports.places)
            else:
                places = {it.id: it.span for it in use.names if it.id in exports.places}
                lost.update(item.id for item in use.names if item.id not in exports.places)
                if exports.complete:
                    lost.update(self._report_unknown(use, exports))
            brings.append((use, frozenset(places)))
            for name, place in places.items():
                assert exports.resolve is not None
                if self._accept(name, place, exports.places[name], file.places, taken):
                    names.add(name, partial(exports.resolve, name))
        module = Module(
            file.source,
            file.read,
            names,
            file.own,
            file.places,
            frozenset(lost),
            complete,
            tuple(brings),
        )
        for name in file.places:
            names.add(name, partial(module.resolve, name))
        return module

    def _parsed(self, source: SourceFile) -> Program:
        """Parse a file; an empty tree, and an error, if it is written in a later version."""
        later = later_version(source)
        if later is None:
            return parse(source, self.reporter)
        version, span = later
        self.reporter.error(
            "E0121",
            f"the file is written in version {version} of the language, and this danetc reads "
            f"version {LANGUAGE}",
            span,
            hint="install a newer danetc: `pip install --upgrade danetc`",
        )
        return Program((), span=Span(source, 0, len(source.text)))

    def _own(self, program: Program, garbled: Sequence[Span]) -> dict[str, Declaration]:
        own: dict[str, Declaration] = {}
        for declaration in program.declarations:
            first = own.setdefault(declaration.name, declaration)
            start = declaration.name_span.start
            if any(s.start <= start < s.end for s in garbled):
                continue  # an error stands there already
            if first is not declaration:
                self.reporter.error(
                    "E0206",
                    f"`{declaration.name}` is declared twice",
                    declaration.name_span,
                    label="declared again here",
                    labels=[Label(first.name_span, f"first as a {first.kind} here")],
                    hint="all kinds of declarations share one namespace; rename one of the two",
                )
        return own

    def _accept(
        self,
        name: str,
        place: Span,
        declared: Span,
        own: Mapping[str, Span],
        taken: dict[str, tuple[Span, Span]],
    ) -> bool:
        """True if a name is new here; one that is another declaration's is an error."""
        if name in own:
            self.reporter.error(
                "E0204",
                f"`{name}` is declared here and also imported from another file",
                own[name],
                label="declared here",
                labels=[Label(place, "taken here"), Label(declared, "which is declared here")],
                hint="rename it, or import only the names that you need: `use ... (a, b)`",
            )
            return False
        if name not in taken:
            taken[name] = place, declared
            return True
        first_place, first_declared = taken[name]
        if first_declared.source is not declared.source:
            self.reporter.error(
                "E0204",
                f"two declarations of `{name}` are imported",
                place,
                label=f"`{name}` is imported here",
                labels=[
                    Label(declared, "which is declared here"),
                    Label(first_place, "and it is already imported here"),
                    Label(first_declared, "from this declaration"),
                ],
                hint="import only the names that you need from one of them: `use ... (a, b)`",
            )
        return False

    def _exports(self, use: Use, path: Path) -> _Exports:
        """Return what a `use` can bring; report errors on the way."""
        if use.is_path:
            module, origin = self._file(use, path), f'"{use.module}"'
            if module is None:
                return _Exports(origin, complete=False)
            key = (use.module, module.source)
            if key not in self._exports_of:
                exports = _Exports(origin, module.places, module.resolve, module.complete)
                self._exports_of[key] = exports
            return self._exports_of[key]
        if use.module == "std":
            return _std().exports
        hint = did_you_mean(use.module, ["std"])
        if (path.parent / f"{use.module}.danet").is_file():
            meant = f'use "{use.module}.danet"'
            fixes = () if use.names is not None else (replacing(use.span, meant),)
            hint = Hint(f"write the path of the file: `{meant}`", *fixes)
        self.reporter.error(
            "E0207",
            f"there is no library `{use.module}`",
            use.span,
            label="unknown library",
            hint=hint or "the standard library is `std`; a file is named by its path, in quotes",
        )
        return _Exports(use.module, complete=False)

    def _report_unknown(self, use: Use, exports: _Exports) -> set[str]:
        """Report names that are not declared; return those that were probably meant."""
        meant: set[str] = set()
        for item in use.names or ():
            if item.id not in exports.places:
                meant.update(nearest(item.id, exports.places))
                self.reporter.error(
                    "E0205",
                    f"{exports.origin} does not declare `{item.id}`",
                    item.span,
                    label="unknown name",
                    hint=did_you_mean(item.id, exports.places),
                )
        return meant

    def _file(self, use: Use, path: Path) -> Module | None:
        """Return the module of a `use "file.danet"`, or None if there is none (reported)."""
        target = path.parent / use.module
        std = _std()
        if path.parent == std.folder and use.module in std.files:
            return std.module(use.module)
        key = os.path.realpath(target)
        if key in self._open:
            self._report_cycle(use, key)
            return None
        if key in self._modules:
            return self._modules[key]
        if key in self._failed:
            return None
        name = os.path.normpath(os.path.join(os.path.dirname(use.span.source.name), use.module))
        try:
            source = SourceFile(name, self._bounded(target, name, use.module))
        except Unreadable as problem:
            self._failed.add(key)
            self.reporter.error(
                problem.code, problem.message, use.span, label="used here", hint=problem.hint
            )
            return None
        self._open[key] = use
        return self.module(source, target, key)

    def _bounded(self, target: Path, name: str, written: str) -> str:
        """Read an imported file, within the limits on all of them together."""
        if len(self._modules) + len(self._open) >= MAX_FILES:
            raise Unreadable("E0901", f"more than {MAX_FILES} files are used")
        if len(self._open) >= MAX_DEPTH:
            raise Unreadable("E0901", f"files use each other more than {MAX_DEPTH} deep")
        text = self.texts.get(os.path.realpath(target))
        if text is None:
            text = read_text(target, name, written)
        if self._size + len(text) > MAX_TOTAL_SIZE:
            raise Unreadable(
                "E0901", f"all files together are larger than {MAX_TOTAL_SIZE // 1_000_000} MB"
            )
        return text

    def _report_cycle(self, use: Use, key: str) -> None:
        chain = list(self._open)
        circle = chain[chain.index(key) + 1 :]
        through = [asked for asked in (self._open[name] for name in circle) if asked is not None]
        self.reporter.error(
            "E0203",
            "files use each other in a cycle" if through else "the file uses itself",
            use.span,
            label="this closes the cycle" if through else "this is the file itself",
            labels=[Label(asked.span, "which is used here") for asked in reversed(through)],
            hint="move the shared declarations into a third file"
            if through
            else Hint("remove this line", line_removed(use.span)),
        )


def load_module(
    path_or_source: str | Path | SourceFile,
    reporter: Reporter,
    texts: Mapping[str, str] | None = None,
) -> Module:
    """Parse a file and all that it uses; report every error of every file once.

    Files that a SourceFile uses are found relative to the folder of its name. ``texts`` are used in
    place of files, by their real paths: those that an editor has open. Raises SpecError if the file
    itself cannot be read (see ``read_source``).
    """
    if isinstance(path_or_source, SourceFile):
        source, path = path_or_source, Path(path_or_source.name)
    else:
        source, path = read_source(path_or_source), Path(path_or_source)
    return _Loader(reporter, texts or {}).module(source, path, os.path.realpath(path))


def library_file(source: SourceFile) -> Path | None:
    """Return the file of the package with a source of the standard library."""
    name = source.name.removeprefix("std/")
    known = is_library(source) and name in _std().files
    return _std().folder / name if known else None


def is_library(source: SourceFile) -> bool:
    """True if a source is a file of the standard library."""
    return source in _std().sources
