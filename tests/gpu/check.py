"""``make gpu-check``: all that can be checked of the GPU path without a GPU, with a table of each part.

``--every N`` takes every Nth layer of the interpreter's part; ``--write`` writes the table of docs/machines.md.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import Any, TypeVar

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table

from tests.gpu.cases import DTYPES, FORMS, Case, compare, covering, standard, without_kernels, zoo
from tests.gpu.compilers import HEAD, STANDARD, TABLE, Row, row, write_table
from tests.gpu.pretended import lacking, rows

Result = TypeVar("Result")


def _start(cache: str) -> None:
    torch.set_num_threads(1)
    os.environ["TRITON_CACHE_DIR"] = cache


def interpret(case: Case) -> tuple[torch.dtype, int, int, float, float]:
    found = compare(case)
    launches = len(found.interpreter.launches)
    return case.dtype, launches, found.forward, found.uncompiled, found.eager


def attempt(run: Callable[[Case], Result], case: Case) -> Result | str:
    try:
        return run(case)
    except Exception as error:  # the other cases run all the same
        return f"{case}: {type(error).__name__}: {error}"


def _printed(title: str, head: tuple[str, ...], lines: list[list[Any]]) -> None:
    table = Table(*head, title=title, title_justify="left")
    for line in lines:
        table.add_row(*map(str, line))
    Console(width=120).print(table)


def _spills(made: Row | str) -> bool:
    """True if registers are spilled; float64, which no recipe has, may spill."""
    return isinstance(made, Row) and made.spilled > 0 and made.case.dtype is not torch.float64


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.gpu.check", description=__doc__)
    parser.add_argument("--every", type=int, default=1, metavar="N")
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
        chosen, compiled = covering()[:: options.every], [*STANDARD, *others, *forms]
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

    lines = []
    for dtype in DTYPES:
        own = [each[1:] for each in layers if each[0] is dtype]
        kernels, forward, uncompiled, eager = zip(*own, strict=True) if own else [(0,)] * 4
        gaps = [f"{max(gap):.1e}" for gap in (uncompiled, eager)]
        lines.append([str(dtype)[6:], len(own), sum(kernels), sum(forward), *gaps])
    head = ("dtype", "layers", "kernels", "outputs that differ", "from uncompiled", "from float64")
    _printed(f"Interpreter: layers of {len(standard()) + len(zoo())} neurons", head, lines)
    faults += [f"{each.case}: registers are spilled" for each in made if _spills(each)]
    _printed("Compilers: sm_80, sm_90, gfx942", HEAD, [each.cells() for each in made])
    names = ", ".join(without_kernels())
    print(
        f"Neurons of several inputs or with values of each pixel have no kernels, on a GPU either: {names}"
    )
    if options.write:
        write_table([each for each in made if each.case in STANDARD])
    if lacking() is None:
        head = ("network", "backend", "launches", "reads")
        lines = [[each[name] for name in head] for each in rows()]
        _printed("Pretended device: a training step", head, lines)
    print(lacking() or "", *faults, f"{len(faults)} faults", sep="\n")
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main())
