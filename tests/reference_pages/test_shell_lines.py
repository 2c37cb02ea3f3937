"""Shell lines of the documentation run, on a few images and for one epoch; no block is left out."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from .documents import ELSEWHERE, NOT_RUN, PAGES, ROOT, blocks, run, shell_lines

BLOCKS = {
    page.relative_to(ROOT).as_posix(): found
    for pattern in ("*.md", "docs/**/*.md", "results/**/*.md", "editors/**/*.md")
    for page in sorted(ROOT.glob(pattern))
    if "node_modules" not in page.parts and (found := [*blocks(page.read_text("utf-8"))])
}
SHELL = {
    page: lines
    for page, found in BLOCKS.items()
    if page not in ELSEWHERE
    and (lines := [line for b in found if b.language == "sh" for line in shell_lines(b)])
}
BEFORE = {
    "docs/guides/fine-tuning.md": ["danetc train danet_c_small --data digits --classes 5 --set classes=5 -o runs/five"],
    "docs/guides/importing.md": ["danetc build danet_c_r18 --set 'input=image(3, 32, 32)'"],
}  # fmt: skip
"""What a page assumes to be there."""
QUICK = {
    "convert": "--steps=4 --batches=1",
    "import": "--input 3x32x32 --samples 10",
    "search": "--trials=1 --set recipe.epochs=1 --backend=eager",
}


def test_no_block_is_left_out() -> None:
    performed = {page.relative_to(ROOT).as_posix() for page in PAGES}
    for page, found in BLOCKS.items():
        if page in ELSEWHERE:
            assert Path(page).name in (ROOT / ELSEWHERE[page]).read_text("utf-8")
        elif page not in performed:
            assert {block.language for block in found} == {"sh"}, page
    for lines in SHELL.values():
        assert all(line.lstrip().startswith("danetc ") for line in lines), lines
    text = "\n".join(block.text for found in BLOCKS.values() for block in found)
    assert [part for parts in NOT_RUN.values() for part in parts if part not in text] == []


@pytest.mark.thorough
@pytest.mark.filterwarnings("ignore::danetc.SpecWarning")
@pytest.mark.usefixtures("short_samples", "few_digits")
@pytest.mark.parametrize("page", SHELL)
def test_its_shell_lines_run(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for block in BLOCKS[page]:
        if block.title:
            Path(block.title).write_text(block.text + "\n", encoding="utf-8")
    for name in ("a.png", "b.jpg"):
        Image.fromarray(np.zeros((8, 8), np.uint8)).save(name)
    for line in [*BEFORE.get(page, ()), *SHELL[page]]:
        words = shlex.split(re.sub(r" --set recipe.epochs=\d+", "", line), comments=True)
        status, out = run([*words, *QUICK.get(words[1], "").split()])
        assert status == 0, f"{line}\n{out}"
