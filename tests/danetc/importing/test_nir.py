"""Files of NIR: what `danetc export` writes comes back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import danetc
from danetc.compiler import check_text, graph_of
from danetc.compiler.analysis.equivalence import Same, compare_graphs
from danetc.compiler.emit.nir import emit_nir
from danetc.errors import UserError

nir = pytest.importorskip("nir")

SPEC = """
use std
connection bare {{ each = conv -> spike; last = conv; projection = conv; out = (branch + shortcut) -> spike }}
network drawn {{
  input = image(2, 12, 12)
  steps = 3
  neuron = {neuron}
  surrogate = atan
  stem = conv(4, bias = true) -> spike
  stages = stage(basic(4), 3) via bare by {rule} -> stage(basic(8), 2, stride = 2) via bare by {rule}
  head = avgpool -> linear(5)
}}
"""


def written(tmp_path: Path, neuron: str = "IF", rule: str = "chain") -> tuple[str, Path]:
    text = SPEC.format(neuron=neuron, rule=rule)
    model = danetc.build(text=text, backend="eager")
    with torch.no_grad():  # so that something fires
        for value in model.parameters():
            value.mul_(8.0)
    graph = graph_of(check_text(text))
    arrays = {name: value.numpy() for name, value in model.state_dict().items()}
    path = tmp_path / "drawn.nir"
    nir.write(str(path), emit_nir(graph, arrays))
    return text, path


@pytest.mark.parametrize(
    ("neuron", "rule"),
    [
        ("IF(v_threshold = 0.8)", "chain"),
        ("LIF(tau = 3.0)", "chain"),
        ("LIF(v_rest = -0.5)", "densely_additive"),
    ],
)
def test_what_is_exported_comes_back(tmp_path: Path, neuron: str, rule: str) -> None:
    text, path = written(tmp_path, neuron, rule)
    found = danetc.import_network(path, samples=20)
    assert found.agreement.own_weights
    assert found.agreement.deviation > 0.01
    assert isinstance(
        compare_graphs(check_text(text).graphs["drawn"], check_text(found.text).graphs["drawn"]),
        Same,
    )


def test_a_file_says_how_long_its_steps_are(tmp_path: Path) -> None:
    """Leaks are ratios of time constants to steps: of steps twice as long, half the tau."""
    _, path = written(tmp_path, "LIF(tau = 3.0)")
    graph = nir.read(str(path))
    graph.metadata = {"dt": 2e-4}
    nir.write(str(path), graph)
    found = danetc.import_network(path, samples=20)
    assert found.agreement.deviation > 0.01
    assert "LIF(tau = 1.5)" in found.text


def test_what_differs_between_neurons_is_refused(tmp_path: Path) -> None:
    _, path = written(tmp_path)
    graph = nir.read(str(path))
    name = next(name for name, node in graph.nodes.items() if isinstance(node, nir.IF))
    graph.nodes[name].v_threshold = np.random.default_rng(0).random(
        graph.nodes[name].v_threshold.shape
    )
    nir.write(str(path), graph)
    with pytest.raises(UserError, match="its threshold differs from neuron to neuron"):
        danetc.import_network(path, samples=4)


def test_files_that_are_none_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "net.nir"
    with pytest.raises(UserError, match="no file"):
        danetc.import_network(path)
    path.write_bytes(b"no graph")
    with pytest.raises(UserError, match="cannot be read as NIR"):
        danetc.import_network(path)
