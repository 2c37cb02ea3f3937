"""How often the first error of a mutated spec stands on the mutated line, and how many errors one
mutation gives.

``python benchmarks/mutation_report.py [COUNT] [SEED]``: the sample of ``tests/dsl/test_mutations.py``,
larger: tokens deleted, words misspelt and doubled, stray characters, in the shipped specs and in the
standard library. A mutation that makes another right spec does not count.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.dsl.test_mutations import measure

COUNT = 2000


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else COUNT
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else 1
    result = measure(count, seed)
    for kind, wrong in sorted(result.wrong.items()):
        shown = result.shown[kind]
        print(f"{kind:10} {shown:5} of {wrong:5}  {shown / wrong:6.1%}")
    print(f"{'all':10} {result.shown.total():5} of {result.wrong.total():5}  {result.rate:6.2%}")
    total = result.wrong.total()
    for number, times in sorted(result.errors.items()):
        print(f"{number} error{'s' * (number > 1):3} {times:5} of {total:5}  {times / total:6.2%}")


if __name__ == "__main__":
    main()
