"""Run it: ``python -m tests.fuzzing [--seconds S] [--seed N] [--case NUMBER] [--file SPEC]``."""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from pathlib import Path

import torch

from tests.fuzzing.run import COMPILED_EVERY, Tally, attempt, run, save

FAILURES = Path("build/fuzz")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzzing", description=__doc__)
    parser.add_argument("--seconds", type=float, default=120.0, help="for how long (120)")
    parser.add_argument(
        "--seed", type=int, default=0, help="which cases: each seed has its own (0)"
    )
    parser.add_argument("--case", type=int, help="one case, by its number")
    parser.add_argument("--file", type=Path, help="the spec of the case, in place of its own")
    parser.add_argument(
        "--compiled-every",
        type=int,
        default=COMPILED_EVERY,
        help=f"of so many cases one with compiled kernels ({COMPILED_EVERY}; 0: none)",
    )
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    tally = Tally()
    if options.case is not None:
        text = options.file.read_text(encoding="utf-8") if options.file else None
        attempt(options.case, tally, text, compiled=options.compiled_every == 1)
        print(tally.failures[0].details if tally.failures else tally.report())
        return bool(tally.failures)
    end = time.monotonic() + options.seconds
    shown = time.monotonic()

    def done(number: int, tally: Tally) -> None:
        nonlocal shown
        if len(tally.failures) > done.saved:  # type: ignore[attr-defined]
            done.saved = len(tally.failures)  # type: ignore[attr-defined]
            path = save(tally.failures[-1], FAILURES)
            print(f"{path}: {tally.failures[-1].error[:300]}", flush=True)
        if time.monotonic() - shown > 60:
            shown = time.monotonic()
            print(f"-- {end - shown:.0f} s left\n{tally.report()}", flush=True)

    done.saved = 0  # type: ignore[attr-defined]
    run(
        options.seed,
        lambda count: time.monotonic() > end,
        tally,
        compiled_every=options.compiled_every,
        guided=True,
        done=done,
    )
    print(tally.report())
    return bool(tally.failures)


if __name__ == "__main__":
    sys.exit(main())
