"""What ``danetc export`` writes: a network with its weights, and the choices of how."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from danetc.compiler.emit.onnx import OnnxTime
    from danetc.compiler.ir.graph import Graph
    from danetc.runtime.model.built import Model


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """How a network is written, where its format has a choice: how time runs, whether numbers are
    float16, and whether it is compiled for this machine."""

    time: OnnxTime = "unrolled"
    half: bool = False
    compiled: bool = False

    def given(self) -> dict[str, str]:
        """Those that are not the usual ones, each with the option of the command that says it."""
        found = {}
        if self.time != "unrolled":
            found["time"] = "--loop" if self.time == "loop" else "--streaming"
        if self.half:
            found["half"] = "--half"
        if self.compiled:
            found["compiled"] = "--compiled"
        return found


@dataclass(frozen=True, slots=True)
class Content:
    """What is exported: a network in evaluation mode, and its weights under the chosen names."""

    graph: Graph
    model: Model
    weights: Mapping[str, Tensor]
    options: ExportOptions = field(default_factory=ExportOptions)

    def arrays(self) -> dict[str, Any]:
        """The model's own weights for writers that need no torch."""
        return {name: value.cpu().numpy() for name, value in self.model.state_dict().items()}
