"""Every setting of a recipe is read by the training, and a new one is there by its row alone."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from danetc.dsl.recipe.settings import SETTINGS, Phase, Recipe
from danetc.main import main

from .conftest import QUICK, SMALL


def test_the_training_reads_every_setting(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Read by name, outside of what parses and records settings, which goes through all of them."""
    read: set[str] = set()

    def noted(self: Any, name: str) -> Any:
        reader = sys._getframe(1).f_globals["__name__"]
        if reader.startswith("danetc.") and not reader.startswith("danetc.dsl."):
            read.add(name)
        return object.__getattribute__(self, name)

    for part in (Phase, Recipe):
        monkeypatch.setattr(part, "__getattribute__", noted)
    (tmp_path / "quick.danet").write_text(SMALL + QUICK)
    arguments = ["--data", "digits", "--backend", "eager", "-o", str(tmp_path / "run")]
    assert main(["train", str(tmp_path / "quick.danet"), *arguments]) == 0
    capsys.readouterr()
    assert SETTINGS.keys() <= read
