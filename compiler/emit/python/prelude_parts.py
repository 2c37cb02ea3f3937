"""The definitions that ``model.py`` may contain: their texts and dependencies.

``prelude`` has layers in a short form for ``model.py``. All others are layers and operators of the
runtime, copied without the bases and methods that only the runtime uses.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.resources import files

from danetc.dsl.record import record

PRELUDE = "danetc.compiler.emit.python.prelude"
KERNELS = "danetc.runtime.kernels"
LAYERS = "danetc.runtime.layers"
SOURCES: tuple[tuple[str, str, str], ...] = (
    (PRELUDE, "frames", ""),
    (
        LAYERS,
        "norm",
        "StepBatchNorm2d StepwiseBatchNorm2d TemporalEffectiveBatchNorm2d BorderedBatchNorm2d "
        "CumulativeBatchNorm2d RunningMean ChannelLayerNorm check_steps count_pass",
    ),
    (PRELUDE, "attention", ""),
    (LAYERS, "neuron", "within"),
    (
        LAYERS,
        "time",
        "Embedding drawn_numbers ConstantTable Learnt Delay DropPath SampleDropout Random SampleRandom TimeConv TimeLinear "
        "MaskedTimeLinear",
    ),
    (LAYERS, "weight_layer", "Mask with_weight_layer computing computed_weight"),
    (LAYERS, "attention", "tokens"),
    (LAYERS, "axes", ""),
    (
        KERNELS,
        "composed_operators",
        "is_static mean_over_time sum_over_time max_over_time _steps aligned beside concat per_step "
        "drop_path poisson latency",
    ),
    (PRELUDE, "loading", ""),
)
"""Package, module and definitions (all, if empty), in the order of their text in a model."""
_FIRST = "frames"  # the module whose definitions precede the network; others follow it
_RUNTIME_BASES = frozenset({"Leaf", "ReadsWhatItMoves", "Synchronisable"})
_RUNTIME_METHODS = frozenset({"at", "extra_repr"})


@record
class _Definition:
    """A definition: the names that it ``needs``, the parameters of a function, and whether it
    precedes the network."""

    text: str
    needs: frozenset[str]
    parameters: tuple[str, ...]
    first: bool


class Prelude:
    """The definitions by name, in order, and the modules of the names that they import."""

    def __init__(self) -> None:
        definitions, imports = _read()
        self.definitions = dict(definitions)
        self.imports = dict(imports)

    def add_frames(self, name: str, base: str, rank: int) -> None:
        """Add the class ``name``, which applies the module ``base`` to each frame."""
        rest = ": ..." if rank == 3 else f":\n    rank = {rank}"
        text = f"class {name}(Frames, {base}){rest}"
        self.definitions[name] = _Definition(text, frozenset({"Frames"}), (), True)

    def chosen(self, names: Iterable[str]) -> tuple[list[str], list[str]]:
        """Return the texts of ``names`` and their dependencies: those before the network, and others."""
        found: set[str] = set()
        waiting = [*names]
        while waiting:
            name = waiting.pop()
            if name in self.definitions and name not in found:
                found.add(name)
                waiting += self.definitions[name].needs
        chosen = [item for name, item in self.definitions.items() if name in found]
        first = [item.text for item in chosen if item.first]
        short = [text for text in first if "\n" not in text]  # without blank lines between
        before = [text for text in first if "\n" in text]
        if short:
            before.append("\n".join(short))
        return before, [item.text for item in chosen if not item.first]


@cache
def _read() -> tuple[Mapping[str, _Definition], Mapping[str, str]]:
    """All definitions, and the modules of imported names; empty for a module itself."""
    found: dict[str, _Definition] = {}
    imports: dict[str, str] = {}
    for package, module, names in SOURCES:
        text: str = files(package).joinpath(f"{module}.py").read_text("utf-8")
        for item in ast.parse(text).body:
            match item:
                case ast.Import():
                    imports |= {alias.name: "" for alias in item.names}
                case ast.ImportFrom(module=str(origin)) if not origin.startswith("danetc"):
                    imports |= {alias.name: origin for alias in item.names}
                case (
                    ast.ClassDef(name=name)
                    | ast.FunctionDef(name=name)
                    | ast.Assign(targets=[ast.Name(id=name)])
                ) if not names or name in names.split():
                    found[name] = _definition(_standalone(text, item), module == _FIRST)
    del found["Model"]  # a placeholder
    return found, imports


def _definition(text: str, first: bool) -> _Definition:
    (item,) = ast.parse(text).body
    needs = frozenset(part.id for part in ast.walk(item) if isinstance(part, ast.Name))
    parameters = item.args.args if isinstance(item, ast.FunctionDef) else []
    return _Definition(text, needs, tuple(arg.arg for arg in parameters), first)


def _standalone(text: str, item: ast.ClassDef | ast.FunctionDef | ast.Assign) -> str:
    """The text of a definition, without the bases, methods and branches that only the runtime uses."""
    lines = text.replace("torch.ops.danetc.", "").split("\n")
    assert item.end_lineno is not None
    if not isinstance(item, ast.ClassDef):
        return "\n".join(lines[item.lineno - 1 : item.end_lineno])
    bases = [ast.unparse(base) for base in item.bases]
    if not _RUNTIME_BASES.isdisjoint(bases):
        kept = [base for base in bases if base not in _RUNTIME_BASES] or ["nn.Module"]
        lines[item.lineno - 1] = f"class {item.name}({', '.join(kept)}):"
    left_out: set[int] = set()
    for part in item.body:
        if isinstance(part, ast.FunctionDef) and part.name in _RUNTIME_METHODS:
            assert part.end_lineno is not None
            left_out |= {*range(part.lineno - 2, part.end_lineno)}  # and the empty line before
    for branch in ast.walk(item):
        if isinstance(branch, ast.If) and ast.unparse(branch.test) == "is_synchronised(self)":
            assert branch.end_lineno is not None
            left_out |= {*range(branch.lineno - 1, branch.end_lineno)}
    own = range(item.lineno - 1, item.end_lineno)
    return "\n".join(lines[number] for number in own if number not in left_out)
