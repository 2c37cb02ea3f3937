"""The loop over numbered cases: which parts of the language they use, and which cases fail."""

import time
import traceback
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from danetc.compiler import check_text
from danetc.compiler.ir.graph import Graph
from danetc.dsl.diagnostics.diagnostic import SpecError
from tests.differential.networks import VARIETY
from tests.dsl.examples import EXAMPLES
from tests.fuzzing import generate
from tests.fuzzing.compare import Case, TooLarge
from tests.fuzzing.coverage import rows, used
from tests.fuzzing.dice import Dice
from tests.fuzzing.forms import check_compiled, check_network
from tests.fuzzing.mutate import minimised, mutated
from tests.fuzzing.training import check_training, recipes

COMPILED_EVERY = 200
"""A C++ compiler takes seconds for each kernel: only one case of so many compiles its kernels."""
MAX_CHECK_SECONDS = 5.0

CANDIDATES = 6
"""A guided run takes, of so many specs, the one that uses the least covered parts of the language."""


def corpus() -> list[str]:
    return [*(f"use std\n{text}" for text in VARIETY.values()), *EXAMPLES]


def text_of(number: int) -> str:
    """The text of a case: half of them are generated, the others mutate generated or written ones."""
    dice = Dice(number)
    if dice.maybe(0.5):
        return generate.spec(number)
    start = generate.spec(number) if dice.maybe(0.6) else dice.choice(corpus())
    for _ in range(20):  # most mutations are refused, which costs little
        found = mutated(start, dice, dice.choice([1, 1, 2, 3]))
        if found is not None and _accepted(found):
            return found
    return found if found is not None else start


def _accepted(text: str) -> bool:
    try:
        check_text(text)
    except Exception as error:  # the case reports an internal error
        return not isinstance(error, SpecError)
    return True


@dataclass(frozen=True)
class Failure:
    number: int
    text: str
    error: str
    details: str


@dataclass
class Tally:
    case: Case = field(default_factory=Case)
    outcomes: Counter[str] = field(default_factory=Counter)
    covered: dict[str, int] = field(default_factory=rows)
    failures: list[Failure] = field(default_factory=list)

    def report(self) -> str:
        least = sorted(self.covered.items(), key=lambda item: item[1])
        lines = [f"{count:7,} {what}" for what, count in self.outcomes.most_common()]
        lines += [
            f"{count:7,} comparisons: {form}" for form, count in sorted(self.case.compared.items())
        ]
        lines += [
            f"{self.case.trained:7,} trainings by a recipe compared",
            f"{self.case.near:7,} set aside: a membrane potential near its threshold",
            f"{self.case.unstable:7,} set aside: roundings decided",
            f"{self.case.infinite:7,} set aside: a number was not finite",
            f"{len(self.covered):7,} parts of the language, each in {least[0][1]:,} accepted specs at least",
        ]
        few = [f"{name} ({count})" for name, count in least if count < 50]
        if few:
            lines.append(f"{len(few):7,} of them in fewer than 50: {', '.join(few[:12])}")
        return "\n".join(lines)


def check_case(number: int, text: str, tally: Tally, *, compiled: bool = False) -> None:
    """Check a spec, and all of its networks if it is accepted. Raises any error that is found."""
    start = time.process_time()
    try:
        checked = check_text(text)
    except SpecError:
        tally.outcomes["specs refused"] += 1
        return
    finally:
        seconds = time.process_time() - start
        if seconds > MAX_CHECK_SECONDS:
            raise AssertionError(f"checking took {seconds:.1f} s")
    tally.outcomes["specs accepted"] += 1
    graphs: list[Graph] = []
    for network in checked.networks:
        try:
            subject = check_network(checked, network, number, tally.case)
        except TooLarge:
            tally.outcomes["networks too large for the interpreter"] += 1
            continue
        tally.outcomes["networks compared"] += 1
        graphs.append(subject.graph)
        for recipe in recipes(checked)[:1]:
            check_training(subject, recipe, tally.case)
        if compiled:
            check_compiled(checked, network, number, tally.case)
    for row in used(checked, graphs):
        if row in tally.covered:
            tally.covered[row] += 1


def attempt(number: int, tally: Tally, text: str | None = None, *, compiled: bool = False) -> None:
    try:
        text = text_of(number) if text is None else text
        check_case(number, text, tally, compiled=compiled)
    except Exception as error:
        what = f"{type(error).__name__}: {error}"
        tally.failures.append(Failure(number, text or "", what, traceback.format_exc()))
        tally.outcomes["FAILURES"] += 1


def guided(seed: int, count: int, tally: Tally) -> int:
    """The number of a seed's next case: of a few candidates, the one that uses the least covered parts.
    Checking a spec costs little, and comparing its networks costs much."""
    first = seed * 1_000_000 + count * CANDIDATES
    return max(range(first, first + CANDIDATES), key=lambda number: _wanted(number, tally))


def _wanted(number: int, tally: Tally) -> float:
    """How much a case uses the least covered parts. One whose check has an internal error comes first."""
    try:
        checked = check_text(text_of(number))
    except SpecError:
        return 0.0
    except Exception:
        return float("inf")
    parts = used(checked, list(checked.graphs.values()))
    return sum(1 / (1 + tally.covered[part]) ** 2 for part in parts if part in tally.covered)


def save(failure: Failure, folder: Path) -> Path:
    """Write a smaller spec that shows a failure, with the command that repeats it."""
    kind = failure.error.partition(":")[0]

    def fails(text: str) -> bool:
        tally = Tally()
        attempt(failure.number, tally, text)
        return bool(tally.failures) and tally.failures[0].error.startswith(kind)

    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"case-{failure.number}.danet"
    head = [
        f"case {failure.number}: {failure.error}",
        f"again: python -m tests.fuzzing --case {failure.number}",
        f"   or: python -m tests.fuzzing --case {failure.number} --file {path}",
    ]
    comment = "".join(f"# {line}\n" for text in head for line in text.splitlines()[:4])
    path.write_text(f"{comment}\n{minimised(failure.text, fails)}", encoding="utf-8")
    path.with_suffix(".txt").write_text(f"{failure.details}\n\n{failure.text}", encoding="utf-8")
    return path
