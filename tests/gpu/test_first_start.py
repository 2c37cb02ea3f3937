"""The first start: several processes trace and compile kernels for a CPU and, up to machine code, sm_90."""

import io
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from danetc.runtime.kernels import bit_packing, compiled, workers
from danetc.runtime.kernels import torch_internals as internals
from danetc.runtime.kernels.compiled import missing_compiler
from danetc.runtime.kernels.prefetch import KernelRequest
from tests.runtime.triton_source import on_gpu, pretended

BITS = {torch.float32: 1, torch.float64: 2, torch.bfloat16: 1, torch.float16: 2}


def requests(make: Callable[..., Tensor]) -> list[KernelRequest]:
    """Two kernels for two types each."""
    number = make(dtype=torch.float32)
    return [
        KernelRequest(bit_packing._packing(bits), (make(8, 1, 1, 16, dtype=dtype), number, number))
        for dtype, bits in BITS.items()
    ]


def on_cpu(*shape: int, dtype: torch.dtype) -> Tensor:
    return torch.ones(shape, dtype=dtype)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DANETC_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(workers, "MOST", 2)
    bit_packing._packing.cache_clear()
    return tmp_path


@pytest.mark.thorough
@pytest.mark.skipif(missing_compiler("cpu") is not None, reason="no C++ compiler")
def test_processes_leave_kernels_that_compute_the_same(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiled, "_compiled", lambda *rest: pytest.fail("compiled here"))
    todo = requests(on_cpu)
    workers.compile_elsewhere(todo)
    for request in todo:
        assert request.kernel.load(request.args)
        (found,) = request.kernel._runs[request.kernel.key(request.args)](*request.args)
        assert torch.equal(found, request.kernel.function(*request.args)[0])


@pytest.mark.parametrize(
    ("program", "reason"),
    {
        "import sys; sys.exit('no such device')": "no such device",
        "input(); input()": "it takes longer than 0 s",
    }.items(),
)
def test_where_processes_fail_this_one_compiles(
    cache: Path, monkeypatch: pytest.MonkeyPatch, program: str, reason: str
) -> None:
    other = partial(subprocess.Popen, [sys.executable, "-c", program])
    monkeypatch.setattr(subprocess, "Popen", lambda command, **rest: other(**rest))
    if "longer" in reason:
        monkeypatch.setattr(workers, "PATIENCE", 0.0)
    internals.notice.cache_clear()
    with pytest.warns(RuntimeWarning, match=f"failed; this one takes over: {reason}$"):
        workers.compile_elsewhere(requests(on_cpu))


@pytest.mark.thorough
def test_triton_compiles_what_another_gpu_loads(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each worker runs in this process, since a separate one would find no GPU; none loads machine code."""
    pytest.importorskip("triton")

    class Here:
        returncode = 0

        def __init__(self, command: Any, **rest: Any) -> None:
            assert command[1:] == ["-P", "-m", "danetc.runtime.kernels.workers"]
            self.stdin = io.BytesIO()

        def communicate(self, timeout: float) -> tuple[bytes, bytes]:
            self.stdin.seek(0)
            monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=self.stdin))
            workers.main()
            return b"", b""

    own = SimpleNamespace(**{**vars(subprocess), "Popen": Here})
    monkeypatch.setattr(workers, "subprocess", own)
    heuristics = "torch._inductor.runtime.triton_heuristics"
    missing = {
        "torch._inductor.runtime.triton_helpers.set_driver_to_gpu": lambda: None,
        "torch._C._cuda_getCurrentRawStream": lambda index: 0,
        f"{heuristics}.CachingAutotuner._make_launchers": lambda self: None,
    }
    monkeypatch.setattr(compiled, "_notice_failed", lambda *reason: pytest.fail(str(reason)))
    with pretended(missing):
        workers.compile_elsewhere(requests(on_gpu))
        made = {*cache.rglob("*.cubin")}
        assert len(made) >= 4
        bit_packing._packing.cache_clear()
        for request in requests(lambda *shape, dtype: on_gpu(*shape, dtype=dtype, index=3)):
            with compiled.making_kernels():
                assert request.kernel.load(request.args)
    assert {*cache.rglob("*.cubin")} == made
