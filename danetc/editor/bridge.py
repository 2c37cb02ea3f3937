"""Interface for the browser: one function from JSON to JSON.

The page of ``editors/playground`` calls ``answer`` in a web worker, without torch, click and
processes. Offsets are in UTF-16 code units, as in JavaScript's strings.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from danetc.compiler import draw as pictures
from danetc.compiler.analysis.summary import summarise
from danetc.compiler.frontend.program import Checked
from danetc.compiler.ir.graph import Graph
from danetc.compiler.passes import run
from danetc.dsl.diagnostics.diagnostic import Diagnostic, Reporter, SpecError
from danetc.dsl.syntax.parser import parse
from danetc.dsl.syntax.printer import format_source
from danetc.dsl.syntax.source import SourceFile, Span
from danetc.editor.analysis import Analysis, analyse
from danetc.editor.boxes import BoxPlaces, box_places
from danetc.editor.completion import complete
from danetc.editor.hints import inlay_hints
from danetc.editor.hover import hover
from danetc.editor.navigation import definition
from danetc.editor.problems import CodeFix, code_fixes, problems
from danetc.errors import UserError

Request = Mapping[str, Any]
"""Arguments of a method. ``text`` is a spec, and ``name`` the path of its file."""

Render = Callable[[str, str, str], str]
"""Function from a graph in Graphviz's language, a layout engine and a format to Graphviz's output."""


def draw_with(render: Render) -> None:
    """Use a function in place of Graphviz's program, as that of @viz-js/viz."""

    def layout(texts: Any, engine: str, form: str, dpi: int | None) -> bytes:
        try:
            return "\n".join(render(text, engine, form) for text in texts).encode("utf-8")
        except Exception as error:  # errors of JavaScript have a class of their own
            raise pictures.GraphvizError(f"Graphviz failed: {error}") from error

    pictures.use_layout(layout)


def answer(request: str) -> str:
    """Return the reply to ``{"method": ..., ...}``: ``{"result": ...}`` or ``{"error": text}``.

    Errors are specs with errors if a network is needed, and pictures without content.
    """
    arguments = json.loads(request)
    try:
        result = METHODS[arguments["method"]](arguments)
    except SpecError as error:
        first = error.diagnostics[0]
        return json.dumps({"error": "\n".join(filter(None, (first.message, first.hint)))})
    except (UserError, pictures.DrawError) as error:
        return json.dumps({"error": str(error)})
    return json.dumps({"result": result})


@lru_cache(maxsize=4)
def _analysis(name: str, text: str) -> Analysis:
    return analyse(text, name)


@lru_cache(maxsize=8)
def _after_passes(name: str, text: str, network: str) -> Graph:
    checked = _analysis(name, text).survey.checked
    assert checked is not None
    return run(checked.graphs[network])


def _asked(request: Request) -> Analysis:
    return _analysis(request["name"], request["text"])


def _network(request: Request) -> tuple[Checked, str]:
    """Return the network of a request, or the first of its file. Raises SpecError."""
    survey = _asked(request).survey
    checked, wanted = survey.checked, request.get("network")
    if checked is None:
        raise SpecError(survey.errors)
    if wanted in checked.networks:
        return checked, wanted
    return checked, next(iter(checked.networks), None) or checked.main


def _graph(request: Request) -> Graph:
    """Return the graph of a request's network after the passes. Raises SpecError."""
    _, network = _network(request)
    return _after_passes(request["name"], request["text"], network)


def _written(request: Request) -> Graph:
    """Return the graph of a request's network before the passes. Raises SpecError."""
    checked, network = _network(request)
    return checked.graphs[network]


# -- Methods ---------------------------------------------------------------------------------------


def _check(request: Request) -> object:
    """Return errors or warnings with their fixes, the networks, and hints of shapes and kinds."""
    asked = _asked(request)
    checked, source = asked.survey.checked, asked.source
    fixes = code_fixes(asked, 0, len(asked.text))
    return {
        "diagnostics": [
            {
                **_diagnostic(item, source),
                "fixes": [_fix(fix, source) for fix in fixes if fix.problem == item],
            }
            for item in problems(asked)
        ],
        "networks": [] if checked is None else list(checked.networks),
        "hints": [
            {"at": _offset(source, hint.offset), "text": hint.text, "more": hint.tooltip}
            for hint in inlay_hints(asked)
        ],
    }


def _draw(request: Request) -> object:
    """Return a picture as SVG, and the places of its boxes in the text."""
    checked, network = _network(request)
    graph, level = _after_passes(request["name"], request["text"], network), request["level"]
    svg = pictures.draw(graph, level, theme=request.get("theme", "auto")).decode("utf-8")
    places = box_places(checked, network, graph, level)
    found = {key: _places(each) for key, each in places.items()}
    return {"network": network, "svg": svg, "places": found}


def _hover(request: Request) -> object:
    """Return the documentation of the name at a place as Markdown, or null."""
    asked = _asked(request)
    found = hover(asked, _character(asked.text, request["at"]))
    return found and {"range": _range(found.span), "markdown": found.markdown}


def _complete(request: Request) -> object:
    """Return the completions at a place, the most likely first."""
    asked = _asked(request)
    return [
        {
            "name": item.name,
            "kind": item.kind,
            "text": item.text,
            "range": _range(item.span),
            "detail": item.detail,
            "markdown": item.markdown,
        }
        for item in complete(asked, _character(asked.text, request["at"]))
    ]


def _definition(request: Request) -> object:
    """Return the definition of the name at a place."""
    asked = _asked(request)
    span = definition(asked, _character(asked.text, request["at"]))
    return span and _place(span, asked.source)


def _compare(request: Request) -> object:
    """Return the wirings of the blocks of two networks, side by side, as SVG."""
    graphs = [_graph(request["left"]), _graph(request["right"])]
    return {"svg": pictures.compare(graphs, theme=request.get("theme", "auto")).decode("utf-8")}


def _summary(request: Request) -> object:
    return summarise(_graph(request)).as_dict()


def _prove(request: Request) -> object:
    """Check the propositions on the topology, without numerical checks."""
    from danetc.tasks.proofs import (
        prove,
    )  # deferred: the first picture of the page does not need it

    return prove(_written(request), numbers=False).as_dict()


def _equiv(request: Request) -> object:
    """Compare two specs by their graphs."""
    from danetc.tasks.equivalence import equivalence

    verdict = equivalence(_written(request["left"]), _written(request["right"]), numbers=False)
    return verdict.as_dict()


def _model(request: Request) -> object:
    from danetc.compiler.emit.python import emit_python

    return emit_python(_graph(request))


def _format(request: Request) -> object:
    """Return the formatted text. Raises SpecError for syntax errors."""
    reporter = Reporter()
    program = parse(SourceFile(request["name"], request["text"]), reporter)
    reporter.raise_if_errors()
    return format_source(program)


METHODS: Mapping[str, Callable[[Request], object]] = {
    "check": _check,
    "hover": _hover,
    "complete": _complete,
    "definition": _definition,
    "draw": _draw,
    "compare": _compare,
    "summary": _summary,
    "prove": _prove,
    "equiv": _equiv,
    "model": _model,
    "format": _format,
}


# -- Places ----------------------------------------------------------------------------------------


def _diagnostic(item: Diagnostic, source: SourceFile) -> dict[str, object]:
    return {
        "code": item.code,
        "severity": item.severity,
        "message": item.message,
        "label": item.label,
        "hint": item.hint,
        "line": item.span.line,
        "range": _range(item.span),
        "labels": [{"text": label.text, **_place(label.span, source)} for label in item.labels],
    }


def _fix(fix: CodeFix, source: SourceFile) -> dict[str, object]:
    """Return the title of a fix and its edits of this file."""
    own = (edit for edit in fix.edits if edit.span.source is source)
    return {
        "title": fix.title,
        "edits": [{"range": _range(edit.span), "text": edit.text} for edit in own],
    }


def _places(box: BoxPlaces) -> dict[str, object]:
    """Return the ranges of a box."""
    return {"range": box.place and _range(box.place), "spans": [_range(s) for s in box.spans]}


def _place(span: Span, source: SourceFile) -> dict[str, object]:
    """Return a place in words, with its range if it is in this file."""
    words = f"{span.source.name}:{span.line}"
    return {"place": words, "range": _range(span) if span.source is source else None}


def _range(span: Span) -> tuple[int, int]:
    return _offset(span.source, span.start), _offset(span.source, span.end)


def _offset(source: SourceFile, offset: int) -> int:
    text = source.text[:offset]
    return offset if text.isascii() else len(text.encode("utf-16-le", "surrogatepass")) // 2


def _character(text: str, at: int) -> int:
    """Convert an offset in UTF-16 code units to characters."""
    if text.isascii():
        return at
    return len(text.encode("utf-16-le", "surrogatepass")[: 2 * at].decode("utf-16-le", "ignore"))
