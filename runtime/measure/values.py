"""What passes from block to block: the range of the propagated values, stage by stage (Table I)."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from torch import Tensor

from danetc.runtime.measure.distribution import Distribution, Gathered
from danetc.runtime.measure.layout import Layout
from danetc.runtime.measure.observe import LayerObserver


@dataclass(frozen=True, slots=True)
class StageOutputs:
    """A stage's block outputs, each over time, batch and positions, and the range of all.

    ``kind`` is what the compiler says of them: ``spike``, ``count(BOUND)`` or ``analog``.
    """

    stage: str
    connection: str
    rule: str
    kind: str
    least: float
    most: float
    blocks: tuple[Distribution, ...]


@dataclass(frozen=True, slots=True)
class PropagatedValues:
    stages: tuple[StageOutputs, ...]

    def as_dict(self) -> dict[str, object]:
        return asdict(self)


class Values(LayerObserver):
    """Gathers what blocks give."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._blocks = [[Gathered() for _ in stage.blocks] for stage in layout.stages]

    def block(self, stage: int, block: int, out: Tensor) -> None:
        self._blocks[stage][block].add(out)

    def result(self) -> PropagatedValues:
        stages = []
        for stage, gathered in zip(self._layout.stages, self._blocks, strict=True):
            blocks = tuple(each.result() for each in gathered)
            stages.append(
                StageOutputs(
                    stage.name,
                    stage.connection,
                    stage.rule,
                    stage.kind,
                    min(block.least for block in blocks),
                    max(block.most for block in blocks),
                    blocks,
                )
            )
        return PropagatedValues(tuple(stages))
