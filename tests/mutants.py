"""Mutation testing: small changes of the package, each of which should make a test fail.

``make mutants`` changes one expression or statement at a time in a copy of the working tree and runs
the tests that execute the changed line. A mutant that no test notices is printed with its place: either a
test is missing, or the line can be removed, or the change is equivalent.

The first run measures which tests execute which lines and how long they take (coverage contexts). The
result is kept in ``build/mutants`` until a source or a test changes.
Sources and tests may be edited while mutants run, since these are made from the copy.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import json
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
from bisect import bisect
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from itertools import accumulate, islice, pairwise
from pathlib import Path
from queue import SimpleQueue
from typing import Any

ROOT = Path(__file__).parents[1]
BUILD = ROOT / "build" / "mutants"
TREE = BUILD / "tree-0"
"""The copy from which mutants are made; each job runs them in another one."""
TOPS = ("dsl", "compiler", "runtime", "danetc")
ROUNDS = (15.0, 60), (60.0, 400)
"""Limits of the first round, and of the second for a mutant that has survived it: seconds, as measured
without a mutant, and number of tests."""
SLOWER, START_S = 5, 60
"""The tests of a mutant count as hanging after so many times their usual duration plus START_S seconds."""
MOST_MEMORY = 8 * 2**30
"""Bytes that a process under test can allocate: a mutant may append forever."""
PER_FUNCTION = 4
"""Cases of one parametrized test that are chosen before cases of other tests."""

COMPARE = {
    ast.Lt: "<=", ast.LtE: "<", ast.Gt: ">=", ast.GtE: ">", ast.Eq: "!=", ast.NotEq: "==",
    ast.Is: "is not", ast.IsNot: "is", ast.In: "not in", ast.NotIn: "in",
}  # fmt: skip
BINARY = {
    ast.Add: "-", ast.Sub: "+", ast.Mult: "/", ast.Div: "*", ast.FloorDiv: "*", ast.Mod: "*",
    ast.Pow: "*", ast.BitAnd: "|", ast.BitOr: "&", ast.LShift: ">>", ast.RShift: "<<",
}  # fmt: skip
CALLS = {"min": "max", "max": "min", "any": "all", "all": "any"}


@dataclass(frozen=True)
class Mutant:
    """One replacement of bytes ``start`` to ``end`` of a source file."""

    path: str
    line: int
    start: int
    end: int
    text: str


# -- mutants ---------------------------------------------------------------------------------------
UNCHANGED = ast.JoinedStr | ast.Raise | ast.Assert | ast.Import | ast.ImportFrom
"""Nodes that are not mutated, mainly texts and messages."""
UNCHANGED_ARGUMENTS = ("strict", "frozen", "slots", "repr")


def children(node: ast.AST) -> Iterable[ast.AST]:
    """Return the parts of a node that are changed: no annotations, docstrings or imports for types.

    ``strict=`` of ``zip`` and ``frozen=``, ``slots=`` and ``repr=`` of dataclasses and records stay as
    well, since they check or show a program that is correct without them.
    """
    match node:
        case ast.Call(
            func=ast.Name("zip" | "dataclass" | "record" | "field"), args=args, keywords=keywords
        ):
            return (*args, *(each for each in keywords if each.arg not in UNCHANGED_ARGUMENTS))
        case ast.If(test=ast.Name("TYPE_CHECKING")) | ast.Expr(value=ast.Constant()):
            return ()
        case ast.AnnAssign(value=value) | ast.Assign(value=value):
            return () if value is None or "__slots__" in ast.unparse(node) else (value,)
        case ast.FunctionDef(args=args):
            defaults = [each for each in (*args.defaults, *args.kw_defaults) if each is not None]
            return (*node.decorator_list, *defaults, *node.body)
    return () if isinstance(node, UNCHANGED) else ast.iter_child_nodes(node)


def mutants_of(path: Path) -> Iterator[Mutant]:
    source, place = path.read_bytes(), path.relative_to(TREE).as_posix()
    starts = [0, *accumulate(len(line) for line in source.splitlines(keepends=True))]

    def span(node: Any) -> tuple[int, int]:
        begin = starts[node.lineno - 1] + node.col_offset
        return begin, starts[node.end_lineno - 1] + node.end_col_offset

    def between(left: ast.AST, right: ast.AST, new: str) -> Iterator[tuple[int, int, str]]:
        """Replace the operator between two operands, keeping parentheses around them."""
        start = span(left)[1]
        gap = re.fullmatch(rb"[ \n)\\]*([^#]*?)[ \n(\\]*", source[start : span(right)[0]])
        if gap and gap[1]:
            yield start + gap.start(1), start + gap.end(1), new

    def changes(node: ast.AST) -> Iterator[tuple[int, int, str]]:
        match node:
            case ast.Compare(left=left, ops=ops, comparators=others):
                for one, operator, other in zip([left, *others], ops, others, strict=False):
                    yield from between(one, other, COMPARE[type(operator)])
            case ast.BoolOp(op=op, values=values):
                for pair in pairwise(values):
                    yield from between(*pair, "or" if isinstance(op, ast.And) else "and")
            case ast.BinOp(left=left, op=op, right=right) if type(op) in BINARY:
                if not {type(left), type(right)} & {ast.JoinedStr, ast.List, ast.Tuple}:
                    yield from between(left, right, BINARY[type(op)])
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                yield *span(node), source[slice(*span(operand))].decode()
            case ast.Constant(value=bool(value)):
                yield *span(node), str(not value)
            case ast.Constant(value=int(value) | float(value)):
                yield *span(node), f"({value!r} + 1)"
            case ast.Return(value=ast.expr() as value) if not isinstance(value, ast.Constant):
                yield *span(node), "return None"
            case ast.Expr(value=ast.Call()):
                yield *span(node), "pass"
            case ast.Call(func=ast.Name(name) as function) if name in CALLS:
                yield *span(function), CALLS[name]
            case ast.Break() | ast.Continue():
                yield *span(node), "continue" if isinstance(node, ast.Break) else "break"
        tests = [node.test] if isinstance(node, ast.If | ast.IfExp) else getattr(node, "ifs", ())
        for start, end in map(span, tests):
            yield start, end, f"(not ({source[start:end].decode()}))"

    def visit(node: ast.AST) -> Iterator[Mutant]:
        found = list(children(node))
        if found or not isinstance(node, ast.If):  # not an ``if`` around imports for types
            for start, end, new in changes(node):
                yield Mutant(place, bisect(starts, start), start, end, new)
        for child in found:
            yield from visit(child)

    return visit(ast.parse(source))


def apply(mutant: Mutant, source: bytes) -> bytes:
    return source[: mutant.start] + mutant.text.encode() + source[mutant.end :]


def is_python(source: bytes) -> bool:
    with suppress(SyntaxError):
        return bool(ast.parse(source))
    return False


def chosen(room: str, count: int, seed: int) -> list[Mutant]:
    """Draw mutants of a room (of all rooms for an empty name) that are valid Python."""
    paths = (path for top in TOPS for path in sorted((TREE / top).rglob("*.py")))
    own = (path for path in paths if path.resolve() == path and path.is_relative_to(TREE / room))
    every = [mutant for path in own for mutant in mutants_of(path)]
    random.Random(seed).shuffle(every)
    sound = (each for each in every if is_python(apply(each, (TREE / each.path).read_bytes())))
    return [*islice(sound, count)]


HOW = "core = ctrace\nconcurrency = multiprocessing, thread\npatch = fork, subprocess, _exit\n"
"""Settings of coverage that include processes started by tests."""

# -- which tests execute a line --------------------------------------------------------------------


def tracked() -> list[Path]:
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    paths = (ROOT / name for name in names.splitlines())
    return [path for path in paths if path.is_symlink() or path.is_file()]


def copy_tree(to: Path) -> None:
    shutil.rmtree(to, ignore_errors=True)
    for path in tracked():
        target = to / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, target, follow_symlinks=False)


def environment(tree: Path) -> dict[str, str]:
    """The environment in which tests, and processes that they start, import the copy."""
    few = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    return os.environ | {"PYTHONPATH": str(tree), **few}


# This module is also the pytest plugin of the run that measures.
TIMES: dict[str, float] = defaultdict(float)
UNFIT: set[str] = set()
"""Tests that fail, or are skipped, without any mutant."""


def pytest_runtest_logreport(report: Any) -> None:
    TIMES[report.nodeid] += report.duration
    if report.failed or report.skipped:
        UNFIT.add(report.nodeid)


def pytest_sessionfinish(session: Any) -> None:
    if not hasattr(session.config, "workerinput"):
        fit = {name: seconds for name, seconds in TIMES.items() if name not in UNFIT}
        Path(os.environ["DANETC_MUTANT_TIMES"]).write_text(json.dumps(fit), "utf-8")


def read_json(path: Path) -> Any:
    return json.loads(path.read_text("utf-8")) if path.exists() else {}


def measure(jobs: int) -> tuple[Path, dict[str, float]]:
    """Run the default tests with coverage contexts; returns their data and the tests' seconds.

    The last measurement is reused if no source and no test has changed since.
    """
    data, times, stamp = BUILD / "coverage", BUILD / "times.json", BUILD / "state.json"
    copy_tree(TREE)
    now = {
        path.relative_to(ROOT).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in tracked()
        if path.is_file() and path.relative_to(ROOT).parts[0] in (*TOPS, "tests", "specs")
    }
    if read_json(stamp) == now:
        return data, read_json(times)
    print("measuring which lines are executed by each test", flush=True)
    stamp.unlink(missing_ok=True)
    config = BUILD / "coveragerc"
    config.write_text(f"[run]\nsource = {', '.join(TOPS)}\ndata_file = {data}\n{HOW}", "utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-n", str(jobs), "--dist", "worksteal"]
    command += ["-p", "tests.mutants", "--cov", f"--cov-config={config}", "--cov-context=test"]
    command += ["--cov-report=", "-p", "no:cacheprovider"]
    env = environment(TREE) | {"DANETC_MUTANT_TIMES": str(times)}
    with (BUILD / "measuring.log").open("w") as log:
        subprocess.run(command, cwd=TREE, env=env, check=False, stdout=log, stderr=log)
    stamp.write_text(json.dumps(now), "utf-8")
    return data, read_json(times)


@cache
def imports(test: str, path: str) -> bool:
    """True if a test file imports the module of a source file."""
    folder, _, name = f"danetc/{path.removesuffix('.py')}".replace("/", ".").rpartition(".")
    folder = folder.replace("danetc.danetc", "danetc")
    text = (TREE / test).read_text("utf-8")
    listed = rf"from {re.escape(folder)} import [^\n]*\b{name}\b"
    return re.search(rf"\b{re.escape(f'{folder}.{name}')}\b|{listed}", text) is not None


class Chooser:
    """Chooses the tests of a mutant: those of files that import its module first, then the ones that execute
    fewest files."""

    def __init__(self, path: Path, times: Mapping[str, float]) -> None:
        from coverage import CoverageData

        self.times = times
        self.breadth: Counter[str] = Counter()
        self.by_file: dict[str, dict[int, set[str]]] = {}
        self.at_import: dict[str, set[int]] = {}
        """Lines of each file that run outside of tests."""
        data = CoverageData(str(path))
        data.read()
        for file in map(Path, data.measured_files()):
            if file.is_relative_to(TREE):
                contexts = data.contexts_by_lineno(str(file))
                name = file.relative_to(TREE).as_posix()
                self.by_file[name] = {
                    line: {context.rpartition("|")[0] for context in found} & times.keys()
                    for line, found in contexts.items()
                }
                self.at_import[name] = {line for line, found in contexts.items() if "" in found}
                self.breadth.update(set().union(*self.by_file[name].values()))

    def candidates(self, mutant: Mutant) -> set[str]:
        """Return the tests that execute the line; if it runs at import, the importing ones as well, since
        they may read what it defines.

        If the line runs only in processes that are not measured, or only at import, add the tests that
        execute other lines of the file. If the file is never imported, return the tests that execute its
        folder or the one above.
        """
        lines = self.by_file.get(mutant.path, {})
        found = set(lines.get(mutant.line, ()))
        if not found or mutant.line in self.at_import[mutant.path]:
            found |= {name for name in self.times if imports(name.partition("::")[0], mutant.path)}
        if not lines.get(mutant.line):
            near = [lines] if mutant.line in lines else []
            if not lines:  # programs contain the file as text and do not import it
                folder = str(Path(mutant.path).parents[1])
                near = [each for path, each in self.by_file.items() if path.startswith(folder)]
            found = found.union(*(tests for each in near for tests in each.values()))
        return found

    def rounds(self, mutant: Mutant) -> Iterator[list[str]]:
        """Yield the tests of each round."""
        names = sorted(self.candidates(mutant), key=lambda name: (self.times[name], name))
        names.sort(key=self.breadth.__getitem__)
        names.sort(key=lambda name: not imports(name.partition("::")[0], mutant.path))
        cases, turns = Counter[str](), dict[str, int]()
        for name in names:
            function = name.partition("[")[0]
            turns[name] = cases[function] // PER_FUNCTION
            cases[function] += 1
        names.sort(key=turns.__getitem__)
        for budget, most in ROUNDS:
            taken, left, seconds = list[str](), list[str](), 0.0
            for name in names:
                if not taken or (seconds + self.times[name] <= budget and len(taken) < most):
                    seconds += self.times[name]
                    taken.append(name)
                else:
                    left.append(name)
            if taken:
                yield taken
            names = left


# -- running ---------------------------------------------------------------------------------------


def run(tests: Sequence[str], tree: Path, seconds: float) -> set[str] | None:
    """Run tests in a copy; return the first that fails, or None if they did not end in time."""
    shutil.rmtree(tree / "cache", ignore_errors=True)
    (tree / "mutant-tests.txt").write_text("\n".join(tests), "utf-8")
    command = [sys.executable, "-m", "pytest", "-qx", "-ocache_dir=cache", "@mutant-tests.txt"]
    process = subprocess.Popen(
        command, cwd=tree, env=environment(tree), start_new_session=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_DATA, (MOST_MEMORY, MOST_MEMORY)),
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        status = process.wait(timeout=START_S + SLOWER * seconds)
    except subprocess.TimeoutExpired:
        return None
    finally:
        with suppress(ProcessLookupError):  # including processes of the tests
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    failed = read_json(tree / "cache" / "v" / "cache" / "lastfailed")
    return set(failed) or ({"pytest"} if status else set())


def replace(path: Path, source: bytes) -> None:
    """Write a source without leaving byte code of another text of the same size and second."""
    path.write_bytes(source)
    for cached in (path.parent / "__pycache__").glob(f"{path.stem}.*.pyc"):
        cached.unlink()


def outcomes(picked: Sequence[Mutant], chooser: Chooser, jobs: int) -> Iterator[tuple[Mutant, str]]:
    trees: SimpleQueue[Path] = SimpleQueue()
    for number in range(1, jobs + 1):
        shutil.rmtree(tree := BUILD / f"tree-{number}", ignore_errors=True)
        trees.put(shutil.copytree(TREE, tree, symlinks=True))

    def one(mutant: Mutant) -> tuple[Mutant, str]:
        tree, outcome = trees.get(), "not run"
        path = tree / mutant.path
        original = path.read_bytes()
        try:
            for tests in chooser.rounds(mutant):
                replace(path, apply(mutant, original))
                seconds = sum(chooser.times[test] for test in tests)
                failed = run(tests, tree, seconds)
                replace(path, original)
                if failed == set():
                    outcome = "survived"
                # A hang is a kill. Tests that also fail without the mutant prove nothing.
                elif failed is None or not run([*failed & {*tests}] or tests, tree, seconds):
                    return mutant, "killed"
            return mutant, outcome
        finally:
            replace(path, original)
            trees.put(tree)

    with ThreadPoolExecutor(jobs) as pool:
        yield from pool.map(one, picked)


def shown(mutant: Mutant) -> str:
    source = (TREE / mutant.path).read_bytes()
    old = source[mutant.start : mutant.end].decode()
    line = source.splitlines()[mutant.line - 1].decode().strip()
    return f"{mutant.path}:{mutant.line}: {old!r} -> {mutant.text!r} in {line}"


def main() -> None:
    parser = argparse.ArgumentParser(description="Mutation testing of the package.")
    parser.add_argument("--room", default="", help="folder, such as danetc/tasks; default: all")
    parser.add_argument("--count", type=int, default=150)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=2)
    asked = parser.parse_args()
    BUILD.mkdir(parents=True, exist_ok=True)
    room = asked.room.rstrip("/")
    if not (ROOT / room).is_dir():
        parser.error(f"no folder {room}")
    chooser = Chooser(*measure(asked.jobs))
    picked = chosen(room, asked.count, asked.seed)
    counts = Counter[str]()
    for mutant, outcome in outcomes(picked, chooser, asked.jobs):
        counts[outcome] += 1
        if outcome != "killed":
            print(f"{outcome}: {shown(mutant)}", flush=True)
    print(*(f"{count} of {counts.total()} {what}" for what, count in counts.items()), sep=", ")


if __name__ == "__main__":
    main()
