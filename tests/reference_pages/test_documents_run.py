"""Every block of the tutorial and of the guides runs, and prints what the page says."""

from __future__ import annotations

from pathlib import Path

import pytest

from .documents import PAGES, TUTORIAL, perform


@pytest.mark.filterwarnings("ignore::danetc.SpecWarning")
@pytest.mark.usefixtures("short_samples")
@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, id=page.stem, marks=[pytest.mark.thorough] * (page not in TUTORIAL))
        for page in PAGES
    ],
)
def test_the_blocks_of_a_page(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    for command, out in perform(page):
        assert command.fits(out), f"{command.words}\n{out}"
