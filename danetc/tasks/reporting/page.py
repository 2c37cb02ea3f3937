"""The HTML page, which is created from a template and contains its style sheet."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Sequence
from functools import partial
from importlib.resources import files

from jinja2 import Environment, StrictUndefined, Undefined
from markupsafe import Markup
from pygments import highlight
from pygments.formatters import HtmlFormatter

from danetc.compiler.draw import DEFAULT_LEVEL, LEVELS
from danetc.dsl.diagnostics.visible import visible_lines
from danetc.errors import UserError
from danetc.highlighting.lexer import DanetLexer
from danetc.runtime.system.figures import WITHOUT, can_plot
from danetc.tasks.reporting import tables
from danetc.tasks.reporting.figures import (
    PageFigure,
    class_figures,
    layer_figures,
    training_figures,
)
from danetc.tasks.reporting.layer_values import MEASURES, STEPS, scale_of
from danetc.tasks.reporting.runs import ShownRun
from danetc.tasks.reporting.topology import colour_rules, colours, pictures


def make_page(
    runs: Sequence[ShownRun],
    note: Callable[[str], object] = lambda text: None,
    figures: Sequence[PageFigure] = (),
) -> str:
    """Return the report as a single HTML file that does not load any other file. Raises UserError.

    ``note`` is told what the page lacks. ``figures`` are those of grids.
    """
    from importlib.metadata import version

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
    plots = can_plot()
    if not plots:
        note(f"the page has no curves: {WITHOUT}")
    style = _style(len(runs), [measure.key for measure, _ in scales])
    networks = ", ".join(dict.fromkeys(run.graph.name for run in runs))
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
        finalize=_visible,
    )  # fmt: skip
    return environment.from_string(_file("page.html.j2")).render(
        version=version("danetc"),
        title=runs[0].label if len(runs) == 1 else f"{len(runs)} runs of {networks}",
        runs=runs,
        drawn=drawn,
        levels=list(LEVELS),
        default_level=DEFAULT_LEVEL,
        scales=scales,
        steps=range(STEPS),
        curves=training_figures(runs) if plots else (),
        profiles=layer_figures(runs) if plots else (),
        confusions=[class_figures(run) if plots else () for run in runs],
        figures=figures,
        tables=tables,
        highlighted=highlighted,
        style=style,
        policy=_policy(style),
    )


def _check(run: ShownRun) -> None:
    """Raise UserError unless records are as `train` and `measure` write them."""
    try:
        tables.results([run])
        tables.stages(run)
        tables.layers(run)
        tables.classes(run)
        if run.evaluation is not None:
            tuple(run.evaluation["results"][0]["confusion"]), run.evaluation["class_names"]
        if run.measures is not None:
            tuple(run.measures[key] for key in ("images", "statistics", "trained"))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"the records in {run.path} are damaged: its training.json, measures.json or evaluation.json "
            f"lacks what danetc writes there ({type(error).__name__}: {error})"
        ) from error


def _visible(value: object) -> object:
    """Return what the template writes: text with hidden characters written out, or our own markup."""
    return value if isinstance(value, (Markup, Undefined)) else visible_lines(str(value))


def highlighted(spec: str) -> Markup:
    """Return the text of a spec, right or wrong, with a class for each token."""
    lexer = DanetLexer(stripnl=False, ensurenl=False)
    return Markup(highlight(visible_lines(spec), lexer, HtmlFormatter(nowrap=True)))


def _file(name: str) -> str:
    return (files("danetc.tasks.reporting") / name).read_text(encoding="utf-8")


def _style(runs: int, measures: Sequence[str]) -> Markup:
    """Return the style sheet. The rules of choices say what a checked input shows and hides."""
    rules = [_file("page.css").replace("/* colours of pictures */", colours()), colour_rules()]
    for run in range(runs):
        rules.append(
            f':root:has(input[name="run"][value="{run}"]:not(:checked)) [data-run="{run}"]'
            "{display:none}"
        )
    for level in LEVELS:
        rules.append(_chosen("level", level, f'.picture[data-level="{level}"]{{display:block}}'))
    for measure in measures:
        chosen = partial(_chosen, "measure", measure)
        part, boxes = f".part[data-{measure}", ":is(path,polygon,ellipse):first-of-type"
        rules += [
            chosen(f'.scale[data-measure="{measure}"]{{display:block}}'),
            chosen(f"{part}]>text{{fill:var(--t-ink)}}"),
            chosen(f"{part}]>:is(path,polygon):not(:first-of-type){{fill-opacity:0}}"),
            *(
                chosen(f'{part}="{step}"]>{boxes}{{fill:var(--heat-{step})}}')
                for step in range(STEPS)
            ),
        ]
    return Markup("\n".join(rules) + "\n")


def _chosen(name: str, value: str, rule: str) -> str:
    return f':root:has(input[name="{name}"][value="{value}"]:checked) {rule}'


def _policy(style: str) -> str:
    """Return the policy: only the page's own style and embedded pictures are allowed."""
    digest = hashlib.sha256(style.encode("utf-8")).digest()
    allowed = f"sha256-{base64.b64encode(digest).decode('ascii')}"
    return (
        f"default-src 'none'; style-src '{allowed}'; img-src data:; base-uri 'none'; "
        "form-action 'none'"
    )
