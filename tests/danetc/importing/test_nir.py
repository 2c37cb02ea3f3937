"""NIR files: import restores what `danetc export` writes."""

from __future__ import annotations

import re
import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import danetc
from danetc.compiler import check_text, graph_of
from danetc.compiler.analysis.equivalence import Same, compare_graphs
from danetc.compiler.emit.nir import emit_nir
from danetc.errors import UserError
from danetc.tasks.importing.nir_file import _field
from tests.compiler.emit.test_nir import PLAIN, played

nir = pytest.importorskip("nir")
nirtorch = pytest.importorskip("nirtorch")
h5py = pytest.importorskip("h5py")

SPEC = """
use std
connection bare {{ each = conv -> spike; last = conv; projection = conv; out = (branch + shortcut) -> spike }}
network drawn {{
  input = image(2, 12, 12); steps = 3; neuron = {neuron}; surrogate = atan
  stem = conv(4, bias = true) -> spike
  stages = stage(basic(4), 3) via bare by {rule} -> stage(basic(8), 2, stride = 2) via bare by {rule}
  head = avgpool -> linear(5)
}}
"""


def written(tmp_path: Path, neuron: str = "IF", rule: str = "chain") -> tuple[str, Path]:
    text = SPEC.format(neuron=neuron, rule=rule)
    model = danetc.build(text=text, backend="eager")
    with torch.no_grad():  # so that neurons fire
        for value in model.parameters():
            value.mul_(8.0)
    graph = graph_of(check_text(text))
    arrays = {name: value.numpy() for name, value in model.state_dict().items()}
    path = tmp_path / "drawn.nir"
    nir.write(str(path), emit_nir(graph, arrays))
    return text, path


def agrees_with_nirtorch(path: Path, found: danetc.ImportedNetwork) -> None:
    graph = found.found.graph
    size = (20, *graph.input.value.shape)
    x = 2 * torch.randn(size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        plain = nirtorch.nir_to_torch(nir.read(path), PLAIN)
        wanted = played(plain, graph, x)
        assert wanted.std() > 0.01
        torch.testing.assert_close(found.model.eval()(x), wanted, rtol=1e-5, atol=1e-5)


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
    agrees_with_nirtorch(path, found)
    graphs = (check_text(each).graphs["drawn"] for each in (text, found.text))
    assert isinstance(compare_graphs(*graphs), Same)


def test_a_file_says_how_long_its_steps_are(tmp_path: Path) -> None:
    """Leaks are ratios of time constants to steps, so steps twice as long halve the tau."""
    _, path = written(tmp_path, "LIF(tau = 3.0)")
    graph = nir.read(str(path))
    graph.metadata = {"dt": 2e-4}
    nir.write(str(path), graph)
    found = danetc.import_network(path, samples=20)
    assert found.agreement.deviation > 0.01
    assert "LIF(tau = 1.5)" in found.text


@pytest.fixture(scope="module")
def intact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("nir"), "LIF")[1]


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        ("nodes/stem.conv/groups", np.array([1, 1]), "stem.conv: its groups has the shape (2,)"),
        ("nodes/stem.conv/stride", 0, "stem.conv: its stride is 0; whole numbers 1 to 65536 are"),
        ("nodes/stem.conv/padding", -1, "stem.conv: its padding is -1; whole numbers 0 to 65536 are"),
        ("nodes/stem.conv/groups", 1.5, "stem.conv: its groups is 1.5; whole numbers 1 to 65536 are"),
        ("nodes/stem.conv/padding", "circular", "stem.conv: its padding is an array of"),
        ("nodes/stem.conv/type", "Sin", "stem.conv: a Sin of NIR is not read; these are: Input, "),
        ("nodes/stem.spike/v_leak", np.ones((4, 12, 12)), "stem.spike: it decays to another potential"),
        ("nodes/stem.spike/v_threshold", np.arange(1, 577).reshape(4, 12, 12), "stem.spike: its v_threshold differs from"),
        ("nodes/output/type", "Input", "2 inputs and 0 outputs; one of each is read"),
        ("nodes/input/shape", np.array([2, 12]), "input: its shape is [2, 12]; (channels, height, width)"),
        ("edges", np.array([["input", "nowhere"]], "S"), "edges: input -> nowhere connects a node that"),
        ("edges", np.array([["input", "stem.conv"], ["stem.conv", "stem.conv"]], "S"), "stem.conv -> stem.conv is a loop"),
        ("edges", np.array([["input", "output"]], "S"), "is not connected"),
        ("nodes/stem.conv/bias", np.zeros(0), "stem.conv: its bias is an array of float64 of the shape (0,)"),
        ("nodes/stem.conv/bias", np.zeros((2, 2)), "stem.conv: its bias has the shape (2, 2), which does not fit its input"),
        ("nodes/stem.conv/bias", None, "stem.conv: it has no bias"),
        ("nodes/stem.conv/stride", np.ones(4), "stem.conv: its stride has the shape (4,)"),
        ("nodes/stem.conv/type", None, "stem.conv: it has no type"),
        ("nodes/head.linear/weight", np.full((5, 8), np.nan), "head.linear: its weight is an array of float64 of the shape (5, 8), where finite"),
        ("nodes/stem.spike/r", np.ones((4, 1)), "stem.spike: its r has the shape (4, 1), which does not fit its input, (4, 12, 12)"),
        ("edges", np.zeros(3), "cannot be read as NIR"),
        ("metadata/dt", 0.0, "metadata: its dt is 0.0; the seconds of a time step are above 0"),
        ("metadata/steps", 1e12, "metadata: its steps is 1000000000000.0; whole numbers 1 to 10000 are read"),
    ],
)  # fmt: skip
def test_errors_name_file_node_and_field(
    place: str, value: object, message: str, intact: Path, tmp_path: Path
) -> None:
    path = Path(shutil.copy(intact, tmp_path))
    with h5py.File(path, "a") as file:
        if f"node/{place}" in file:
            del file[f"node/{place}"]
        if value is not None:
            file.create_dataset(f"node/{place}", data=value)
    with pytest.raises(UserError, match=re.escape(message)):
        danetc.import_network(path, samples=4)


@pytest.mark.parametrize("kind", ["float16", ">f4", "float64", "int16"])
def test_only_short_floats_are_single(kind: str) -> None:
    single = kind in ("float16", ">f4")
    assert _field(np.ones(2, kind), "a", "bias").dtype == ("float32" if single else "float64")


def test_files_that_are_not_nir_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "net.nir"
    with pytest.raises(UserError, match="no file"):
        danetc.import_network(path)
    path.write_bytes(b"no graph")
    with pytest.raises(UserError, match="cannot be read as NIR"):
        danetc.import_network(path)


def read(path: Path, graph: Any, steps: int) -> str:
    nir.write(path, graph)
    found = danetc.import_network(path, steps=steps, samples=20)
    assert found.agreement.difference < 1e-6
    agrees_with_nirtorch(path, found)
    return " ".join(found.text.split())


def test_a_loop_and_a_sum_pooling_are_read(tmp_path: Path) -> None:
    """The output of the loop's last node is 0 at the first step, although that node has a bias."""
    drawn = np.random.default_rng(0)
    ones = np.ones(36)
    nodes = {
        "input": nir.Input(np.array([4, 6, 6])),
        "pool": nir.SumPool2d(np.array([2, 2]), np.array([2, 2]), np.array([0, 0])),
        "flat": nir.Flatten({"input": np.array([4, 3, 3])}, -3, -1),
        "fires": nir.LIF(tau=3e-4 * ones, r=ones, v_leak=0 * ones, v_threshold=ones),
        "last": nir.Linear(drawn.normal(size=(5, 36))),
        "output": nir.Output(np.array([5])),
        "again": nir.Affine(drawn.normal(size=(36, 36)), drawn.normal(size=36)),
    }
    edges = [*pairwise([*nodes][:-1]), ("fires", "again"), ("again", "fires")]
    text = read(tmp_path / "loop.nir", nir.NIRGraph(nodes, edges, type_check=False), steps=5)
    assert "h1 -> delay(1)" in text
    assert "4 * (in -> avgpool(2))" in text


def test_each_kind_of_node_is_read(tmp_path: Path) -> None:
    """The nodes include a named padding, an integrator, and a factor that is not part of weights."""
    drawn = np.random.default_rng(0)
    weight = drawn.normal(size=(4, 2, 3, 3))
    ones = np.ones((4, 3, 3))
    nodes = {
        "input": nir.Input(np.array([2, 6, 6])),
        "conv": nir.Conv2d((6, 6), weight, 1, "same", 1, 1, np.zeros(4)),
        "pool": nir.AvgPool2d(np.array([2, 2]), np.array([2, 2]), np.array([0, 0])),
        "fires": nir.IF(r=2e4 * ones, v_threshold=ones),
        "flat": nir.Flatten({"input": np.array([4, 3, 3])}, 0, -1),
        "last": nir.Linear(drawn.normal(size=(5, 36))),
        "leaks": nir.LI(tau=3e-4 * np.ones(5), r=2 * np.ones(5), v_leak=np.zeros(5)),
        "output": nir.Output(np.array([5])),
    }
    text = read(tmp_path / "kinds.nir", nir.NIRGraph(nodes, [*pairwise([*nodes])]), steps=3)
    assert "block part { out = 2 * in }" in text
    assert "in -> conv(4) -> avgpool(2) -> part -> spike -> linear(5, bias = false) -> " in text
    assert "-> linear(5, bias = false) -> readout(tau = 3.0)" in text


@pytest.mark.parametrize("kind", ["external", "soft", "storage"])
def test_a_file_that_reads_from_another_is_refused(intact: Path, tmp_path: Path, kind: str) -> None:
    """HDF5 would read the bytes of any file as weights."""
    path = Path(shutil.copy(intact, tmp_path))
    (tmp_path / "secret").write_bytes(bytes(4096))
    with h5py.File(path, "a") as file:
        nodes = file["node/nodes"]
        node = next(each for each in nodes.values() if "weight" in each)
        shape, dtype = node["weight"].shape, node["weight"].dtype
        del node["weight"]
        if kind == "external":
            node["weight"] = h5py.ExternalLink(str(intact), node.name + "/weight")
        elif kind == "soft":
            node["weight"] = h5py.SoftLink("/elsewhere")
        else:
            secret = [(str(tmp_path / "secret"), 0, 10**6)]
            node.create_dataset("weight", shape, dtype, external=secret)
    with pytest.raises(UserError, match="weight lies elsewhere"):
        danetc.import_network(path)
