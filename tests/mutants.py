"""Mutation testing: small changes of the package, each of which should make a test fail.

``make mutants`` changes one expression or statement at a time in a copy of the working tree and runs
the tests that execute the changed line. A mutant that no test notices is printed with its place: either a
test is missing, or the line can go, or the change is equivalent.

The first run measures which tests execute which lines and how long they take (coverage contexts). The
result is kept in ``build/mutants`` until a source changes; a changed test file is measured alone.
Sources and tests may be edited while mutants run, since these are made from the copy.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any

ROOT = Path(__file__).parents[1]
BUILD = ROOT / "build" / "mutants"
TREE = BUILD / "tree-0"
"""The copy from which mutants are made. (There is another for each further job.)"""
TOPS = ("dsl", "compiler", "runtime", "danetc")
BUDGET_S = 15.0
"""Seconds of tests that are run for a mutant, as they took without it."""
MOST_TESTS = 60
SLOWER, START_S = 5, 60
"""Tests of a mutant may take so many times as long as without it, and seconds more, until they count as
hanging."""
MOST_MEMORY = 8 * 2**30
"""Bytes that a process that runs tests of a mutant can allocate. (Reserved address space is not counted:
browsers and Ray reserve more.)"""
PER_FUNCTION = 4
"""Cases of one parametrized test that are run for a mutant."""

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

    @property
    def room(self) -> str:
        return "/".join(Path(self.path).parts[:-1][:2])


# -- mutants ---------------------------------------------------------------------------------------


class Sites(ast.NodeVisitor):
    """Collects the mutants of one file."""

    def __init__(self, path: str, source: bytes) -> None:
        self.path, self.source = path, source
        self.starts = [0]
        for line in source.splitlines(keepends=True):
            self.starts.append(self.starts[-1] + len(line))
        self.found: list[Mutant] = []

    def span(self, node: Any) -> tuple[int, int]:
        begin = self.starts[node.lineno - 1] + node.col_offset
        return begin, self.starts[node.end_lineno - 1] + node.end_col_offset

    def add(self, node: Any, start: int, end: int, text: str) -> None:
        self.found.append(Mutant(self.path, node.lineno, start, end, text))

    def between(self, left: ast.expr, right: ast.expr, text: str) -> None:
        """Replace the operator between two operands, keeping parentheses around them."""
        start, end = self.span(left)[1], self.span(right)[0]
        gap = self.source[start:end]
        first = next((i for i, c in enumerate(gap) if chr(c) not in " \n)#\\"), None)
        if first is None or b"#" in gap:
            return
        last = len(gap.rstrip(b" \n(\\"))
        if first < last:
            self.add(right, start + first, start + last, text)

    def negate(self, test: ast.expr) -> None:
        start, end = self.span(test)
        self.add(test, start, end, f"(not ({self.source[start:end].decode()}))")

    def visit_Compare(self, node: ast.Compare) -> None:
        operands = [node.left, *node.comparators]
        for left, operator, right in zip(operands, node.ops, operands[1:], strict=False):
            self.between(left, right, COMPARE[type(operator)])
        self.generic_visit(node)

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        text = "or" if isinstance(node.op, ast.And) else "and"
        for left, right in zip(node.values, node.values[1:], strict=False):
            self.between(left, right, text)
        self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        texts = (node.left, node.right)
        is_text = any(isinstance(x, ast.JoinedStr | ast.List | ast.Tuple) for x in texts)
        if type(node.op) in BINARY and not is_text:
            self.between(node.left, node.right, BINARY[type(node.op)])
        self.generic_visit(node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> None:
        if isinstance(node.op, ast.Not):
            start, end = self.span(node)
            self.add(node, start, end, self.source[slice(*self.span(node.operand))].decode())
        self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        start, end = self.span(node)
        if isinstance(node.value, bool):
            self.add(node, start, end, str(not node.value))
        elif isinstance(node.value, int | float):
            self.add(node, start, end, f"({node.value!r} + 1)")

    def visit_If(self, node: ast.If) -> None:
        if ast.unparse(node.test) != "TYPE_CHECKING":
            self.negate(node.test)
            self.generic_visit(node)

    def visit_IfExp(self, node: ast.IfExp) -> None:
        self.negate(node.test)
        self.generic_visit(node)

    def visit_comprehension(self, node: ast.comprehension) -> None:
        for test in node.ifs:
            self.negate(test)
        self.generic_visit(node)

    def visit_Return(self, node: ast.Return) -> None:
        if node.value is not None and not isinstance(node.value, ast.Constant):
            self.add(node, *self.span(node), "return None")
        self.generic_visit(node)

    def visit_Expr(self, node: ast.Expr) -> None:
        if not isinstance(node.value, ast.Constant):  # a docstring
            if isinstance(node.value, ast.Call):
                self.add(node, *self.span(node), "pass")
            self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        if isinstance(node.func, ast.Name) and node.func.id in CALLS:
            self.add(node, *self.span(node.func), CALLS[node.func.id])
        self.generic_visit(node)

    def visit_Break(self, node: ast.Break) -> None:
        self.add(node, *self.span(node), "continue")

    def visit_Continue(self, node: ast.Continue) -> None:
        self.add(node, *self.span(node), "break")

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None and ast.unparse(node.target) != "__slots__":
            self.visit(node.value)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        defaults = [x for x in (*node.args.defaults, *node.args.kw_defaults) if x is not None]
        for child in (*node.decorator_list, *defaults, *node.body):
            self.visit(child)

    def visit_Assign(self, node: ast.Assign) -> None:
        if ast.unparse(node.targets[0]) != "__slots__":
            self.visit(node.value)

    def ignore(self, node: ast.AST) -> None:
        """Texts and messages: what they say is not checked by mutants."""

    visit_JoinedStr = visit_Raise = visit_Assert = visit_Import = visit_ImportFrom = ignore


def mutants_of(path: Path) -> list[Mutant]:
    """All mutants of a file that are still Python."""
    source = path.read_bytes()
    sites = Sites(path.relative_to(TREE).as_posix(), source)
    sites.visit(ast.parse(source))
    return sites.found


def apply(mutant: Mutant, source: bytes) -> bytes:
    return source[: mutant.start] + mutant.text.encode() + source[mutant.end :]


def is_python(source: bytes) -> bool:
    try:
        ast.parse(source)
    except SyntaxError:
        return False
    return True


def sources(room: str) -> list[Path]:
    """The package's files in a room, or in all rooms for an empty name."""
    found = (path for top in TOPS for path in sorted((TREE / top).rglob("*.py")))
    return [
        path
        for path in found
        if path.resolve() == path and path.relative_to(TREE).as_posix().startswith(room)
    ]


def chosen(room: str, count: int, seed: int) -> list[Mutant]:
    every = [mutant for path in sources(room) for mutant in mutants_of(path)]
    random.Random(seed).shuffle(every)
    picked: list[Mutant] = []
    for mutant in every:
        if len(picked) == count:
            break
        if is_python(apply(mutant, (TREE / mutant.path).read_bytes())):
            picked.append(mutant)
    return picked


HOW = "core = ctrace\nconcurrency = multiprocessing, thread\npatch = fork, subprocess, _exit\n"
"""Settings of coverage with which processes that tests start count as well."""

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
    """The copy is imported, also by processes that tests start."""
    changed = {"PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    return os.environ | changed


# This module is also the plugin of the run that measures.
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


def state() -> dict[str, str]:
    """Digests of the files on which the measurement depends."""
    found = {path.relative_to(ROOT).as_posix(): path for path in tracked() if path.is_file()}
    return {
        name: hashlib.sha256(path.read_bytes()).hexdigest()
        for name, path in found.items()
        if name.startswith((*TOPS, "tests", "specs")) and name != "tests/mutants.py"
    }


def read_json(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text("utf-8")) if path.exists() else {}
    return found


def measure(jobs: int) -> tuple[Path, dict[str, float]]:
    """Run the default tests with coverage contexts; returns their data and the tests' seconds.

    Where nothing but test files has changed since the last time, only these are run again.
    """
    data, times, stamp = BUILD / "coverage", BUILD / "times.json", BUILD / "state.json"
    copy_tree(TREE)
    before, now = read_json(stamp), state()
    changed = {name for name in before | now if before.get(name) != now.get(name)}
    if not changed:
        return data, read_json(times)
    several = not all(Path(name).name.startswith("test_") for name in changed)
    files = [] if several else sorted(changed & now.keys())
    print(f"measuring which lines are executed by {' '.join(files) or 'all tests'}", flush=True)
    stamp.unlink(missing_ok=True)
    config = BUILD / "coveragerc"
    config.write_text(f"[run]\nsource = {', '.join(TOPS)}\ndata_file = {data}\n{HOW}", "utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-n", str(jobs), "--dist", "worksteal"]
    command += ["-p", "tests.mutants", "--cov", f"--cov-config={config}", "--cov-context=test"]
    command += ["--cov-report=", "-p", "no:cacheprovider"]
    command += [] if several else ["--cov-append", *files]
    found = BUILD / "found.json"
    env = environment(TREE) | {"DANETC_MUTANT_TIMES": str(found)}
    with (BUILD / "measuring.log").open("w") as log:
        subprocess.run(command, cwd=TREE, env=env, check=False, stdout=log, stderr=log)
    kept = {} if several else read_json(times)
    kept = {test: each for test, each in kept.items() if test.partition("::")[0] not in changed}
    times.write_text(json.dumps(kept | read_json(found)), "utf-8")
    stamp.write_text(json.dumps(now), "utf-8")
    return data, read_json(times)


class Chooser:
    """Chooses the tests of a mutant, the ones that execute fewest files first."""

    def __init__(self, data: Path, times: Mapping[str, float]) -> None:
        from coverage import CoverageData

        self.data, self.times = CoverageData(str(data)), times
        self.data.read()
        self.files = {
            Path(name).relative_to(TREE).as_posix(): name
            for name in self.data.measured_files()
            if name.startswith(str(TREE))
        }
        self.breadth: Counter[str] = Counter()
        self.by_file: dict[str, dict[int, set[str]]] = {}
        for path, name in self.files.items():
            lines = {
                line: {context.rpartition("|")[0] for context in contexts if context}
                for line, contexts in self.data.contexts_by_lineno(name).items()
            }
            self.by_file[path] = lines
            self.breadth.update(set().union(*lines.values()) if lines else ())

    def tests(self, mutant: Mutant) -> list[str]:
        """Tests that execute the line.

        Of a line that runs at import alone, or in processes that are not measured (of a fork server),
        those that execute anything else of the file, and those of the test file with its name; of a
        file that is never imported, those that execute its folder or the one above.
        """
        lines = self.by_file.get(mutant.path, {})
        found = lines.get(mutant.line, set()) & self.times.keys()
        if not found:
            file = f"test_{Path(mutant.path).stem}.py"
            found = {name for name in self.times if f"/{file}::" in name}
            if mutant.line in lines:
                found |= set().union(*lines.values()) & self.times.keys()
            if not lines:  # text that is copied into programs, and not imported
                folder = str(Path(mutant.path).parents[1])
                near = (each for path, each in self.by_file.items() if path.startswith(folder))
                found |= (
                    set().union(*(x for each in near for x in each.values())) & self.times.keys()
                )
        ranked = sorted(found, key=lambda name: (self.breadth[name], self.times[name], name))
        taken: list[str] = []
        seconds, cases = 0.0, Counter[str]()
        for name in ranked:
            function = name.partition("[")[0]
            if cases[function] == PER_FUNCTION or (taken and seconds + self.times[name] > BUDGET_S):
                continue
            cases[function] += 1
            seconds += self.times[name]
            taken.append(name)
            if len(taken) == MOST_TESTS:
                break
        return taken


# -- running ---------------------------------------------------------------------------------------


def run(tests: Sequence[str], tree: Path, seconds: float) -> set[str] | None:
    """The tests that fail in a copy, at most one; None if they did not end in time."""
    shutil.rmtree(tree / "cache", ignore_errors=True)
    arguments = tree / "mutant-tests.txt"
    arguments.write_text("\n".join(tests), "utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-o", "cache_dir=cache", f"@{arguments}"]
    process = subprocess.Popen(
        command,
        cwd=tree,
        env=environment(tree),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=limit_memory,
    )
    try:
        status = process.wait(timeout=START_S + SLOWER * seconds)
    except subprocess.TimeoutExpired:
        return None
    finally:
        with suppress(ProcessLookupError):  # what a test has started, too
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    failed = read_json(tree / "cache" / "v" / "cache" / "lastfailed")
    return set(failed) or ({"pytest"} if status else set())


def limit_memory() -> None:
    """A mutant may loop for ever and append in it."""
    resource.setrlimit(resource.RLIMIT_DATA, (MOST_MEMORY, MOST_MEMORY))


def replace(path: Path, source: bytes) -> None:
    """Write a source without leaving byte code of another text of the same size and second."""
    path.write_bytes(source)
    for cached in (path.parent / "__pycache__").glob(f"{path.stem}.*.pyc"):
        cached.unlink()


def outcomes(picked: Sequence[Mutant], chooser: Chooser, jobs: int) -> Iterator[tuple[Mutant, str]]:
    trees: SimpleQueue[Path] = SimpleQueue()
    for number in range(jobs):
        tree = BUILD / f"tree-{number}"
        if number:
            shutil.rmtree(tree, ignore_errors=True)
            shutil.copytree(TREE, tree, symlinks=True)
        trees.put(tree)
    sound: dict[str, bool] = {}

    def fails_anyway(test: str, tree: Path) -> bool:
        """True if a test fails in this copy without a mutant, which then proves nothing."""
        if test not in sound:
            sound[test] = not run([test], tree, chooser.times.get(test, 0.0))
        return not sound[test]

    def one(mutant: Mutant) -> tuple[Mutant, str]:
        tests = chooser.tests(mutant)
        tree = trees.get()
        path = tree / mutant.path
        original = path.read_bytes()
        try:
            while tests:
                replace(path, apply(mutant, original))
                failed = run(tests, tree, sum(chooser.times[test] for test in tests))
                replace(path, original)
                if failed is None or not failed <= set(tests):
                    return mutant, "killed"  # hangs, or cannot be imported
                if not failed:
                    return mutant, "survived"
                unsound = {test for test in failed if fails_anyway(test, tree)}
                if not unsound:
                    return mutant, "killed"
                print(f"fails without a mutant: {', '.join(unsound)}", flush=True)
                tests = [test for test in tests if sound.get(test, True)]
            return mutant, "not run"
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
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for mutant, outcome in outcomes(picked, chooser, asked.jobs):
        counts[mutant.room][outcome] += 1
        if outcome != "killed":
            print(f"{outcome}: {shown(mutant)}", flush=True)
    total = sum(counts.values(), Counter[str]())
    print(f"\n{'room':24} mutants  killed  survived  not run")
    for room, row in (*sorted(counts.items()), ("all", total)):
        print(f"{room:24} {row.total():7} {row['killed'] / row.total():7.0%}"
              f" {row['survived']:9} {row['not run']:8}")  # fmt: skip


if __name__ == "__main__":
    main()
