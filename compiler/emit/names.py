"""Names in Python for names of a spec, which may be ``class``, ``train`` or ``weight``.

Every target that generates Python modules uses these functions, so weights have the same names
everywhere.
"""

from __future__ import annotations

import builtins
import keyword
import re
from collections.abc import Callable

from danetc.dsl.neuron.kernel_text import TORCH_ATTRIBUTES

RESERVED = TORCH_ATTRIBUTES | frozenset(
    """add_submodule backend code delete_all_unused_submodules delete_submodule describe directory draw
    graph meta norms print_readable recompile self shape_env show signature spec stream summary to_folder
    topology""".split()  # noqa: SIM905
)
"""Attributes of torch.nn.Module, torch.fx.GraphModule and our models."""
_PLAIN = re.compile(r"(?!__)[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
TAKEN = frozenset({"self", "torch", "nn", "json", "math", "Tensor", "Callable", "annotations"})
TAKEN |= frozenset(dir(builtins)) | frozenset(keyword.kwlist)
"""Names that no variable of generated code may have."""


def attribute(name: str) -> str:
    """Return ``name`` as an attribute of a module, with ``_`` appended if Python or torch uses it.

    A reserved name that already ends in ``_`` gets one more, so ``class`` and ``class_`` stay two
    attributes. A name that starts with ``__`` gets three: ``__dict_`` must not become ``__dict__``.
    """
    taken = name
    while taken.endswith("_") and taken not in RESERVED:
        taken = taken[:-1]
    if keyword.iskeyword(taken) or taken in RESERVED or name.startswith("_"):
        return f"{name}___" if name.startswith("__") else f"{name}_"
    return name


def dotted(*names: str) -> str:
    """Return the path of a module or parameter from names of the spec."""
    return ".".join(map(attribute, names))


def is_plain(name: str) -> bool:
    """True if ``self.NAME`` reads the module that is registered as ``name``.

    Python mangles names with two leading underscores and normalises letters beyond ASCII.
    """
    return _PLAIN.fullmatch(name) is not None and not keyword.iskeyword(name)


def words(text: str) -> str:
    """Return a name for a docstring: printable ASCII that cannot end the string."""
    kept = "".join(ch if " " <= ch <= "~" and ch not in "\\\"'" else "?" for ch in text)
    return kept if len(kept) <= 60 else kept[:57] + "..."


def variable(name: str) -> str:
    """Return a name of the spec as a Python identifier, which may still be taken."""
    safe = re.sub(r"[^A-Za-z0-9_]", "_", name)
    return safe if safe[:1].isalpha() else f"v{safe}"


def camel(name: str) -> str:
    """Return ``dense_layer`` as ``DenseLayer``; capitals are kept."""
    parts = [part for part in re.split(r"[^A-Za-z0-9]+", name) if part]
    text = "".join(part[0].upper() + part[1:] for part in parts)
    return text if text[:1].isalpha() else f"N{text}"


def singular(name: str) -> str:
    """Return ``blocks`` as ``block``."""
    return name[:-1] if name.endswith("s") and len(name) > 1 else name


def free(base: str, taken: Callable[[str], bool]) -> str:
    """Return the first of ``base``, ``base2``, ``base3``, ... that is free."""
    number, name = 1, base
    while name in TAKEN or taken(name):
        number += 1
        name = f"{base}{number}" if not base[-1].isdigit() else f"{base}_{number}"
    return name
