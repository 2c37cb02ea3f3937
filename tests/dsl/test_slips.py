"""All typing mistakes in a short text: the error of each, its place, its fix, and what is kept.

``slips.txt`` has a line for each slip and in it a cell for each word of TEXT that the slip is made at. A cell
has the last digits of the code, the characters from the slip to the mark, the number of marked characters,
and ``+ - =`` for a fix that inserts, removes or replaces, with ``!`` if errors remain after it. Then follow
the number of nodes in the tree and names that are lost. ``.`` means that the text has no error.
``python -m tests.dsl.test_slips`` rewrites the file after an intended change.
"""

import re
from pathlib import Path

import pytest

from danetc.dsl.diagnostics.fixes import fixes_of
from danetc.dsl.syntax.source import SourceFile
from danetc.dsl.syntax.tokens import scan
from danetc.dsl.syntax.tree import walk
from danetc.editor.navigation import edited
from tests.dsl.test_parser import parsed
from tests.tables import each_of

FILE = Path(__file__).with_name("slips.txt")
TEXT = """use std (A)
rule n(t = 2) {
  state u = 0; v[i - 1] = f(u, 3) * (x) if not v > 1 else w
}
network a = b(c) {
  s = a via b by r with (d = 1)
  e = sum(out[0 .. j] for j in 1 .. i if j < 3); t = 4

  phase full { x = "lib" -> y }
}
"""
SLIPS = (
    *("gone", "twice", "(", ")", "[", "{", "}", ",", ";", "=", "==", "->", "if", "else", "for"),
    *("use", "w", "1", ".", "network"),
)


def cell(text: str, at: int) -> str:
    program, reporter = parsed(text)
    errors = reporter.diagnostics
    shown = []
    for error in errors:
        spans = (error.span, *(label.span for label in error.labels))
        shown.append(error.code[3:] + "_".join(f"{it.start - at}:{len(it.text)}" for it in spans))
        for fix in error.fixes:
            kinds = "".join("=+-"[(not e.span.text) + 2 * (not e.text)] for e in fix.edits)
            left = "!" * bool(parsed(edited(text, fix.edits))[1].diagnostics)
            shown[-1] += f"_{kinds}{fix.edits[0].span.start - at}{left}"
    kept = "~".join([str(len([*walk(program)])), *(lost.name for lost in program.lost)])
    return f"{'&'.join(shown)}/{kept}" if errors else "."


def cells(slip: str) -> dict[str, str]:
    texts = {}
    for token in scan(SourceFile("t", TEXT)).tokens[:-1]:
        new = {"gone": "", "twice": f"{token.text} {token.text}"}.get(slip, f"{slip} {token.text}")
        texts[TEXT[: token.start] + new + TEXT[token.end :]] = token.start
    return {text: cell(text, at) for text, at in texts.items()}


@pytest.mark.parametrize("part", range(4))  # one test would take two seconds
def test_slips_are_found_and_mended_as_before(part: int) -> None:
    rows = {line.split()[0]: line.split()[1:] for line in FILE.read_text("utf-8").splitlines()}
    for slip in SLIPS[part::4]:
        for (text, found), before in zip(cells(slip).items(), rows[slip], strict=True):
            assert found == before, text


# -- the scanner gives each invalid word one error, a replacement token and a fix ------------------

NUMBERS, WORDS = "numbers are written `4`, `0.5` or `1e-4`", "names are made of the letters a-z"
STRINGS, IMPORTS = "strings are written in double quotes", "import other files with `use`"
BODIES = "a body is written between `{` and `}`"
# Marked word: tokens, code, part of the message or hint, text after the fix.
WRONG: dict[str, tuple[str, str, str, str]] = {
    "a «5.»": ("a 1", "E0107", "write `5.0`", "a 5.0"),
    "«.5e3» b": ("1 b", "E0107", "write `0.5e3`", "0.5e3 b"),
    "«1e»- 2": ("1 - 2", "E0107", NUMBERS, ""),
    "a «'b c'»": ('a "b c"', "E0106", "in double quotes", 'a "b c"'),
    'a @ «"b  »\n c': ('a "b  " c', "E0106", "not closed on its line", 'a @ "b"  \n c'),
    "a «'»b": ("a b", "E0105", STRINGS, ""),
    "«caf\u00e9»": ("caf\u00e9", "E0105", WORDS, ""),
    "a «b.c.foo»": ("a foo", "E0118", "write only the name: `foo`", "a foo"),
    "«nn.Conv2d»": ("Conv2d", "E0118", "write `conv(WIDTH, kernel = 3)`", ""),
    "«self.relu»": ("relu", "E0118", "there are no objects", ""),
    "«torch.exp»": ("exp", "E0118", "`exp", ""),
    "«a.danet»": ("danet", "E0118", 'in quotes: `"a.danet"`', ""),
    "«zoo.vit.foo»": ("foo", "E0118", "`foo`", "foo"),
    "a «? b :» c": ("a if c", "E0118", "`a if condition else b`", ""),
    "a «// b»\n c": ("a c", "E0118", "from `#` to the end", "a # b\n c"),
    "a «/* b\n * c */» d": ("a d", "E0118", "comments begin with `#`", ""),
    "a «/=» b": ("a = b", "E0118", "write `a = a / ...`", ""),
    "a «@$» b": ("a b", "E0105", "2 unexpected characters, the first `@`", ""),
    "«\x00»": ("", "E0105", "character (U+0000) is this a text file?", ""),
    "# a«\u202e»b\u200c\tc": ("", "E0105", "a comment with a character that is not shown", ""),
    '"a«\u202e»b\u200d"': ('"a\u202eb\u200d"', "E0105", "a string with a character", ""),
    "\ufeffa «\ufeff»": ("a", "E0105", "U+FEFF", ""),
    "a\n«import» os, sys\nb": ("a", "E0114", IMPORTS, ""),
    "a\n «def f(x)»:\n b": ("a", "E0114", "declare a `block`", ""),
    "else«:»  # c\n b": ("", "E0118", BODIES, ""),
}  # fmt: skip


@each_of(WRONG)
def test_wrong_words(marked: str) -> None:
    (before, wrong, after), (tokens, code, words, fixed) = re.split("[«»]", marked), WRONG[marked]
    source = SourceFile("t", before + wrong + after)
    found = scan(source)
    (error,) = found.errors
    assert (error.code, error.span.start, error.span.text) == (code, len(before), wrong)
    assert words in f"{error.message} {error.hint}"
    assert " ".join(token.text for token in found.tokens[:-1]) == tokens
    assert found.is_text != any(of_python in words for of_python in (IMPORTS, BODIES, "`block`"))
    fixes = fixes_of(error.hint, error.span)
    assert "".join(edited(source.text, fix.edits) for fix in fixes) == fixed


if __name__ == "__main__":
    lines = (f"{slip} {' '.join(cells(slip).values())}\n" for slip in SLIPS)
    FILE.write_text("".join(lines), "utf-8")
