"""A spec for a page in a browser: one function, JSON in and JSON out.

The page of ``editors/playground`` calls ``answer`` in a web worker, where Python has neither torch
nor click nor processes. Offsets are those of JavaScript's strings: UTF-16 code units.
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
"""A method's arguments. ``text`` is a spec and ``name`` its file's, which `use "..."` starts from."""

Render = Callable[[str, str, str], str]
"""A graph in Graphviz's language, a layout engine and a format, to what Graphviz writes."""


def draw_with(render: Render) -> None:
    """Let a function draw in place of Graphviz's program, as that of @viz-js/viz does."""

    def layout(texts: Any, engine: str, form: str, dpi: int | None) -> bytes:
        try:
            return "\n".join(render(text, engine, form) for text in texts).encode("utf-8")
        except Exception as error:  # an error of JavaScript is of a class that is there alone
            raise pictures.GraphvizError(f"Graphviz failed: {error}") from error

    pictures.use_layout(layout)


def answer(request: str) -> str:
    """The reply to ``{"method": ..., ...}``: ``{"result": ...}``, or ``{"error": text}`` for what
    cannot be answered: a spec with errors where a network is needed, a picture that shows nothing.
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
    """The network of a request, else the first of its file. Raises SpecError."""
    survey = _asked(request).survey
    checked, wanted = survey.checked, request.get("network")
    if checked is None:
        raise SpecError(survey.errors)
    if wanted in checked.networks:
        return checked, wanted
    return checked, next(iter(checked.networks), None) or checked.main


def _graph(request: Request) -> Graph:
    """The network of a request after the passes. Raises SpecError."""
    _, network = _network(request)
    return _after_passes(request["name"], request["text"], network)


def _written(request: Request) -> Graph:
    """The network of a request as it is written. Raises SpecError."""
    checked, network = _network(request)
    return checked.graphs[network]


# -- Methods ---------------------------------------------------------------------------------------


def _check(request: Request) -> object:
    """Errors or warnings with what mends them, the networks of a spec without errors, and hints of
    shapes and kinds."""
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
    """A picture as SVG, and where in the text each box comes from."""
    checked, network = _network(request)
    graph, level = _after_passes(request["name"], request["text"], network), request["level"]
    svg = pictures.draw(graph, level, theme=request.get("theme", "auto")).decode("utf-8")
    places = box_places(checked, network, graph, level)
    found = {key: _places(each) for key, each in places.items()}
    return {"network": network, "svg": svg, "places": found}


def _hover(request: Request) -> object:
    """What the name at a place is, as Markdown, or null."""
    asked = _asked(request)
    found = hover(asked, _character(asked.text, request["at"]))
    return found and {"range": _range(found.span), "markdown": found.markdown}


def _complete(request: Request) -> object:
    """What may stand at a place, the likeliest first."""
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
    """Where the name at a place is defined: a range of the text, or a place in another file."""
    asked = _asked(request)
    span = definition(asked, _character(asked.text, request["at"]))
    return span and _place(span, asked.source)


def _compare(request: Request) -> object:
    """How two networks wire their blocks, side by side, as SVG."""
    graphs = [_graph(request["left"]), _graph(request["right"])]
    return {"svg": pictures.compare(graphs, theme=request.get("theme", "auto")).decode("utf-8")}


def _summary(request: Request) -> object:
    return summarise(_graph(request)).as_dict()


def _prove(request: Request) -> object:
    """The propositions as facts of the topology; nothing is checked by numbers."""
    from danetc.tasks.proofs import prove  # late, as below: the page's first picture needs none

    return prove(_written(request), numbers=False).as_dict()


def _equiv(request: Request) -> object:
    """Whether two specs are one network, by their graphs alone."""
    from danetc.tasks.equivalence import equivalence

    verdict = equivalence(_written(request["left"]), _written(request["right"]), numbers=False)
    return verdict.as_dict()


def _model(request: Request) -> object:
    from danetc.compiler.emit.python import emit_python

    return emit_python(_graph(request))


def _format(request: Request) -> object:
    """The text in the canonical style. Raises SpecError where it has a syntax error."""
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
    """A title and edits of the text; those of other files are left out."""
    own = (edit for edit in fix.edits if edit.span.source is source)
    return {
        "title": fix.title,
        "edits": [{"range": _range(edit.span), "text": edit.text} for edit in own],
    }


def _places(box: BoxPlaces) -> dict[str, object]:
    """Where a box stands in the text, and all that it stands for there."""
    return {"range": box.place and _range(box.place), "spans": [_range(s) for s in box.spans]}


def _place(span: Span, source: SourceFile) -> dict[str, object]:
    """A place in words, with its range where it is in the text itself."""
    words = f"{span.source.name}:{span.line}"
    return {"place": words, "range": _range(span) if span.source is source else None}


def _range(span: Span) -> tuple[int, int]:
    return _offset(span.source, span.start), _offset(span.source, span.end)


def _offset(source: SourceFile, offset: int) -> int:
    text = source.text[:offset]
    return offset if text.isascii() else len(text.encode("utf-16-le", "surrogatepass")) // 2


def _character(text: str, at: int) -> int:
    """The offset in characters of one in UTF-16 code units."""
    if text.isascii():
        return at
    return len(text.encode("utf-16-le", "surrogatepass")[: 2 * at].decode("utf-16-le", "ignore"))
