"""Documents whose blocks are run, from top to bottom, in a separate folder.

- ```` ```danet title="net.danet" ```` writes a file that must check; without a title, it must check too.
- ```` ```console ```` has `$ danetc ...` lines, each with its output: `...` stands for any text, alone on a
  line for any lines. A command that prints an error is expected to fail.
- ```` ```python ```` runs, with the names of the blocks before it; a last line `# -> TEXT` is what the block prints.
- ```` ```sh ```` has commands of danetc; ``test_entries`` runs them, all but those in NOT_RUN.

``python -m tests.reference_pages.documents`` updates the output of commands if it has changed.
"""

import contextlib
import io
import os
import re
import shlex
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from danetc.compiler import check_text
from danetc.main import main

ROOT = Path(__file__).parents[2]
TUTORIAL, GUIDES = (sorted((ROOT / "docs" / name).glob("*.md")) for name in ("tutorial", "guides"))
PAGES = [*TUTORIAL, *GUIDES, ROOT / "docs" / "training.md", ROOT / "docs" / "semantics.md"]
ELSEWHERE = {
    "README.md": "tests/test_readme.py",
    "CONTRIBUTING.md": "tests/test_contributing.py",
    "docs/editors.md": "tests/test_readme.py",
}
"""Pages that another test runs."""
NOT_RUN = {
    "trains for days": ("frozen", "results/run.py", "\ndone", "nets.danet"),
    "needs data that are not part of danetc": (":DIR", "/data/imagenet", "--only-report"),
    "stands for a file of the reader's": ("RUN", "compare net.danet", "my_densenet"),
    "changes the system": ("pip install", "no-torch.txt", "apt install", "code --install"),
    "needs a GPU": ("cuda:1",),
    "a script for a scheduler": ("#SBATCH",),
    "runs until it is stopped": ("http.server",),
    "a target of the Makefile": ("make ",),
    "tests/runtime/training/test_distributed.py trains in several processes": ("torchrun",),
    "tests/danetc/importing imports what is exported": ("network.nir",),
    "tests/test_results.py compares what it writes": ("results.networks",),
    "tests/highlighting runs it where it is installed": ("tree-sitter",),
}
"""Parts of shell lines and of scripts that the tests do not run, by reason."""

QUICK = {"train": ("--set", "recipe.epochs=1", "--backend", "eager"), "measure": ("--batches", "1")}
"""Options that make a command short in tests."""


@dataclass(frozen=True, slots=True)
class DocumentBlock:
    """A fenced block: its language, title, text, and the line that its text begins at, from 0."""

    language: str
    title: str
    text: str
    line: int


def blocks(page: str) -> Iterator[DocumentBlock]:
    fenced = r'^(`{3,})(\w*)(?: .*?title="([^"]*)"| .*)?\n(.*?)\n?^\1$'
    for found in re.finditer(fenced, page, re.MULTILINE | re.DOTALL):
        line = page.count("\n", 0, found.start()) + 1
        yield DocumentBlock(found[2], found[3] or "", found[4], line)


@dataclass(frozen=True, slots=True)
class ShownCommand:
    """A command of a console block, and the output that the page shows."""

    words: list[str]
    printed: str

    @property
    def pattern(self) -> str:
        lines = [re.escape(line).replace(r"\.\.\.", ".*") for line in self.printed.split("\n")]
        return "".join(r"(?:.*\n)*?" if line == ".*" else rf"{line} *\n" for line in lines)

    def fits(self, out: str) -> bool:
        return re.fullmatch(self.pattern, out.strip("\n") + "\n") is not None


def commands(block: DocumentBlock) -> list[ShownCommand]:
    found = re.findall(r"^\$ (.*)((?:\n(?!\$ ).*)*)", block.text, re.MULTILINE)
    return [ShownCommand(shlex.split(words), printed.strip("\n")) for words, printed in found]


def run(words: list[str]) -> tuple[int, str]:
    """Run a command of danetc in this process. Returns its status and its output."""
    assert words[0] == "danetc", words
    text = io.StringIO()
    with contextlib.redirect_stdout(text), contextlib.redirect_stderr(text):
        quick = () if "--from" in words else QUICK.get(words[1], ())
        status = main([*words[1:], *quick])
    lines = text.getvalue().replace(os.sep, "/").splitlines()
    return status, "\n".join(line.rstrip() for line in lines)


def perform(path: Path) -> Iterator[tuple[ShownCommand, str]]:
    """Run the blocks of a page in the current folder. Yields each command with its output."""
    names: dict[str, Any] = {}
    for block in blocks(path.read_text(encoding="utf-8")):
        match block.language:
            case "danet":
                check_text(block.text, block.title or path.name)
                if block.title:
                    Path(block.title).write_text(block.text + "\n", encoding="utf-8")
            case "console":
                for command in commands(block):
                    status, out = run(command.words)
                    expected = bool(re.search(r"error\[|^danetc: ", command.printed, re.MULTILINE))
                    assert status == expected, f"{shlex.join(command.words)}\n{out}"
                    yield command, out
            case "python" if block.title:
                Path(block.title).write_text(block.text + "\n", encoding="utf-8")
            case "python":
                text = io.StringIO()
                with contextlib.redirect_stdout(text):
                    exec(compile(block.text, path.name, "exec"), names)
                said = [line[5:] for line in block.text.splitlines() if line.startswith("# -> ")]
                assert not said or text.getvalue().split("\n")[:-1] == said, text.getvalue()
            case "sh":
                pass  # test_entries runs them
            case other:
                raise ValueError(f"a block of {other!r}, which nothing performs")


def shell_lines(block: DocumentBlock) -> list[str]:
    """The lines of a block that are run: none of a script with a loop or of one for a scheduler."""
    if any(script in block.text for script in ("#SBATCH", "\ndone")):
        return []
    lines = block.text.replace("\\\n", " ").splitlines()
    left_out = [part for parts in NOT_RUN.values() for part in parts]
    return [x for x in lines if shlex.split(x, comments=True) and not any(p in x for p in left_out)]


def write(path: Path) -> None:
    """Write the output of a page's commands where it differs from the page."""
    page = path.read_text(encoding="utf-8")
    for command, out in perform(path):
        if not command.fits(out):
            line = re.search(rf"^\$ {re.escape(shlex.join(command.words))}$", page, re.MULTILINE)
            assert line is not None, command.words
            rest = page[line.end() :]
            end = min(i for i in (rest.find("\n```"), rest.find("\n$ ")) if i >= 0)
            page = page[: line.end()] + "\n" + out.strip("\n") + rest[end:]
    path.write_text(page, encoding="utf-8", newline="\n")


if __name__ == "__main__":
    for each in PAGES:
        if each.stem in (sys.argv[1:] or [each.stem]):
            with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
                write(each)
