"""What works where torch, torchvision and scikit-learn are not installed, and what others say."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence

import pytest

from danetc.main import COMMANDS

from .conftest import SMALL

WITHOUT = """
import sys

class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"torch", "torchvision", "sklearn", "scipy"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Hidden())
import importlib.util
found = importlib.util.find_spec
importlib.util.find_spec = lambda name, *more: None if name == "torch" else found(name, *more)

from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
import json
from danetc.main import main

results = []
try:
    import torch
except ModuleNotFoundError:
    pass  # it is hidden
else:
    raise AssertionError
for arguments in json.loads(sys.argv[1]):
    out, err = StringIO(), StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        status = main(arguments)
    results.append([status, out.getvalue(), err.getvalue()])
print(json.dumps(results))
"""

WORK: dict[str, str] = {
    "--help": "Commands:",
    **{f"{name} --help": "Usage:" for name in COMMANDS},
    "check a.danet": "no errors",
    "fmt a.danet": "",
    "explain E0301": "E0301",
    "explain conv": "kernel",
    "list operations": "conv",
    "new first": "first.danet",
    "show std/neurons.danet": "neuron LIF",
    "completion bash": "_DANETC_COMPLETE",
    "prove a.danet --no-numbers": "Proposition 4",
    "summary a.danet": "parameters",
    "draw a.danet -o a.svg": "",
    "draw sew_r18 origin_r18 -o b.svg": "",
    "equiv a.danet danet_a_r18": "different",
    "equiv a.danet a.danet": "equal",
    "equiv a.danet b.danet --no-numbers": "different",
}
"""Command lines, and what they print."""
DO_NOT = (
    "build a.danet",
    "prove a.danet",
    "train a.danet --data digits",
    "summary a.danet --batch 32",
    "bench a.danet",
)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Sequence[object]]:
    """Status, output and errors of each command line, all in one process without these packages."""
    import json

    folder = tmp_path_factory.mktemp("without")
    (folder / "a.danet").write_text(SMALL)
    (folder / "b.danet").write_text(SMALL.replace("LIF", "IF"))
    lines = [*WORK, *DO_NOT, "equiv a.danet b.danet"]
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, json.dumps([line.split() for line in lines])],
        capture_output=True, text=True, check=True, cwd=folder,
    )  # fmt: skip
    assert (folder / "a.svg").is_file()
    found: list[Sequence[object]] = json.loads(done.stdout)
    return dict(zip(lines, found, strict=True))


def test_what_works_and_what_is_missing(results: dict[str, tuple[int, str, str]]) -> None:
    for line, printed in WORK.items():
        status, out, err = results[line]
        assert (status, printed in out) == (printed == "different", True), (line, err)
    told = "danetc: this needs torch, which is not installed; `pip install danetc` brings it\n"
    for line in DO_NOT:
        status, _, err = results[line]
        assert (status, err) == (1, told), line
    status, out, err = results["equiv a.danet b.danet"]
    assert (status, out) == (1, "")
    assert "the graphs of small and small differ: " in err
    assert "needs torch, which is not installed; --no-numbers compares the graphs alone" in err
