"""GPU kernels are interpreted and compared with the references, given faults, and compiled."""

import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import pytest
import torch

pytest.importorskip("triton", reason="Triton, an extra for tests on Linux, is not installed")

from danetc.compiler.emit.inference import fold
from tests.differential.helpers import randn, streamed, text
from tests.differential.networks import small
from tests.gpu.cases import DTYPES, FORMS, SIZES, Case, Different, compare, covering, standard
from tests.gpu.compilers import TARGETS, compiled
from tests.gpu.interpreter import Broken, Launch, interpreted
from tests.runtime.test_fused import both, compare_models

EACH = [
    Case(name, [*FORMS][i % len(FORMS)], DTYPES[i % 4], 2 + i % 2, bool(i // 2 % 2), SIZES[i % 5])
    for i, name in enumerate(name for name in standard() if " per " not in name)
]
"""Each neuron of the standard library, and each form."""


@pytest.mark.parametrize(
    "case",
    [pytest.param(case, marks=[pytest.mark.thorough] * (i % 8 > 0)) for i, case in enumerate(EACH)],
    ids=str,
)
def test_a_layer_is_what_both_references_compute(case: Case) -> None:
    compare(case)


@pytest.mark.thorough
@pytest.mark.parametrize("part", range(12))
def test_another_layer_is_too(part: int) -> None:
    """``make gpu-check`` runs all cases."""
    compare(covering()[part::12][5])


@pytest.mark.thorough
@pytest.mark.parametrize("mode", ["trained", "evaluated", "folded", "streamed"])
def test_a_network_is_the_eager_one(mode: str) -> None:
    """In float64; the kernels of a network take each other's outputs."""
    graph = text(small(settings="neuron = PLIF"))
    eager, fused = both(graph)
    x = randn(2, 3, 8, 8)
    with interpreted() as interpreter:
        if mode in ("trained", "evaluated"):
            compare_models(eager.train(mode == "trained"), fused.train(mode == "trained"), x)
        else:
            found = (
                fold(fused)(x)
                if mode == "folded"
                else torch.stack(streamed(fused.eval(), [x] * graph.steps)).mean(0)
            )
            torch.testing.assert_close(found, eager.eval()(x))
    assert len(interpreter.launches) > 5


# -- faults ----------------------------------------------------------------------------------------

LIF = Case("LIF", "norm + value", torch.bfloat16)
PLIF = Case("PLIF", "norm + value")
LONG = Case("LIF", "value", torch.bfloat16, size=SIZES[2])
BFLOAT16 = r"(\1).to(tl.bfloat16).to(tl.float32)\n"
FAULTS = {
    "sign": (LIF, r"(= tmp\d+) - (tmp\d+\n    tmp\d+ = tmp\d+ \* tmp)", r"\1 + \2"),
    "mask of a load": (LIF, r"(tl\.load\(in_ptr\d \+ \(x3\)), xmask", r"\1"),
    "mask of a load in a sum": (PLIF, r"(tl\.load\(.*), r0_mask & xmask,.*(\)\n)", r"\1\2"),
    "mask of a store": (LIF, r"(tl\.store\(.*), xmask", r"\1, None"),
    "stride": (LIF, r"(x3 \+ )49\*ks0", r"\g<1>48*ks0"),
    "stride of the channels": (LIF, r"xindex // 7", r"xindex // 6"),
    "current in bfloat16": (LIF, r"(?<== )(tmp\d+ \+ tmp\d+)\n", BFLOAT16),
    "sum in bfloat16": (PLIF, r"(?<== )(_tmp\d+ \+ tmp\d+)\n", BFLOAT16),
    "state without its reset": (LIF, r"( - tmp\d+\n    tmp\d+ = tmp\d+) \* tmp\d+\n", r"\1\n"),
    "state of no step": (LIF, r"(>= [\s\S]*?= )tmp\d+ \+ (tmp\d+\n    tmp\d+ = tmp\d+ >=)", r"\1\2"),
    "input of the step before": (LIF, r"x3 \+ 49\*ks0\), xmask\)", r"x3), xmask)"),
    "no output of a step": (LIF, r"    tl\.store\(.*\n(?=    tl\.store)", ""),
    "programs that overlap": (LONG, r"tl\.program_id\(0\) \* XBLOCK", r"tl.program_id(0) * 8"),
}  # fmt: skip


@pytest.mark.parametrize(
    "fault",
    [pytest.param(f, marks=[pytest.mark.thorough] * (FAULTS[f][0] is not LIF)) for f in FAULTS],
)
def test_a_fault_in_the_text_of_a_kernel_is_noticed(fault: str) -> None:
    case, pattern, other = FAULTS[fault]
    changed: list[int] = []

    def change(text: str) -> str:
        if "rsqrt" in text:  # it computes the scale of the norm
            return text
        found, count = re.subn(pattern, other, text, count=1)
        changed.append(count)
        return found

    with pytest.raises((Broken, Different)):
        compare(case, change)
    assert sum(changed)


# -- compiled for real GPUs, and the bytes that kernels move -----------------------------------------

SIZE = (1, 16, 64, 16)
GROUP = Case("LIF", "norm + value", torch.bfloat16, steps=4, size=SIZE)


@cache
def launches(last: bool) -> Sequence[Launch]:
    return compare(GROUP._replace(last=last))


@pytest.mark.thorough
@pytest.mark.parametrize("last", [False, True])
def test_a_fusion_group_reads_each_value_once(last: bool) -> None:
    """In bfloat16 with T = 4, a norm and a value together take 8 bytes per value for the statistics, 24
    forward, 24 for the sums of the norm's gradient, and 40 backward."""
    values = torch.Size(SIZE).numel()
    passes = [each for each in launches(last) if each.traffic > values]
    assert [each.traffic // values for each in passes] == [8, 24, 24, 40]
    for launch in passes:
        pointers = {name for name, kind in launch.kernel.signature.items() if kind[0] == "*"}
        assert pointers <= launch.kernel.divisible()


@pytest.mark.thorough
@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("target", TARGETS)
def test_a_fusion_group_compiles(
    target: str, last: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    for launch in launches(last):
        needs = compiled(launch.kernel, target)
        assert needs.spilled == 0
        assert 0 < needs.registers <= 128
        assert needs.occupancy >= 0.25
