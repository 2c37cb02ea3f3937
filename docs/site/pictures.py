"""Pictures of the reference: each example at a suitable level, and surrogates."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from danetc.compiler import check_text, graph_of
from danetc.compiler.draw import draw
from danetc.compiler.draw.theme import dark_mode_css
from danetc.dsl.neuron.opcodes import OPCODES
from danetc.dsl.neuron.program import INPUT, SurrogateProgram
from danetc.reference import Entry

LEVELS = {
    "operation": "op",
    "function": "op",
    "neuron": "neuron",
    "connection": "block",
    "block": "block",
    "rule": "stage",
    "backbone": "network",
}
"""Level of the picture for each kind of entry."""


def name_of(entry: Entry) -> str:
    """Return the path of an entry's picture in the site."""
    return f"reference/pictures/{entry.kind.replace(' ', '-')}-{entry.name}.svg"


def has_picture(entry: Entry) -> bool:
    return entry.example is not None and (entry.kind in LEVELS or entry.kind == "surrogate")


def picture(entry: Entry) -> bytes:
    """Return the picture of an entry's example as SVG, in the colours of the page's theme."""
    assert entry.example is not None
    graph = graph_of(check_text(entry.example, entry.name))
    if entry.kind != "surrogate":
        return draw(graph, LEVELS[entry.kind], "svg", "auto")
    (program,) = {each.surrogate for each in graph.neurons.values() if each.surrogate is not None}
    return _curve(program).encode()


LOW, HIGH, POINTS = -2.0, 2.0, 161
WIDTH, HEIGHT, EDGE = 360, 170, 28


def _curve(program: SurrogateProgram) -> str:
    """Return a plot of the derivative from -2 to 2 around the threshold."""
    xs = [LOW + (HIGH - LOW) * place / (POINTS - 1) for place in range(POINTS)]
    ys = [float(at(program, x)) for x in xs]
    top, bottom = max(1.0, *ys), min(0.0, *ys)

    def right(x: float) -> float:
        return EDGE + (x - LOW) / (HIGH - LOW) * (WIDTH - 2 * EDGE)

    def down(y: float) -> float:
        return HEIGHT - EDGE - (y - bottom) / (top - bottom) * (HEIGHT - 2 * EDGE)

    points = " ".join(f"{right(x):.1f},{down(y):.1f}" for x, y in zip(xs, ys, strict=True))
    ticks = "".join(
        f'<text x="{right(x):.1f}" y="{HEIGHT - 8}" text-anchor="middle">{x:g}</text>'
        for x in (-2, -1, 0, 1, 2)
    )
    marks = "".join(
        f'<text x="{EDGE - 5}" y="{down(y) + 4:.1f}" text-anchor="end">{y:g}</text>'
        for y in (0, round(top, 2))
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="danetc-topology" width="{WIDTH}" '
        f'height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">'
        f"<title>The derivative of {program.name} around the threshold</title>"
        f"<style>{dark_mode_css()}text{{font:11px sans-serif}}</style>"
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>'
        f'<g fill="#5b6472">{ticks}{marks}</g>'
        f'<path d="M{EDGE} {down(0):.1f}H{WIDTH - EDGE}M{right(0):.1f} {EDGE - 8}V{HEIGHT - EDGE}" '
        'stroke="#c3c8d0" fill="none"/>'
        f'<polyline points="{points}" fill="none" stroke="#c2410c" stroke-width="2"/></svg>\n'
    )


def at(program: SurrogateProgram, x: float) -> float | bool:
    """Return the derivative at x, evaluated by the table of operations."""
    values: Mapping[str, float | bool] = {INPUT: x}

    def of(operand: object) -> float | bool:
        return values[operand] if isinstance(operand, str) else float(operand)  # type: ignore[arg-type]

    for op in program.ops:
        compute = OPCODES[op.opcode].value
        assert compute is not None, op.opcode
        values = {**values, op.name: partial(compute, *map(of, op.args))()}
    return of(program.derivative)
