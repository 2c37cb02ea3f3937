"""Names of modules in Python: what a spec may call ``class``, ``train`` or ``weight``.

Names in a spec are free; attributes of a torch module are not. Every target that makes Python
modules asks here, so that the names of weights are the same everywhere.
"""

from __future__ import annotations

import keyword

_TAKEN = """
    T_destination add_module add_submodule apply bfloat16 buffers call_super_init children code
    compile cpu cuda delete_all_unused_submodules delete_submodule describe double draw dump_patches eval
    extra_repr float forward get_buffer get_extra_state get_parameter get_submodule graph half ipu
    load_state_dict meta modules mtia named_buffers named_children named_modules named_parameters
    norms parameters print_readable recompile register_backward_hook register_buffer
    register_forward_hook register_forward_pre_hook register_full_backward_hook
    register_full_backward_pre_hook register_load_state_dict_post_hook
    register_load_state_dict_pre_hook register_module register_parameter
    register_state_dict_post_hook register_state_dict_pre_hook requires_grad_ self set_extra_state
    set_submodule shape_env share_memory show signature spec state_dict stream summary to to_empty to_folder
    topology train training type xpu zero_grad
"""
RESERVED = frozenset(_TAKEN.split())
"""Attributes of torch.nn.Module, torch.fx.GraphModule and our models (runtime/model/built.py,
runtime/layers/inference.py)."""


def attribute(name: str) -> str:
    """``name`` as an attribute of a module: with a ``_`` behind it where Python or torch has it.

    A name that is a taken one with ``_`` behind it gets one more, so that no two names of a spec
    (``class`` and ``class_``) are one attribute. A name that starts with ``__`` gets three: with
    fewer, ``__dict_`` would be Python's ``__dict__``.
    """
    taken = name
    while taken.endswith("_") and taken not in RESERVED:
        taken = taken[:-1]
    if keyword.iskeyword(taken) or taken in RESERVED or name.startswith("_"):
        return f"{name}___" if name.startswith("__") else f"{name}_"
    return name


def dotted(*names: str) -> str:
    """The path of a module, or of a parameter of one, by the names of the spec that lead to it."""
    return ".".join(map(attribute, names))
