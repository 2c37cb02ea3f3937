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


@pytest.mark.parametrize(
    ("name", "start"), [("a.svg", b"<?xml"), ("a.PNG", b"\x89PNG"), ("a.gv", b"digraph")]
)
def test_the_ending_says_the_format(
    danetc: Run, small: Path, tmp_path: Path, name: str, start: bytes
) -> None:
    result = danetc("draw", small, "-o", name)
    assert (result.status, result.out, result.err) == (0, "", "")
    assert (tmp_path / name).read_bytes().startswith(start)


def test_compare(danetc: Run, small: Path, two: Path, tmp_path: Path) -> None:
    assert danetc("draw", small, "sew_r18", "-o", "a.svg").status == 0
    text = (tmp_path / "a.svg").read_text(encoding="utf-8")
    assert ">(b) sew_r18</text>" in text
    assert danetc("draw", small, two, "-o", "b.svg", "-n", "other").status == 1
    assert not (tmp_path / "b.svg").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("-o", "a.bmp"), "ends in .svg, .png, .pdf or .gv"),
        (("-o", "a"), "ends in .svg, .png, .pdf or .gv"),
        (("-o", "a.svg", "--level", "layer"), "'layer' is not one of"),
        (("-o", "a.svg", "--theme", "red"), "'red' is not one of"),
        (("sew_r18",), "several specs need -o"),
    ],
)
def test_wrong_usage(danetc: Run, small: Path, arguments: tuple[str, ...], message: str) -> None:
    result = danetc("draw", small, *arguments)
    assert result.status == 2
    assert message in result.err


def test_what_cannot_be_drawn_or_written(danetc: Run, two: Path, tmp_path: Path) -> None:
    (tmp_path / "folder.svg").mkdir()
    for arguments, message in (
        (("-n", "bare", "--level", "block", "-o", "a.svg"), "bare has no stages of blocks"),
        (("-n", "one", "-o", "folder.svg"), "folder.svg: Is a directory"),
        (("-n", "one", "-o", "no/a.svg"), "there is no folder no"),
        (("-n", "one", "-o", "/proc/a.svg"), "/proc/a.svg: "),
    ):
        result = danetc("draw", two, *arguments)
        assert result.status == 1
        assert message in result.err


def test_an_older_picture_stays_where_the_new_one_fails(
    danetc: Run, two: Path, tmp_path: Path
) -> None:
    (tmp_path / "a.svg").write_text("old", encoding="utf-8")
    assert danetc("draw", two, "-n", "bare", "--level", "block", "-o", "a.svg").status == 1
    assert (tmp_path / "a.svg").read_text(encoding="utf-8") == "old"
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
