"""Python text of neuron programs: kernels for the runtime, classes for a standalone model.

Kernel text is made of this module's templates and of names like ``v3`` alone; nothing that a user
wrote gets into it. A class is for readers and keeps the names of the spec, made safe.
"""

from __future__ import annotations

import keyword
from collections import Counter
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from danetc.dsl.neuron.derivative import GRAD_OUTPUT, Backward, differentiate
from danetc.dsl.neuron.opcodes import ALL_OPCODES, ATOM, Operand
from danetc.dsl.neuron.program import INPUT, NEXT, NeuronProgram, SurrogateProgram, unique
from danetc.dsl.neuron.ssa import Op
from danetc.dsl.neuron.strength_reduction import cheaper


def _constant(value: float) -> str:
    return repr(value) if value >= 0 and repr(value)[0] != "-" else f"({value!r})"


def _expression(op: Op, args: Sequence[str], like: str) -> str:
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
    x, each state and each learnable. The text uses ``torch`` and two helpers of the runtime:
    ``spread(v, x)`` (a scalar as a tensor like x) and ``total(g, p)`` (a gradient summed to a
    scalar of p's dtype).
    """
    backward = differentiate(program)
    names: dict[Operand, str] = {INPUT: "x", GRAD_OUTPUT: "g"}
    names |= {state.name: f"u{i}" for i, state in enumerate(program.states)}
    names |= {item.parameter: f"p{i}" for i, item in enumerate(program.learnables)}
    names |= {name: f"g{i}" for i, name in enumerate(backward.grad_next_states)}
    reads = ["x", *(names[s.name] for s in program.states)]
    learnables = [item.parameter for item in program.learnables]
    reads += [names[name] for name in learnables]
    lines = []
    if program.surrogate is not None:
        lines += _surrogate_function(program.surrogate)
    lines += [f"def step({', '.join(reads)}):"]
    scope = dict(names)
    results = [program.output, *program.next_states]
    lines += _body(cheaper(program.ops, results, learnables), scope)
    lines += [f"    return ({', '.join(_tensor(value, scope) for value in results)},)", ""]
    incoming = [names[GRAD_OUTPUT], *(names[name] for name in backward.grad_next_states)]
    lines += [f"def step_vjp({', '.join([*reads, *incoming])}):"]
    scope = dict(names)
    gradients = [backward.grad_input, *backward.grad_states, *backward.grad_learnables]
    lines += _body(cheaper(backward.ops, gradients, learnables), scope)
    lines += [f"    return ({', '.join(_gradients(program, backward, scope))},)", ""]
    return "\n".join(lines)


def _surrogate_function(surrogate: SurrogateProgram) -> list[str]:
    scope: dict[Operand, str] = {INPUT: "x"}
    body = _body(surrogate.ops, scope)
    value = _tensor(surrogate.derivative, scope)
    return ["def surrogate(x):", *body, f"    return {value}", ""]


def _body(ops: Sequence[Op], scope: dict[Operand, str]) -> list[str]:
    """One assignment an operation; the names that it gives are added to ``scope``."""
    lines = []
    for i, op in enumerate(ops):
        args = [_constant(arg) if isinstance(arg, float) else scope[arg] for arg in op.args]
        if op.opcode == "detach":  # kernels run without autograd
            scope[op.name] = args[0]
            continue
        scope[op.name] = f"v{i}"
        lines.append(f"    v{i} = {_expression(op, args, 'x')}")
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
    for item, value in zip(program.learnables, backward.grad_learnables, strict=True):
        values.append(_tensor(value, scope, like=scope[item.parameter]))
    return values


MODULE_ATTRIBUTES = frozenset(
    """T_destination add_module advance apply bfloat16 buffers call_super_init children compile cpu
    cuda current double dump_patches eval extra_repr float forward get_buffer get_extra_state get_parameter
    get_submodule half ipu load_state_dict modules mtia named_buffers named_children named_modules
    named_parameters parameters params program rank register_backward_hook register_buffer
    register_forward_hook register_forward_pre_hook register_full_backward_hook
    register_full_backward_pre_hook register_load_state_dict_post_hook
    register_load_state_dict_pre_hook register_module register_parameter
    register_state_dict_post_hook register_state_dict_pre_hook replace_norms requires_grad_
    set_extra_state set_submodule share_memory state_dict step steps to to_empty train training type xpu
    zero_grad""".split()  # noqa: SIM905
)
"""Names that an attribute of a neuron module cannot take."""

_PYTHON_NAMES = frozenset({"torch", "nn", "self", "x_seq", "outputs", "super", "range", "len"})


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


def surrogate_class(surrogate: SurrogateProgram, name: str) -> str:
    """A torch.autograd.Function: heaviside forward, the surrogate's derivative backward."""
    scope = _readable((INPUT,), surrogate.ops, taken=("ctx", "grad"))
    lines = _readable_body(surrogate.ops, scope, [surrogate.derivative] * 2, like=scope[INPUT])
    x = scope[INPUT]
    if isinstance(surrogate.derivative, float):
        result = _constant(surrogate.derivative)
    else:
        result = scope[surrogate.derivative]
    return "\n".join(
        [
            f"class {name}(torch.autograd.Function):",
            '    """Heaviside (1 at 0 and above) with the slope of a surrogate."""',
            "",
            "    @staticmethod",
            f"    def forward(ctx, {x}):",
            f"        ctx.save_for_backward({x})",
            f"        return ({x} >= 0.0).to({x}.dtype)",
            "",
            "    @staticmethod",
            "    def backward(ctx, grad):",
            f"        ({x},) = ctx.saved_tensors",
            *(f"        {line}" for line in lines),
            f"        return grad * {result}",
            "",
        ]
    )


def round_class(name: str) -> str:
    """A torch.autograd.Function: round forward, the identity backward."""
    return "\n".join(
        [
            f"class {name}(torch.autograd.Function):",
            '    """The nearest whole number (halves to even), with slope 1."""',
            "",
            "    @staticmethod",
            "    def forward(ctx, x):",
            "        return torch.round(x)",
            "",
            "    @staticmethod",
            "    def backward(ctx, grad):",
            "        return grad",
            "",
        ]
    )


def uses(program: NeuronProgram, opcode: str) -> bool:
    """Whether a step of a neuron has such an operation."""
    return any(op.opcode == opcode for op in program.ops)


def python_class(program: NeuronProgram, name: str, steps: Mapping[str, str]) -> str:
    """A torch.nn.Module with the equations of ``program`` in its forward method.

    ``steps`` names the classes that stand for its step functions, ``heaviside`` and ``round``
    (``surrogate_class``, ``round_class``).

    It takes ``[N, ...]`` (the same input at each of ``steps`` time steps) or ``[T, N, ...]`` and
    gives ``[T, N, ...]``, or what it takes if it has no states; its numbers are those of the
    runtime's operator, bit for bit.
    """
    attributes = parameter_names(program)
    states = [state.name for state in program.states]
    inputs = (INPUT, *states, *(item.parameter for item in program.learnables))
    scope = _readable(inputs, program.ops, taken=())
    roots = [program.output, *program.next_states]
    body = _readable_body(program.ops, scope, roots, like=scope[INPUT], steps=steps)
    x = scope[INPUT]
    shapes = "[N, ...] or [T, N, ...] to [T, N, ...]" if states else "each element by itself"
    lines = [
        f"class {name}(nn.Module):",
        f'    """Neuron {_identifier(program.name)}: {shapes}."""',
        "",
        "    def __init__(self, steps, rank):",
        "        super().__init__()",
        "        self.steps = steps  # for an input without time",
        "        self.rank = rank  # dimensions of one sample",
    ]
    for attribute, item in zip(attributes, program.learnables, strict=True):
        lines.append(f"        self.{attribute} = nn.Parameter(torch.tensor({item.raw!r}))")
    lines += ["", f"    def forward(self, {'x_seq' if states else x}):"]
    if states:
        lines += [
            "        if x_seq.dim() == self.rank + 1:",
            "            x_seq = x_seq.expand(self.steps, *x_seq.shape)",
        ]
    for attribute, item in zip(attributes, program.learnables, strict=True):
        lines.append(f"        {scope[item.parameter]} = self.{attribute}")
    if not states:
        lines += [f"        {line}" for line in body]
        return "\n".join([*lines, f"        return {scope[program.output]}", ""])
    for state in program.states:
        lines.append(f"        {scope[state.name]} = torch.full_like(x_seq[0], {state.init!r})")
    lines += ["        outputs = []", f"        for {x} in x_seq:"]
    lines += [f"            {line}" for line in body]
    lines.append(f"            outputs.append({scope[program.output]})")
    scalars = program.scalars()
    after = []
    for value in program.next_states:
        if isinstance(value, float):
            after.append(f"torch.full_like({x}, {value!r})")
        elif value in scalars:
            after.append(f"({scope[value]}).to({x}.dtype).expand_as({x})")
        else:
            after.append(scope[value])
    targets = ", ".join(scope[state] for state in states)
    lines.append(f"            {targets} = {', '.join(after)}")
    lines += ["        return torch.stack(outputs)", ""]
    return "\n".join(lines)


def _readable(inputs: Sequence[str], ops: Sequence[Op], taken: Sequence[str]) -> dict[Operand, str]:
    """A Python name for every value, as close to the spec's as Python allows."""
    scope: dict[Operand, str] = {}
    used = set(_PYTHON_NAMES).union(taken)
    for name in [*inputs, *(op.name for op in ops)]:
        scope[name] = unique(_identifier(name), used)
        used.add(scope[name])
    return scope


def _readable_body(
    ops: Sequence[Op],
    scope: dict[Operand, str],
    roots: Sequence[Operand],
    like: str,
    steps: Mapping[str, str] = MappingProxyType({}),
) -> list[str]:
    """Assignments; an unnamed value that is read once is written where it is read."""
    uses = Counter([*roots, *(arg for op in ops for arg in op.args)])
    levels: dict[Operand, int] = {}
    lines = []
    for op in ops:
        own, *wanted = ALL_OPCODES[op.opcode].binds
        args = []
        for i, arg in enumerate(op.args):
            text = _constant(arg) if isinstance(arg, float) else scope[arg]
            enough = levels.get(arg, ATOM) >= (wanted[i] if i < len(wanted) else 0)
            args.append(text if enough or op.opcode in steps else f"({text})")
        step = steps.get(op.opcode)
        text = f"{step}.apply({args[0]})" if step is not None else _expression(op, args, like)
        hidden = op.name.startswith("_") or op.name.endswith(NEXT)
        if hidden and uses[op.name] == 1 and len(text) < 60:
            scope[op.name], levels[op.name] = text, own
        else:
            lines.append(f"{scope[op.name]} = {text}")
    return lines
