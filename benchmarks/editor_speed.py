"""CPU seconds of the language services after an edit of a spec of 300 lines, at random places.

The file has 13 networks. After each edit an editor asks for all of it: completion at the cursor, colours,
symbols, errors and warnings, hints of shapes.
"""

from __future__ import annotations

import random
import sys
import time
from importlib.resources import files as resources
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from danetc.dsl.diagnostics.diagnostic import Reporter
from danetc.dsl.loading import standard
from danetc.dsl.reading import shipped_specs
from danetc.dsl.syntax.parser import parse
from danetc.dsl.syntax.source import SourceFile
from danetc.editor.analysis import analyse
from danetc.editor.completion import complete
from danetc.editor.hints import inlay_hints
from danetc.editor.open_files import OpenFiles
from danetc.editor.outline import semantic_tokens, symbols
from danetc.editor.problems import problems

LIMIT = 0.1
EDITS = 200
LETTERS = ("", " ", "1", "x", "\n", ")", "->")


def long_file(lines: int = 300) -> str:
    """Return a spec without errors and with at least so many lines: networks of the zoo and their parts."""
    folder = resources("danetc.specs")
    shared = [*folder.joinpath("lib").iterdir(), *folder.joinpath("zoo", "lib").iterdir()]
    zoo = [location for name, location in shipped_specs().items() if name.startswith("zoo/")]
    text, known = "use std\n", set(standard())
    for location in (*sorted(shared, key=lambda item: item.name), *zoo):
        source = SourceFile(location.name, location.read_text(encoding="utf-8"))
        found = parse(source, Reporter()).declarations
        if known.isdisjoint(item.name for item in found):
            more = "".join(f"\n{item.span.text}\n" for item in found)
            if not analyse(text + more).survey.errors:
                text += more
                known.update(item.name for item in found)
        if text.count("\n") >= lines:
            return text
    raise AssertionError("the shipped specs are too short")


def main() -> int:
    text = long_file()
    draw = random.Random(0)
    files = OpenFiles()
    files.change("long.danet", text)
    problems(files.analysis("long.danet"))
    typed, all_of_it = [], []
    for _ in range(EDITS):
        at = draw.randrange(len(text))
        letter = draw.choice(LETTERS)
        for edited, offset in ((text[:at] + letter + text[at + (not letter) :], at), (text, at)):
            begin = time.process_time()
            files.change("long.danet", edited)
            analysis = files.analysis("long.danet")
            complete(analysis, min(offset + len(letter), len(edited)))
            typed.append(time.process_time() - begin)
            semantic_tokens(analysis)
            symbols(analysis)
            problems(analysis)
            inlay_hints(analysis)
            all_of_it.append(time.process_time() - begin)
    typed.sort()
    all_of_it.sort()
    middle, most = len(typed) // 2, len(typed) * 95 // 100
    print(
        f"{2 * EDITS} edits of {text.count(chr(10))} lines, CPU ms, median and 95th of 100: "
        f"completion {1e3 * typed[middle]:.0f} and {1e3 * typed[most]:.0f}, all of it "
        f"{1e3 * all_of_it[middle]:.0f} and {1e3 * all_of_it[most]:.0f} (limit of the median: "
        f"{1e3 * LIMIT:.0f})"
    )
    return int(all_of_it[middle] > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
