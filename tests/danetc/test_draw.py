"""``danetc draw``: what it writes, and what it says about wrong input."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.danetc.conftest import Run

TWO = """use std
network one {
  input = image(1, 8, 8); steps = 2; neuron = IF; surrogate = sigmoid(alpha = 4)
  stem = conv(4) -> norm -> spike
  stages = stage(basic(4), 3) via sew
  head = avgpool -> mean_over_time -> linear(2)
}
network other = one { stages = stage(basic(4), 2) via origin by densely_additive }
network bare = one { stages = conv(4) -> norm -> spike }
"""


@pytest.fixture
def two(tmp_path: Path) -> Path:
    path = tmp_path / "two.danet"
    path.write_text(TWO, encoding="utf-8")
    return path


def test_the_ending_says_the_format(danetc: Run, two: Path, tmp_path: Path) -> None:
    for name, start in (("a.svg", b"<?xml"), ("a.PNG", b"\x89PNG"), ("a.gv", b"digraph")):
        result = danetc("draw", two, "-n", "one", "-o", name)
        assert (result.status, result.out, result.err) == (0, "", "")
        assert (tmp_path / name).read_bytes().startswith(start)
    assert danetc("draw", "danet_c_small", "sew_r18", "-o", "b.svg").status == 0
    assert ">(b) sew_r18</text>" in (tmp_path / "b.svg").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("-n", "bare", "--level", "block", "-o", "a.svg"), "bare has no stages of blocks"),
        (("-n", "one", "-o", "folder.svg"), "folder.svg: Is a directory"),
        (("-n", "one", "-o", "no/a.svg"), "there is no folder no"),
        (("-n", "one", "-o", "/proc/a.svg"), "/proc/a.svg: "),
        (("danet_c_small", "-n", "other", "-o", "a.svg"), "other"),
    ],
)
def test_what_cannot_be_drawn_or_written(
    danetc: Run, two: Path, tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    (tmp_path / "folder.svg").mkdir()
    (tmp_path / "a.svg").write_text("old", encoding="utf-8")
    danetc.fails(message, "draw", two, *arguments)
    assert (tmp_path / "a.svg").read_text(encoding="utf-8") == "old"
    assert {path.name for path in tmp_path.iterdir()} == {"a.svg", "folder.svg", "two.danet"}
