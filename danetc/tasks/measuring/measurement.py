"""Result of `danetc.measure`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

from danetc.errors import UserError
from danetc.output.plots import need_matplotlib
from danetc.output.returned import Returned, frame
from danetc.output.table import Cell
from danetc.runtime.measure import Layout, Measures
from danetc.runtime.measure.plots import FIGURES, PlottedNetwork
from danetc.tasks.measuring.tables import overall

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Measurement(Returned, Measures):
    """Measures of a network, each as a table of pandas and as a figure."""

    layout: Layout

    @staticmethod
    def of(measures: Measures, layout: Layout) -> Measurement:
        values = {field.name: getattr(measures, field.name) for field in fields(measures)}
        return Measurement(**values, layout=layout)

    def frame(self, measure: str | None = None) -> pandas.DataFrame:
        """Return the rows of a measure: layers, for ``gradients`` parameters, for ``values`` blocks.

        Args:
            measure: a name of ``MEASURES``, such as ``"firing-rate"``. The default is a row with the
                figures of the whole network.

        Raises UserError if it was not measured, and without pandas.
        """
        if measure is None:
            cells = self._overall()
            values = (cell.text if cell.value is None else cell.value for _, cell in cells)
            return frame([dict(zip((head for head, _ in cells), values, strict=True))])
        found = asdict(self._found(measure))
        if "stages" in found:
            return frame(_blocks(found["stages"]))
        rows: list[Mapping[str, Any]] = found["layers" if "layers" in found else "parameters"]
        return frame(rows)

    def figure(self, measure: str) -> Any:
        """Return the figure of a measure (of matplotlib) as ``danetc measure`` draws it.

        Raises UserError if it was not measured, and without matplotlib.
        """
        self._found(measure)
        need_matplotlib()
        return FIGURES[_field(measure)]([PlottedNetwork(self.network, self.layout, self)])

    def _overall(self) -> list[tuple[str, Cell]]:
        """Return heads and cells of the whole network, as in the last table of ``danetc measure``."""
        table = overall([PlottedNetwork(self.network, self.layout, self)])
        return list(zip(table.heads, table.rows[0], strict=True))

    def _line(self) -> str:
        names = (name for name in FIGURES if getattr(self, name) is not None)
        listed = ", ".join(name.replace("_", "-") for name in names)
        return f"{self.network} on {self.images:,} images: {listed}"

    def _found(self, measure: str) -> Any:
        names = [name for name in FIGURES if getattr(self, name) is not None]
        if _field(measure) not in names:
            known = ", ".join(name.replace("_", "-") for name in names)
            raise UserError(f"{measure} was not measured of {self.network}; there is {known}")
        return getattr(self, _field(measure))


def _field(measure: str) -> str:
    return measure.replace("-", "_")


def _blocks(stages: list[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    for stage in stages:
        for number, block in enumerate(stage["blocks"]):
            own = {name: value for name, value in block.items() if name != "histogram"}
            yield {"stage": stage["stage"], "block": number, "kind": stage["kind"], **own}
