"""The whole page: its template filled, its style and script inside, and a policy that allows no more."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Sequence
from importlib.resources import files
from typing import Any

from jinja2 import Environment, StrictUndefined, Undefined
from markupsafe import Markup

from danetc.compiler.draw import DEFAULT_LEVEL, LEVELS
from danetc.dsl.diagnostics.visible import visible_lines
from danetc.errors import UserError
from danetc.output.echo import json_text
from danetc.tasks.reporting import chart, tables
from danetc.tasks.reporting.grids import GridFigure
from danetc.tasks.reporting.highlight import pieces
from danetc.tasks.reporting.layer_values import MEASURES, STEPS, LayerMeasure, Scale, scale_of
from danetc.tasks.reporting.runs import ShownRun
from danetc.tasks.reporting.topology import colour_rules, colours, pictures

MOST_NAMED = 6
MOST_SERIES = 8  # colours and markers of lines; they come again after that


def make_page(
    runs: Sequence[ShownRun],
    note: Callable[[str], None] = lambda text: None,
    figures: Sequence[GridFigure] = (),
) -> str:
    """The report on some runs as one HTML file that loads nothing. Raises UserError.

    ``note`` gets what is missing in it that should be there. ``figures`` are those of grids.
    """
    from danetc.version import version

    for run in runs:
        _check(run)
    scales = [
        (measure, scale) for measure in MEASURES if (scale := scale_of(measure, runs)) is not None
    ]
    drawn = [pictures(run, scales) for run in runs]
    for message in dict.fromkeys(
        each.why_not for levels in drawn for each in levels if each.failed
    ):
        note(message)
    curves = chart.training_charts(runs)
    profiles = chart.layer_charts(runs, MEASURES)
    style = _style()
    script = Markup(_file("page.js"))  # our own text, which holds no end tag
    data = {
        "measures": [_measure(measure, scale) for measure, scale in scales],
        "parts": [{each.level: each.parts for each in levels} for levels in drawn],
        "charts": {each.key: each.stops for each in (*curves, *profiles)},
    }
    template = _environment().from_string(_file("page.html.j2"))
    return template.render(
        version=version(),
        title=_title(runs),
        runs=runs,
        drawn=drawn,
        levels=list(LEVELS),
        default_level=DEFAULT_LEVEL,
        measures=data["measures"],
        heats=range(STEPS),
        curves=curves,
        profiles=profiles,
        results=tables.results(runs),
        figures=figures,
        stages=[tables.stages(run) for run in runs],
        layers=[tables.layers(run) for run in runs],
        settings=tables.settings(runs),
        facts=tables.facts(runs),
        specs=[pieces(run.spec) for run in runs],
        most_series=MOST_SERIES,
        data=_json(data),
        style=style,
        script=script,
        policy=_policy(style, script),
        chart=chart,
    )


def _title(runs: Sequence[ShownRun]) -> str:
    """What the runs are called, or of which networks they are where they are many."""
    if len(runs) <= MOST_NAMED:
        return ", ".join(run.label for run in runs)
    return f"{len(runs)} runs of {', '.join(dict.fromkeys(run.graph.name for run in runs))}"


def _check(run: ShownRun) -> None:
    """Raise UserError where records are not as `train` and `measure` write them."""
    try:
        tables.results([run])
        tables.stages(run)
        tables.layers(run)
        chart.training_charts([run])
        if run.measures is not None:
            tuple(run.measures[key] for key in ("images", "statistics", "trained"))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"the records in {run.path} are damaged: its training.json or measures.json lacks "
            f"what danetc writes there ({type(error).__name__}: {error})"
        ) from error


def _measure(measure: LayerMeasure, scale: Scale) -> dict[str, Any]:
    return {
        "key": measure.key,
        "title": measure.title,
        "explanation": measure.explanation,
        "edges": [measure.words(edge) for edge in scale.edges()],
        "joined": f"{measure.mean} mean of layers",
    }


def _environment() -> Environment:
    return Environment(
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_shown,
    )


def _shown(value: object) -> object:
    """What a template writes: texts with their hidden characters written out; then it is escaped.

    Whatever is no text becomes one here (a path, say); only our own markup stays as it is.
    """
    return value if isinstance(value, (Markup, Undefined)) else visible_lines(str(value))


def _file(name: str) -> str:
    return (files("danetc.tasks.reporting") / name).read_text(encoding="utf-8")


def _style() -> Markup:
    """The style sheet with the palettes of pictures, which are our own text throughout."""
    text = _file("page.css")
    text = text.replace("/* colours of pictures, light */", colours(dark=False))
    text = text.replace("/* colours of pictures, dark */", colours(dark=True))
    return Markup(f"{text}\n{colour_rules()}\n")


def _json(data: object) -> Markup:
    """JSON inside a script element: no text in it can end that element."""
    text = json_text(data, indent=None)
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def _policy(style: str, script: str) -> str:
    """What the page may do: nothing but its own style and script, and pictures that it holds."""
    return (
        f"default-src 'none'; style-src '{_hash(style)}'; script-src '{_hash(script)}'; "
        "img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode("utf-8")).digest()
    return f"sha256-{base64.b64encode(digest).decode('ascii')}"
