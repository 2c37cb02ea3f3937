"""`use`: which file a name comes from.

A program sees its own declarations and those it takes by `use`, which it does not export. Two
different declarations of one name are an error; one declaration that arrives in two ways is not. A
declaration of the standard library is parsed when its name is first read.
"""

from __future__ import annotations

import os
import re
from collections import UserDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import field, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any, TypeVar

from danetc.dsl.diagnostics.diagnostic import Label, Reporter, SpecError, did_you_mean
from danetc.dsl.diagnostics.fixes import Hint, line_removed
from danetc.dsl.diagnostics.suggestions import nearest
from danetc.dsl.reading import (
    LANGUAGE,
    SUFFIX,
    VERSION,
    read_source,
    read_text,
    unreadable,
    zoo_files,
)
from danetc.dsl.record import record
from danetc.dsl.syntax.parser import parse
from danetc.dsl.syntax.source import SourceFile, Span
from danetc.dsl.syntax.tree import DECLARATION_KINDS, Declaration, Program, Use, called
from danetc.dsl.work import PER_CHARACTER, current

MAX_FILES = 50
MAX_TOTAL_SIZE = 4_000_000


NETWORK = "network "
"""Prefix of the key of a network that shares its name with a declaration of another kind."""


@record
class Resolved:
    """A declaration, and the module in which its names are looked up."""

    declaration: Declaration
    module: Module

    @property
    def base(self) -> Resolved | None:
        """Network of which this one is a variant, or None."""
        name = called(self.declaration.value) if self.declaration.kind == "network" else None
        return self.module.network(name.id) if name is not None else None

    def lineage(self) -> Iterator[Resolved]:
        """Iterate over a network and its bases, up to the first repetition in a cycle."""
        level: Resolved | None = self
        seen: set[int] = set()
        while level is not None and id(level.declaration) not in seen:
            seen.add(id(level.declaration))
            yield level
            level = level.base


@record(slots=False, eq=False)
class Module:
    """A file and all names visible in it: its own and those it imports.

    A network may have the name of a block, a neuron and the like; its key then begins with ``NETWORK``.
    ``lost`` contains the names that a reported error hides; ``complete`` is False if an error (a
    syntax error, a missing file) may hide any name. ``imports`` lists the names of each `use`.
    """

    source: SourceFile
    read: Callable[[], Program]
    names: Mapping[str, Resolved]
    own: Mapping[str, Declaration]
    lost: frozenset[str] = frozenset()
    complete: bool = True
    imports: tuple[tuple[Use, frozenset[str]], ...] = ()

    @cached_property
    def program(self) -> Program:
        return self.read()

    def resolve(self, name: str) -> Resolved:
        """Return a declaration of this file."""
        return Resolved(self.own[name], self)

    def declares(self, item: Declaration) -> bool:
        """True if a name of this file stands for a declaration of it, which is not a duplicate."""
        return any(self.own.get(key) is item for key in (item.name, NETWORK + item.name))

    def network(self, name: str) -> Resolved | None:
        """Return the network of a name, or what else has the name; None if nothing has it."""
        return self.names.get(NETWORK + name) or self.names.get(name)

    def declaration_at(self, span: Span) -> Span:
        """Return the span of the declaration that contains a span, or the span itself."""
        items = self.program.items if span.source is self.source else ()
        within = (it.span for it in items if it.span.start <= span.start < it.span.end)
        return next(within, span)

    def excuses(self, name: str) -> bool:
        """True if a reported error explains why a name is unknown."""
        return not self.complete or name in self.lost


V = TypeVar("V")


class _Lazy(UserDict[str, V]):
    """Mapping whose values are computed when they are first read; KeyError if ``compute`` has none."""

    def __init__(self, names: dict[str, Any], compute: Callable[[str], V]) -> None:
        self.data, self._compute = names, cache(compute)  # names may be added later

    def __getitem__(self, name: str) -> V:
        return self._compute(name)


_OPENING = re.compile(rf"^(?:{'|'.join(DECLARATION_KINDS)})[ \t]+([A-Za-z_]\w*)", re.MULTILINE)


class _Std:
    """The standard library, whose files see each other. A declaration is parsed when it is first read."""

    def __init__(self) -> None:
        self.folder = Path(__file__).with_name("std")
        self.module_of: dict[str, Module] = {}  # by declaration
        self.names = _Lazy(self.module_of, lambda name: self.module_of[name].resolve(name))
        paths = sorted(self.folder.glob(f"*{SUFFIX}"))
        self.modules = {path.name: self._module(path) for path in paths}  # by file

    def _module(self, path: Path) -> Module:
        """Return a file, which is split where its declarations begin."""
        source = SourceFile(f"std/{path.name}", path.read_bytes().decode())
        opened = [*_OPENING.finditer(source.text)]
        ends = [*(match.start() for match in opened[1:]), len(source.text)]
        parts = {m[1]: Span(source, m.start(), end) for m, end in zip(opened, ends, strict=True)}
        own = _Lazy(parts, lambda name: _parsed(parts[name]).declarations[0])
        whole = Span(source, 0, len(source.text))
        module = Module(source, lambda: _parsed(whole), self.names, own)
        self.module_of |= dict.fromkeys(parts, module)
        return module


def _parsed(part: Span) -> Program:
    reporter = Reporter()
    program = parse(part.source, reporter, part)
    reporter.raise_if_errors()
    return program


_std = cache(_Std)


def standard() -> Mapping[str, Resolved]:
    """Return the declarations of the standard library by name."""
    return _std().names


@cache
def std_files() -> tuple[SourceFile, ...]:
    """Return the files of the standard library, sorted by name."""
    return tuple(module.source for module in _std().modules.values())


@record
class _Import:
    """A declaration of another module, and the span in a `use` that names it."""

    module: Module
    name: str
    place: Span

    @property
    def resolved(self) -> Resolved:
        return self.module.resolve(self.name)

    @property
    def label(self) -> Label:
        return Label(self.resolved.declaration.name_span, "from this declaration")


@record(frozen=False)
class _Loader:
    reporter: Reporter
    texts: Mapping[str, str] = field(default_factory=dict)  # in place of files, by their keys
    _modules: dict[str, Module | None] = field(default_factory=dict)  # None: unreadable
    _open: dict[str, Use | None] = field(default_factory=dict)  # being loaded, and what asked
    _size: int = 0

    def module(self, source: SourceFile, path: Path, file: str) -> Module:
        """Parse a file and all that it uses."""
        self._open.setdefault(file, None)
        self._size += len(source.text)
        current().limit += PER_CHARACTER * len(source.text)
        before = len(self.reporter.diagnostics)
        program = self._parsed(source)
        found = self.reporter.diagnostics[before:]
        complete = not found
        garbled = [item.span for item in found if item.span.source is source]
        own = self._own(program, garbled)
        taken: dict[str, _Import] = {}
        lost: set[str] = set()
        imports: list[tuple[Use, frozenset[str]]] = []
        for use in program.uses:
            if any(s.start <= use.span.end and use.span.start <= s.end for s in garbled):
                continue  # its names may be wrong because of the syntax error
            module_of, all_known = self._exports(use, path)
            places: dict[str, Span] = {}
            if use.names is None:
                complete = complete and all_known
                current().spend(len(module_of), use.span)
                places = dict.fromkeys(module_of, use.span)
            for item in use.names or ():
                known = {item.id, NETWORK + item.id} & module_of.keys()
                places |= dict.fromkeys(sorted(known), item.span)
                if not known:
                    lost.add(item.id)
                if known or not all_known:
                    continue
                origin = f'"{use.module}"' if use.is_path else use.module
                message = f"{origin} does not declare `{item.id}`"
                hint = did_you_mean(item.id, module_of)
                self.reporter.error("E0205", message, item.span, label="unknown name", hint=hint)
                lost.update(nearest(item.id, module_of))
            imports.append((use, frozenset(name.removeprefix(NETWORK) for name in places)))
            for name, place in places.items():
                self._take(_Import(module_of[name], name, place), own, taken)
        module = Module(
            source,
            lambda: program,
            _Lazy(
                taken | dict.fromkeys(own),
                lambda name: module.resolve(name) if name in own else taken[name].resolved,
            ),
            own,
            frozenset(lost),
            complete,
            tuple(imports),
        )
        self._modules[file] = module
        del self._open[file]
        return module

    def _parsed(self, source: SourceFile) -> Program:
        """Parse a file; an empty tree, and an error, if it is written in a later version."""
        version = VERSION.match(source.text)
        if version is None or int(version[1]) <= LANGUAGE:
            return parse(source, self.reporter)
        theirs, ours = version[1], f"but this danetc reads version {LANGUAGE}"
        message = f"the file is written in version {theirs} of the language, {ours}"
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
            if first is not declaration and not any(s.start <= start < s.end for s in garbled):
                self.reporter.error(
                    "E0206",
                    f"`{declaration.name}` is declared twice",
                    declaration.name_span,
                    label="declared again here",
                    labels=[Label(first.name_span, f"first as a {first.kind} here")],
                    hint="rename one of the two; only a network may share its name, except with a recipe",
                )
        return own

    def _take(self, new: _Import, own: dict[str, Declaration], taken: dict[str, _Import]) -> None:
        """Add an import; a network makes room for another declaration of its name.

        Two declarations of one key are an error, but a file's own recipe shadows that of std.
        """
        name = key = new.name.removeprefix(NETWORK)
        known = own.get(name) or (taken[name].resolved.declaration if name in taken else None)
        if known is not None and _may_share(known, new.resolved.declaration):
            if known.kind != "network":
                key = NETWORK + name
            elif name in own:
                own[NETWORK + name] = own.pop(name)
            else:
                taken[NETWORK + name] = taken.pop(name)
        if key in own:
            if own[key].kind == "recipe" and new.module.source.name == "std/recipes.danet":
                return
            message = f"`{name}` is declared here and also imported from another file"
            labels = [Label(new.place, "imported here"), new.label]
            hint = "rename it, or import only the names that you need: `use ... (a, b)`"
            span = own[key].name_span
            self.reporter.error(
                "E0204", message, span, label="declared here", labels=labels, hint=hint
            )
        elif (first := taken.setdefault(key, new)).module is not new.module:
            self.reporter.error(
                "E0204",
                f"two declarations of `{name}` are imported",
                new.place,
                label=f"`{name}` is imported here",
                labels=[new.label, Label(first.place, "it is already imported here"), first.label],
                hint="import only the names that you need from one of them: `use ... (a, b)`",
            )

    def _exports(self, use: Use, path: Path) -> tuple[Mapping[str, Module], bool]:
        """Return the modules of the names that a `use` can bring, and False if an error hides some."""
        if not use.is_path and use.module == "std":
            return _std().module_of, True
        shipped = None if use.is_path else zoo_files().get(use.module)
        if use.is_path or shipped is not None:
            module = self._file(use, path, shipped)
            if module is None:
                return {}, False
            return dict.fromkeys(module.own, module), module.complete
        hint = did_you_mean(use.module, ["std", *zoo_files()])
        hint = hint or f'a file is named by its path, in quotes: `use "{use.module}.danet"`'
        hint = "name one of its files, as in `use zoo.tokens`" if use.module == "zoo" else hint
        message = f"there is no library `{use.module}`"
        self.reporter.error("E0207", message, use.span, label="unknown library", hint=hint)
        return {}, False

    def _file(self, use: Use, path: Path, shipped: Path | None) -> Module | None:
        """Return the module of a file that is used, or None if there is none (reported)."""
        target = shipped or path.parent / use.module
        std = _std()
        if path.parent == std.folder and use.module in std.modules:
            return std.modules[use.module]
        key = os.path.realpath(target)
        if key in self._open:
            chain = list(self._open)
            users = [self._open[name] for name in chain[chain.index(key) + 1 :]]
            through = [Label(user.span, "which is used here") for user in reversed(users) if user]
            removed = Hint("remove this line", line_removed(use.span))
            self.reporter.error(
                "E0203",
                "files use each other in a cycle" if through else "the file uses itself",
                use.span,
                label="this closes the cycle",
                labels=through,
                hint="move the shared declarations into a third file" if through else removed,
            )
            return None
        if key in self._modules:
            return self._modules[key]
        name = os.path.join(os.path.dirname(use.span.source.name), use.module)
        name = str(shipped or os.path.normpath(name))
        try:
            if len(self._modules) + len(self._open) >= MAX_FILES:
                raise unreadable(name, "E0901", f"more than {MAX_FILES} files are used")
            text = self.texts.get(key)
            text = read_text(target, name, use.module) if text is None else text
            if self._size + len(text) > MAX_TOTAL_SIZE:
                message = f"all files together are larger than {MAX_TOTAL_SIZE // 1_000_000} MB"
                raise unreadable(name, "E0901", message)
        except SpecError as problem:
            self._modules[key] = None
            (item,) = problem.diagnostics
            self.reporter.add(replace(item, span=use.span, label="used here"))
            return None
        self._open[key] = use
        return self.module(SourceFile(name, text), target, key)


def _may_share(first: Declaration, second: Declaration) -> bool:
    """True for a network and a declaration that cannot stand in its place."""
    kinds = {first.kind, second.kind}
    return "network" in kinds and len(kinds) == 2 and "recipe" not in kinds


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
    if not isinstance(path_or_source, SourceFile):
        path_or_source = read_source(path_or_source)
    path = Path(path_or_source.name)
    return _Loader(reporter, texts or {}).module(path_or_source, path, os.path.realpath(path))


def library_file(source: SourceFile) -> Path | None:
    """Return the file of the package with a source of the standard library."""
    return _std().folder / source.name.removeprefix("std/") if is_library(source) else None


def is_library(source: SourceFile) -> bool:
    """True if a source is a file of the standard library."""
    return source in std_files()
