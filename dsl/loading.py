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
from functools import cache
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar

from danetc.dsl.diagnostics.diagnostic import Label, Reporter, did_you_mean
from danetc.dsl.diagnostics.fixes import Hint, line_removed
from danetc.dsl.diagnostics.suggestions import nearest
from danetc.dsl.modules import NETWORK, Module, Resolved
from danetc.dsl.reading import (
    LANGUAGE,
    SUFFIX,
    VERSION,
    Unreadable,
    read_source,
    read_text,
    zoo_files,
)
from danetc.dsl.record import record
from danetc.dsl.syntax.parser import parse
from danetc.dsl.syntax.source import SourceFile, Span
from danetc.dsl.syntax.tree import DECLARATION_KINDS, Declaration, Program, Use, UseName
from danetc.dsl.work import current

MAX_FILES = 50
MAX_TOTAL_SIZE = 4_000_000


V = TypeVar("V")


class _Lazy(Mapping[str, V]):
    """Mapping whose values are computed when they are first read."""

    def __init__(self, names: Mapping[str, object], compute: Callable[[str], V]) -> None:
        self._names = names
        self._compute = cache(compute)

    def __getitem__(self, name: str) -> V:
        if name not in self._names:
            raise KeyError(name)
        return self._compute(name)

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


_OPENING = re.compile(rf"^(?:{'|'.join(DECLARATION_KINDS)})[ \t]+([A-Za-z_]\w*)", re.MULTILINE)


class _Std:
    """The standard library, whose files see each other. A declaration is parsed when it is first read."""

    def __init__(self) -> None:
        self.folder = Path(__file__).with_name("std")
        self.module_of: dict[str, Module] = {}
        self.places: dict[str, Span] = {}
        self.names = _Lazy(self.module_of, lambda name: self.module_of[name].resolve(name))
        paths = sorted(self.folder.glob(f"*{SUFFIX}"))
        self.modules = {path.name: self._module(path) for path in paths}  # by file

    def _module(self, path: Path) -> Module:
        """Return a file, which is split where its declarations begin."""
        source = SourceFile(f"std/{path.name}", path.read_bytes().decode())
        opened = [*_OPENING.finditer(source.text)]
        starts = [*(match.start() for match in opened), len(source.text)]
        names = [match[1] for match in opened]
        parts = {
            name: Span(source, *part) for name, part in zip(names, pairwise(starts), strict=True)
        }
        places = {match[1]: Span(source, *match.span(1)) for match in opened}
        own = _Lazy(parts, lambda name: _parsed(parts[name]).declarations[0])
        whole = Span(source, 0, len(source.text))
        module = Module(source, lambda: _parsed(whole), self.names, own, places)
        self.places |= places
        self.module_of |= dict.fromkeys(places, module)
        return module


def _parsed(part: Span) -> Program:
    reporter = Reporter()
    program = parse(part.source, reporter, part)
    reporter.raise_if_errors()
    return program


@cache
def _std() -> _Std:
    return _Std()


def standard() -> Mapping[str, Resolved]:
    """Return the declarations of the standard library by name."""
    return _std().names


@cache
def std_files() -> tuple[SourceFile, ...]:
    """Return the files of the standard library, sorted by name."""
    return tuple(module.source for module in _std().modules.values())


@record(eq=False)
class _Exports:
    """Names that one `use` can bring, and the places of their declarations."""

    origin: str
    names: Mapping[str, Resolved] = field(default_factory=dict)
    places: Mapping[str, Span] = field(default_factory=dict)
    complete: bool = False


@record(frozen=False)
class _Loader:
    reporter: Reporter
    texts: Mapping[str, str] = field(default_factory=dict)  # in place of files, by their keys
    _modules: dict[str, Module | None] = field(default_factory=dict)  # None: unreadable
    _open: dict[str, Use | None] = field(default_factory=dict)  # being loaded, and what asked
    _size: int = 0

    def module(self, source: SourceFile, path: Path, key: str) -> Module:
        """Parse a file and all that it uses."""
        self._open.setdefault(key, None)
        self._size += len(source.text)
        current().allow(len(source.text))
        before = len(self.reporter.diagnostics)
        program = self._parsed(source)
        found = self.reporter.diagnostics[before:]
        complete = not found
        garbled = [item.span for item in found if item.span.source is source]
        own = self._own(program, garbled)
        origins: dict[str, Mapping[str, Resolved]] = {}  # of each name
        taken: dict[str, tuple[Span, Span]] = {}
        lost: set[str] = set()
        imports: list[tuple[Use, frozenset[str]]] = []
        for use in program.uses:
            if any(s.start <= use.span.end and use.span.start <= s.end for s in garbled):
                continue  # its names may be wrong because of the syntax error
            exports = self._exports(use, path)
            if use.names is None:
                complete = complete and exports.complete
                current().spend(len(exports.places), use.span)
                places = dict.fromkeys(exports.places, use.span)
            else:
                places = {}
                for item in use.names:
                    known = {item.id, NETWORK + item.id} & exports.places.keys()
                    places |= dict.fromkeys(sorted(known), item.span)
                    if not known:
                        lost.add(item.id)
                        lost.update(self._report_unknown(item, exports))
            imports.append((use, frozenset(name.removeprefix(NETWORK) for name in places)))
            for name, place in places.items():
                here = _key(name, exports.names, own, origins, taken)
                if self._accept(here, place, exports.places[name], own, taken):
                    origins[here] = exports.names if here == name else {here: exports.names[name]}
        module = Module(
            source,
            lambda: program,
            _Lazy(origins, lambda name: origins[name][name]),
            MappingProxyType(own),
            {name: item.name_span for name, item in own.items()},
            frozenset(lost),
            complete,
            tuple(imports),
        )
        resolved = {name: module.resolve(name) for name in own}
        origins.update((name, resolved) for name in own)
        self._modules[key] = module
        del self._open[key]
        return module

    def _parsed(self, source: SourceFile) -> Program:
        """Parse a file; an empty tree, and an error, if it is written in a later version."""
        version = VERSION.match(source.text)
        if version is None or int(version[1]) <= LANGUAGE:
            return parse(source, self.reporter)
        message = (
            f"the file is written in version {version[1]} of the language, but this danetc reads "
            f"version {LANGUAGE}"
        )
        hint = "install a newer danetc: `pip install --upgrade danetc`"
        self.reporter.error("E0121", message, Span(source, *version.span(1)), hint=hint)
        return Program((), span=Span(source, 0, len(source.text)))

    def _own(self, program: Program, garbled: Sequence[Span]) -> dict[str, Declaration]:
        own: dict[str, Declaration] = {}
        for declaration in program.declarations:
            name = declaration.name
            first = own.setdefault(name, declaration)
            if _may_share(first, declaration):
                if first.kind == "network":
                    own[name], declaration = declaration, first
                first = own.setdefault(NETWORK + name, declaration)
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
                    hint="rename one of the two; only a network may share its name, except with a recipe",
                )
        return own

    def _accept(
        self,
        name: str,
        place: Span,
        declared: Span,
        own: Mapping[str, Declaration],
        taken: dict[str, tuple[Span, Span]],
    ) -> bool:
        """True if a key is new here. Another declaration of it is an error, but a file's own recipe
        shadows that of std."""
        key, name = name, name.removeprefix(NETWORK)
        if key in own:
            if own[key].kind == "recipe" and declared.source.name == "std/recipes.danet":
                return False
            message = f"`{name}` is declared here and also imported from another file"
            labels = [Label(place, "imported here"), Label(declared, "from this declaration")]
            hint = "rename it, or import only the names that you need: `use ... (a, b)`"
            span = own[key].name_span
            self.reporter.error(
                "E0204", message, span, label="declared here", labels=labels, hint=hint
            )
            return False
        if key not in taken:
            taken[key] = place, declared
            return True
        first_place, first_declared = taken[key]
        if first_declared.source is not declared.source:
            labels = [
                Label(declared, "from this declaration"),
                Label(first_place, "it is already imported here"),
                Label(first_declared, "from this declaration"),
            ]
            self.reporter.error(
                "E0204",
                f"two declarations of `{name}` are imported",
                place,
                label=f"`{name}` is imported here",
                labels=labels,
                hint="import only the names that you need from one of them: `use ... (a, b)`",
            )
        return False

    def _exports(self, use: Use, path: Path) -> _Exports:
        """Return what a `use` can bring; report errors on the way."""
        if not use.is_path and use.module == "std":
            return _Exports("std", _std().names, _std().places, True)
        shipped = None if use.is_path else zoo_files().get(use.module)
        if use.is_path or shipped is not None:
            module = self._file(use, path, shipped)
            origin = f'"{use.module}"' if use.is_path else use.module
            if module is None:
                return _Exports(origin)
            return _Exports(origin, module.names, module.places, module.complete)
        hint = did_you_mean(use.module, ["std", *zoo_files()])
        hint = hint or f'a file is named by its path, in quotes: `use "{use.module}.danet"`'
        hint = "name one of its files, as in `use zoo.tokens`" if use.module == "zoo" else hint
        message = f"there is no library `{use.module}`"
        self.reporter.error("E0207", message, use.span, label="unknown library", hint=hint)
        return _Exports(use.module)

    def _report_unknown(self, name: UseName, exports: _Exports) -> tuple[str, ...]:
        """Report a name that is not declared, and return the names that are similar to it."""
        if not exports.complete:
            return ()
        message = f"{exports.origin} does not declare `{name.id}`"
        hint = did_you_mean(name.id, exports.places)
        self.reporter.error("E0205", message, name.span, label="unknown name", hint=hint)
        return nearest(name.id, exports.places)

    def _file(self, use: Use, path: Path, shipped: Path | None) -> Module | None:
        """Return the module of a file that is used, or None if there is none (reported)."""
        target = shipped or path.parent / use.module
        std = _std()
        if path.parent == std.folder and use.module in std.modules:
            return std.modules[use.module]
        key = os.path.realpath(target)
        if key in self._open:
            self._report_cycle(use, key)
            return None
        if key in self._modules:
            return self._modules[key]
        name = os.path.join(os.path.dirname(use.span.source.name), use.module)
        name = str(shipped or os.path.normpath(name))
        try:
            source = SourceFile(name, self._bounded(target, name, use.module))
        except Unreadable as problem:
            self._modules[key] = None
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
        through = [asked for name in chain[chain.index(key) + 1 :] if (asked := self._open[name])]
        hint = "move the shared declarations into a third file"
        self.reporter.error(
            "E0203",
            "files use each other in a cycle" if through else "the file uses itself",
            use.span,
            label="this closes the cycle",
            labels=[Label(asked.span, "which is used here") for asked in reversed(through)],
            hint=hint if through else Hint("remove this line", line_removed(use.span)),
        )


def _may_share(first: Declaration, second: Declaration) -> bool:
    """True for a network and a declaration that cannot stand in its place."""
    kinds = {first.kind, second.kind}
    return "network" in kinds and len(kinds) == 2 and "recipe" not in kinds


def _key(
    name: str,
    names: Mapping[str, Resolved],
    own: dict[str, Declaration],
    origins: dict[str, Mapping[str, Resolved]],
    taken: dict[str, tuple[Span, Span]],
) -> str:
    """Return the key of an import; a network makes room for another declaration of its name."""
    plain = name.removeprefix(NETWORK)
    key = NETWORK + plain
    first = own.get(plain) or (origins[plain][plain].declaration if plain in origins else None)
    if first is None or not _may_share(first, names[name].declaration):
        return plain
    if first.kind != "network":
        return key
    if plain in own:
        own[key] = own.pop(plain)
    else:
        origins[key], taken[key] = {key: origins.pop(plain)[plain]}, taken.pop(plain)
    return plain


def load_module(
    path_or_source: str | Path | SourceFile,
    reporter: Reporter,
    texts: Mapping[str, str] | None = None,
) -> Module:
    """Parse a file and the files that it uses, and report the errors of all files.

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
    known = is_library(source) and name in _std().modules
    return _std().folder / name if known else None


def is_library(source: SourceFile) -> bool:
    """True if a source is a file of the standard library."""
    return source in std_files()
