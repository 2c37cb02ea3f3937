"""Level ``neuron``: a neuron's equations unrolled in time, as in Fig. 2 of the paper."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from danetc.compiler.draw.engine import DrawError
from danetc.compiler.draw.equations import Equation, Read, equations, output_of
from danetc.compiler.draw.flow import FlowChart, Line, placed
from danetc.compiler.draw.formula import row, word
from danetc.compiler.draw.legend import with_header
from danetc.compiler.draw.notation import equation, heading, value_at, values
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
from danetc.compiler.draw.words import clean, kind_look
from danetc.compiler.ir.graph import Graph
from danetc.dsl.kinds import ANALOG, Kind
from danetc.dsl.neuron.inference import ranges_of
from danetc.dsl.neuron.program import INPUT, NeuronProgram

_MOST_NEURONS = 4
_WIDEST = 700.0  # an equation
_LEAST = (24.0, 20.0)  # the size of a box
_LANE = 9.0  # distance between the wires of two states
_PAD = 12.0
DETACHED = Look("quiet", "dotted", 1.6)


def neuron_level(graph: Graph) -> Sheet:
    """Draw each kind of neuron over time. Raises DrawError if the network has none."""
    used = _used(graph)
    if not used:
        raise DrawError(f"{graph.name} has no neurons to draw")
    shown = used[:_MOST_NEURONS]
    programs = [graph.neurons[name] for name in shown]
    unrolled = _unrolled(graph)
    sheets = iter(placed([flow for item in unrolled for flow in item.flows()]))
    pictures = [item.joined([next(sheets) for _ in item.steps]) for item in unrolled]
    parts = []
    for i, (name, program, sheet) in enumerate(zip(shown, programs, pictures, strict=True)):
        call, surrogate = heading(program, name)
        head = [caption(f"n{i}name", clean(call, 90), bold=True, size=12)]
        if surrogate:
            head.append(caption(f"n{i}surrogate", clean(surrogate, 90), size=SMALL, ink="quiet"))
        beside = [values(program, f"n{i}"), sheet]
        body = grid([[each for each in beside if each.boxes]], 24, 0)
        parts.append(stacked([*(sheet_of([each]) for each in head), body], 3))
    if len(used) > len(shown):
        rest = f"{len(used) - len(shown)} more kinds of neurons are not drawn"
        parts.append(sheet_of([caption("rest", rest, ink="quiet")]))
    words = f"{'neurons' if len(used) > 1 else 'the neuron'} over T = {graph.steps} steps"
    return with_header(graph.name, words, stacked(parts, 24))


def drawn_equations(graph: Graph) -> Mapping[str, tuple[str, str]]:
    """Return the neuron and the state or equation that each box of this level shows, by its key."""
    found: dict[str, tuple[str, str]] = {}
    for neuron, item in zip(_used(graph), _unrolled(graph), strict=False):
        for step in item.steps:
            found |= {item.key(each.name, step): (neuron, each.name) for each in item.equations}
            for name in item.states:
                found[item.given(name, step)] = found[item.leaving(name, step)] = (neuron, name)
    return found


def _used(graph: Graph) -> list[str]:
    found = (str(node.attrs["neuron"]) for node in graph.nodes.values() if node.op == "neuron")
    return list(dict.fromkeys(found))


def _unrolled(graph: Graph) -> list[_Unrolled]:
    """Return the neurons that are drawn."""
    programs = [graph.neurons[name] for name in _used(graph)[:_MOST_NEURONS]]
    return [_Unrolled(program, graph.steps, f"n{i}") for i, program in enumerate(programs)]


class _Unrolled:
    """A neuron's program at the steps 1, 2 and T, as panels joined by the states."""

    def __init__(self, program: NeuronProgram, steps: int, prefix: str) -> None:
        self.program = program
        self.prefix = prefix
        self.equations = equations(program)
        self.states = [state.name for state in program.states]
        self.steps = list(range(1, steps + 1)) if steps <= 3 else [1, 2, steps]
        if not self.states:
            self.steps = self.steps[:1]
        self.kinds = {equation.name: equation.kind for equation in self.equations}
        ranges = ranges_of(program)
        self.kinds |= {name: Kind.of(ranges[name]) for name in self.states}

    def flows(self) -> list[FlowChart]:
        return [self._step(step) for step in self.steps]

    def key(self, name: str, step: int) -> str:
        return f"{self.prefix}{name}at{step}"

    def given(self, name: str, step: int) -> str:
        """Return the key of a state's box at the start of a step."""
        return f"{self.prefix}{name}given{step}"

    def _look(self, name: str) -> Look:
        return kind_look(self.kinds.get(name, ANALOG))

    def _step(self, step: int) -> FlowChart:
        boxes: list[Box] = []
        lines: list[Line] = []
        first: list[str] = []
        for state in self.program.states:
            key = self.given(state.name, step)
            found = value_at(state.name, str(step - 1))
            if step == 1:
                found = row([found, word(f" = {state.init:g}".replace("-", "−"))])
            message = "before the first step" if step == 1 else "from the step before"
            boxes.append(fitted(Box(key, dashed=True, tooltip=message, formula=found), _LEAST))
            first.append(key)
        for name in self.program.takes:
            key = self.key(name, step)
            message = "the neuron's input" if name == INPUT else "another input of it"
            given = Box(key, shape="plain", tooltip=message, formula=value_at(name, str(step)))
            boxes.append(fitted(given))
            first.append(key)
        for made in self.equations:
            key = self.key(made.name, step)
            boxes.append(self._box(key, made, step))
            lines += [self._line(read, key, step) for read in made.reads]
        result = output_of(self.program)
        key = f"{self.prefix}-out{step}"  # no name of a value
        message = f"the neuron's output: {result.name}[{step - 1 if result.before else step}]"
        boxes.append(replace(caption(key, "out", bold=True), tooltip=message))
        lines.append(self._line(result, key, step))
        last = [*self._handed(boxes, lines, step), key]
        return FlowChart(tuple(boxes), tuple(lines), "TB", 22.0, 22.0, tuple(first), tuple(last))

    def _handed(self, boxes: list[Box], lines: list[Line], step: int) -> list[str]:
        """Return the boxes from which the states leave a step.

        A state that the step itself reads has a box of its own at the bottom.
        """
        read = {r.name for equation in self.equations for r in equation.reads if not r.before}
        keys = []
        for name in self.states:
            key = self.leaving(name, step)
            if name in read:
                formula = value_at(name, str(step))
                given = Box(key, dashed=True, tooltip="to the next step", formula=formula)
                boxes.append(fitted(given, _LEAST))
                lines.append(Line(self.key(name, step), key, self._look(name), f"{name}[{step}]"))
            keys.append(key)
        return keys

    def leaving(self, name: str, step: int) -> str:
        read = {r.name for equation in self.equations for r in equation.reads if not r.before}
        return f"{self.prefix}{name}leaves{step}" if name in read else self.key(name, step)

    def _line(self, read: Read, head: str, step: int) -> Line:
        tail = self.given(read.name, step) if read.before else self.key(read.name, step)
        message = f"{read.name}[{step - 1 if read.before else step}]"
        if read.detached:
            return Line(tail, head, DETACHED, f"{message}, detached: no gradient")
        return Line(tail, head, self._look(read.name), message)

    def _box(self, key: str, made: Equation, step: int) -> Box:
        formula = equation(value_at(made.name, str(step)), made.term, str(step), str(step - 1))
        if formula.width > _WIDEST:  # the wires show its operands
            formula = row([value_at(made.name, str(step)), word(" = …")])
        box = Box(key, tooltip=clean(formula.text, 400), formula=formula)
        if made.fires:
            box = replace(box, shape="round", fill="neuron", line="neuron_line", pen=1.6)
        elif made.name in self.states:
            box = replace(box, fill="norm")
        return fitted(box, (30, 20))

    def joined(self, panels: Sequence[Sheet]) -> Sheet:
        """Join panels side by side; states leave a panel below and enter the next from above."""
        channel = _LANE * len(self.states) + 6
        boxes: list[Box] = []
        wires: list[DrawnWire] = []
        top = 16 + channel
        bottom = top + max(panel.height for panel in panels) + 2 * _PAD
        x = 0.0
        for number, (step, panel) in enumerate(zip(self.steps, panels, strict=True)):
            right = x + panel.width + 2 * _PAD
            around = frame(
                f"{self.prefix}frame{step}", right - x, bottom - top, f"time step {step}"
            ).from_corner(x, top)
            title = caption(f"{self.prefix}t{step}", f"t = {step}", bold=True)
            moved = panel.shifted(x + _PAD, top + _PAD)
            boxes += [around, title.from_corner(x, 0), *moved.boxes]
            wires += moved.wires
            if number + 1 == len(panels):
                break
            gap = 14 + channel
            skipped = self.steps[number + 1] > step + 1
            if skipped:
                dots = caption(f"{self.prefix}dots", "…", bold=True, size=16)
                boxes.append(dots.from_corner(right + gap, (top + bottom) / 2))
                gap += dots.width + 10
            self._hand_over(
                wires, moved, panels[number + 1], number, right, right + gap, (top, bottom)
            )
            x = right + gap
        return sheet_of(boxes, wires)

    def _hand_over(
        self,
        wires: list[DrawnWire],
        panel: Sheet,
        after: Sheet,
        number: int,
        right: float,
        next_left: float,
        ends: tuple[float, float],
    ) -> None:
        """Add the wires of states from a panel to the next."""
        step, following = self.steps[number], self.steps[number + 1]
        top, bottom = ends
        for lane, name in enumerate(self.states):
            box = panel.box(self.leaving(name, step))
            target = after.box(self.given(name, following))
            goal = (next_left + _PAD + target.x, top + _PAD + target.top)
            low, high = bottom + 6 + _LANE * lane, top - 6 - _LANE * lane
            across = right + 10 + _LANE * lane
            corners = [(box.x, box.bottom), (box.x, low), (across, low), (across, high)]
            corners += [(goal[0], high), goal]
            message = f"{name}[{step}]" + (", the steps between" if following > step + 1 else "")
            wires.append(routed(box.key, target.key, self._look(name), corners, message))
