"""``make gpu-check``: all checks of the GPU path that need no GPU.

``--write`` writes the table of docs/machines.md.
"""

import argparse
import multiprocessing
import os
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import TypeVar

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table

from tests.gpu.cases import DTYPES, FORMS, Case, compare, covering, standard, zoo
from tests.gpu.compilers import HEAD, STANDARD, TABLE, Row, row, write_table

Result = TypeVar("Result")


def _start(cache: str) -> None:
    torch.set_num_threads(1)
    os.environ["TRITON_CACHE_DIR"] = cache


def interpret(case: Case) -> int:
    return len(compare(case))


def attempt(run: Callable[[Case], Result], case: Case) -> Result | str:
    try:
        return run(case)
    except Exception as error:  # the other cases still run
        return f"{case}: {type(error).__name__}: {error}"


def _spills(made: Row | str) -> bool:
    """True if registers are spilled; float64 may spill, since no recipe has it."""
    return isinstance(made, Row) and made.spilled > 0 and made.case.dtype is not torch.float64


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.gpu.check", description=__doc__)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    small = partial(Case, steps=4, size=(2, 16, 4, 4))
    others = [small(name, "norm + value", torch.bfloat16) for name in zoo()]
    forms = [small("PLIF", form, dtype) for form in FORMS for dtype in DTYPES]
    with (
        tempfile.TemporaryDirectory() as cache,
        ProcessPoolExecutor(
            mp_context=multiprocessing.get_context("spawn"), initializer=_start, initargs=(cache,)
        ) as pool,
    ):
        chosen, compiled = covering(), [*STANDARD, *others, *forms]
        found = pool.map(partial(attempt, interpret), chosen, chunksize=4)
        layers = list(track(found, "interpreting", len(chosen)))
        rows_found = pool.map(partial(attempt, row), compiled, chunksize=2)
        made = list(track(rows_found, "compiling", len(compiled)))
        # Inductor gives a reduction of a map this small a fixed configuration that larger ones do not get.
        again = pool.map(
            partial(attempt, row),
            [each.case._replace(size=TABLE) for each in made if _spills(each)],
        )
        made = [each for each in made if not _spills(each)] + list(again)
    faults = [each for each in (*layers, *made) if isinstance(each, str)]
    layers = [each for each in layers if not isinstance(each, str)]
    made = [each for each in made if not isinstance(each, str)]
    faults += [f"{each.case}: registers are spilled" for each in made if _spills(each)]
    neurons = len(standard()) + len(zoo())
    print(f"Interpreter: {sum(layers)} kernels of {len(layers)} layers, of {neurons} neurons")
    table = Table(*HEAD, title="Compilers: sm_80, sm_90, gfx942", title_justify="left")
    for each in made:
        table.add_row(*each.cells())
    Console(width=120).print(table)
    if options.write:
        write_table([each for each in made if each.case in STANDARD])
    print(*faults, f"{len(faults)} faults", sep="\n")
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main())
