"""Compiles kernels for real GPUs, without one, and reads what they need of the hardware."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import NamedTuple

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from tests.gpu.modules import Kernel

TARGETS = {
    "sm_80": GPUTarget("cuda", 80, 32),
    "sm_90": GPUTarget("cuda", 90, 32),
    "gfx942": GPUTarget("hip", "gfx942", 64),
}
"""A100, H100 and MI300X."""
CUOBJDUMP = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"


class Needs(NamedTuple):
    """Registers of a thread, bytes of a thread that do not fit in them, and the share of all threads that a
    multiprocessor holds at once."""

    registers: int
    spilled: int
    occupancy: float


def compiled(kernel: Kernel, target: str) -> Needs:
    """Compile a kernel in its first configuration, with the options that Inductor passes to Triton."""
    launcher = kernel.launcher
    meta, config = launcher.triton_meta, launcher.configs[0]
    names = list(kernel.signature)
    constants = {(names.index(n),): value for n, value in {**meta["constants"], **config.kwargs}.items()}  # fmt: skip
    source = ASTSource(launcher.fn, kernel.signature, constants, meta["configs"][0])
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
        return Needs(registers, 4 * sum(spills) + scratch, waves / 8)
    with NamedTemporaryFile(suffix=".cubin") as file:
        file.write(made.asm["cubin"])
        file.flush()
        told = subprocess.check_output([CUOBJDUMP, "-res-usage", file.name], text=True)
    registers, stack, local = (
        int(re.findall(rf"{name}:(\d+)", told)[-1]) for name in ("REG", "STACK", "LOCAL")
    )
    blocks = 65536 // (-(-registers * 32 // 256) * 256 * config.num_warps)
    return Needs(registers, stack + local, min(64, blocks * config.num_warps) / 64)
