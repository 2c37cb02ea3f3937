"""Engines of a grid: a cluster of Ray gives what this machine gives, also where a worker is lost."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier, Lock
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from danetc.errors import UserError
from danetc.requests import GridRequest, TrainingRequest
from danetc.tasks.grid import process
from danetc.tasks.grid.engines import LocalProcesses, start_engine
from danetc.tasks.grid.plan import GridRun
from danetc.tasks.grid.run import GridProgress

from .conftest import SMALL, Run

ROOT = Path(__file__).parents[2]
RECIPE = "recipe quick { epochs = 20; batch = 500; optimizer = sgd(lr = 0.1, momentum = 0.9) }\n"
GRID = ("compare", "a.danet", "--data", "digits", "--backend", "eager", "--set", "steps=1", "-q")


def worker(run: Path) -> psutil.Process | None:
    """The worker of Ray that trains a run: the parent of the process whose request names it."""
    for each in psutil.Process().children(recursive=True):
        try:
            parent = each.parent()
            asked = any(str(run) in word for word in each.cmdline())
            if asked and parent and parent.name().startswith("ray::train"):
                return parent
        except psutil.NoSuchProcess:
            continue
    return None


@pytest.mark.thorough
@pytest.mark.skipif(sys.platform == "win32", reason="Ray finds no cluster in a path of Windows")
def test_a_lost_worker_costs_what_it_did_since_the_last_checkpoint(
    danetc: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two workers, one killed in the middle: the same bits as on this machine."""
    pytest.importorskip("ray", reason="Ray is an extra")
    (tmp_path / "a.danet").write_text(SMALL + RECIPE)
    run = tmp_path / "cluster" / "small" / "seed-0"
    killed: list[int] = []
    lock = Lock()
    plain = GridProgress.moved

    def moved(shown: GridProgress, run: GridRun, *rest: Any) -> None:
        plain(shown, run, *rest)
        with lock:
            if not killed and (found := worker(run.path)):
                killed.append(found.pid)
                found.send_signal(signal.SIGKILL)

    monkeypatch.setattr(GridProgress, "moved", moved)
    danetc.passes(*GRID, "--seeds", "2", "-o", "cluster", "--engine", "ray", "--jobs", "2")
    assert killed
    assert danetc(*GRID, "--seeds", "2", "-o", "local").status == 0
    for seed in (0, 1):
        place = Path("small") / f"seed-{seed}" / "weights.safetensors"
        assert (run.parents[1] / place).read_bytes() == (tmp_path / "local" / place).read_bytes()
    logs = [(run.parent / f"log-seed-{seed}.txt").read_text() for seed in (0, 1)]
    assert sum("resuming from" in log for log in logs) == 1


@pytest.mark.skipif(sys.platform == "win32", reason="a script of bash")
def test_the_script_of_an_array_runs_each_command_as_it_is(danetc: Run, tmp_path: Path) -> None:
    """That of the guide, with a pretended `srun` and `danetc`: names with blanks and brackets too."""
    text = (ROOT / "docs" / "guides" / "clusters.md").read_text(encoding="utf-8")
    (script,) = re.findall(r"```sh\n(#!/bin/bash\n#SBATCH --array.*?)```", text, re.DOTALL)
    (tmp_path / "array.sh").write_text(script)
    assert subprocess.run(["bash", "-n", "array.sh"], check=False).returncode == 0
    tools = tmp_path / "tools"
    tools.mkdir()
    for name, body in (("srun", 'exec "$@"'), ("danetc", 'printf "%s\\n" "$@"')):
        (tools / name).write_text(f"#!/bin/sh\n{body}\n")
        (tools / name).chmod(0o755)
    (tmp_path / "a net.danet").write_text(SMALL + RECIPE)
    grid = ("--grid", "neuron=LIF(tau = 4.0),IF", "--seeds", "2", "-o", "it's here")
    listed = danetc("compare", "a net.danet", *GRID[2:], *grid, "--print-commands").out
    (tmp_path / "runs.txt").write_text(listed)
    cells = json.loads((tmp_path / "it's here" / "grid.json").read_text())["cells"]
    wanted = [run["command"] for cell in cells for run in cell["runs"]]
    assert len(listed.splitlines()) == len(wanted) == 4
    for number, command in enumerate(wanted, 1):
        where = {"PATH": f"{tools}:/usr/bin:/bin", "SLURM_ARRAY_TASK_ID": str(number)}
        done = subprocess.run(
            ["bash", "array.sh"], env=where, capture_output=True, text=True, check=True
        )
        assert done.stdout.splitlines() == command[1:]
        assert command[-1] == "a net.danet"


def test_end_of_input_stops_a_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At a look that says so, and where an exception ends who waits for it."""
    program = "import os, sys; print(os.environ.get('OMP_NUM_THREADS'), flush=True);"
    program += "sys.exit(len(sys.stdin.read()) + 143)"
    started: list[subprocess.Popen[bytes]] = []

    def start(command: list[str], **options: Any) -> subprocess.Popen[bytes]:
        assert command[:4] == [sys.executable, "-P", "-m", "danetc.tasks.grid.process"]
        assert options["start_new_session"]
        started.append(subprocess.Popen([sys.executable, "-c", program], **options))
        return started[-1]

    stub = SimpleNamespace(Popen=start, PIPE=subprocess.PIPE)
    monkeypatch.setattr(process, "subprocess", stub)
    monkeypatch.setattr(process, "POLL", 0.01)
    log = tmp_path / "log"
    assert process.train("", str(log), lambda: True, threads=3) == 143
    assert log.read_text().split() == ["3"]

    def look() -> bool:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        process.train("", str(log), look)
    assert started[1].returncode == 143


def test_processes_share_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("danetc.tasks.grid.engines.usable_cores", lambda: 9)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert [LocalProcesses(jobs).threads for jobs in (1, 2, 4, 99)] == [None, 4, 2, 1]
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    assert LocalProcesses(2).threads is None


@pytest.mark.parametrize(
    ("jobs", "device", "expected"),
    [
        (1, None, {"cuda:0": 1}),
        (3, None, {"cuda:0": 1, "cuda:1": 1, "cuda:2": 1}),
        (7, "cuda", {"cuda:0": 3, "cuda:1": 2, "cuda:2": 2}),
        (2, "cuda:2", {"cuda:2": 2}),
        (2, "cpu", {"cpu": 2}),
    ],
)
def test_processes_share_the_accelerators(
    jobs: int, device: str | None, expected: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """``expected`` has the number of runs of each that are trained at a time."""
    monkeypatch.setattr(
        "danetc.tasks.grid.engines.accelerators", lambda: ["cuda:0", "cuda:1", "cuda:2"]
    )
    together, seen = Barrier(jobs), []

    def train(request: str, *rest: object, **more: object) -> int:
        seen.append(json.loads(request)["device"])
        together.wait(10)
        return 0

    monkeypatch.setattr(process, "train", train)
    engine = start_engine(GridRequest("a", output="grid", jobs=jobs, device=device))
    run: Any = SimpleNamespace(request=TrainingRequest("a"))
    for _ in range(2):  # the devices are free again
        with ThreadPoolExecutor(jobs) as pool:
            list(pool.map(lambda _: engine.train(run, Path("log"), lambda: False), range(jobs)))
        assert Counter(seen) == expected
        seen.clear()


def test_a_request_is_the_same_as_json_and_as_a_command(tmp_path: Path) -> None:
    request = TrainingRequest(
        spec="a b.danet", data="digits", set={"steps": 2, "neuron": "LIF(tau = 4.0)", "on": True},
        output=tmp_path / "x", seed=3, memory=10**9, channels_last=True, deterministic=False,
        override=True,
    )  # fmt: skip
    assert TrainingRequest.from_json(request.to_json()) == request
    assert request.command() == [
        "danetc", "train", "--seed", "3", "--memory", "1000000000", "--channels-last", "--data", "digits", "--output", str(tmp_path / "x"),
        "--override", "--set", "steps=2", "--set", "neuron=LIF(tau = 4.0)", "--set",
        "on=true", "--fastest", "--", "a b.danet",
    ]  # fmt: skip


def of_ray(**values: Any) -> GridRequest:
    return GridRequest("a", output="grid", engine="ray", **values)


def test_a_cluster_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"danetc\[ray\]"):
        start_engine(of_ray())

    def init(**given: object) -> None:
        raise ConnectionError("nobody there\nmore")

    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(init=init))
    with pytest.raises(UserError, match=r"no cluster of Ray at a:1: nobody there$"):
        start_engine(of_ray(address="a:1"))


def test_a_cluster_without_room(monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[bool] = []
    stub = SimpleNamespace(
        init=lambda **given: None,
        cluster_resources=lambda: {"CPU": 4.0, "GPU": 2.0},
        shutdown=lambda: closed.append(True),
    )
    monkeypatch.setitem(sys.modules, "ray", stub)
    asked: list[dict[str, Any]] = [
        {}, {"gpus": 0.0}, {"gpus": 0.5, "cpus": 2}, {"jobs": 9}, {"device": "cpu"},
    ]  # fmt: skip
    engines: list[Any] = [start_engine(of_ray(**each)) for each in asked]
    assert [each.jobs for each in engines] == [2, 4, 2, 9, 4]
    assert [each.device for each in engines] == [None, "cpu", None, None, "cpu"]
    assert not closed
    with pytest.raises(UserError, match="a run asks for 8 and 1"):
        start_engine(of_ray(cpus=8))
    assert closed


class Cancelled(Exception):
    pass


class Lost(Exception):
    pass


@pytest.mark.parametrize(
    ("end", "looks", "status"),
    [(3, [False], 3), (Cancelled(), [False, True, True], 143), (Lost("a\nno node"), [False],
     "Ray gave up the run: no node")],
)  # fmt: skip
def test_a_run_is_a_task_of_ray(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: Any, looks: list[bool], status: int | str
) -> None:
    """It is cancelled once if it is to stop; Ray repeats it if its worker is lost."""
    asked: list[Any] = []

    def remote(**options: Any) -> Any:
        def call(function: Any) -> Any:
            assert function is process.train
            assert options == {"num_cpus": 1.0, "num_gpus": 1.0, "max_retries": -1}
            return SimpleNamespace(remote=lambda *given, **more: asked.append((given, more)))

        return call

    def get(task: object) -> Any:
        if isinstance(end, Exception):
            raise end
        return end

    looked: list[bool] = []

    def look() -> bool:
        looked.append(looks[len(looked)])
        return looked[-1]

    stub = SimpleNamespace(
        init=lambda **given: None, cluster_resources=lambda: {"CPU": 4.0, "GPU": 2.0}, remote=remote,
        wait=lambda tasks, timeout: ([1] * (len(looked) == len(looks)), tasks), get=get,
        cancel=lambda task: asked.append("cancel"),
        exceptions=SimpleNamespace(TaskCancelledError=Cancelled, RayError=Lost),
    )  # fmt: skip
    monkeypatch.setitem(sys.modules, "ray", stub)
    request = TrainingRequest("a.danet", output=tmp_path)
    run: Any = SimpleNamespace(request=request)
    assert start_engine(of_ray()).train(run, tmp_path / "log", look) == status
    ((text, log), more), *cancels = asked
    assert TrainingRequest.from_json(text) == request
    assert (log, more) == (str(tmp_path / "log"), {"folder": os.getcwd()})
    assert cancels == ["cancel"] * any(looks)
