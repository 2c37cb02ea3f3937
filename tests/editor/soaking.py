"""Random edits of shipped specs: every service answers after each edit.

``make edits`` makes 10,000 edits, and the tests make a few. They change words and lines, as a person does.
From time to time files are restored, so that they are broken most of the time and correct some of it. One
file uses another that is open too.
"""

import argparse
import random
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from danetc.dsl.diagnostics.fixes import Edit
from danetc.dsl.reading import shipped_specs
from danetc.dsl.syntax.source import SourceFile
from danetc.dsl.syntax.tokens import scan
from danetc.editor import Analysis
from danetc.editor.completion import complete
from danetc.editor.hints import inlay_hints
from danetc.editor.hover import hover
from danetc.editor.navigation import RenameRefused, definition, edited, references, rename
from danetc.editor.open_files import OpenFiles
from danetc.editor.outline import MODIFIERS, TYPES, folds, semantic_tokens, symbols
from danetc.editor.positions import TextLines
from danetc.editor.problems import code_fixes, format_edits, problems

_TEXT = """network block backbone connection rule neuron surrogate recipe use via by with if else for and
or not state phase in out -> .. == = + - * / ( ) [ ] { } , ; : " ' # . 0 1 3.5 1e999 conv norm spike stage
sum learn delay LIF resnet18 origin x s i n over channels é 😀 std"""
WORDS = [*_TEXT.split(), "\n", "\r", "\t", "\x00"]
UNDONE = 40  # edits after which a file is restored


@dataclass
class Soak:
    """An editor session."""

    draw: random.Random
    files: OpenFiles = field(default_factory=OpenFiles)

    def run(self, edits: int) -> None:
        names = list(shipped_specs())
        while edits > 0:
            name = self.draw.choice(names)
            opened = self.open(name)
            for _ in range(min(edits, UNDONE)):
                chosen = self.draw.choice(opened)
                text = self.files.analysis(chosen).text
                self.files.change(chosen, self.edit(text))
                for each in opened:
                    self.answer(each)
            edits -= UNDONE
            for each in opened:
                self.files.close(each)

    def open(self, name: str) -> list[str]:
        """Open a shipped spec, and a file that it uses, with their text in the package."""
        path = shipped_specs()[name]
        uses = Analysis(SourceFile(str(path), path.read_text(encoding="utf-8"))).program.uses
        paths = [path, *(path.parent / use.module for use in uses if use.is_path)]
        opened = [str(each.resolve()) for each in paths[:2]]
        for each in opened:
            self.files.change(each, Path(each).read_text(encoding="utf-8"))
        return opened

    def edit(self, text: str) -> str:
        draw, lines = self.draw, text.split("\n")
        tokens = scan(SourceFile("edit", text)).tokens  # the last one is empty
        a, b = sorted(draw.choices(tokens, k=2), key=lambda token: token.start)
        at, line = draw.randrange(len(text) + 1), draw.randrange(len(lines))
        word = draw.choice(WORDS)
        changed = (
            text[:at] + text[at + 1 :],
            text[:at] + word + text[at:],
            text[:at] + " " + text[at:],
            text[: a.start] + word + text[a.end :],
            text[: a.start] + b.text + text[a.end :],
            text[: a.start] + text[a.end :],
            "\n".join([*lines[:line], draw.choice(lines), *lines[line:]]),
            "\n".join(lines[:line] + lines[line + 1 :]),
        )
        return draw.choice(changed)

    def answer(self, name: str) -> None:
        """Call every service once, at a random place; results must lie in the text."""
        analysis = self.files.analysis(name)
        others = self.files.others(name)
        end = len(analysis.text)
        offset = self.draw.randrange(end + 1)
        lines = TextLines(analysis.text)
        assert lines.offset(*lines.position(offset)) <= offset
        tokens = semantic_tokens(analysis)
        places = [place for token in tokens for place in (token.span.start, token.span.end)]
        assert places == sorted(places)
        assert all(token.type in TYPES and {*token.modifiers} <= {*MODIFIERS} for token in tokens)
        assert "\n" not in "".join(token.span.text for token in tokens)
        spans = [item.span for item in (*problems(analysis), *tokens)]
        outline = [*symbols(analysis)]
        for symbol in outline:
            outline += symbol.children
            spans += symbol.span, symbol.name_span
        for span in spans:
            assert span.source is analysis.source
            assert 0 <= span.start <= span.end <= end, span
        assert all(0 <= hint.offset <= end for hint in inlay_hints(analysis, others))
        folds(analysis)
        hover(analysis, offset, others)
        definition(analysis, offset)
        references(analysis, offset, others)
        for proposal in complete(analysis, offset):
            assert proposal.span.start <= offset <= proposal.span.end
        for fix in code_fixes(analysis, 0, end):
            self.applied(analysis, fix.edits)
        self.applied(analysis, format_edits(analysis))
        if self.draw.random() < 0.05:
            with suppress(RenameRefused):
                rename(analysis, offset, "renamed", others)

    def applied(self, analysis: Analysis, edits: Sequence[Edit]) -> None:
        """Check that edits of the text lie inside it and do not overlap."""
        own = [edit for edit in edits if edit.span.source is analysis.source]
        places = sorted((edit.span.start, edit.span.end) for edit in own)
        ends = [0, *(place for both in places for place in both), len(analysis.text)]
        assert ends == sorted(ends)
        edited(analysis.text, own)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--edits", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    soak = Soak(random.Random(given.seed))
    begin = time.process_time()
    soak.run(given.edits)
    seconds = time.process_time() - begin
    print(f"{given.edits:,} edits from seed {given.seed}: each answered, {seconds:.0f} s of CPU")
    return 0


if __name__ == "__main__":
    sys.exit(main())
