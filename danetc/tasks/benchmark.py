"""Time and memory of a network: a training step and a forward pass, on the backends eager and fused."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from danetc.arguments import Memory
from danetc.compiler.emit.fx import emit
from danetc.compiler.ir.at_node import taken
from danetc.runtime.kernels.announcing import unannounced
from danetc.runtime.model.signature import outputs_of, random_input
from danetc.tasks.memory import choose, plain_step, step_memory

if TYPE_CHECKING:
    from danetc.compiler.ir.graph import Graph

BACKENDS = ("eager", "fused")
SAMPLE = 0.3  # smallest duration of a sample in seconds, which holds as many calls as fit


def bench(
    graph: Graph,
    batch: int,
    memory: Memory,
    rounds: int,
    threads: int | None,
    device: torch.device,
    on_progress: Callable[[str], object] = lambda what: None,
) -> dict[str, Any]:
    """Measure the time of both backends in interleaved rounds. Raises UserError.

    Return the record that ``danetc bench --json`` prints. Of each backend it has median times in
    seconds of a training ``step`` and a ``forward`` pass, the time of the ``first`` step, which
    compiles the kernels that are not cached, and the ``peak`` memory of a step in bytes, which is
    computed as in ``danetc.tasks.memory`` (measured on a GPU).
    """
    if threads is not None:
        torch.set_num_threads(threads)
    value = taken(graph)
    size = (*(graph.steps,) * value.varies, batch, *value.shape)
    x = random_input(value.kind, size, torch.Generator().manual_seed(0)).to(device)
    policies = {name: choose(graph, memory, batch=batch, backend=name).policy for name in BACKENDS}
    calls, first, numbers = {}, {}, {}
    for name, policy in policies.items():
        on_progress(f"{name}, first step")
        calls[name, "step"], calls[name, "forward"] = _calls(graph, name, policy, x)
        with unannounced():
            first[name] = _seconds(calls[name, "step"], device)
    for key, call in calls.items():
        call()
        numbers[key] = 1 + int(SAMPLE / _seconds(call, device))
    times: dict[tuple[str, str], list[float]] = {key: [] for key in calls}
    for number in range(rounds):
        on_progress(f"round {number + 1} of {rounds}")
        for key, call in calls.items():
            times[key].append(_seconds(call, device, numbers[key]))
    found = []
    for name, policy in policies.items():
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
            calls[name, "step"]()
            peak = torch.cuda.max_memory_allocated()
        else:
            peak = step_memory(plain_step(graph, name, batch), policy).peak
        step, forward = (median(times[name, what]) for what in ("step", "forward"))
        times_of = {"step": step, "forward": forward, "first": first[name]}
        found.append({"backend": name, "memory": policy, **times_of, "peak": peak})
    return {
        "network": graph.name,
        "steps": graph.steps,
        "batch": batch,
        "size": list(value.shape),
        "device": device.type,
        "threads": torch.get_num_threads(),
        "backends": found,
        "torch": torch.__version__,
    }


def _calls(
    graph: Graph, backend: str, memory: str, x: Tensor
) -> tuple[Callable[[], object], Callable[[], object]]:
    """Return a training step of SGD with momentum, and the forward pass of another model."""
    model, fixed = (emit(graph, backend=backend, memory=memory).to(x.device) for _ in range(2))
    fixed.eval()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4, momentum=0.9, fused=True)

    def step() -> None:
        optimizer.zero_grad()
        torch.stack([y.square().mean() for y in outputs_of(model(x))]).sum().backward()
        optimizer.step()

    def forward() -> None:
        with torch.inference_mode():
            fixed(x)

    return step, forward


def _seconds(call: Callable[[], object], device: torch.device, number: int = 1) -> float:
    """Return the mean time of ``number`` calls, from an idle device to an idle device."""
    wait = (lambda: None) if device.type == "cpu" else torch.get_device_module(device).synchronize
    wait()
    start = time.perf_counter()
    for _ in range(number):
        call()
    wait()
    return (time.perf_counter() - start) / number
