"""Compiled kernels on disk: by which names, in which form, and how they run again.

What Inductor makes for a CPU is a library, and a short function in Python that allocates what the library
writes to and calls it. Both are kept as they are, and run without Inductor, whose import takes longer than
anything else of a start. What it makes for a GPU is kept in its own form, and loaded by it.
"""

from __future__ import annotations

import dis
import hashlib
import importlib.util
import marshal
import math
import os
import platform
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType
from typing import Any

import torch
from torch import Tensor

from danetc.runtime.kernels import torch_internals as internals
from danetc.runtime.kernels.cache import kernel_folder, making_kernels
from danetc.runtime.kernels.torch_internals import InternalUse
from danetc.runtime.system.files import replace_file

Run = Callable[..., Sequence[Tensor]]

_MARK = b"danetc kernel\n"
_GUARDS = "_C._dynamo.guards."
_FUNCTIONS = {
    "assert_alignment": f"{_GUARDS}assert_alignment",
    "assert_size_stride": f"{_GUARDS}assert_size_stride",
    "empty_strided_cpu": f"{_GUARDS}_empty_strided_cpu",
    "reinterpret_tensor": f"{_GUARDS}_reinterpret_tensor",
}
"""What of torch the functions in Python call, by their names for it."""
_MODULES: dict[str, Any] = {"torch": torch, "math": math}
_NUMBERS = {"inf": math.inf, "nan": math.nan}
_DATA_POINTER = "_TORCHINDUCTOR_PYOBJECT_TENSOR_DATA_PTR"  # where libraries look for what gives it
_ENTRY = "kernel"
"""The name of the function in each library."""


# -- names -----------------------------------------------------------------------------------------


def place_of(text: str, args: Sequence[Tensor], fixed: tuple[int, ...]) -> Path:
    """The file of a kernel: its name tells apart all that may make compiled code differ."""
    device = args[0].device
    if device.type == "cuda":
        machine: tuple[object, ...] = (
            torch.cuda.get_device_name(device),
            torch.cuda.get_device_capability(device),
            torch.version.cuda,
        )
    else:
        machine = device.type, platform.machine(), torch.backends.cpu.get_cpu_capability()
    key = (
        text,
        tuple((x.dtype, x.dim()) for x in args),
        fixed,
        machine,
        _versions(),
        settings(),
        _sources(),
    )
    return kernel_folder() / hashlib.sha256(repr(key).encode()).hexdigest()


def _versions() -> tuple[str | None, ...]:
    return torch.__version__, torch.version.git_version, sys.version


_MAKERS = (
    "kernels/bit_packing.py", "kernels/compiled.py", "kernels/fusion_group.py",
    "kernels/neuron.py", "kernels/saved.py", "layers/inference.py", "layers/statistics.py",
)  # fmt: skip
"""The files that make kernels of texts, below this package's parent."""


@lru_cache(maxsize=1)
def _sources() -> str:
    """A digest of the code that makes kernels of texts: after a change all are made anew."""
    digest = hashlib.sha256()
    for name in _MAKERS:
        digest.update((Path(__file__).parents[1] / name).read_bytes())
    return digest.hexdigest()


def settings() -> str:
    """A digest of Inductor's settings. Where nobody has imported it they are those that a process begins
    with, which an earlier one has left on the disk."""
    module = internals.TABLE["get_hash"].module
    if module not in sys.modules:
        known = _remembered(kernel_folder())
        if known is not None:
            return known
        with making_kernels():  # where importing Inductor makes folders too
            internals.find("get_hash")
        _FRESH.add(kernel_folder())
    found: str = internals.find("get_hash")().hex()
    return found


def is_first() -> bool:
    """Whether nobody has imported Inductor in this process yet, nor left settings in the folder."""
    return internals.TABLE["get_hash"].module not in sys.modules and not has_had_compiler()


_FRESH: set[Path] = set()
"""Folders that lack the settings that this process began with."""


def remember_settings() -> None:
    """Leave the settings to later processes, where this one has begun with them. Says to them as well
    that there is a compiler."""
    folder = kernel_folder()
    if folder in _FRESH:
        _FRESH.discard(folder)
        with suppress(OSError):  # they import Inductor then
            _write(_settings_file(folder), settings().encode())


def has_had_compiler() -> bool:
    """Whether an earlier process with the same versions and environment has left its settings."""
    return _remembered(kernel_folder()) is not None


@lru_cache(maxsize=8)
def _remembered(folder: Path) -> str | None:
    try:
        return _settings_file(folder).read_text()
    except OSError:
        return None


def _settings_file(folder: Path) -> Path:
    read = sorted((k, v) for k, v in os.environ.items() if _is_read(k))
    key = repr((_versions(), read)).encode()
    return folder / "settings" / hashlib.sha256(key).hexdigest()


def _is_read(variable: str) -> bool:
    """Whether Inductor's settings may depend on a variable of the environment."""
    parts = "INDUCTOR", "TORCH_COMPILE", "TORCHDYNAMO"
    own = variable in ("TORCHINDUCTOR_CACHE_DIR", _DATA_POINTER)
    return variable == "CXX" or (not own and any(part in variable for part in parts))


# -- files -----------------------------------------------------------------------------------------


def _write(place: Path, data: bytes) -> None:
    """Raises OSError."""
    place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    replace_file(place, data)


def write(call: Callable[[list[Tensor]], Sequence[Tensor]] | None, place: Path) -> bool:
    """Keep what a kernel comes to call, if it is of the known form; whether it is. Raises OSError."""
    found = None if call is None else _parts(call)
    if found is None:
        return False
    _write(place, _MARK + marshal.dumps(found))
    return True


def read(place: Path) -> Run | None:
    """A kernel that ``write`` has written; None where there is none, or one in another form.

    Raises whatever a damaged file, or one whose library is gone, leads to.
    """
    try:
        data = place.read_bytes()
    except OSError:
        return None
    if not data.startswith(_MARK) or not internals.has(InternalUse.LIGHT):
        return None
    code, libraries = marshal.loads(data[len(_MARK) :])
    known = {name: internals.find(path) for name, path in _FUNCTIONS.items()}
    known |= {name: _library(kernel_folder() / path) for name, path in libraries.items()}
    call = FunctionType(code, {**_MODULES, **_NUMBERS, **known})
    return lambda *args: call(None, [*args])


def _parts(
    call: Callable[[list[Tensor]], Sequence[Tensor]],
) -> tuple[CodeType, dict[str, str]] | None:
    """The code of the function in Python, and the libraries that it calls, by the names that it has for
    them: files below the folder of kernels."""
    if not isinstance(call, MethodType) or not internals.has(InternalUse.LIGHT):
        return None
    code, known = call.__func__.__code__, call.__func__.__globals__
    itself = code.co_varnames[0]
    if code.co_freevars or any(isinstance(each, CodeType) for each in code.co_consts):
        return None
    expected = {name: internals.find(path) for name, path in _FUNCTIONS.items()}
    expected |= {**_MODULES, **_NUMBERS}
    libraries: dict[str, str] = {}
    for step in dis.get_instructions(code):
        if step.argval == itself or (isinstance(step.argval, tuple) and itself in step.argval):
            return None
        if step.opname != "LOAD_GLOBAL":
            continue
        name, value = step.argval, known.get(step.argval)
        if name in expected and value is expected[name]:
            continue
        file = getattr(getattr(value, "__self__", None), "__file__", None)
        if not isinstance(value, BuiltinFunctionType) or file is None:
            return None
        place = Path(file)
        if value.__name__ != _ENTRY or not place.is_relative_to(kernel_folder()):
            return None
        libraries[name] = str(place.relative_to(kernel_folder()))
    return code, libraries


@lru_cache(maxsize=1024)
def _library(file: Path) -> Callable[..., None]:
    """The function of a library. Raises OSError and ImportError."""
    os.environ[_DATA_POINTER] = str(internals.find(f"{_GUARDS}{_DATA_POINTER.lower()}"))
    spec = importlib.util.spec_from_file_location(f"{file.stem}.{_ENTRY}", file)
    if spec is None or spec.loader is None:
        raise ImportError(f"{file} is no library")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    function: Callable[..., None] = getattr(module, _ENTRY)
    return function
