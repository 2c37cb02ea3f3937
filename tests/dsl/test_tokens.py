"""The scanner: each invalid word has one error at its place, a token in its stead, and a fix."""

from __future__ import annotations

import re
from collections.abc import Callable

from danetc.dsl.diagnostics.fixes import fixes_of
from danetc.dsl.syntax.source import SourceFile
from danetc.dsl.syntax.tokens import (
    scan,
    starts_declaration,
    starts_statement,
)
from danetc.editor.navigation import edited
from tests.tables import each_of

NUMBERS, WORDS = "numbers are written `4`, `0.5` or `1e-4`", "names are made of the letters a-z"
STRINGS, IMPORTS = "strings are written in double quotes", "import other files with `use`"
BODIES = "a body is written between `{` and `}`"
# The marked word; the tokens; the code and a part of the message and hint; the text after the fix.
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


STARTS = (
    (starts_statement, True, "a = 1|a {|in = 1|a b {|state a = 1|state in = 1|a[i] = 1|a[1,1,1,1,1] ="),
    (starts_statement, False, "1 =|a|a b|a b =|state a|state in {|a[i] ==|a[i]|a[i|a (|a in {|a[1,1,1,1,1,1] ="),
    (starts_declaration, True, "network a {|rule in (|block state ="),
    (starts_declaration, False, "network a|a b {|network 1 {|network {|block b -|network"),
)  # fmt: skip


@each_of(STARTS)
def test_where_statements_and_declarations_start(
    starts: Callable[..., bool], expected: bool, texts: str
) -> None:
    for text in texts.split("|"):
        assert starts(scan(SourceFile("t", f"{text} 0")).tokens, 0) == expected, text
