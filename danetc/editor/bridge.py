"""The interface for the browser: a function that takes and returns JSON.

The page of ``editors/playground`` calls ``answer`` in a web worker without torch, click and
processes. A range is a pair of offsets in UTF-16 code units, as in JavaScript strings.
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
from danetc.dsl.diagnostics.diagnostic import Reporter, SpecError
from danetc.dsl.syntax.parser import parse
from danetc.dsl.syntax.printer import format_source
from danetc.dsl.syntax.source import SourceFile, Span
from danetc.editor.analysis import Analysis, analyse
from danetc.editor.completion import complete
from danetc.editor.hints import inlay_hints
from danetc.editor.hover import hover
from danetc.editor.navigation import definition
from danetc.editor.positions import characters, units
from danetc.editor.preview import draw_places
from danetc.editor.problems import code_fixes, problems
from danetc.errors import UserError

Request = Mapping[str, Any]
"""Arguments of a method. ``text`` is a spec and ``name`` the path of its file."""

Render = Callable[[str, str, str], str]
"""A function that takes a graph in DOT, a layout engine and a format, and returns the output."""


def draw_with(render: Render) -> None:
    """Use a function such as that of @viz-js/viz instead of the Graphviz program."""

    def layout(texts: Any, engine: str, form: str, dpi: int | None) -> bytes:
        try:
            return "\n".join(render(text, engine, form) for text in texts).encode("utf-8")
        except Exception as error:  # the class of JavaScript errors is unknown here
            raise pictures.GraphvizError(f"Graphviz failed: {error}") from error

    pictures.use_layout(layout)


def answer(request: str) -> str:
    """Return the reply to ``{"method": ..., ...}``: ``{"result": ...}`` or ``{"error": text}``.

    The reply is an error if a method needs a network and the spec has errors, or if there is
    nothing to draw.
    """
    arguments = json.loads(request)
    try:
        result = METHODS[arguments["method"]](arguments)
    except SpecError as error:
        first = error.diagnostics[0]
        return json.dumps({"error": "\n".join(filter(None, (first.message, first.hint)))})
    except UserError as error:
        return json.dumps({"error": str(error)})
    return json.dumps({"result": result}, default=_plain)


def _plain(value: object) -> object:
    """Convert a span to a range, and any other object to a dictionary of its fields."""
    if isinstance(value, Span):
        return [units(value.source.text[:at]) for at in (value.start, value.end)]
    return {"range" if name == "span" else name: item for name, item in vars(value).items()}


@lru_cache(maxsize=4)
def _analysis(name: str, text: str) -> Analysis:
    return analyse(text, name)


@lru_cache(maxsize=8)
def _after_passes(name: str, text: str, network: str) -> Graph:
    checked = _analysis(name, text).survey.checked
    assert checked is not None
    return run(checked.graphs[network])


def _network(request: Request) -> tuple[Checked, str]:
    """Return the network of a request, or the first of its file. Raises SpecError."""
    survey = _analysis(request["name"], request["text"]).survey
    checked, wanted = survey.checked, request.get("network")
    if checked is None:
        raise SpecError(survey.errors)
    if wanted in checked.networks:
        return checked, wanted
    return checked, next(iter(checked.networks), None) or checked.main


def _graph(request: Request) -> Graph:
    """Return the graph of a request's network after the passes. Raises SpecError."""
    return _after_passes(request["name"], request["text"], _network(request)[1])


def _written(request: Request) -> Graph:
    """Return the graph of a request's network before the passes. Raises SpecError."""
    checked, network = _network(request)
    return checked.graphs[network]


def _at(request: Request) -> tuple[Analysis, int]:
    """Return the analysis of a request's text, and the offset ``at`` in characters."""
    asked = _analysis(request["name"], request["text"])
    return asked, characters(asked.text, request["at"])


# -- methods ---------------------------------------------------------------------------------------


def _check(request: Request) -> object:
    """Return errors and warnings with fixes, the networks, and hints about shapes and kinds."""
    asked = _analysis(request["name"], request["text"])
    checked, source = asked.survey.checked, asked.source
    fixes = code_fixes(asked, 0, len(asked.text))
    return {
        "diagnostics": [
            {
                "code": item.code,
                "severity": item.severity,
                "message": item.message,
                "label": item.label,
                "hint": item.hint,
                "line": item.span.line,
                "range": item.span,
                "labels": [{"text": each.text, "place": _place(each.span)} for each in item.labels],
                "fixes": [
                    {
                        "title": fix.title,
                        "edits": [
                            {"range": edit.span, "text": edit.text}
                            for edit in fix.edits
                            if edit.span.source is source
                        ],
                    }
                    for fix in fixes
                    if fix.problem == item
                ],
            }
            for item in problems(asked)
        ],
        "networks": [] if checked is None else list(checked.networks),
        "hints": [
            {"at": units(asked.text[: hint.offset]), "text": hint.text, "more": hint.tooltip}
            for hint in inlay_hints(asked)
        ],
    }


def _place(span: Span) -> str:
    return f"{span.source.name}:{span.line}"


def _draw(request: Request) -> object:
    """Return a picture as SVG, and the ranges of its boxes in the text."""
    checked, network = _network(request)
    level, theme = request["level"], request.get("theme", "auto")
    svg, boxes = draw_places(checked, network, _graph(request), level, theme)
    places = {key: {"range": each.place, "spans": each.spans} for key, each in boxes.items()}
    return {"network": network, "svg": svg, "places": places}


def _definition(request: Request) -> object:
    """Return the location of a name's definition, with a range if it is in this file."""
    asked, at = _at(request)
    span = definition(asked, at)
    own = span is not None and span.source is asked.source
    return span and {"place": _place(span), "range": span if own else None}


def _compare(request: Request) -> object:
    """Return the wirings of the blocks of two networks, side by side, as SVG."""
    graphs = [_graph(request["left"]), _graph(request["right"])]
    return {"svg": pictures.compare(graphs, theme=request.get("theme", "auto")).decode("utf-8")}


def _prove(request: Request) -> object:
    """Check the propositions that depend only on the topology."""
    from danetc.tasks.proofs import prove  # deferred: not needed for the first picture

    return prove(_written(request), numbers=False)


def _equiv(request: Request) -> object:
    """Compare the graphs of two specs."""
    from danetc.tasks.equivalence import equivalence

    verdict = equivalence(_written(request["left"]), _written(request["right"]), numbers=False)
    return verdict.as_dict()


def _model(request: Request) -> object:
    from danetc.compiler.emit.python import emit_python

    return emit_python(_graph(request))


def _format(request: Request) -> object:
    """Return the formatted text. Raises SpecError if there are syntax errors."""
    reporter = Reporter()
    program = parse(SourceFile(request["name"], request["text"]), reporter)
    reporter.raise_if_errors()
    return format_source(program)


METHODS: Mapping[str, Callable[[Request], object]] = {
    "check": _check,
    "hover": lambda request: hover(*_at(request)),
    "complete": lambda request: complete(*_at(request)),
    "definition": _definition,
    "draw": _draw,
    "compare": _compare,
    "summary": lambda request: summarise(_graph(request)).as_dict(),
    "prove": _prove,
    "equiv": _equiv,
    "model": _model,
    "format": _format,
}
