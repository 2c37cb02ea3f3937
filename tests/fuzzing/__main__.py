"""Run the fuzzer: ``python -m tests.fuzzing [--seconds S] [--seed N] [--case NUMBER] [--file SPEC]``."""

import argparse
import itertools
import sys
import time
import warnings
from pathlib import Path

import torch

from tests.fuzzing.run import COMPILED_EVERY, Tally, attempt, guided, save

FAILURES = Path("build/fuzz")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzzing", description=__doc__)
    parser.add_argument("--seconds", type=float, default=120.0, help="for how long (120)")
    parser.add_argument("--seed", type=int, default=0, help="each seed has its own cases (0)")
    parser.add_argument("--case", type=int, help="one case, by its number")
    parser.add_argument("--file", type=Path, help="the spec of the case, in place of its own")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    tally = Tally()
    if options.case is not None:
        text = options.file.read_text(encoding="utf-8") if options.file else None
        attempt(options.case, tally, text, compiled=True)
        print(tally.failures[0].details if tally.failures else tally.report())
        return bool(tally.failures)
    shown = time.monotonic()
    end = shown + options.seconds
    for count in itertools.count(1):
        failed = len(tally.failures)
        number = guided(options.seed, count, tally)
        attempt(number, tally, compiled=count % COMPILED_EVERY == 0)
        for failure in tally.failures[failed:]:
            print(f"{save(failure, FAILURES)}: {failure.error[:300]}", flush=True)
        now = time.monotonic()
        if now > end:
            break
        if now > shown + 60:
            shown = now
            print(f"-- {end - now:.0f} s left\n{tally.report()}", flush=True)
    print(tally.report())
    return bool(tally.failures)


if __name__ == "__main__":
    sys.exit(main())
