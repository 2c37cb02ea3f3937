"""Figures: they show the numbers that were measured, and hide nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from danetc.runtime.measure.plots import FIGURES, Entry, draw_all

from .conftest import DENSE, SEW, batch, build, measure

pytest.importorskip("matplotlib")

NOTHING = dict.fromkeys([name.replace("-", "_") for name in FIGURES if name != "firing-rate"])


@pytest.fixture(scope="module")
def entries() -> list[Entry]:
    models = {"danet_c": build(DENSE), "sew": build(SEW)}
    return [(name, measure(model, [batch()])) for name, model in models.items()]


@pytest.mark.thorough
def test_each_measure_has_a_figure_twice_alike(entries: list[Entry], tmp_path: Path) -> None:
    written = draw_all(entries, tmp_path)
    assert [path.name for path in written] == [f"{name.replace('-', '_')}.svg" for name in FIGURES]
    (tmp_path / "again").mkdir()
    rates = [(label, replace(measures, **NOTHING)) for label, measures in entries]  # type: ignore[arg-type]
    (again,) = draw_all(rates, tmp_path / "again")
    assert again.read_bytes() == written[0].read_bytes()


def test_lines_are_the_layers_of_the_main_path(entries: list[Entry]) -> None:
    for name, value in (("firing-rate", "rate"), ("gradient-stability", "stability")):
        left, _ = FIGURES[name](entries).axes
        drawn = {line.get_label(): line for line in left.get_lines()}
        for label, measures in entries:
            layers = [each for each in measures.taken()[name].layers if each.main]
            assert drawn[label].get_ydata() == pytest.approx([getattr(e, value) for e in layers])
            assert list(drawn[label].get_xdata()) == list(range(1, len(layers) + 1))
    # Told apart without colour: by dash and by marker.
    styles = {(drawn[e].get_linestyle(), drawn[e].get_marker()) for e, _ in entries}
    assert len(styles) == len(entries)
    dashes, markers = zip(*styles, strict=True)
    assert len(set(dashes)) == len(set(markers)) == len(entries)


@pytest.mark.thorough
@pytest.mark.parametrize("name", list(FIGURES))
@pytest.mark.parametrize("count", [1, 2])
def test_nothing_is_cut_off(entries: list[Entry], name: str, count: int) -> None:
    """All that is drawn lies within the figure, and every bar within its axes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    figure = FIGURES[name](entries[:count])
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    drawn = figure.get_tightbbox(canvas.get_renderer())  # of all that is drawn, in inches
    width, height = figure.get_size_inches()
    assert -0.02 <= drawn.x0 < drawn.x1 <= width + 0.02
    assert -0.02 <= drawn.y0 < drawn.y1 <= height + 0.02
    for axes in figure.axes:
        for bar in axes.patches:
            box = bar.get_window_extent(canvas.get_renderer())
            assert box.y0 >= axes.bbox.y0 - 2
            assert box.y1 <= axes.bbox.y1 + 2
            assert box.x1 <= axes.bbox.x1 + 2
