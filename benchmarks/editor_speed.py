"""CPU seconds of the language services after an edit of a spec of 300 lines, at random places.

The file has 13 networks. After each edit an editor asks for all of it: completion at the cursor, colours,
symbols, errors and warnings, hints of shapes.
"""

from __future__ import annotations

import random
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from danetc.editor.completion import complete
from danetc.editor.hints import inlay_hints
from danetc.editor.open_files import OpenFiles
from danetc.editor.outline import semantic_tokens, symbols
from danetc.editor.problems import problems
from tests.editor.long_file import long_file

LIMIT = 0.1
EDITS = 200
LETTERS = ("", " ", "1", "x", "\n", ")", "->")


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
