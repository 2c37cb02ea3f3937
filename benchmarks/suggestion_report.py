"""How often a misspelt name gets the right word, by place and by kind of slip.

``python benchmarks/suggestion_report.py [SHARE] [SEED]``: the cases of
``tests/compiler/test_suggestions.py``, all or a share of them: each name of the language and of the
standard library misspelt where it may stand, in a spec that is checked in full. ``first`` counts
where the right word is the first that is suggested, ``named`` where it is among those (where several
are equally near, at most three are).
"""

from __future__ import annotations

import random
import sys
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.compiler.test_suggestions import KINDS, cases


def main() -> None:
    share = float(sys.argv[1]) if len(sys.argv) > 1 else 1.0
    choose = random.Random(int(sys.argv[2]) if len(sys.argv) > 2 else 0)
    asked, first, named, other = Counter[str](), Counter[str](), Counter[str](), Counter[str]()
    missed: list[str] = []
    for case in cases(choose):
        if choose.random() >= share:
            continue
        found = case.suggested()
        for row in (case.kind, case.place.what, "all"):
            if found is None:
                other[row] += 1
                continue
            asked[row] += 1
            first[row] += found[:1] == (case.name,)
            named[row] += case.name in found
        if found is not None and case.name not in found:
            missed.append(f"{case.place.what}: `{case.name}` as `{case.wrong}` gave {found}")
    rows = [*KINDS, *sorted(set(asked) - {*KINDS, "all"}), "all"]
    print(f"{'':28} {'asked':>6} {'first':>7} {'named':>7}  another error")
    for row in rows:
        print(
            f"{row:28} {asked[row]:6} {first[row] / asked[row]:7.1%} {named[row] / asked[row]:7.1%}"
            f"  {other[row]}"
        )
    print("\nmissed:", *missed[:40], sep="\n  ")


if __name__ == "__main__":
    main()
