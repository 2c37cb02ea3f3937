"""Hover: what a name is, and the value that stands there."""

from __future__ import annotations

import pytest

from danetc.dsl.loading import standard
from danetc.editor import analyse
from danetc.editor.hover import hover
from tests.editor.marked import at_cursor, network


def text_at(marked: str) -> str:
    analysis, offset = at_cursor(marked)
    found = hover(analysis, offset)
    return "" if found is None else found.markdown


STEM = "stem = conv(64, kernel = 7, stride = 2) -> norm -> spike"


@pytest.mark.parametrize(
    ("marked", "says"),
    [
        (STEM.replace("conv", "co|nv"), ["64 x 16 x 16 analog", "from 3 x 32 x 32 analog", "no neurons so far", "convolution", "height and width of the kernel"]),
        (STEM.replace("kernel", "ker|nel"), ["height and width of the kernel", "argument of* `conv`"]),
        (STEM.replace("spike", "spi|ke"), ["64 x 16 x 16 spike", "1 layer of neurons so far, 16,384 neurons", "neuron"]),
        (STEM.replace("64", "6|4"), ["64 x 16 x 16 analog"]),
        (STEM.replace("stem", "st|em"), ["64 x 16 x 16 spike", "setting of* `small`"]),
        ("neuron = L|IF", ["v = (1 - 1 / tau) * u", "*neuron*"]),
        ("head = linear(cla|sses)", ["classes = 10", "parameter of* `small`"]),
        ("stages = stage(basic(8), 1) v|ia origin", ["ires the blocks of a backbone"]),
        ("stages = stage(basic(8), 1) via ori|gin", ["projection = conv -> norm", "*connection*"]),
        ("stem = sum(over = chan|nels)", ["First axis"]),
    ],
)  # fmt: skip
def test_a_name_of_a_network_is_explained(marked: str, says: list[str]) -> None:
    found = text_at(network(marked))
    for each in says:
        assert each in found


def test_a_line_of_a_block_tells_of_all_its_uses() -> None:
    block = "block fire(width) { out = in -> conv(width) -> no|rm -> spike }\n"
    flow = "out = in -> fire(8) -> fire(16) -> fire(16) -> avgpool -> linear(classes)"
    found = text_at(block + network(flow))
    assert "the first of 3 uses" in found
    assert "- 8 x 32 x 32 analog: `fire`" in found
    assert "- 16 x 32 x 32 analog: `fire2` and 1 more" in found


@pytest.mark.parametrize(
    ("marked", "says"),
    [
        ("neuron N(tau = 2.0) { state u = 0.0; v = u + x / ta|u; s = heaviside(v) }", "tau = 2.0"),
        ("neuron N { state u = 0.0; v = |u + x; s = heaviside(v); u = v }", "state u = 0.0"),
        ("neuron N { s = heavi|side(x) }", "heaviside"),
        ("rule r { in[i] = out[i-1]; result = out[|n-1] }", "number of blocks"),
        ("rule r { in[i] = sum(out[|j] for j in 0 .. i-1); result = out[n-1] }", "variable"),
        ("recipe r { epo|chs = 3; optimizer = adamw(lr = 0.1) }", "asses over"),
        ("recipe r { epochs = 3; optimizer = adamw(l|r = 0.1) }", "learning rate"),
        ("recipe r { epochs = 3; loss = tet(wei|ght = 0.1) }", "squared error"),
        ("# Mine.\nblock fi|re = conv(8)", "Mine."),
        ("net|work n { out = in }", "declares"),
    ],
)
def test_a_name_of_anything_else_is_explained(marked: str, says: str) -> None:
    assert says.casefold() in text_at("use std\n" + marked + "\n").casefold()


def test_every_name_of_the_library_is_explained() -> None:
    text = "use std (" + ", ".join(sorted(standard())) + ")\n"
    analysis = analyse(text)
    for name in standard():
        place = text.index(f"{name},") if f"{name}," in text else text.index(f"{name})")
        found = hover(analysis, place + 1)
        assert found is not None, name
        assert name in found.markdown


def test_nothing_is_said_of_nothing() -> None:
    assert text_at("use std\n|\n") == ""
    assert text_at("# a com|ment\n") == ""
