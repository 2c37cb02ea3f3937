"""What a source of data is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Policy = Literal["stop", "skip"]
"""What an unreadable sample does: ends the run, or is left out and counted."""


@dataclass(frozen=True, slots=True)
class DataRequest:
    """``NAME`` or ``NAME:ARGUMENT``, and how it is to be opened. ``frames`` is the T into which
    recordings of events are cut, where that is still to choose.
    """

    name: str
    argument: str
    policy: Policy = "stop"
    frames: int | None = None

    @property
    def text(self) -> str:
        return f"{self.name}:{self.argument}" if self.argument else self.name
