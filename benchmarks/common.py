"""What the benchmarks of training share: options, candidates of several networks, results.

Import it before torch. A full run writes benchmarks/results/NAME.json with all raw figures; one
with ``--quick`` writes nothing unless told where.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # a thread that waits is no CPU time

import argparse
import json
import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from candidates import Candidate, Conditions, candidates
from steps import TrainingStep
from timing import Sample, medians
from torch import Tensor, nn

from danetc.compiler import check_file, graph_of
from danetc.compiler.ir.graph import Graph

RESULTS = Path(__file__).parent / "results"
ANN = "torchvision"
SPIKINGJELLY = "SpikingJelly"


@dataclass(frozen=True)
class Options:
    """How much is measured. Images are ``image`` x ``image``, ``batch`` of them a step (N)."""

    name: str
    quick: bool
    rounds: int
    batch: int
    image: int
    steps: int
    output: Path | None


def options(
    name: str,
    about: str | None,
    *,
    batch: int = 4,
    image: int = 64,
    steps: int = 4,
    rounds: tuple[int, int] = (9, 3),
) -> Options:
    """Read the command line; ``rounds`` are those of a full run and of a quick one."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--quick", action="store_true", help="fewer networks and rounds")
    parser.add_argument("--rounds", type=int, help="how often each step is timed")
    parser.add_argument("--batch", type=int, default=batch, help=f"N [{batch}]")
    parser.add_argument("--image", type=int, default=image, help=f"size of images [{image}]")
    parser.add_argument("--steps", type=int, default=steps, help=f"T [{steps}]")
    parser.add_argument("--threads", type=int, help="CPU threads")
    parser.add_argument("--output", type=Path, help=f"results [{RESULTS.name}/{name}.json]")
    given = parser.parse_args()
    if given.threads is not None:
        torch.set_num_threads(given.threads)
        os.environ["OMP_NUM_THREADS"] = str(given.threads)  # of the processes it starts
    output = given.output or (None if given.quick else RESULTS / f"{name}.json")
    return Options(
        name,
        given.quick,
        given.rounds or rounds[given.quick],
        given.batch,
        given.image,
        given.steps,
        output,
    )


def network(spec: str, at: Options, steps: int | None = None) -> Graph:
    """The graph of a shipped spec for images of the size and T steps of a measurement."""
    settings = {"steps": at.steps if steps is None else steps, "image": at.image}
    return graph_of(check_file(spec), settings=settings)


def entries(
    graph: Graph, at: Options, backends: Sequence[str] = ("fused",)
) -> dict[str, Candidate]:
    """A network by its backends and its counterparts.

    Ours carry the network's name, others theirs, so that networks with one counterpart share it.
    """
    found, _ = candidates(graph, Conditions.of(graph, at.batch), backends)
    return {name.replace("danetc", f"danetc {graph.name}"): entry for name, entry in found.items()}


def ours(graph: Graph, backend: str = "fused") -> str:
    return f"danetc {graph.name} {backend}"


def named(found: Mapping[str, Any], library: str) -> str:
    """The counterpart of this library."""
    return next(name for name in found if name.startswith(f"{library} "))


@dataclass(frozen=True)
class Row:
    """A figure and the bound it must keep; one without a bound is only reported."""

    what: str
    value: float
    most: float | None = None
    least: float | None = None
    unit: str = ""

    @property
    def kept(self) -> bool:
        below = self.most is None or self.value <= self.most
        return below and (self.least is None or self.value >= self.least)

    def __str__(self) -> str:
        bound = ""
        if self.most is not None:
            bound = f"<= {self.most:.2f}  {'ok' if self.kept else 'MISSED'}"
        elif self.least is not None:
            bound = f">= {self.least:.2f}  {'ok' if self.kept else 'MISSED'}"
        return f"{self.value:8.2f} {self.unit:<3} {bound}"


def convolutions_alone(step: TrainingStep) -> Callable[[], object]:
    """Torch's forward and backward of a step's convolutions alone, on inputs like those of the step."""
    dtype = torch.bfloat16 if step.half else torch.float32
    seen: list[tuple[nn.Conv2d, Tensor]] = []

    def watch(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        assert isinstance(module, nn.Conv2d)
        x = torch.empty_like(inputs[0], dtype=dtype).bernoulli_(0.2)
        seen.append((module, x.requires_grad_(bool(seen))))  # images need no gradient

    layers = [m for m in step.model.modules() if isinstance(m, nn.Conv2d)]
    handles = [layer.register_forward_hook(watch) for layer in layers]
    try:
        step.loss()
    finally:
        for handle in handles:
            handle.remove()
    grads: list[Tensor] = []

    def run() -> None:
        with torch.autocast(step.device.type, torch.bfloat16, step.half):
            outputs = [
                nn.functional.conv2d(x, m.weight, m.bias, m.stride, m.padding, m.dilation, m.groups)
                for m, x in seen
            ]
        if not grads:
            grads.extend(torch.ones_like(y) for y in outputs)
        torch.autograd.backward(outputs, grads)

    return run


def progress(what: str) -> None:
    """Say on a terminal what is being measured, on one line."""
    if sys.stderr.isatty():
        print(f"\r\033[K{what}", end="", file=sys.stderr, flush=True)


def report(at: Options, rows: Sequence[Row], raw: Mapping[str, Any]) -> int:
    """Print the rows, write them with the raw figures, and give the exit status."""
    progress("")
    width = max(len(row.what) for row in rows)
    print(
        f"{at.name}: N = {at.batch}, {at.image} x {at.image}, T = {at.steps}, "
        f"{torch.get_num_threads()} threads, medians of {at.rounds} rounds"
    )
    for row in rows:
        print(f"{row.what:<{width}}  {row}".rstrip())
    if at.output is not None:
        at.output.parent.mkdir(parents=True, exist_ok=True)
        content = {
            "benchmark": at.name,
            "machine": machine(),
            "batch": at.batch,
            "image": at.image,
            "steps": at.steps,
            "rounds": at.rounds,
            "rows": [asdict(row) | {"kept": row.kept} for row in rows],
            "raw": raw,
        }
        text = json.dumps(content, indent=1, default=str)
        at.output.write_text(text + "\n", encoding="utf-8")
    return int(not all(row.kept for row in rows))


def machine() -> dict[str, Any]:
    return {
        "torch": torch.__version__,
        "python": platform.python_version(),
        "system": platform.platform(),
        "processor": processor(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "threads": torch.get_num_threads(),
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
    }


def processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()


def seconds(samples: Mapping[str, Sequence[Sample]]) -> dict[str, Any]:
    """Samples as JSON has them: medians, and each round's seconds."""
    return {
        name: {
            "median_cpu": round(medians(each).cpu, 5),
            "median_wall": round(medians(each).wall, 5),
            "cpu": [round(sample.cpu, 5) for sample in each],
            "wall": [round(sample.wall, 5) for sample in each],
            "gpu": [round(sample.gpu, 5) for sample in each if sample.gpu is not None],
        }
        for name, each in samples.items()
    }


def marginal(x: Sequence[float], y: Sequence[float]) -> float:
    """How much steeper ``y`` rises at its end than before: 1 for a line, more where it bends up.

    The slope of the last interval, divided by the mean slope of those before it.
    """
    before = (y[-2] - y[0]) / (x[-2] - x[0])
    return (y[-1] - y[-2]) / (x[-1] - x[-2]) / before


def each_step(
    found: Mapping[str, Candidate], measure: Callable[[Any], int], what: str
) -> dict[str, int]:
    """Measure the step of each candidate, one at a time."""
    result = {}
    for name, entry in found.items():
        progress(f"{what}: {name}")
        result[name] = measure(entry.make())
    return result
