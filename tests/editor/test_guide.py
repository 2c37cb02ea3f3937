"""docs/editors.md: what it says to write is what there is."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from danetc.main import COMMANDS

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs" / "editors.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", GUIDE, re.DOTALL)


def test_every_editor_starts_the_server_by_its_command() -> None:
    assert "lsp" in COMMANDS
    blocks = dict(BLOCKS)
    assert 'cmd = { "danetc", "lsp" }' in blocks["lua"]
    assert '(danet-mode . ("danetc" "lsp"))' in blocks["elisp"]
    helix = tomllib.loads(blocks["toml"])
    server = helix["language-server"]["danetc"]
    assert [server["command"], *server["args"]] == ["danetc", "lsp"]
    assert helix["language"][0]["language-servers"] == ["danetc"]
    for language in ("lua", "elisp"):
        for opening, closing in ("()", "{}", "[]"):
            assert blocks[language].count(opening) == blocks[language].count(closing)


def test_the_extra_is_there() -> None:
    extras = re.findall(r"danetc\[(\w+)\]", GUIDE)
    assert extras
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert set(extras) <= project["optional-dependencies"].keys()


def test_the_services_answer_in_python(capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = [text for language, text in BLOCKS if language == "python"]
    exec(code, {})
    out = capsys.readouterr().out
    assert "4 x 8 x 8 analog" in out
    assert "untitled.danet:2:71 unknown name `nrom`" in out


@pytest.mark.thorough
def test_the_services_need_neither_torch_nor_a_server() -> None:
    modules = ["bridge", "completion", "outline", "hover", "navigation", "open_files", "preview"]
    code = (
        "import sys\n"
        + "".join(f"import danetc.editor.{name}\n" for name in modules)
        + "print({'torch', 'numpy', 'click', 'subprocess', 'pygls'} & sys.modules.keys())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
