"""Python text of neuron programs: kernels for the runtime.

The text is made of this module's templates and of names like ``v3`` alone; nothing that a user
wrote gets into it.
"""

from __future__ import annotations

import keyword
from collections.abc import Mapping, Sequence

from danetc.dsl.neuron.derivative import GRAD_OUTPUT, Backward, differentiate
from danetc.dsl.neuron.opcodes import ALL_OPCODES, Operand
from danetc.dsl.neuron.program import INPUT, NeuronProgram, SurrogateProgram, unique
from danetc.dsl.neuron.ssa import Instruction
from danetc.dsl.neuron.strength_reduction import cheaper

_KERNEL = {"detach": "{0}"}  # kernels run without autograd


def _constant(value: float) -> str:
    return repr(value) if value >= 0 and repr(value)[0] != "-" else f"({value!r})"


def _expression(op: Instruction, args: Sequence[str], like: str) -> str:
    """The torch expression of an operation whose operands read ``args``."""
    info = ALL_OPCODES[op.opcode]
    text = info.text
    if info.with_constants is not None:
        places, other = info.with_constants
        if all(isinstance(op.args[i], float) for i in places):
            text, args = (
                other,
                [
                    repr(a) if isinstance(a, float) else b
                    for a, b in zip(op.args, args, strict=True)
                ],
            )
    return text.format(*args, like=like)


def kernel_source(program: NeuronProgram) -> str:
    """Python source of the kernels of one time step, for torch tensors of any shape.

    ``step(x, states..., learnables...)`` gives ``(s, next_states...)``;
    ``step_vjp(x, states..., learnables..., grad_s, grad_next_states...)`` gives the gradients of
    x, each state and each learnable. Of a program with several inputs ``x`` holds them side by side in
    its last dimension, and so does its gradient. The text uses ``torch`` and two helpers of the
    runtime: ``spread(v, x)`` (a number of the layer as a tensor like x) and ``total(g, p)`` (a
    gradient summed to p's shape, in its dtype).
    """
    backward = differentiate(program)
    names = {**_names(program), GRAD_OUTPUT: "g"}
    names |= {name: f"g{i}" for i, name in enumerate(backward.grad_next_states)}
    reads = _reads(program, names)
    lines = []
    inner: list[str] = []
    if program.surrogate is not None:
        function = _surrogate_function(program.surrogate, names)
        if program.surrogate.scheduled:  # it reads what the step is given
            inner = [f"    {line}" for line in function[:-1]]
        else:
            lines += function
    lines += [f"def step({', '.join(reads)}):", *_parted(program, names)]
    scope = dict(names)
    results = [program.output, *program.next_states]
    lines += _body(cheaper(program.ops, results), scope)
    lines += [f"    return ({', '.join(_tensor(value, scope) for value in results)},)", ""]
    incoming = [names[GRAD_OUTPUT], *(names[name] for name in backward.grad_next_states)]
    lines += [f"def step_vjp({', '.join([*reads, *incoming])}):", *inner]
    lines += _parted(program, names)
    scope = dict(names)
    gradients = [
        backward.grad_input,
        *backward.grad_states,
        *backward.grad_learnables,
        *backward.grad_inputs,
    ]
    lines += _body(cheaper(backward.ops, gradients), scope)
    lines += [f"    return ({', '.join(_gradients(program, backward, scope))},)", ""]
    return "\n".join(lines)


def differentiable_source(program: NeuronProgram) -> str:
    """Python source of one time step whose derivatives, of any order and mode, torch takes itself.

    ``step`` is that of ``kernel_source``, operation by operation. Besides its helpers the text uses two
    functions whose derivative is a choice: ``spike(v, surrogate, *scheduled)`` is 1 where v >= 0, with the
    derivative ``surrogate(v, *scheduled)``, and ``nearest(v)`` is v rounded, with the derivative 1.
    """
    names = _names(program)
    lines, spike = [], "spike({0})"
    if program.surrogate is not None:
        scheduled = "".join(f", {names[item.name]}" for item in program.surrogate.scheduled)
        lines += _surrogate_function(program.surrogate, names, scheduled)
        spike = f"spike({{0}}, surrogate{scheduled})"
    lines += [f"def step({', '.join(_reads(program, names))}):", *_parted(program, names)]
    texts = {"heaviside": spike, "round": "nearest({0})", "detach": "{0}.detach()"}
    lines += _body(program.ops, names, texts)
    results = [_tensor(value, names) for value in (program.output, *program.next_states)]
    return "\n".join([*lines, f"    return ({', '.join(results)},)", ""])


def _names(program: NeuronProgram) -> dict[Operand, str]:
    """The names in the text of what a step takes."""
    names: dict[Operand, str] = {INPUT: "x"}
    names |= {name: f"x{i}" for i, name in enumerate(program.inputs, 1)}
    names |= {state.name: f"u{i}" for i, state in enumerate(program.states)}
    return names | {item.parameter: f"p{i}" for i, item in enumerate(program.learnables)}


def _reads(program: NeuronProgram, names: Mapping[Operand, str]) -> list[str]:
    """The parameters of ``step``."""
    own = [*(s.name for s in program.states), *(item.parameter for item in program.learnables)]
    return ["x", *(names[name] for name in own)]


def _parted(program: NeuronProgram, names: Mapping[Operand, str]) -> list[str]:
    """The inputs by themselves."""
    if not program.inputs:
        return []
    return [f"    {', '.join(names[name] for name in program.takes)} = x.unbind(-1)"]


def _surrogate_function(
    surrogate: SurrogateProgram, names: Mapping[Operand, str], more: str = ""
) -> list[str]:
    scope: dict[Operand, str] = {item.name: names[item.name] for item in surrogate.scheduled}
    scope[INPUT] = "x"
    body = _body(surrogate.ops, scope)
    value = _tensor(surrogate.derivative, scope)
    return [f"def surrogate(x{more}):", *body, f"    return {value}", ""]


def _body(
    ops: Sequence[Instruction], scope: dict[Operand, str], texts: Mapping[str, str] = _KERNEL
) -> list[str]:
    """One assignment an operation; the names that it gives are added to ``scope``. ``texts`` has the
    operations whose expressions are not those of their rows."""
    lines = []
    for i, op in enumerate(ops):
        args = [_constant(arg) if isinstance(arg, float) else scope[arg] for arg in op.args]
        own = texts.get(op.opcode)
        if own == "{0}":
            scope[op.name] = args[0]
            continue
        scope[op.name] = f"v{i}"
        value = own.format(*args) if own is not None else _expression(op, args, "x")
        lines.append(f"    v{i} = {value}")
    return lines


def _tensor(value: Operand, scope: Mapping[Operand, str], like: str = "x") -> str:
    """A value as a tensor of x's shape, whatever it is."""
    if isinstance(value, float):
        return f"torch.full_like({like}, {value!r})"
    return f"spread({scope[value]}, {like})"


def _gradients(
    program: NeuronProgram, backward: Backward, scope: Mapping[Operand, str]
) -> list[str]:
    values = [_tensor(value, scope) for value in (backward.grad_input, *backward.grad_states)]
    if program.inputs:
        others = (_tensor(value, scope) for value in backward.grad_inputs)
        values[0] = f"torch.stack([{', '.join([values[0], *others])}], -1)"
    for item, value in zip(program.learnables, backward.grad_learnables, strict=True):
        parameter = scope[item.parameter]
        if item.is_scalar or isinstance(value, float):
            values.append(_tensor(value, scope, like=parameter))
        else:
            values.append(f"total(spread({scope[value]}, x), {parameter})")
    return values


MODULE_ATTRIBUTES = frozenset(
    """T_destination add_module advance apply bfloat16 buffers call_super_init children compile cpu
    cuda current double dump_patches eval extra_repr flat_params float forward get_buffer get_extra_state get_parameter
    get_submodule half input_rank ipu load_state_dict modules mtia named_buffers named_children named_modules
    named_parameters parameters params program rank register_backward_hook register_buffer
    register_forward_hook register_forward_pre_hook register_full_backward_hook
    register_full_backward_pre_hook register_load_state_dict_post_hook
    register_load_state_dict_pre_hook register_module register_parameter
    register_state_dict_post_hook register_state_dict_pre_hook replace_norms requires_grad_ scheduled
    set_extra_state set_submodule share share_memory state_dict step steps to to_empty train training type xpu
    zero_grad""".split()  # noqa: SIM905
)
"""Names that an attribute of a neuron module cannot take."""


def parameter_names(program: NeuronProgram) -> tuple[str, ...]:
    """The attributes that hold the learnables in a module, in their order."""
    names: list[str] = []
    for item in program.learnables:
        name = _identifier(item.parameter)
        name = f"p{name}" if name.startswith("_") else name  # a module's own attributes have a _
        names.append(unique(name, MODULE_ATTRIBUTES.union(names)))
    return tuple(names)


def _identifier(name: str) -> str:
    safe = "".join(ch if f"a{ch}".isidentifier() else "_" for ch in name)
    return f"{safe}_" if keyword.iskeyword(safe) else safe
