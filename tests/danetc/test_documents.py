"""Commands in the documentation are commands that exist, with options that they have."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from danetc.main import program
from danetc.runtime.data.sources import find

ROOT = Path(__file__).parents[2]
DOCUMENTS = [
    "README.md",
    "docs/guides/clusters.md",
    "docs/guides/fine-tuning.md",
    "docs/training.md",
    "docs/paper.md",
    "results/README.md",
]


def commands(document: str) -> list[list[str]]:
    """The command lines of danetc in the shell blocks, torchrun's included."""
    found = []
    for block in re.findall(r"```sh\n(.*?)```", (ROOT / document).read_text(), re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if "danetc" in words:
                found.append(words[words.index("danetc") + 1 :])
    return found


@pytest.mark.parametrize("document", DOCUMENTS)
def test_commands_are_understood(document: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # DIR stands for a folder of the reader's; the kinds of data must be known ones.
    monkeypatch.setattr("danetc.runtime.data.sources.look_at", find)
    lines = commands(document)
    assert len(lines) >= 4
    with program.make_context("danetc", ["check", "x"]) as context:
        for name, *arguments in lines:
            command = program.get_command(context, name)
            assert isinstance(command, click.Command), name
            command.make_context(name, arguments)  # exits with a usage error where it is none
