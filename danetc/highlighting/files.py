"""The files that are written from the words, by their place in the repository."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from danetc.highlighting.textmate import textmate
from danetc.highlighting.tree_sitter import highlights
from danetc.highlighting.words import words, words_in_place

ROOT = Path(__file__).parents[2]


def written() -> Mapping[str, str]:
    """The text of each file."""
    groups, in_place = words(), words_in_place()
    return {
        "danetc/highlighting/words.json": _json({"groups": groups, "in_place": in_place}),
        "editors/vscode/syntaxes/danet.tmLanguage.json": _json(textmate(groups, in_place)),
        "editors/tree-sitter-danet/queries/highlights.scm": highlights(groups, in_place),
    }


def _json(value: object) -> str:
    return json.dumps(value, indent=2) + "\n"
