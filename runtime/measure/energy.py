"""What operations cost: a model of energy, to be replaced by another with other numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class EnergyModel:
    """Picojoules of an addition and of a multiply-accumulate, in float32.

    ``counts`` says what an input of whole numbers other than 0 and 1 (a sum of spikes) costs:
    ``macs`` takes a multiply-accumulate for each weight that a count other than 0 meets,
    ``additions`` as many additions as the count says (its spikes arrive one by one).
    """

    name: str
    addition: float
    mac: float
    counts: Literal["macs", "additions"] = "macs"

    def __post_init__(self) -> None:
        if not (self.addition >= 0 and self.mac >= 0):
            raise ValueError("the energy of an operation is not negative")

    def joules(self, additions: float, macs: float) -> float:
        """The energy of so many operations."""
        return 1e-12 * (additions * self.addition + macs * self.mac)


HOROWITZ_45NM = EnergyModel("45 nm (Horowitz, ISSCC 2014)", 0.9, 4.6)
"""float32 in 45 nm CMOS at 0.9 V: 0.9 pJ an addition, 4.6 pJ a multiply-accumulate."""
