"""Internals of torch: only one module uses them, and danetc works if any one is missing."""

import ast
import os
import re
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import pytest
import torch
from torch import Tensor

import danetc
from danetc.compiler.emit.fx import emit
from danetc.errors import UserError
from danetc.runtime.kernels import compiled as compiler
from danetc.runtime.kernels import torch_internals as internals
from danetc.runtime.kernels.compiled import CompiledFunction, missing_compiler
from danetc.runtime.kernels.fusion_group import fusion_kernel
from danetc.runtime.kernels.torch_internals import TABLE, InternalUse
from danetc.runtime.layers import inference
from danetc.runtime.layers.inference import InferenceConv2d
from danetc.runtime.layers.registered import has_hooks
from danetc.tasks.memory import plain_step, step_memory
from danetc.tasks.training.plan import backend_on
from tests.differential.helpers import randn, text
from tests.differential.networks import small
from tests.runtime.conftest import step
from tests.runtime.triton_source import uncompiled

HOME = "runtime/kernels/torch_internals.py"
ROWS = sorted(TABLE)
# -- one module ------------------------------------------------------------------------------------


OWN = "|".join(name for path in TABLE if (name := path.rpartition(".")[2]).startswith("_"))
PRIVATE = re.compile(
    r"\btorch[\w.]*\.(_[a-z]|experimental)|from torch\S* import .*\b_[a-z]"
    rf"|(?<!self)(?<!cls)\.({OWN})\b",
    re.IGNORECASE,
)
"""Private names of torch. (The experimental part of fx has no stable interface either.)"""


def private(program: str) -> list[str]:
    """The lines of a program that use a private name outside comments and strings."""
    tree = ast.parse(program)
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            node.value = ""
    return [line for line in ast.unparse(tree).splitlines() if PRIVATE.search(line)]


def test_one_module_uses_what_torch_keeps_for_itself() -> None:
    bad = ("import torch._dynamo", "from torch.fx.experimental import proxy_tensor",
           "from torch.utils import _pytree", "x = torch._C.get()", "y = x._version")  # fmt: skip
    assert private("\n".join(bad)) == [*bad]
    root = Path(danetc.__file__).parent
    files = [Path(at, name) for at, _, names in os.walk(root, followlinks=True) for name in names]
    sources = [path for path in files if path.suffix == ".py"]
    assert len(sources) > 200
    used = [path for path in sources if private(path.read_text("utf-8"))]
    assert [path.relative_to(root).as_posix() for path in used] == [HOME]


# -- one internal hidden ---------------------------------------------------------------------------


@pytest.fixture
def forget(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], None]]:
    """Clear the caches of lookups, notices and kernels before and after the test."""

    caches = internals.missing, internals.notice, internals.find, missing_compiler, fusion_kernel

    def clear() -> None:
        for cache in caches:
            cache.cache_clear()

    clear()
    monkeypatch.setattr(compiler, "DEVICES", ("cpu",))  # libraries use few internals
    yield clear
    clear()


@pytest.fixture
def hide(monkeypatch: pytest.MonkeyPatch, forget: Callable[[], None]) -> Callable[[str], None]:
    """Hide an internal of torch: its whole module for every second row, only its name for the others."""

    def hidden(name: str) -> None:
        use, module = TABLE[name]
        gone = f"{module}_gone" if ROWS.index(name) % 2 else "types"
        monkeypatch.setattr(internals, "TABLE", {**TABLE, name: (use, gone)})
        forget()

    return hidden


def double(x: Tensor) -> tuple[Tensor]:
    return (x * 2,)


def train_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """A network in which several layers save the same tensor agrees with the eager backend."""
    graph = text(small("stage(basic(4), 2) via origin by densely_additive"))
    x = randn(2, 3, 8, 8).float()
    expected, found = (step(emit(graph, 0, backend), x) for backend in ("eager", "fused"))
    assert torch.equal(found["output"], expected["output"])
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def without_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiler, "_compiled", lambda *rest: pytest.fail("tried to compile"))
    train_step(monkeypatch)
    said: list[str] = []
    assert backend_on(torch.device("cpu"), None, said.append) == "eager"
    assert "which fused needs" in said[0]


def two_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiler, "_compiled", uncompiled)
    monkeypatch.setattr(compiler, "_save", lambda *rest: pytest.fail("tried to save"))
    for _ in range(2):
        (y,) = CompiledFunction(double, "double", (True,), "2 x")(torch.ones(1, 2, 3, 4))
        assert torch.equal(y, torch.full((1, 2, 3, 4), 2.0))


def without(*settings: str) -> Callable[[pytest.MonkeyPatch], None]:
    def compile_twice(monkeypatch: pytest.MonkeyPatch) -> None:
        generate = Mock()
        monkeypatch.setattr(internals, "generate", generate)
        for _ in range(2):
            kernel = CompiledFunction(double, "double", (True,), "2 x")
            compiler._compiled(kernel, [torch.ones(1, 2, 3, 4)])
            assert not {*settings} & generate.call_args.args[-1].keys()
        assert generate.call_count == 2

    return compile_twice


def folded(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = InferenceConv2d(2, 3, 3)
    x = randn(2, 2, 5, 5).float()
    with torch.no_grad():
        for _ in range(2):
            assert torch.equal(layer(x), torch.conv2d(x, layer.weight, layer.bias))


def integers(monkeypatch: pytest.MonkeyPatch) -> None:
    inference.multiplies_integers.cache_clear()
    assert not inference.multiplies_integers()
    inference.multiplies_integers.cache_clear()


def measured(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = text(small("stage(basic(4), 1) via origin"))
    with pytest.raises(UserError, match="cannot be computed; name a policy") as caught:
        step_memory(plain_step(graph, "eager", 2))
    internals.notice(str(caught.value).partition("; name")[0])


def waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    shared = object.__new__(torch.nn.parallel.DistributedDataParallel)
    assert internals.waited(shared) is internals.waited(shared) is None


def global_hooks(monkeypatch: pytest.MonkeyPatch) -> None:
    internals.global_hooks.cache_clear()
    assert not has_hooks(torch.nn.Identity())
    assert not has_hooks(torch.nn.Identity())
    internals.global_hooks.cache_clear()


def loaders(monkeypatch: pytest.MonkeyPatch) -> None:
    loader = SimpleNamespace(_iterator=object())
    internals.end_workers(loader)
    internals.end_workers(loader)


EXERCISES: dict[InternalUse, Callable[[pytest.MonkeyPatch], None]] = {
    InternalUse.COMPILE: without_compiler,
    InternalUse.KEEP: two_kernels,
    InternalUse.FUSE: without(*internals.FUSION),
    InternalUse.ROUND: without(internals.ROUNDING),
    InternalUse.PACKED_WEIGHTS: folded,
    InternalUse.INTEGERS: integers,
    InternalUse.ALLOCATIONS: measured,
    InternalUse.SHARED_BITS: train_step,
    InternalUse.COMMUNICATION: waiting,
    InternalUse.GLOBAL_HOOKS: global_hooks,
    InternalUse.TRANSFORMS: train_step,
    InternalUse.LOADERS: loaders,
}


@pytest.mark.parametrize("name", ROWS)
def test_without_one_of_them(
    name: str, hide: Callable[[str], None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Code that needs the internal falls back, with one notice of its name and what is lost."""
    use, _ = TABLE[name]
    assert internals.missing(use) is None, f"this torch has no {name}"
    monkeypatch.setenv("DANETC_CACHE_DIR", str(tmp_path))
    compiles = InternalUse.COMPILE, InternalUse.KEEP
    monkeypatch.setattr(compiler, "COMPILE", use in compiles)
    hide(name)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        EXERCISES[use](monkeypatch)
    (notice,) = {str(item.message) for item in caught if item.category is RuntimeWarning}
    assert sum(str(item.message) == notice for item in caught) == 1
    assert name in notice
    assert use.value in notice
