"""Everything that a GPU decides, in one command: is it right, does it resume, is it fast.

    python benchmarks/gpu.py [--parts agree resume first steps regions roofline] [--output gpu.md]
    python benchmarks/gpu.py --device cpu --tiny     # the same code on a CPU, small: its figures mean nothing

agree     outputs and gradients of every backend, NCHW and channels last, against the CPU in float64
resume    trainings that are killed at random steps and end with the bits of one left alone (`soak.py`)
first     the first step of danet_c_r50 in a new process, with an empty and with a filled cache of kernels
steps     training steps in bf16, channels last, against torchvision's and SpikingJelly's networks, each by
          the fastest of its backends and of torch.compile
regions   kernels of fusion groups, forward and backward, against a plain copy of as many bytes
roofline  sew_r18 beside what the paper's arithmetic allows on an H100

Everything runs as `danetc train` does by default: deterministic, and float32 products without TF32; steps
also as CUDA graphs (`--cuda-graphs`).

Writes its table, and ends with status 1 and what fails where a bound is missed, a part fails, or there
is no GPU.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from common import (  # before torch
    ANN,
    RESULTS,
    SPIKINGJELLY,
    Row,
    convolutions_alone,
    machine,
    progress,
)

# isort: split
import torch
from alone import in_own_process
from candidates import Conditions, backend_missing, candidates
from steps import TrainingStep, mean_over_steps
from timing import medians, ratio, time_interleaved
from torch import Tensor, nn

from danetc.compiler import check_file, graph_of
from danetc.compiler.emit import fx
from danetc.compiler.ir.graph import Graph
from danetc.runtime.kernels.fusion_group import Term, fusion_kernel
from danetc.runtime.layers.statistics import chunked
from danetc.runtime.model.built import to_channels_last
from danetc.runtime.system.devices import arithmetic
from danetc.runtime.training.backward import GraphedPass
from danetc.runtime.training.state import determinism

GAP = 1e-9  # of float64, relative to the largest value
ANN_MOST, OTHERS_LEAST, COPY_MOST = 1.05, 1.0, 1.15
GRAPHED = "danetc, CUDA graphs"
FIRST_MOST = {"cold": 25.0, "warm": 3.0}  # seconds, on 16 cores
ROOFLINE_MS = {"convolutions": 13.0, "regions": 5.3}
"""Of SEW-18 on an H100, T = 4, 224 x 224, N = 128, bf16: a training step's convolutions at about 80 % of
the tensor cores' peak, and its regions where each byte is read and written once."""
ROOFLINE_AT = (4, 224, 128)


@dataclass(frozen=True)
class At:
    """What is measured, and how much of it."""

    device: torch.device
    tiny: bool
    rounds: int

    @property
    def settings(self) -> dict[str, int]:
        return {"steps": 2, "image": 32} if self.tiny else {"steps": 4, "image": 224}

    @property
    def batches(self) -> tuple[int, ...]:
        return (1,) if self.tiny else (32, 64, 128)

    def graph(self, name: str, **settings: object) -> Graph:
        return graph_of(check_file(name), settings={**self.settings, **settings})


# -- agree -----------------------------------------------------------------------------------------


def agree(at: At) -> Iterator[Row]:
    small: dict[str, dict[str, object]] = {
        "sew_r18": {"image": 16 if at.tiny else 64, "steps": 2 if at.tiny else 4, "width": 8},
        "danet_c_r18": {"image": 64, "steps": 4, "width": 8},
        "zoo/spikformer": {"image": 16, "steps": 2, "width": 16, "heads": 2, "depth": 1},
    }
    for name, settings in list(small.items())[: 1 if at.tiny else None]:
        graph = at.graph(name, **settings)
        reference = fx.emit(graph, 0, "eager").double()
        start = _stirred(reference)
        x = torch.rand(
            2 if at.tiny else 4, 3, *[int(str(settings["image"]))] * 2, dtype=torch.float64
        )
        expected = _outputs_and_gradients(reference, x)
        if float(expected["output"].std(0).mean()) < 1e-6:
            raise RuntimeError(f"{name} gives the same for all images, which compares nothing")
        for backend in fx.BACKENDS:
            if (reason := backend_missing(backend)) is not None:
                yield Row(f"agree: {name} {backend} left out: {reason}", 0.0)
                continue
            for last in (False, True):
                progress(f"agree: {name}, {backend}")
                model = fx.emit(graph, 0, backend).double()
                model.load_state_dict(start)
                if last:
                    to_channels_last(model)
                layout = torch.channels_last if last else torch.contiguous_format
                found = _outputs_and_gradients(
                    model.to(at.device), x.to(at.device).contiguous(memory_format=layout)
                )
                largest = max(float(value.abs().max()) for value in expected.values())
                gaps = {
                    key: float((found[key].cpu() - value).abs().max())
                    / max(float(value.abs().max()), 1e-3 * largest)
                    for key, value in expected.items()
                }
                worst = max(gaps, key=lambda key: gaps[key])
                what = f"agree: {name} {backend} {'channels last' if last else 'NCHW'}, {worst}"
                yield Row(what, gaps[worst] / GAP, most=1.0, unit="1e-9")


@torch.no_grad()
def _stirred(model: nn.Module) -> dict[str, Tensor]:
    """Move norms off their start, so that all neurons fire now and then; what the model then has."""
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        if parameter.dim() == 1:
            noise = torch.rand(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.add_(0.5 * noise)
    return {name: value.clone() for name, value in model.state_dict().items()}


def _outputs_and_gradients(model: nn.Module, x: Tensor) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    y = model.train()(x)
    weights = torch.randn(y.shape, generator=generator, dtype=y.dtype).to(y.device)
    (y * weights).sum().backward()
    grads = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    return {"output": y.detach(), **grads}


# -- resume ----------------------------------------------------------------------------------------


def resume(at: At) -> Iterator[Row]:
    """One process alone: the two of `soak.py` need a GPU each."""
    kills = 1 if at.tiny else 20
    backend = "eager" if at.tiny else "fused"
    command = [sys.executable, str(Path(__file__).with_name("soak.py")), "--kills", str(kills),
               "--one-process", "--backend", backend, "--seed", "0"]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{(done.stderr or done.stdout).strip()}")
    yield Row(f"resume: {kills} kills of a training, bit for bit", 0.0, most=0.0)


# -- first -----------------------------------------------------------------------------------------


def first(at: At) -> Iterator[Row]:
    spec = "sew_r18" if at.tiny else "danet_c_r50"
    with tempfile.TemporaryDirectory(prefix="danetc-bench-") as cache:
        for what, most in FIRST_MOST.items():
            progress(f"first: {spec}, {what}")
            found = in_own_process(
                spec, "danetc fused", Path(cache), batch=1 if at.tiny else 8, **at.settings
            )
            bound = None if at.tiny else most
            yield Row(f"first: a step of {spec}, {what} cache", found.first, most=bound, unit="s")


# -- steps -----------------------------------------------------------------------------------------


def steps(at: At) -> Iterator[Row]:
    for name in ("sew_r18",) if at.tiny else ("sew_r18", "sew_r50", "danet_c_r18"):
        for batch in at.batches:
            yield from _steps_of(at, at.graph(name), batch)
    for batch in at.batches:
        yield from _spikformer(at, batch)


def _steps_of(at: At, graph: Graph, batch: int) -> Iterator[Row]:
    shape = next(iter(graph.inputs)).value.shape
    conditions = Conditions(batch, shape, str(at.device))
    found, _ = candidates(graph, conditions, ("fused",))
    made: dict[str, Callable[[], object]] = {}
    for name, entry in found.items():
        if name.startswith("danetc"):
            made["danetc"] = _mixed(entry.make())
            if at.device.type == "cuda":
                made[GRAPHED] = _graphed(_mixed(entry.make()))
            continue
        for variant, change in _variants(at, name):
            step = entry.make()
            change(step)
            made[f"{name}{variant}"] = _mixed(step)
    yield from _compared(at, f"steps: {graph.name}, N = {batch}", made)


def _spikformer(at: At, batch: int) -> Iterator[Row]:
    """Its patches are of 4 x 4 pixels, for small images: 64 x 64 has 256 of them."""
    import spikformer_reference as spikformer

    from tests.zoo.harness import graph

    settings = {"image": 16 if at.tiny else 64, "steps": at.settings["steps"]}
    if at.tiny:
        settings |= {"width": 16, "heads": 2, "depth": 1}
    ours = graph("spikformer", settings)
    model, other = fx.emit(ours, 0, "fused"), spikformer.network(**settings)
    spikformer.load_by_order(model, other)
    x = torch.rand(batch, 3, *[settings["image"]] * 2, device=at.device)
    labels = torch.arange(batch, device=at.device) % 10
    made: dict[str, Callable[[], object]] = {"danetc": _mixed(TrainingStep(model, x, labels))}
    for variant, change in _variants(at, SPIKINGJELLY):
        step = _spiking_step(spikformer.network(**settings), x, labels, settings["steps"])
        change(step)
        made[f"{SPIKINGJELLY}{variant}"] = _mixed(step)
    yield from _compared(at, f"steps: spikformer {settings['image']}, N = {batch}", made)


def _spiking_step(model: nn.Module, x: Tensor, labels: Tensor, steps: int) -> TrainingStep:
    from spikingjelly.activation_based import functional

    return TrainingStep(
        model,
        x,
        labels,
        prepare=lambda x: x.expand(steps, *x.shape).contiguous(),
        read=lambda y: mean_over_steps(y) if y.dim() == 3 else y,
        reset=lambda: functional.reset_net(model),
    )


def _variants(at: At, name: str) -> list[tuple[str, Callable[[TrainingStep], None]]]:
    """Ways to run another library's network; the fastest counts. (Compiling is left out of a tiny run.)"""
    found: list[tuple[str, Callable[[TrainingStep], None]]] = [("", lambda step: None)]
    if name.startswith(SPIKINGJELLY) and at.device.type == "cuda":
        found += [(f", {each}", lambda step, each=each: _backend(step, each))
                  for each in ("cupy", "triton")]  # type: ignore[misc]  # fmt: skip
    if not at.tiny:
        found.append((", compiled", _compiled))
    return found


def _backend(step: TrainingStep, backend: str) -> None:
    """Have SpikingJelly's neurons use one of their backends. Raises ValueError where none has it."""
    layers = [m for m in step.model.modules() if backend in getattr(m, "supported_backends", ())]
    if not layers:
        raise ValueError(f"no neuron has the backend {backend}")
    for layer in layers:
        layer.backend = backend


def _compiled(step: TrainingStep) -> None:
    step.model = torch.compile(step.model)  # type: ignore[assignment]


def _mixed(step: TrainingStep) -> TrainingStep:
    """A step in bf16 with channels last."""
    step.model.to(memory_format=torch.channels_last)
    if step.x.dim() == 4:
        step.x = step.x.contiguous(memory_format=torch.channels_last)
    step.half = True
    return step


def _graphed(step: TrainingStep) -> Callable[[], None]:
    run = GraphedPass(lambda share: step.loss().backward(), [*step.model.parameters()])

    def graphed() -> None:
        step.optimizer.zero_grad()
        run(share=1.0)
        step.optimizer.step()

    return graphed


def _compared(at: At, what: str, made: Mapping[str, Callable[[], object]]) -> Iterator[Row]:
    """Times of a step, ours against the fastest of each library; and peak memory on a GPU."""
    running: dict[str, Callable[[], object]] = {}
    peaks: dict[str, float] = {}
    for name, step in made.items():
        progress(f"{what}: {name}")
        try:
            with _peak(at) as peak:
                step()
                step()
        except Exception as error:
            if name == "danetc":
                raise
            yield Row(f"{what}: {name} left out: {type(error).__name__}: {_line(error)}", 0.0)
            continue
        running[name], peaks[name] = step, peak[0]
    samples = time_interleaved(
        running, at.device, at.rounds, on_progress=lambda name: progress(f"{what}: {name}")
    )
    for name in ("danetc", GRAPHED):
        if name in samples:
            yield Row(f"{what}: {name}", 1e3 * medians(samples[name]).seconds, unit="ms")
    for library, least in ((ANN, 1 / ANN_MOST), (SPIKINGJELLY, OTHERS_LEAST)):
        names = [name for name in running if name.startswith(library)]
        if not names:
            yield Row(f"{what}: nothing of {library} to compare with", 0.0)
            continue
        best = min(names, key=lambda name: medians(samples[name]).seconds)
        bound = None if at.tiny else least
        yield Row(f"{what}: {best} / danetc", ratio(samples, best, "danetc"), least=bound)
        if peaks["danetc"]:
            lowest = min(peaks[name] for name in names)
            yield Row(f"{what}: peak memory, danetc / {library}", peaks["danetc"] / lowest)


@contextmanager
def _peak(at: At) -> Iterator[list[float]]:
    """Bytes that the device holds at most meanwhile; 0 on a CPU."""
    found = [0.0]
    if at.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(at.device)
    yield found
    if at.device.type == "cuda":
        found[0] = float(torch.cuda.max_memory_allocated(at.device))


# -- regions ---------------------------------------------------------------------------------------


def regions(at: At) -> Iterator[Row]:
    """A norm and a value before IF, bf16, T = 4: 24 bytes per value forward; backward 24 for sums and 40 for gradients."""
    graph = at.graph("sew_r18")
    (program,) = {neuron.text() for neuron in graph.neurons.values()}
    terms = (Term(normed=True, static=False), Term(normed=False, static=False))
    group = fusion_kernel(program, terms, 4)
    shape = (2, 64, 8) if at.tiny else (32, 56 * 56, 64)  # channels last
    for last in (True, False):
        sizes = shape if last else (shape[0], shape[2], shape[1])
        column = (shape[2],) if last else (shape[2], 1)

        random = torch.randn(1 + len(terms), 4, *sizes, device=at.device).to(torch.bfloat16)
        _, *inputs = values = random.unbind(0)
        values = [chunked(x) for x in values] if last else values
        ones, zeros = (make(column, device=at.device) for make in (torch.ones, torch.zeros))
        affine, known = [ones, zeros], [zeros, ones]
        more = [zeros, zeros, ones.new_zeros(())]
        count = inputs[0].numel() // 4
        layout = "channels last" if last else "NCHW"
        for name, size, run in (
            ("forward", 24, lambda: group.forward(*inputs, *affine)),  # noqa: B023
            ("sums", 24, lambda: group.sums(*values, *affine, *known)),  # noqa: B023
            ("gradients", 40, lambda: group.inputs(*values, *affine, *known, *more)),  # noqa: B023
        ):
            copy = _copy(at, count * size)
            samples = time_interleaved({"region": run, "copy": copy}, at.device, at.rounds)
            value = ratio(samples, "region", "copy")
            most = None if at.tiny else COPY_MOST
            yield Row(f"regions: {name}, {layout}, / a copy of its bytes", value, most=most)


def _copy(at: At, size: int) -> Callable[[], object]:
    """Reads half as many bytes and writes the other half: by a plain kernel of Triton on a GPU."""
    source = torch.zeros(size // 4, dtype=torch.bfloat16, device=at.device)
    target = torch.empty_like(source)
    if at.device.type != "cuda":
        return lambda: target.copy_(source)
    from gpu_copy import copy

    return lambda: copy(source, target)


# -- roofline --------------------------------------------------------------------------------------


def roofline(at: At) -> Iterator[Row]:
    length, image, batch = (2, 32, 1) if at.tiny else ROOFLINE_AT
    graph = at.graph("sew_r18", steps=length, image=image)
    conditions = Conditions(batch, (3, image, image), str(at.device))
    found, _ = candidates(graph, conditions, ("fused",))
    step = _mixed(found["danetc fused"].make())
    step()
    alone = convolutions_alone(step)
    progress("roofline")
    samples = time_interleaved({"step": step, "convolutions": alone}, at.device, at.rounds)
    whole, parts = (1e3 * medians(samples[name]).seconds for name in ("step", "convolutions"))
    yield Row("roofline: a training step of sew_r18", whole, unit="ms")
    for name, value in (("convolutions", parts), ("regions", whole - parts)):
        best = ROOFLINE_MS[name]
        yield Row(f"roofline: its {name} (an H100 at best: {best} ms)", value, unit="ms")


# -- all of them -----------------------------------------------------------------------------------

PARTS: Mapping[str, Callable[[At], Iterator[Row]]] = {
    "agree": agree,
    "resume": resume,
    "first": first,
    "steps": steps,
    "regions": regions,
    "roofline": roofline,
}


def measure(at: At, parts: Sequence[str]) -> tuple[list[Row], list[str]]:
    """The rows of these parts, and what fails."""
    rows: list[Row] = []
    failures: list[str] = []
    for part in parts:
        try:
            with determinism(at.device, True), arithmetic("float32", at.device):
                for row in PARTS[part](at):
                    rows.append(row)
                    print(f"{row.what}  {row}".rstrip(), flush=True)
                    if not row.kept:
                        failures.append(f"{row.what}: {row}")
        except Exception as error:  # the other parts are of use all the same
            failures.append(f"{part} failed: {type(error).__name__}: {_line(error)}")
    return rows, failures


def _line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [""])[-1][:200]


def table(at: At, rows: Sequence[Row], failures: Sequence[str]) -> str:
    facts: dict[str, Any] = machine()
    device = facts["gpu"] if at.device.type == "cuda" else facts["processor"]
    lines = [
        f"# {device}, torch {facts['torch']}",
        "",
        *(
            ["A tiny run, which shows that the script works: its figures mean nothing.", ""]
            * at.tiny
        ),
        "| what | measured | bound |",
        "|---|---|---|",
    ]
    for row in rows:
        bound = f"<= {row.most:g}" if row.most is not None else ""
        bound = f">= {row.least:.2f}" if row.least is not None else bound
        missed = "" if row.kept else " **missed**"
        lines.append(f"| {row.what} | {row.value:.3f} {row.unit} | {bound}{missed} |")
    lines += ["", *(f"- {failure}" for failure in failures)] if failures else []
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--tiny", action="store_true", help="so small that figures mean nothing")
    parser.add_argument("--parts", nargs="+", choices=tuple(PARTS), default=tuple(PARTS))
    parser.add_argument("--rounds", type=int, help="how often each step is timed [9]")
    parser.add_argument("--output", type=Path, help="the table [benchmarks/results/gpu.md]")
    given = parser.parse_args(arguments)
    if given.device == "cuda" and not torch.cuda.is_available():
        print("gpu.py measures a GPU, and torch finds none here; --device cpu --tiny runs the same "
              "code on the CPU", file=sys.stderr)  # fmt: skip
        return 1
    if given.device == "cpu" and not given.tiny:
        print("gpu.py on a CPU takes --tiny; for a CPU there are training.py and memory.py",
              file=sys.stderr)  # fmt: skip
        return 1
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # as `train`
    at = At(torch.device(given.device), given.tiny, given.rounds or (1 if given.tiny else 9))
    rows, failures = measure(at, given.parts)
    output = given.output or (None if given.tiny else RESULTS / "gpu.md")
    if output is not None:
        output.write_text(table(at, rows, failures), encoding="utf-8")
    for failure in failures:
        print(f"FAILED  {failure}", file=sys.stderr)
    return int(bool(failures))


if __name__ == "__main__":
    sys.exit(main())
