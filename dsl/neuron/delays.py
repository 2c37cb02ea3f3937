"""``delay(value, n)``: what a value was n time steps ago, kept by states of the neuron.

A value that is delayed by up to n steps has n states: the first one takes the value at the end of a
step, each other one what the one before it held. All start at 0.
"""

from __future__ import annotations

from dataclasses import field

from danetc.dsl.neuron.opcodes import Operand
from danetc.dsl.neuron.program import unique
from danetc.dsl.neuron.ssa import ProgramBuilder
from danetc.dsl.record import record

MAX_STEPS = 100
"""So far back may a delay reach."""


@record(frozen=False)
class Delays:
    """The states of one declaration that hold what values were.

    ``after`` has the value that each takes at the end of a step, in the order in which states are
    made; of a name that has no value yet it is None until there is one.
    """

    builder: ProgramBuilder
    taken: set[str]  # names that a state cannot have
    after: dict[str, Operand | None] = field(default_factory=dict)
    _of_values: dict[Operand, list[str]] = field(default_factory=dict)
    _of_names: dict[str, list[str]] = field(default_factory=dict)

    def of(self, value: Operand, name: str, steps: int) -> Operand:
        """``value`` as it was ``steps`` ago; states that are made for it are called like ``name``."""
        if steps == 0:
            return value
        return self._reach(self._of_values.setdefault(value, []), value, name, steps)

    def of_later(self, name: str, steps: int) -> Operand:
        """The same for a name that gets its value further down. ``steps`` is 1 or more."""
        return self._reach(self._of_names.setdefault(name, []), None, name, steps)

    def define(self, name: str, value: Operand | bool) -> None:
        """Say what a name is, which may have been delayed before it had a value."""
        chain = self._of_names.pop(name, None)
        if chain:
            number = self.after[chain[0]] = self.builder.number(value)
            self._of_values.setdefault(number, chain)

    def _reach(self, chain: list[str], value: Operand | None, name: str, steps: int) -> Operand:
        while len(chain) < steps:
            state = unique(f"{name}_kept{len(chain) + 1}", self.taken)
            self.after[state] = chain[-1] if chain else value
            self.taken.add(state)
            self.builder.inputs += (state,)
            chain.append(state)
        return chain[steps - 1]

    @property
    def next_values(self) -> dict[str, Operand]:
        """``after``, once all names have values."""
        return {state: value for state, value in self.after.items() if value is not None}
