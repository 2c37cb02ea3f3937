"""What a rule feeds the blocks of a stage: the nodes of its forms."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import assert_never

from danetc.compiler.ir.ops import OPS, OpError, text
from danetc.compiler.ir.rule_forms import (
    Delayed,
    Form,
    InputOf,
    Join,
    Made,
    OutputOf,
    Scaled,
    ScaledByLearnt,
    Source,
    StageInput,
    folded,
    shown,
    sources,
)
from danetc.compiler.lowering.environment import EarlierValue, Loops
from danetc.compiler.lowering.learnt import met
from danetc.compiler.lowering.loops import carry
from danetc.compiler.lowering.state import Lowering
from danetc.compiler.lowering.values import INVALID, Failed, Invalid, LearntValue, Wire
from danetc.dsl.syntax.source import Span

_JOINS: Mapping[str, str] = {row.rule: row.name for row in OPS.values() if row.rule is not None}
_UNTOLD = "join it with a value of this step: `out[i-1] + (out[n-1] -> delay(1))`"
_OPENING = (
    "a stage that changes the size feeds it back to the block after its first, as "
    "`feedback_after_opening` does; or let the stage keep its size: no stride, and the width that it takes"
)
_ALIKE = "the two are values of one shape: make widths and strides equal"


class Feeds:
    """The values of a rule's forms, as the blocks of its stage are built.

    ``learnt`` are the learnt numbers that the forms name, ``loops`` those of the rule's body.
    ``inputs`` and ``outputs`` grow with the blocks; ``delayed`` are the values of earlier steps that
    were read so far.
    """

    def __init__(
        self,
        lowering: Lowering,
        entry: Wire,
        span: Span,
        learnt: Mapping[str, LearntValue],
        blocks: int,
        loops: Loops | None,
    ) -> None:
        self.blocks = blocks
        self.lowering = lowering
        self.builder = lowering.builder
        self.entry = entry
        self.span = span
        self.learnt = learnt
        self.loops = loops
        self.inputs: list[Wire] = []
        self.outputs: list[Wire] = []
        self.delayed: dict[Delayed, Wire] = {}

    def built(self, form: Form) -> Wire | Invalid:
        """The nodes of a form, in the builder's scope."""
        return folded(form, self._source, self._made)

    def _source(self, source: Source) -> Wire | Invalid:
        match source:
            case OutputOf(block):
                return _of(self.outputs, block)
            case InputOf(block):
                return _of(self.inputs, block)
            case StageInput():
                return self.entry
            case Delayed(steps, value):
                assert self.loops is not None
                earlier = EarlierValue(source, steps, lambda: self.built(value), self.span, _UNTOLD)
                self.delayed[source] = carry(self.lowering, self.loops, earlier)
                return self.delayed[source]
        assert_never(source)

    def _made(self, form: Made, parts: list[Wire | Invalid]) -> Wire | Invalid:
        match form:
            case Join(name):
                self._check_delayed(form, parts)
                return self.builder.add(_JOINS[name], tuple(parts), {}, self.span)
            case Scaled(factor):
                attrs = {"factor": factor, "offset": 0.0}
                return self.builder.add("affine", tuple(parts), attrs, self.span)
            case ScaledByLearnt(name):
                return self._product(self.learnt[name], name, parts[0])
        assert_never(form)

    def _check_delayed(self, form: Join, parts: list[Wire | Invalid]) -> None:
        """Whether values of earlier steps have the shapes that they are joined with (E0507)."""
        if not self.delayed:
            return
        place = next((i for i, part in enumerate(form.parts) if _is_late(part)), None)
        wires = [part.id for part in parts if isinstance(part, Wire)]
        if place is None or len(wires) < len(parts):
            return
        try:
            self.builder.inference.value(_JOINS[form.name], {}, tuple(wires))
        except OpError:
            other = next((i for i, part in enumerate(form.parts) if i != place), place)
            at = f"block {len(self.inputs)}" if len(self.outputs) < self.blocks else "the result"
            first = not self.inputs
            raise self.builder.fail(
                "E0507",
                " and ".join(
                    f"`{shown(form.parts[i])}` is {text(self.builder.nodes[wires[i]].value.shape)}"
                    for i in (place, other)
                )
                + f": they cannot be joined for {at}",
                self.span,
                label="by this rule",
                hint=_OPENING if first else _ALIKE,
            ) from None

    def _product(self, learnt: LearntValue, name: str, wire: Wire | Invalid) -> Wire | Invalid:
        """Learnt numbers, by their path below the stage, times a value."""
        if isinstance(wire, Invalid):
            return INVALID
        *place, leaf = name.split(".")
        scope = (*self.builder.scope[:-1], *place)
        numbers = met(self.lowering, replace(learnt, name=leaf, scope=scope), wire, self.span)
        assert isinstance(numbers, (Wire, Invalid))
        return self.builder.add("mul", (numbers, wire), {}, self.span)


def _is_late(form: Form) -> bool:
    return any(isinstance(source, Delayed) for source in sources(form))


def _of(wires: list[Wire], block: int) -> Wire:
    """The value of a block. Raises Failed where an error, which was reported, came before it."""
    if block >= len(wires):
        raise Failed
    return wires[block]
