"""Training steps over conditions: T, N, the size of images, the type, the layout; against the best ANN.

Each condition is a change of one thing (T = 4, N = 4, 64 x 64, float32, in rows of channels). Ours and
torchvision's ReLU network on T x N images both take the better of two layouts, and the ANN the better of
eager and compiled besides; all with fused SGD. A row is the median of the rounds' ratios in CPU
seconds (on a GPU in its time) and their range. Rows above 1 are where an SNN costs more than its ANN.

    python benchmarks/conditions.py [--quick] [--rounds R] [--threads K]
"""

from __future__ import annotations

import sys
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from candidates import Candidate, Conditions, candidates
from common import Options, Row, network, options, progress, report, seconds
from steps import TrainingStep
from timing import Samples, medians, ratio, time_interleaved
from torch import Tensor

from danetc.runtime.model.built import to_channels_last

NETWORKS = ("sew_r18", "danet_c_r18")
CHANGES: dict[str, tuple[tuple[str, int], ...]] = {
    "base": (),
    "T = 1": (("steps", 1),),
    "T = 2": (("steps", 2),),
    "T = 8": (("steps", 8),),
    "N = 1": (("batch", 1),),
    "N = 16": (("batch", 16),),
    "32 x 32": (("image", 32),),
    "112 x 112": (("image", 112),),
    "224 x 224, N = 1": (("image", 224), ("batch", 1)),
}
QUICK = ("base", "T = 1", "32 x 32")
MOST = 1.05


def laid(step: TrainingStep, last: bool, half: bool, compiled: bool) -> TrainingStep:
    """The step in one layout, under one type."""
    step.half = half
    if last:
        to_channels_last(step.model)
        step.x = _last(step.x)
    if compiled:
        step.model.compile()
    return step


def _last(x: Tensor) -> Tensor:
    if x.dim() == 4:
        return x.contiguous(memory_format=torch.channels_last)
    return x.flatten(0, 1).contiguous(memory_format=torch.channels_last).unflatten(0, x.shape[:2])


def steps_of(found: dict[str, Candidate], half: bool) -> dict[str, TrainingStep]:
    """Ours and the ANN's, in each form that they are given."""
    made = {}
    for name, candidate in found.items():
        if name.startswith("SpikingJelly"):
            continue
        for last in (False, True):
            for compiled in (False, True) if name.startswith("torchvision") else (False,):
                words = [name, *["channels last"] * last, *["compiled"] * compiled]
                made[", ".join(words)] = laid(candidate.make(), last, half, compiled)
    return made


def best(samples: Samples, library: str) -> str:
    """The fastest form of ours or of theirs."""
    names = [name for name in samples if name.startswith(library)]
    return min(names, key=lambda name: medians(samples[name]).seconds)


def measured(spec: str, at: Options, half: bool, what: str) -> tuple[Row, dict[str, Any]]:
    torch.compiler.reset()  # torch stops compiling a model after a number of shapes
    graph = network(spec, at)
    found, _ = candidates(graph, Conditions.of(graph, at.batch), ("fused",))
    steps = steps_of(found, half)
    device = next(iter(steps.values())).device
    samples = time_interleaved(steps, device, at.rounds, on_progress=partial(_said, what))
    ours, ann = best(samples, "danetc"), best(samples, "torchvision")
    pairs = zip(samples[ours], samples[ann], strict=True)
    ratios = [mine.seconds / other.seconds for mine, other in pairs]
    label = f"{what}: {ours} / {ann}, {min(ratios):.2f} to {max(ratios):.2f}"
    return Row(label, ratio(samples, ours, ann), most=MOST), seconds(samples)


def _said(what: str, name: str) -> None:
    progress(f"{what}: {name}")


def main() -> int:
    at = options("conditions", __doc__, rounds=(5, 3))
    chosen = QUICK if at.quick else tuple(CHANGES)
    cases = [(spec, change, False) for spec in NETWORKS for change in chosen]
    cases += [(NETWORKS[0], change, True) for change in ("base", "32 x 32")]
    if not at.quick:
        cases += [("spiking_densenet121", "base", False)]
    rows: list[Row] = []
    raw: dict[str, object] = {}
    for spec, change, half in cases:
        here = replace(at, **dict(CHANGES[change]))
        what = ", ".join([spec, *[change] * (change != "base"), *["bf16"] * half])
        row, raw[what] = measured(spec, here, half, what)
        rows.append(row)
    return report(at, rows, raw)


if __name__ == "__main__":
    sys.exit(main())
