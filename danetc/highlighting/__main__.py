"""``python -m danetc.highlighting``: write the words, and the grammars that are made of them, anew."""

from __future__ import annotations

from danetc.highlighting.files import ROOT, written

for place, text in written().items():
    (ROOT / place).write_text(text, encoding="utf-8", newline="\n")
