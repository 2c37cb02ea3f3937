"""Python source of neuron programs: kernels for the runtime.

The source consists of templates of this module and generated names such as ``v3``, and contains no
text of a spec.
"""

from __future__ import annotations

import keyword
from collections.abc import Mapping, Sequence

from danetc.dsl.neuron.derivative import GRAD_OUTPUT, differentiate
from danetc.dsl.neuron.opcodes import Operand, torch_form
from danetc.dsl.neuron.program import INPUT, NeuronProgram, unique
from danetc.dsl.neuron.ssa import Instruction, cheaper, fold

_KERNEL = {"detach": "{0}"}  # kernels run without autograd


def kernel_source(program: NeuronProgram) -> str:
    """Return the Python source of the kernels of one time step, for torch tensors of any shape.

    ``step(x, states..., learnables...)`` returns ``(s, next_states...)``.
    ``step_vjp(x, states..., learnables..., grad_s, grad_next_states...)`` returns the gradients of
    ``x``, of each state and of each learnable. If the program has several inputs, the last dimension
    of ``x`` and of its gradient holds them. The text uses ``torch`` and two helpers of the runtime:
    ``spread(v, x)`` expands a scalar like ``x``, and ``total(g, p)`` sums a gradient to the shape
    and dtype of ``p``.
    """
    backward = differentiate(program)
    lines, scheduled = _surrogate(program)
    results = [program.output, *program.next_states]
    lines += _step(program, cheaper(program.ops, results), _KERNEL)

    names = {**_names(program), GRAD_OUTPUT: "g"}
    names |= {name: f"g{i}" for i, name in enumerate(backward.grad_next_states)}
    elementwise = [backward.grad_input, *backward.grad_states]
    gradients = [*elementwise, *backward.grad_learnables, *backward.grad_inputs]
    forms = {**_KERNEL, "surrogate": f"surrogate({{0}}{scheduled})"}
    body, scope = _body(cheaper(backward.ops, gradients), names, forms)
    values = [_tensor(value, scope) for value in elementwise]
    if program.inputs:
        others = (_tensor(value, scope) for value in backward.grad_inputs)
        values[0] = f"torch.stack([{', '.join([values[0], *others])}], -1)"
    for item, value in zip(program.learnables, backward.grad_learnables, strict=True):
        parameter = scope[item.parameter]
        if item.is_scalar or isinstance(value, float):
            values.append(_tensor(value, scope, like=parameter))
        else:
            values.append(f"total(spread({scope[value]}, x), {parameter})")
    lines += [*_opening("step_vjp", program, names), *body]
    return "\n".join([*lines, f"    return ({', '.join(values)},)", ""])


def differentiable_source(program: NeuronProgram) -> str:
    """Return the Python source of one time step that torch differentiates in any order and mode.

    ``step`` computes the same operations as that of ``kernel_source``. The source also uses two
    functions with a surrogate derivative: ``spike(v, surrogate, *scheduled)`` is 1 where v >= 0 and
    its derivative is ``surrogate(v, *scheduled)``; ``nearest(v)`` rounds v with the derivative 1.
    """
    lines, scheduled = _surrogate(program)
    spike = f"spike({{0}}, surrogate{scheduled})" if lines else "spike({0})"
    forms = {"heaviside": spike, "round": "nearest({0})", "detach": "{0}.detach()"}
    return "\n".join([*lines, *_step(program, program.ops, forms)])


def _names(program: NeuronProgram) -> dict[str, str]:
    """Return the names that the arguments of a step have in the source."""
    names = {INPUT: "x"}
    names |= {name: f"x{i}" for i, name in enumerate(program.inputs, 1)}
    names |= {state.name: f"u{i}" for i, state in enumerate(program.states)}
    return names | {item.parameter: f"p{i}" for i, item in enumerate(program.learnables)}


def _surrogate(program: NeuronProgram) -> tuple[list[str], str]:
    """Return the function of the surrogate, if there is one, and its scheduled arguments."""
    if program.surrogate is None:
        return [], ""
    names = _names(program)
    known = {item.name: names[item.name] for item in program.surrogate.scheduled}
    scheduled = "".join(f", {name}" for name in known.values())
    body, scope = _body(program.surrogate.ops, {**known, INPUT: "x"}, _KERNEL)
    result = f"    return {_tensor(program.surrogate.derivative, scope)}"
    return [f"def surrogate(x{scheduled}):", *body, result, ""], scheduled


def _step(
    program: NeuronProgram, ops: Sequence[Instruction], forms: Mapping[str, str]
) -> list[str]:
    """Return the function ``step``."""
    names = _names(program)
    body, scope = _body(ops, names, forms)
    values = (_tensor(value, scope) for value in (program.output, *program.next_states))
    opening = _opening("step", program, names)
    return [*opening, *body, f"    return ({', '.join(values)},)", ""]


def _opening(function: str, program: NeuronProgram, names: Mapping[str, str]) -> list[str]:
    """Return the first lines of a function of the named values, which unpack several inputs."""
    read = (short for name, short in names.items() if name not in program.inputs)
    inputs = ", ".join(names[name] for name in program.takes)
    unpacked = [f"    {inputs} = x.unbind(-1)"] * bool(program.inputs)
    return [f"def {function}({', '.join(read)}):", *unpacked]


def _body(
    ops: Sequence[Instruction], names: Mapping[str, str], forms: Mapping[str, str]
) -> tuple[list[str], dict[str, str]]:
    """Return one assignment for each operation, and the names of all values.

    ``forms`` overrides expressions of the table of opcodes.
    """
    lines: list[str] = []

    def apply(op: Instruction, args: list[str]) -> str:
        form = forms.get(op.opcode) or torch_form(op.opcode, op.args)[0]
        if form == "{0}":
            return args[0]
        lines.append(f"    v{len(lines)} = {form.format(*args, like='x')}")
        return f"v{len(lines) - 1}"

    return lines, fold(ops, names, apply, repr)


def _tensor(value: Operand, scope: Mapping[str, str], like: str = "x") -> str:
    """Return an expression for a value expanded to the shape of ``like``."""
    if isinstance(value, float):
        return f"torch.full_like({like}, {value!r})"
    return f"spread({scope[value]}, {like})"


TORCH_ATTRIBUTES = frozenset(
    """T_destination add_module apply bfloat16 buffers call_super_init children compile cpu cuda
    double dump_patches eval extra_repr float forward get_buffer get_extra_state get_parameter
    get_submodule half ipu load_state_dict modules mtia named_buffers named_children
    named_modules named_parameters parameters register_backward_hook register_buffer
    register_forward_hook register_forward_pre_hook register_full_backward_hook
    register_full_backward_pre_hook register_load_state_dict_post_hook
    register_load_state_dict_pre_hook register_module register_parameter
    register_state_dict_post_hook register_state_dict_pre_hook requires_grad_ set_extra_state
    set_submodule share_memory state_dict to to_empty train training type xpu zero_grad""".split()  # noqa: SIM905
)
"""Attributes of torch.nn.Module."""
MODULE_ATTRIBUTES = TORCH_ATTRIBUTES | frozenset(
    """advance current flat_params input_rank params program rank replace_norms scheduled share
    step steps values""".split()  # noqa: SIM905
)
"""Names that an attribute of a neuron module cannot have."""


def parameter_names(program: NeuronProgram) -> tuple[str, ...]:
    """Return the attributes that hold the learnables of a module, in order."""
    names: list[str] = []
    for item in program.learnables:
        name = "".join(ch if f"a{ch}".isidentifier() else "_" for ch in item.parameter)
        name += "_" * keyword.iskeyword(name)
        name = f"p{name}" if name.startswith("_") else name  # attributes of Module start with _
        names.append(unique(name, MODULE_ATTRIBUTES.union(names)))
    return tuple(names)
