"""Level ``neuron``: a neuron's equations unrolled in time, as in Fig. 2 of the paper."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from danetc.compiler.draw.engine import DrawError
from danetc.compiler.draw.flow import FlowChart, Line, placed
from danetc.compiler.draw.formula import Formula, row, word
from danetc.compiler.draw.legend import with_header
from danetc.compiler.draw.notation import Read, equations, heading, output_of, value_at, values
from danetc.compiler.draw.sheet import (
    SMALL,
    Box,
    DrawnWire,
    Look,
    Sheet,
    caption,
    fitted,
    frame,
    grid,
    routed,
    sheet_of,
    stacked,
)
from danetc.compiler.draw.words import DETACHED, clean, kind_look
from danetc.compiler.ir.graph import Graph
from danetc.dsl.kinds import Kind
from danetc.dsl.neuron.inference import ranges_of
from danetc.dsl.neuron.program import INPUT, NeuronProgram

_MOST_NEURONS = 4
_WIDEST = 700.0  # maximum width of an equation
_LEAST = (24.0, 20.0)  # minimum size of a box
_LANE = 9.0  # distance between the wires of two states
_PAD = 12.0


def neuron_level(graph: Graph) -> Sheet:
    """Draw each kind of neuron over time. Raises DrawError if the network has none."""
    found = (str(node.attrs["neuron"]) for node in graph.nodes.values() if node.op == "neuron")
    used = list(dict.fromkeys(found))
    if not used:
        raise DrawError(f"{graph.name} has no neurons to draw")
    unrolled = [
        _Unrolled(graph.neurons[name], graph.steps, f"n{i}")
        for i, name in enumerate(used[:_MOST_NEURONS])
    ]
    flows = [item.flow(step) for item in unrolled for step in item.steps]
    sheets = iter(placed(flows))
    parts = []
    for name, item in zip(used, unrolled, strict=False):
        call, surrogate = heading(item.program, name)
        head = [caption(f"{item.prefix}name", clean(call, 90), bold=True, size=12)]
        if surrogate:
            text = clean(surrogate, 90)
            head.append(caption(f"{item.prefix}surrogate", text, size=SMALL, ink="quiet"))
        picture = item.joined([next(sheets) for _ in item.steps])
        beside = [values(item.program, item.prefix), picture]
        body = grid([[each for each in beside if each.boxes]], 24, 0)
        parts.append(stacked([*(sheet_of([each]) for each in head), body], 3))
    if len(used) > len(unrolled):
        rest = f"{len(used) - len(unrolled)} more kinds of neurons are not drawn"
        parts.append(sheet_of([caption("rest", rest, ink="quiet")]))
    words = f"{'neurons' if len(used) > 1 else 'the neuron'} over T = {graph.steps} steps"
    return with_header(graph.name, words, stacked(parts, 24))


class _Unrolled:
    """A neuron's program at steps 1, 2 and T, as panels connected by the states."""

    def __init__(self, program: NeuronProgram, steps: int, prefix: str) -> None:
        self.program = program
        self.prefix = prefix
        self.states = {state.name: state for state in program.states}
        self.steps = list(range(1, steps + 1)) if steps <= 3 else [1, 2, steps]
        if not self.states:
            self.steps = self.steps[:1]
        made, ranges = equations(program), ranges_of(program)
        kinds = {each.name: each.kind for each in made}
        kinds |= {name: Kind.of(ranges[name]) for name in (*self.states, *program.takes)}
        self.looks = {name: kind_look(kind) for name, kind in kinds.items()}
        # states that are also read in the same step have a second box at its end
        self.own = {r.name for each in made for r in each.reads if not r.before} & {*self.states}

    def _key(self, name: str, step: int) -> str:
        return f"{self.prefix}{name}at{step}"

    def _given(self, name: str, step: int) -> str:
        """Return the key of a state's box at the start of a step."""
        return f"{self.prefix}{name}given{step}"

    def _leaving(self, name: str, step: int) -> str:
        return f"{self.prefix}{name}leaves{step}" if name in self.own else self._key(name, step)

    def flow(self, step: int) -> FlowChart:
        """Return the flow chart of one step."""
        boxes: list[Box] = []
        lines: list[Line] = []
        for name, state in self.states.items():
            formula, message = value_at(name, str(step - 1)), "from the previous step"
            if step == 1:
                first = word(f" = {state.init:g}".replace("-", "−"))
                formula, message = row([formula, first]), "before the first step"
            boxes.append(_state_box(self._given(name, step), formula, message))
        for name in self.program.takes:
            draw = self.program.drawn.get(name)
            message = "another input of the neuron" if draw is None else f"random numbers, {draw}"
            message = "the neuron's input" if name == INPUT else message
            formula = value_at(name, str(step))
            key = self._key(name, step)
            boxes.append(fitted(Box(key, shape="plain", tooltip=message, formula=formula)))
        start = tuple(box.key for box in boxes)
        for made in equations(self.program, str(step), str(step - 1)):
            formula = made.formula
            if formula.width > _WIDEST:  # the wires still show the operands
                formula = row([value_at(made.name, str(step)), word(" = …")])
            box = Box(self._key(made.name, step), tooltip=clean(formula.text, 400), formula=formula)
            if made.fires:
                box = replace(box, shape="round", fill="neuron", line="neuron_line", pen=1.6)
            elif made.name in self.states:
                box = replace(box, fill="norm")
            boxes.append(fitted(box, (30, 20)))
            lines += [self._line(read, box.key, step) for read in made.reads]
        result = output_of(self.program)
        out = f"{self.prefix}-out{step}"  # not the name of a value
        message = f"the neuron's output: {result.name}[{step - 1 if result.before else step}]"
        boxes.append(replace(caption(out, "out", bold=True), tooltip=message))
        lines.append(self._line(result, out, step))
        for name in self.states:
            if name in self.own:
                key = self._leaving(name, step)
                boxes.append(_state_box(key, value_at(name, str(step)), "to the next step"))
                lines.append(self._line(Read(name, False, False), key, step))
        end = (*(self._leaving(name, step) for name in self.states), out)
        return FlowChart(tuple(boxes), tuple(lines), "TB", 22.0, 22.0, start, end)

    def _line(self, read: Read, head: str, step: int) -> Line:
        tail = self._given(read.name, step) if read.before else self._key(read.name, step)
        message = f"{read.name}[{step - 1 if read.before else step}]"
        if read.detached:
            return Line(tail, head, DETACHED, f"{message}, detached: no gradient")
        return Line(tail, head, self.looks[read.name], message)

    def joined(self, panels: Sequence[Sheet]) -> Sheet:
        """Return all panels in a row; states run from the bottom of one to the top of the next."""
        channel = _LANE * len(self.states) + 6
        boxes: list[Box] = []
        wires: list[DrawnWire] = []
        top = 16 + channel
        bottom = top + max(panel.height for panel in panels) + 2 * _PAD
        x = right = 0.0
        before: int | None = None
        for step, panel in zip(self.steps, panels, strict=True):
            if before is not None:
                x = right + 14 + channel
            if before is not None and step > before + 1:
                dots = caption(f"{self.prefix}dots", "…", bold=True, size=16)
                boxes.append(dots.from_corner(x, (top + bottom) / 2))
                x += dots.width + 10
            width = panel.width + 2 * _PAD
            key = f"{self.prefix}frame{step}"
            around = frame(key, width, bottom - top, f"time step {step}").from_corner(x, top)
            title = caption(f"{self.prefix}t{step}", f"t = {step}", bold=True)
            moved = panel.shifted(x + _PAD, top + _PAD)
            boxes += [around, title.from_corner(x, 0), *moved.boxes]
            wires += moved.wires
            known = {box.key: box for box in boxes}
            for lane, name in enumerate(self.states if before is not None else ()):
                assert before is not None
                source = known[self._leaving(name, before)]
                target = known[self._given(name, step)]
                low, high = bottom + 6 + _LANE * lane, top - 6 - _LANE * lane
                across = right + 10 + _LANE * lane
                corners = [(source.x, source.bottom), (source.x, low), (across, low)]
                corners += [(across, high), (target.x, high), (target.x, target.top)]
                message = f"{name}[{before}]" + ", the steps between" * (step > before + 1)
                look: Look = self.looks[name]
                wires.append(routed(source.key, target.key, look, corners, message))
            before, right = step, x + width
        return sheet_of(boxes, wires)


def _state_box(key: str, formula: Formula, tooltip: str) -> Box:
    return fitted(Box(key, dashed=True, tooltip=tooltip, formula=formula), _LEAST)
