"""The lexer of Pygments, which also colours ``danet`` blocks in documents built by Sphinx and MkDocs.

It reads ``words.json`` alone and imports nothing else of this package.
"""

from __future__ import annotations

import json
from importlib.resources import files

from pygments.lexer import RegexLexer, bygroups, words
from pygments.token import (
    Comment,
    Keyword,
    Name,
    Number,
    Operator,
    Punctuation,
    String,
    Whitespace,
)

_WORDS = json.loads(files(__package__).joinpath("words.json").read_text("utf-8"))
_NAME = r"[A-Za-z_][A-Za-z0-9_]*\b"


def _known(group: str) -> words:
    return words(_WORDS["groups"][group], prefix=r"\b", suffix=r"\b")


def _any(names: list[str]) -> str:
    return f"(?:{'|'.join(names)})"


class DanetLexer(RegexLexer):
    """For ``.danet`` files."""

    name = "danet"
    aliases = ["danet"]  # noqa: RUF012 - Pygments reads them from the class
    filenames = ["*.danet"]  # noqa: RUF012
    mimetypes = ["text/x-danet"]  # noqa: RUF012

    tokens = {  # noqa: RUF012
        "root": [
            (r"\s+", Whitespace),
            (r"#[^\n]*", Comment.Single),
            (r'"[^"\n]*"', String.Double),
            (r"[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?(?!\w|\.(?!\.))", Number),
            (
                rf"\b({_any(_WORDS['groups']['declarations'])})(\s+)({_NAME})(?=\s*[({{=])",
                bygroups(Keyword.Declaration, Whitespace, Name.Class),
            ),
            (
                r"\b(use)(\s+)(std|zoo\.\w+)\b",
                bygroups(Keyword.Namespace, Whitespace, Name.Namespace),
            ),
            (rf"\b(state)(\s+)(?={_NAME}\s*=)", bygroups(Keyword.Declaration, Whitespace)),
            (
                rf"\b(for)(\s+)({_NAME})(\s+)(in)\b",
                bygroups(Keyword, Whitespace, Name.Variable, Whitespace, Keyword),
            ),
            (_known("operators"), Operator.Word),
            (_known("keywords"), Keyword),
            (
                rf"\b({_NAME})(\s+)({_NAME})(?=\s*\{{)",
                bygroups(Keyword.Declaration, Whitespace, Name.Class),
            ),
            *[
                (
                    rf"\b({parameter})(\s*)(=)(\s*)({_any(values)})\b(?!\s*\()",
                    bygroups(Name.Attribute, Whitespace, Punctuation, Whitespace, Name.Constant),
                )
                for parameter, values in _WORDS["in_place"].items()
            ],
            (rf"{_NAME}(?=\s*=(?!=))", Name.Attribute),
            (_known("constants"), Keyword.Constant),
            (_known("variables"), Name.Variable.Magic),
            (_known("operations"), Name.Function),
            (_known("items"), Name.Function),
            (_known("library"), Name.Builtin),
            (_known("settings"), Name.Attribute),
            (_NAME, Name),
            (r"->|\.\.|==|!=|<=|>=|[-+*/<>]", Operator),
            (r"[=(){}\[\],;]", Punctuation),
        ]
    }
