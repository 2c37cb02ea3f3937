"""Compiles kernels for real GPUs, without one, and reads their hardware needs."""

import re
import subprocess
from collections.abc import Sequence
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any, NamedTuple

import torch
import triton
from torch._inductor.runtime.triton_heuristics import filter_reduction_configs_for_determinism
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from tests.gpu.cases import Case, compare, standard
from tests.gpu.interpreter import Kernel

TARGETS = {
    "sm_80": GPUTarget("cuda", 80, 32),
    "sm_90": GPUTarget("cuda", 90, 32),
    "gfx942": GPUTarget("hip", "gfx942", 64),
}
"""A100, H100 and MI300X."""
CUOBJDUMP = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"


class Needs(NamedTuple):
    """Registers per thread, spilled bytes per thread, and the share of a multiprocessor's threads that it
    holds at once."""

    registers: int
    spilled: int
    occupancy: float


def compiled(kernel: Kernel, target: str) -> Needs:
    """Compile a kernel in the configurations that Inductor may choose.

    The autotuner takes the fastest, but skips those that spill more than 16 registers (32 on AMD). With
    deterministic algorithms, the default of ``danetc train``, a reduction has a fixed configuration, even if
    it spills. Return the needs of the configuration with the fewest spilled bytes, then highest occupancy.
    If the fixed one spills more, its spilled bytes are returned instead.
    """
    launcher = kernel.launcher
    needs = {config: _compiled(kernel, target, config) for config in launcher.configs}
    best = min(needs.values(), key=lambda each: (each.spilled, -each.occupancy))
    if "REDUCTION" in launcher.heuristic_type.name:
        meta = launcher.inductor_meta | {"are_deterministic_algorithms_enabled": True}
        (fixed,) = filter_reduction_configs_for_determinism(meta, launcher.configs)
        return best._replace(spilled=max(best.spilled, needs[fixed].spilled))
    return best


def _compiled(kernel: Kernel, target: str, config: Any) -> Needs:
    meta = kernel.launcher.triton_meta
    names = list(kernel.signature)
    constants = {(names.index(n),): value for n, value in {**meta["constants"], **config.kwargs}.items()}  # fmt: skip
    source = ASTSource(kernel.launcher.fn, kernel.signature, constants, meta["configs"][0])
    options = {
        "num_warps": config.num_warps, "num_stages": config.num_stages,
        "enable_fp_fusion": meta["enable_fp_fusion"],
    }  # fmt: skip
    made = triton.compile(source, target=TARGETS[target], options=options)
    if target.startswith("gfx"):
        text = made.asm["amdgcn"]
        registers, *spills, scratch, waves = (
            int(re.findall(pattern, text)[-1])
            for pattern in (r"\.vgpr_count: +(\d+)", r"\.vgpr_spill_count: +(\d+)",
                            r"\.sgpr_spill_count: +(\d+)", r"; ScratchSize: (\d+)", r"; Occupancy: (\d+)")
        )  # fmt: skip
        return Needs(registers, max(4 * sum(spills), scratch), waves / 8)
    with NamedTemporaryFile(suffix=".cubin") as file:
        file.write(made.asm["cubin"])
        file.flush()
        told = subprocess.check_output([CUOBJDUMP, "-res-usage", file.name], text=True)
    registers, stack, local = (
        int(re.findall(rf"{name}:(\d+)", told)[-1]) for name in ("REG", "STACK", "LOCAL")
    )
    blocks = 65536 // (-(-registers * 32 // 256) * 256 * config.num_warps)
    return Needs(registers, stack + local, min(64, blocks * config.num_warps) / 64)


TABLE = (1, 64, 14, 14)
STANDARD = [Case(name, "norm + value", torch.bfloat16, 4, size=TABLE) for name in standard()]
"""The layers of the table in docs/machines.md, and the size of their maps."""
PAGE = Path(__file__).parents[2] / "docs" / "machines.md"
BEGIN, END = "<!-- kernels: python -m tests.gpu.check --write -->\n", "<!-- end of kernels -->\n"
BANDWIDTH = {"H100": 3.35e12, "A100": 2.04e12, "MI300X": 5.3e12}
"""Bytes per second of the memory: SXM5 with 80 GB, SXM4 with 80 GB, and OAM."""
VALUES = 32 * 64 * 56 * 56
"""Values of [N, C, H, W] for which times are predicted."""


HEAD = (
    "neuron", "kernels", "bytes per value", "registers", "lowest occupancy",
    *(f"{name}, µs" for name in BANDWIDTH), "measured",
)  # fmt: skip


class Row(NamedTuple):
    """Traffic and hardware needs of the kernels of a layer, forward and backward."""

    case: Case
    kernels: int
    traffic: float
    """Bytes per value of [N, C, H, W], over all steps and all passes."""
    registers: tuple[int, ...]
    spilled: int
    occupancy: float

    def cells(self) -> list[str]:
        times = (1e6 * self.traffic * VALUES / each for each in BANDWIDTH.values())
        registers = " / ".join(map(str, self.registers))
        start = [self.case.neuron, str(self.kernels), f"{self.traffic:.0f}", registers]
        return [*start, f"{self.occupancy:.0%}", *(f"{time:.0f}" for time in times), ""]


def row(case: Case) -> Row:
    launches = compare(case)
    needs = {target: [compiled(each.kernel, target) for each in launches] for target in TARGETS}
    every = [each for own in needs.values() for each in own]
    return Row(
        case,
        len(launches),
        sum(each.traffic for each in launches) / torch.Size(case.size).numel(),
        tuple(max(each.registers for each in own) for own in needs.values()),
        sum(each.spilled for each in every),
        min(each.occupancy for each in every),
    )


def write_table(rows: Sequence[Row]) -> None:
    before, rest = PAGE.read_text("utf-8").split(BEGIN)
    lines = [HEAD, ["---"] * len(HEAD), *(each.cells() for each in rows)]
    table = "".join(f"| {' | '.join(line)} |\n" for line in lines)
    PAGE.write_text(before + BEGIN + table + END + rest.split(END)[1], "utf-8")
