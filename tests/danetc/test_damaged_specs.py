"""Shipped specs with tokens, lines and characters changed: commands end in an answer, not in an error
of danetc's own.

``DANETC_SEED=3`` tries others.
"""

from __future__ import annotations

import os
import random
import re
from pathlib import Path

import pytest

import danetc.main
from danetc.main import main

ROOT = Path(__file__).parents[2]
FIRST = int(os.environ.get("DANETC_SEED", "0"))
COMMANDS = (["check", "--json"], ["fmt"], ["fmt", "--check"])
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


@pytest.mark.thorough
@pytest.mark.parametrize("seed", range(FIRST, FIRST + 3))
def test_damage_is_told(seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dice, path = random.Random(seed), tmp_path / "damaged.danet"

    def report(error: Exception) -> int:
        raise AssertionError(path.read_text("utf-8")) from error

    monkeypatch.setattr(danetc.main, "_report_bug", report)
    for _ in range(100):
        text = damaged(dice.choice(TEXTS), dice)
        path.write_text(text, "utf-8", newline="")
        check, *fmt = (main([*words, str(path)]) for words in COMMANDS)
        assert fmt[0] == fmt[1], text
        if check == 0:
            main(["draw", str(path), "-o", str(tmp_path / "damaged.gv")])
