"""Constant numbers from NumPy files beside a spec."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from danetc.compiler import check_file, check_text, graph_of
from danetc.compiler.emit.fx import emit
from danetc.compiler.emit.python import emit_python
from danetc.compiler.frontend.resolved import resolved_spec
from danetc.dsl.diagnostics.diagnostic import SpecError
from tests.differential.helpers import randn

SPEC = """use std
network net {{
  input = events(3, 4, 5); steps = 2; neuron = IF; surrogate = atan
  out = {}
}}
"""


def written(folder: Path, line: str) -> str:
    folder.mkdir(exist_ok=True)
    (folder / "net.danet").write_text(SPEC.format(line))
    return str(folder / "net.danet")


def test_a_table_is_the_array_and_the_spec_of_a_directory_contains_it(tmp_path: Path) -> None:
    numbers = np.random.default_rng(0).normal(size=(3, 4, 5)).astype(np.float32)
    gains = np.array([2, -1, 4], np.int8).reshape(3, 1, 1)
    np.save(tmp_path / "numbers.npy", np.asfortranarray(numbers))
    np.savez(tmp_path / "two.npz", gains=gains, other=np.zeros(3))
    line = 'in * table("two.npz", "gains") + table("numbers.npy")'
    checked = check_file(written(tmp_path, line))
    graph = graph_of(checked)
    text = resolved_spec(checked)
    for path in tmp_path.iterdir():
        path.unlink()
    assert graph_of(check_text(text)) == graph
    assert resolved_spec(check_text(text)) == text
    file: dict[str, Any] = {}
    exec(compile(emit_python(graph), "model.py", "exec", dont_inherit=True), file)
    model, fused = emit(graph).double(), emit(graph, 0, "fused").double()
    assert [*model.state_dict()] == ["table1.numbers", "table2.numbers"]
    assert not [*model.parameters()]
    x = randn(2, 3, 3, 4, 5)
    expected = x.numpy() * gains.astype(np.float64) + numbers
    for made in (model, fused, file["Model"]().double()):
        assert np.allclose(made(x).numpy(), expected, rtol=1e-15, atol=1e-15)


def wrong_files(folder: Path) -> None:
    """Files of every kind that is refused, and one outside of the folder."""
    np.save(folder.parent / "outside.npy", np.ones(3))
    (folder / "link.npy").symlink_to(folder.parent / "outside.npy")
    np.save(folder / "pickled.npy", np.array([{}], dtype=object), allow_pickle=True)
    np.save(folder / "large.npy", np.ones((3, 200, 100)))
    np.save(folder / "many.npy", np.ones(2**15 + 1, np.int8))
    np.save(folder / "matrix.npy", np.ones((3, 4)))
    np.save(folder / "infinite.npy", np.full(3, np.inf))
    np.save(folder / "complex.npy", np.ones(3, complex))
    np.savez(folder / "two.npz", a=np.ones(3), b=np.ones(3))
    np.savez_compressed(folder / "bomb.npz", a=np.zeros((3, 1000, 1000)))
    np.save(folder / "whole.npy", np.ones(3))
    whole = (folder / "whole.npy").read_bytes()
    (folder / "cut.npy").write_bytes(whole[:-8])
    (folder / "huge.npy").write_bytes(whole.replace(b"(3,), }      ", b"(9999999,), }"))
    (folder / "text.npy").write_text("1 2 3")
    (folder / "text.npz").write_text("1 2 3")


@pytest.mark.parametrize(
    ("call", "words"),
    [
        ('"missing.npy"', "cannot be read"),
        ('"folder.npy/../../outside.npy"', "outside of the spec's folder"),
        ('"../outside.npy"', "outside of the spec's folder"),
        ('"/etc/outside.npy"', "outside of the spec's folder"),
        ('"link.npy"', "outside of the spec's folder"),
        ('"table.txt"', "is not a .npy or .npz file"),
        ('"pickled.npy"', "has no real numbers but object"),
        ('"complex.npy"', "has no real numbers but complex128"),
        ('"cut.npy"', "is not a .npy file of numpy"),
        ('"huge.npy"', "has the shape (9999999,)"),
        ('"text.npy"', "is not a .npy file of numpy"),
        ('"text.npz"', "is not a .npz file of numpy"),
        ('"large.npy"', "has the shape (3, 200, 100)"),
        ('"many.npy"', "has the shape (32769,)"),
        ('"bomb.npz"', "is larger than 1 MiB"),
        ('"matrix.npy"', "has the shape (3, 4)"),
        ('"infinite.npy"', "not finite"),
        ('"two.npz"', "has several arrays"),
        ('"two.npz", "c"', "no such array"),
        ('"f8:3:AAAA"', "does not hold 3 finite numbers"),
        ('"f8:1:AAAAAAAA8H8="', "does not hold 1 finite numbers"),
        ("3", "takes a path in quotes"),
        ("", "takes a path in quotes"),
    ],
)
def test_what_is_no_table_is_refused(tmp_path: Path, call: str, words: str) -> None:
    path = written(tmp_path / "specs", f"in * table({call})")
    wrong_files(tmp_path / "specs")
    with pytest.raises(SpecError) as caught:
        check_file(path)
    (found,) = caught.value.diagnostics
    assert found.code == "E0509"
    assert found.hint
    assert words in found.message


def test_a_table_must_fit_its_value(tmp_path: Path) -> None:
    np.save(tmp_path / "four.npy", np.ones((4, 1, 1)))
    with pytest.raises(SpecError) as caught:
        check_file(written(tmp_path, 'in * table("four.npy")'))
    assert caught.value.diagnostics[0].code == "E0501"
