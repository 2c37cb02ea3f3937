"""Definitions, references and renaming."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence

from danetc.dsl.diagnostics.fixes import Edit
from danetc.dsl.loading import is_library
from danetc.dsl.syntax import tree as s
from danetc.dsl.syntax.source import SourceFile, Span
from danetc.dsl.syntax.tokens import scan
from danetc.editor.analysis import Analysis, analyse

OWN = (*s.DECLARATION_KINDS, "parameter", "line", "state", "variable", "phase")
"""Kinds of meanings that can be renamed."""


class RenameRefused(Exception):
    """A name cannot be changed, or not to this one; the message has the reason."""


def definition(analysis: Analysis, offset: int) -> Span | None:
    """Return the definition of the name at an offset, in this file, another or ``std/...``.

    For `spike` and `norm` in a network it is the line that sets them. For the path of a `use` it is
    the start of that file, as an empty span whose source has the path as its name.
    """
    for use in analysis.program.uses:
        if use.is_path and use.span.start <= offset <= use.span.end and use.names is None:
            path = os.path.join(os.path.dirname(analysis.source.name), use.module)
            return Span(SourceFile(os.path.normpath(path), ""), 0, 0)
    found = analysis.meanings.at(offset)
    if found is None:
        return None
    setting = {"spike": "neuron", "norm": "norm"}.get(found.meaning.name)
    if found.meaning.kind != "word" or setting is None:
        return found.meaning.place
    around = (i for i in analysis.program.declarations if i.span.start <= offset < i.span.end)
    lines = (line for item in around for line in item.body or () if line.name == setting)
    return next((line.name_span for line in lines), None)


def references(
    analysis: Analysis, offset: int, others: Sequence[Analysis] = (), *, definitions: bool = True
) -> tuple[Span, ...]:
    """Return the places of the name at an offset in this file and others."""
    found = analysis.meanings.at(offset)
    if found is None:
        return ()
    return tuple(
        one.span
        for each in _each_once(analysis, others)
        for one in each.meanings.of(found.meaning)
        if definitions or not one.defines
    )


def _each_once(analysis: Analysis, others: Sequence[Analysis]) -> list[Analysis]:
    return list({each.source.name: each for each in (*others, analysis)}.values())


# -- renaming --------------------------------------------------------------------------------------


def renameable(analysis: Analysis, offset: int) -> Span:
    """Return the span of the name at an offset. Raises RenameRefused if it cannot be renamed."""
    found = analysis.meanings.at(offset)
    if found is None:
        raise RenameRefused("there is no name here")
    meaning = found.meaning
    if meaning.place is not None and is_library(meaning.place.source):
        raise RenameRefused(f"`{meaning.name}` belongs to the standard library")
    if meaning.kind not in OWN or meaning.place is None:
        raise RenameRefused(f"`{meaning.name}` is a name of the language")
    return found.span


def rename(
    analysis: Analysis, offset: int, name: str, others: Sequence[Analysis] = ()
) -> tuple[Edit, ...]:
    """Return the edits in this file and others that rename the name at an offset.

    ``others`` are all files that may use this one. Raises RenameRefused if the new name is invalid,
    already has a meaning at one of the places, or causes an error.
    """
    span = renameable(analysis, offset)
    if name == span.text:
        return ()
    tokens = scan(SourceFile("name", name))
    if tokens.errors or [token.type for token in tokens.tokens] != ["NAME", "$END"]:
        raise RenameRefused(f"`{name}` cannot be a name")
    found = analysis.meanings.at(offset)
    assert found is not None
    place = found.meaning.place
    assert place is not None
    files = _each_once(analysis, others)
    if not any(each.source.name == place.source.name for each in files):
        raise RenameRefused(f"`{span.text}` is declared in {place.source.name}: open it first")
    edits = tuple(Edit(one.span, name) for each in files for one in each.meanings.of(found.meaning))
    _check(files, edits, span.text, name)
    return edits


def edited(text: str, edits: Sequence[Edit]) -> str:
    """Apply non-overlapping edits to a text."""
    for edit in sorted(edits, key=lambda edit: edit.span.start, reverse=True):
        text = text[: edit.span.start] + edit.text + text[edit.span.end :]
    return text


def _check(files: Sequence[Analysis], edits: Sequence[Edit], old: str, new: str) -> None:
    """Raise RenameRefused if the edits change the meaning of another name or cause an error."""
    after = {
        each.source.name: edited(
            each.text, [edit for edit in edits if edit.span.source is each.source]
        )
        for each in files
    }
    texts = {os.path.realpath(name): text for name, text in after.items()}
    there: dict[object, object] = {}
    back: dict[object, object] = {}
    for each in files:
        changed = analyse(after[each.source.name], each.source.name, {**each.texts, **texts})
        before, now = each.meanings.occurrences, changed.meanings.occurrences
        for a, b in zip(before, now, strict=False):
            same = there.setdefault(a.meaning.key, b.meaning.key) == b.meaning.key
            if not same or back.setdefault(b.meaning.key, a.meaning.key) != a.meaning.key:
                raise RenameRefused(
                    f"`{new}` means something else already: {b.meaning.kind} in line {b.span.line}"
                )
        errors = Counter(item.code for item in changed.survey.errors)
        errors -= Counter(item.code for item in each.survey.errors)
        if errors or len(before) != len(now):
            news = [item for item in changed.survey.errors if item.code in errors]
            why = f": {news[0].message}" if news else ""
            raise RenameRefused(f"`{old}` cannot become `{new}`{why}")
