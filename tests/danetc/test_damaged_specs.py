"""Shipped specs with tokens, lines and characters changed: commands end in an answer, not in an error
of danetc's own.

``python -m tests.danetc.test_damaged_specs SEED COUNT`` tries others.
"""

from __future__ import annotations

import contextlib
import io
import random
import re
import sys
from pathlib import Path

import pytest

import danetc.main
from danetc.main import main

ROOT = Path(__file__).parents[2]
TEXTS = [path.read_text("utf-8") for path in sorted((ROOT / "specs").rglob("*.danet"))]
TOKENS = re.compile(r"\w+|->|\.\.|[<>=!]=|\"[^\"\n]*\"|#[^\n]*|\s|.")
CHARACTERS = "(){}[]=-><.,;:+*/\"#'\\_09aZ \t\n\0é\u2028\ufeff%$@!&|^~`?"


def damaged(text: str, dice: random.Random) -> str:
    for _ in range(dice.choice([1, 1, 1, 2, 4])):
        if dice.random() < 0.2:
            place = dice.randrange(len(text) + 1)
            new = dice.choice(["", dice.choice(CHARACTERS)])
            text = text[:place] + new + text[place + dice.randrange(2) :]
            continue
        lines = dice.random() < 0.3
        pieces = text.split("\n") if lines else TOKENS.findall(text)
        solid = [i for i, piece in enumerate(pieces) if piece.strip()] or [0]
        one, other = dice.choice(solid), dice.choice(solid)
        match dice.randrange(4):
            case 0:
                del pieces[one]
            case 1:
                pieces.insert(one, pieces[other] + " ")
            case 2:
                pieces[one], pieces[other] = pieces[other], pieces[one]
            case _:
                pieces[one] = dice.choice(TOKENS.findall(dice.choice(TEXTS)))
        text = ("\n" if lines else "").join(pieces)
    return text


def check_damaged(seed: int, count: int, folder: Path) -> None:
    dice, path = random.Random(seed), folder / "damaged.danet"
    for _ in range(count):
        text = damaged(dice.choice(TEXTS), dice)
        path.write_text(text, "utf-8", newline="")
        status = {}
        for words in (["check", "--json"], ["fmt"], ["fmt", "--check"]):
            with (
                contextlib.redirect_stdout(io.StringIO()),
                contextlib.redirect_stderr(io.StringIO()),
            ):
                status[" ".join(words)] = main([*words, str(path)])
        if status["check --json"] == 0:
            picture = str(folder / "damaged.gv")
            with contextlib.redirect_stderr(io.StringIO()):
                main(["draw", str(path), "-o", picture])
        assert status["fmt"] == status["fmt --check"], text


@pytest.mark.thorough
@pytest.mark.parametrize("seed", range(3))
def test_damage_is_told(seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def report(error: Exception) -> int:
        raise AssertionError((tmp_path / "damaged.danet").read_text("utf-8")) from error

    monkeypatch.setattr(danetc.main, "_report_bug", report)
    check_damaged(seed, 100, tmp_path)


if __name__ == "__main__":
    import tempfile

    def _report(error: Exception) -> int:
        raise error

    danetc.main._report_bug = _report
    with tempfile.TemporaryDirectory() as made:
        check_damaged(int(sys.argv[1]), int(sys.argv[2]), Path(made))
