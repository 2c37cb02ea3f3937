"""Random edits of shipped specs, after each of which every service answers.

``make edits`` does 10,000 of them; the tests a few. Files are edited as a person does it, by words and
lines, and now and then undone, so that they are broken most of the time and mended some of it; one file
uses another that is open too.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from danetc.dsl.diagnostics.fixes import Edit
from danetc.dsl.reading import shipped_specs
from danetc.dsl.syntax.source import SourceFile, Span
from danetc.dsl.syntax.tokens import scan
from danetc.editor import Analysis
from danetc.editor.completion import complete
from danetc.editor.hints import inlay_hints
from danetc.editor.hover import hover
from danetc.editor.navigation import RenameRefused, definition, edited, references, rename
from danetc.editor.open_files import OpenFiles
from danetc.editor.outline import OutlineSymbol, folds, semantic_tokens, symbols
from danetc.editor.positions import TextLines
from danetc.editor.problems import code_fixes, format_edits, problems

_TEXT = """network block backbone connection rule neuron surrogate recipe use via by with if else for and
or not state phase in out -> .. == = + - * / ( ) [ ] { } , ; : " ' # . 0 1 3.5 1e999 conv norm spike stage
sum learn delay LIF resnet18 origin x s i n over channels é 😀 std"""
WORDS = [*_TEXT.split(), "\n", "\r", "\t", "\x00"]
UNDONE = 40  # edits until a file is as it was


@dataclass
class Soak:
    """A session."""

    draw: random.Random
    files: OpenFiles = field(default_factory=OpenFiles)

    def run(self, edits: int) -> None:
        """So many edits, over one spec after the other."""
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
        """A shipped spec and a file that it uses, as they stand in the package."""
        path = shipped_specs()[name]
        paths = [path]
        for use in Analysis(SourceFile(str(path), path.read_text(encoding="utf-8"))).program.uses:
            if use.is_path:
                paths.append(path.parent / use.module)
        opened = [str(each.resolve()) for each in paths[:2]]
        for each in opened:
            self.files.change(each, Path(each).read_text(encoding="utf-8"))
        return opened

    def edit(self, text: str) -> str:
        """A text with something changed."""
        draw = self.draw
        tokens = scan(SourceFile("edit", text)).tokens
        at = draw.randrange(len(text) + 1)
        match draw.randrange(8):
            case 0:
                return text[:at] + text[at + 1 :]
            case 1:
                return text[:at] + draw.choice(WORDS) + text[at:]
            case 2 if len(tokens) > 1:
                token = draw.choice(tokens[:-1])
                return text[: token.start] + draw.choice(WORDS) + text[token.end :]
            case 3 if len(tokens) > 1:
                a, b = sorted(draw.sample(tokens, 2), key=lambda token: token.start)
                return text[: a.start] + b.text + text[a.end :]
            case 4 if len(tokens) > 1:
                token = draw.choice(tokens[:-1])
                return text[: token.start] + text[token.end :]
            case 5:
                lines = text.split("\n")
                lines.insert(draw.randrange(len(lines) + 1), draw.choice(lines))
                return "\n".join(lines)
            case 6:
                lines = text.split("\n")
                del lines[draw.randrange(len(lines))]
                return "\n".join(lines)
        return text[:at] + " " + text[at:]

    # -- answers ------------------------------------------------------------------------------------

    def answer(self, name: str) -> None:
        """Every service once, at a random place; what they give lies in the text."""
        analysis = self.files.analysis(name)
        others = self.files.others(name)
        offset = self.draw.randrange(len(analysis.text) + 1)
        lines = TextLines(analysis.text)
        assert lines.offset(*lines.position(offset)) <= offset
        for item in problems(analysis):
            assert item.span.source is analysis.source
            self.inside(analysis, item.span)
        for hint in inlay_hints(analysis, others):
            assert 0 <= hint.offset <= len(analysis.text)
        for symbol in _all(symbols(analysis)):
            self.inside(analysis, symbol.span)
            self.inside(analysis, symbol.name_span)
        for token in semantic_tokens(analysis):
            self.inside(analysis, token.span)
        folds(analysis)
        hover(analysis, offset, others)
        definition(analysis, offset)
        references(analysis, offset, others)
        for proposal in complete(analysis, offset):
            assert proposal.span.start <= offset <= proposal.span.end
        for fix in code_fixes(analysis, 0, len(analysis.text)):
            self.applied(analysis, fix.edits)
        self.applied(analysis, format_edits(analysis))
        if self.draw.random() < 0.05:
            with suppress(RenameRefused):
                rename(analysis, offset, "renamed", others)

    def inside(self, analysis: Analysis, span: Span) -> None:
        assert 0 <= span.start <= span.end <= len(analysis.text), span

    def applied(self, analysis: Analysis, edits: Sequence[Edit]) -> None:
        """Edits of the text are inside of it, and apart from each other."""
        own = [edit for edit in edits if edit.span.source is analysis.source]
        own.sort(key=lambda edit: edit.span.start)
        for before, edit in pairwise(own):
            assert before.span.end <= edit.span.start
        for edit in own:
            self.inside(analysis, edit.span)
        edited(analysis.text, own)


def _all(found: Sequence[OutlineSymbol]) -> Iterator[OutlineSymbol]:
    for symbol in found:
        yield symbol
        yield from _all(symbol.children)


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
