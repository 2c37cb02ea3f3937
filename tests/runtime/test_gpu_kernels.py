"""The code that Inductor writes for a GPU. The tests inspect it without running it."""

import re
from pathlib import Path
from unittest import mock

import pytest
import torch

from danetc.runtime.kernels import compiled as compiler
from danetc.runtime.kernels.bit_packing import _packing, _unpacking
from danetc.runtime.kernels.compiled import CompiledFunction, missing_compiler
from danetc.runtime.kernels.fusion_group import Term, fusion_kernel
from tests.runtime.conftest import compile_text
from tests.runtime.triton_source import H100, on_gpu, pretended, triton_kernels, written

pytestmark = pytest.mark.skipif(
    missing_compiler("cpu") is not None, reason="Inductor is not known to work here"
)
TERMS = (Term(normed=True, static=False), Term(normed=False, static=False))
STEPS, BATCH, CHANNELS, LENGTH = 4, 6, 64, 196

PER_STEP = """neuron scaled {
  state u = 0.0
  v = u / 2 + x * learn(1.0, per = channel, per_step = true)
  s = heaviside(v - 1)
  u = v * (1 - s)
}"""
NEURONS = (
    ("LIF", 4, 0), ("ALIF", 16, 0), ("PLIF", 4, 1), ("PLIF_soft", 4, 1), ("SlidingPSN", 4, 3),
    (PER_STEP, 4, 4),
)  # fmt: skip


@pytest.mark.thorough
@pytest.mark.parametrize("last", [False, True], ids=["NCHW", "channels last"])
@pytest.mark.parametrize(("neuron", "steps", "sums"), NEURONS)
def test_a_fusion_group_is_one_kernel(neuron: str, steps: int, sums: int, last: bool) -> None:
    """Traffic is minimal for two bfloat16 terms: 6 bytes per value and step forward, 8 backward, and 4 for
    each sum of a learnt parameter's gradient. No index is divided by an unknown size."""
    program = compile_text(neuron)
    text = program.text()
    shape = (BATCH, LENGTH, CHANNELS) if last else (BATCH, CHANNELS, LENGTH)
    column = (CHANNELS,) if last else (CHANNELS, 1)
    values = [on_gpu(steps, *shape) for _ in TERMS]
    affine = [on_gpu(*column, dtype=torch.float32) for _ in range(2)]
    params = []
    for item in program.learnables:
        own = on_gpu(*(() if item.is_scalar else column), dtype=torch.float32)
        params += [own] * (steps if item.per_step else 1)
    group = fusion_kernel(text, (Term(normed=False, static=False),) * 2, steps)
    (backward,) = triton_kernels(group.backward, [on_gpu(steps, *shape), *values, *params])
    assert backward.traffic() == 8 * steps + 4 * sums
    kernels = [backward]
    if not last:
        forward = fusion_kernel(text, TERMS, steps).forward
        kernels += triton_kernels(forward, [*values, *affine, *params])
        assert [kernel.traffic() for kernel in kernels[1:]] == [6 * steps]
    for kernel in kernels:
        assert kernel.index_arithmetic() <= {str(CHANNELS), str(LENGTH)}


def test_a_kernel_is_named_by_all_that_its_code_depends_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """The name covers the device properties, the settings and the torch state that Inductor reads."""
    from torch._inductor import config
    from torch._inductor.codegen.triton import TritonKernel
    from torch._inductor.runtime.hints import DeviceProperties

    kernel = fusion_kernel(compile_text("LIF").text(), TERMS, STEPS).forward
    x = on_gpu(1, 1, 1, 1)
    assert isinstance(kernel, CompiledFunction)

    def place() -> Path:
        return compiler._place(kernel, [x])

    with pretended():
        first = place()
        create = DeviceProperties.create.__wrapped__  # type: ignore[attr-defined]
        seen = create(DeviceProperties, x.device)
        for name in vars(H100):
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(H100, name, "gfx942" if name == "gcnArchName" else 7)
                if create(DeviceProperties, x.device) != seen or name == "gcnArchName":
                    assert place() != first, name
        names = config.get_config_copy()
        meta = TritonKernel.inductor_meta_common()
        own = {"backend_hash", "force_disable_caches", "are_deterministic_algorithms_enabled"}
        for name in meta.keys() - own:
            (entry,) = (
                each for each in names if each in (name, f"triton.{name}", f"test_configs.{name}")
            )
            with config.patch({entry: not names[entry]}):
                assert place() != first, entry
        monkeypatch.setattr(torch.version, "hip", "7.0")
        assert place() != first
        monkeypatch.undo()
        torch.use_deterministic_algorithms(True)
        try:
            assert place() != first
            assert kernel.key([x])[-1] is True
        finally:
            torch.use_deterministic_algorithms(False)
        assert place() == first


@pytest.mark.parametrize("fma", [False, True])
def test_products_and_sums_are_rounded_one_by_one_unless_asked(
    monkeypatch: pytest.MonkeyPatch, fma: bool
) -> None:
    monkeypatch.setattr(compiler, "FMA", fma)
    kernel = CompiledFunction(lambda x, a: (x * a + a,), "x a + a", (True,), "x a + a")
    text = written(kernel, [on_gpu(1, 2, 3, 4), on_gpu(dtype=torch.float32)])
    assert f"'enable_fp_fusion': {fma}" in text
    assert f"'enable_fp_fusion': {not fma}" not in text


def test_code_moves_to_another_device() -> None:
    """Ranks share the code of a kernel, which names its device in several places. It is traced once."""
    kernel = fusion_kernel(compile_text("IF").text(), TERMS, 1).forward
    assert isinstance(kernel, CompiledFunction)
    traced = mock.patch.object(kernel, "function", wraps=kernel.function)
    texts = []
    for index in (0, 3):
        shapes = [(1, 2, 8, 4)] * 2 + [(8, 1)] * 2
        args = [on_gpu(*shape, dtype=torch.float32, index=index) for shape in shapes]
        with traced as function:
            texts.append(written(kernel, args))
        function.assert_called_once()
    assert texts[0] != texts[1]
    plain = [re.sub(r" *#.*", "", text) for text in map(compiler.on_device, texts, (3, 3))]
    assert plain[0] == plain[1]


@pytest.mark.thorough
@pytest.mark.parametrize("last", [False, True], ids=["NCHW", "channels last"])
def test_indices_of_2_to_the_31_values_have_64_bits(last: bool) -> None:
    group = fusion_kernel(compile_text("LIF").text(), (Term(False, False),), STEPS)
    keys = set()
    for batch, bits in ((BATCH, 32), (2**31 // (STEPS * CHANNELS * LENGTH) + 1, 64)):
        shape = (batch, LENGTH, CHANNELS) if last else (batch, CHANNELS, LENGTH)
        x = on_gpu(STEPS, *shape)
        (kernel,) = triton_kernels(group.backward, [x, x])
        assert f"'xnumel': 'i{bits}'" in kernel.text
        assert ("tl.program_id(0).to(tl.int64)" in kernel.text) == (bits == 64)
        assert ("tl.arange(0, XBLOCK)[:].to(tl.int64)" in kernel.text) == (bits == 64)
        keys.add(group.backward.key([x, x]))
    assert len(keys) == 2


@pytest.mark.thorough
@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_packing_is_one_kernel(bits: int) -> None:
    scalar = on_gpu(dtype=torch.float32)
    for kernel, rows, dtype in (
        (_packing(bits), 8, torch.bfloat16),
        (_unpacking(bits, torch.bfloat16), bits, torch.uint8),
    ):
        (made,) = triton_kernels(kernel, [on_gpu(rows, 1, 1, 1000, dtype=dtype), scalar, scalar])
        assert made.traffic() == 16 + bits
