"""One axis of a network's stages is changed; what comes out is a network as if it were written."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from danetc.compiler import check_file, check_text, graph_of
from danetc.compiler.frontend.topology import TopologyError, restaged

MIXED = """\
use std

network mixed(width = 4) {
  input = image(3, 16, 16); neuron = IF; surrogate = sigmoid
  stem = conv(width) -> norm -> spike
  stages = resnet20[0 .. 1] via origin by densely_additive with (neuron = LIF) -> maxpool(2) -> stage(basic(8), 2) via sew
  head = avgpool -> linear(10)
}
network variant(width = 4) = mixed(width = width) { steps = 2 }
"""


@pytest.mark.parametrize(
    ("parts", "written"),
    [
        ({"rule": "chain"}, "resnet20(width = width) via origin by chain"),
        ({"connection": "sew"}, "resnet20(width = width) via sew by densely_additive"),
        ({"depth": "56"}, "resnet56(width = width) via origin by densely_additive"),
        ({"backbone": "resnet32"}, "resnet32(width = width) via origin by densely_additive"),
        (
            {"backbone": "resnet32(width = 8)", "connection": "origin(inter = LIF)"},
            "resnet32(width = 8) via origin(inter = LIF) by densely_additive",
        ),
    ],
)
def test_a_part_is_changed(parts: dict[str, str], written: str) -> None:
    checked = check_file("danet_c_r20")
    text = restaged(checked, "danet_c_r20", {}, parts)
    assert text == written
    graph_of(checked, None, {"stages": text, "width": 4})


def test_every_stage_is_changed_and_what_parts_them_stays() -> None:
    checked = check_text(MIXED)
    # `stages` stands in the base of the variant.
    text = restaged(checked, "variant", {}, {"rule": "chain", "connection": "baa"})
    assert text == (
        "resnet20[0 .. 1] via baa by chain with (neuron = LIF) -> maxpool(2) "
        "-> stage(basic(8), 2) via baa by chain"
    )
    text = restaged(checked, "mixed", {"stages": "resnet20[1 .. 2] via sew"}, {"depth": "32"})
    assert text == "resnet32[1 .. 2] via sew"


PLAIN = MIXED.split("  stem")[0] + "out = in -> avgpool -> linear(10) }"


@pytest.mark.parametrize(
    ("text", "settings", "parts", "message"),
    [
        (MIXED, {}, {"depth": "21"}, "there is no backbone `resnet21`; `resnet` has 18, 20, 32"),
        (MIXED, {"stages": "resnet20 by chain"}, {"connection": "sew"}, "has no connection"),
        (PLAIN, {}, {"rule": "chain"}, "no `stages`"),
        (PLAIN, {"stages": "conv(4) -> norm"}, {"rule": "chain"}, "not of the form"),
    ],
)
def test_what_cannot_be_changed_is_said(
    text: str, settings: dict[str, str], parts: dict[str, str], message: str
) -> None:
    with pytest.raises(TopologyError, match=message):
        restaged(check_text(text), "mixed", settings, parts)


@pytest.mark.thorough
def test_the_resolved_text_is_the_same_in_every_process() -> None:
    """Python gives sets of names another order in each process; a run that goes on compares it."""
    program = (
        "import sys; from danetc.compiler import check_text; "
        "from danetc.compiler.frontend.resolved import resolved_spec;"
        "print(resolved_spec(check_text(sys.argv[1]), 'variant', {'stages': sys.argv[2]}))"
    )
    texts = {
        subprocess.run(
            [sys.executable, "-c", program, MIXED, "resnet20 via baa by densely_additive"],
            env={**os.environ, "PYTHONHASHSEED": str(seed)},
            check=True,
            capture_output=True,
        ).stdout
        for seed in range(4)
    }
    assert len(texts) == 1
