"""The classes of neurons and surrogates in a standalone model: their equations, with parameters."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Mapping, Sequence

from danetc.compiler.emit.python.equations import (
    STEPS,
    Arguments,
    ClassEquations,
    ClassParameters,
    unwritten,
)
from danetc.compiler.emit.python.forms import Argument, Fixed, New, SizeArgument
from danetc.compiler.emit.python.names import camel, variable
from danetc.compiler.emit.python.trees import (
    assign,
    call,
    class_,
    constant,
    function,
    loop,
    method,
    name,
    sequence,
    template,
    text_of,
)
from danetc.dsl.neuron.kernel_text import parameter_names
from danetc.dsl.neuron.parameters import names_of
from danetc.dsl.neuron.program import (
    INPUT,
    NeuronProgram,
    SurrogateProgram,
    settled,
)
from danetc.dsl.record import record

_FORMS: Mapping[tuple[bool, bool], str] = {
    (True, False): "nn.Parameter(torch.tensor(raw))",
    (True, True): "nn.Parameter(torch.full((steps,), raw))",
    (False, False): "nn.Parameter(torch.full((channels, *[1] * (rank - 1)), raw))",
    (False, True): "nn.Parameter(torch.full((steps, channels, *[1] * (rank - 1)), raw))",
}
"""How a learnt number is made, by whether it is one for the layer and one for each step."""


class Neurons:
    """The classes of neurons and surrogates. ``claim`` gives a free name, ``used`` gets those of what
    they need of the prelude.

    Neurons and surrogates that differ in the values of their parameters alone share a class, whose
    defaults are those of the first one.
    """

    def __init__(self, claim: Callable[[str], str], used: set[str]) -> None:
        self.claim, self.used = claim, used
        self.made: dict[str, tuple[str, Arguments]] = {}
        self.classes: list[ast.stmt] = []

    def instance(
        self,
        program: NeuronProgram,
        stepping: bool = False,
        sample: Sequence[int] = (),
        steps: int = 1,
    ) -> New:
        """A constructor call of the class of a neuron that takes ``steps`` samples of a shape;
        ``stepping`` of one for a loop over time."""
        surrogate = None
        if program.surrogate is not None:
            label, arguments, _ = self._class(_surrogate_class(program.surrogate))
            surrogate = call(name(label), **{key: constant(value) for key, value in arguments})
        self.used |= {STEPS[op.opcode] for op in program.ops if op.opcode in STEPS}
        label, arguments, defaults = self._class(_neuron_class(program, surrogate, stepping))
        size: list[tuple[str, Argument]] = []
        if program.per_step:
            size.append(("steps", SizeArgument("steps", steps)))
        if not all(item.is_scalar for item in program.learnables):
            size.append(("channels", SizeArgument("channels", sample[0])))
            size += [("rank", Fixed(len(sample)))] if len(sample) != 3 else []
        given = (
            (key, SizeArgument(key, value, default))
            for (key, value), (_, default) in zip(arguments, defaults, strict=True)
        )
        return New(label, (*size, *given))

    def _class(self, made: _Made) -> tuple[str, Arguments, Arguments]:
        """The name of a class that is written, if it is not yet; its arguments and its defaults."""
        key = made.base + text_of(made.write("", ()))
        if key not in self.made:
            self.made[key] = self.claim(made.base), made.arguments
            self.classes.append(made.write(self.made[key][0], made.arguments))
        label, defaults = self.made[key]
        return label, made.arguments, defaults


@record
class _Made:
    """A class: a name to begin with, its arguments, and what writes it for a name and defaults."""

    base: str
    arguments: Arguments
    write: Callable[[str, Arguments], ast.ClassDef]


def _surrogate_class(surrogate: SurrogateProgram) -> _Made:
    """A module that gives the surrogate's derivative."""
    surrogate = settled(surrogate, unwritten(surrogate))
    parameters = ClassParameters(surrogate, ())
    roots = [surrogate.derivative] * 2
    inputs = (INPUT, *(item.name for item in surrogate.scheduled))
    equations = ClassEquations(inputs, surrogate.ops, roots, parameters)
    takes = [("self", "", None), *((equations.names[key], "Tensor", None) for key in inputs)]
    forward = function("forward", takes, "Tensor", equations.returning(surrogate.derivative))
    doc = f"The surrogate {variable(surrogate.name)}: a derivative for Heaviside."
    return _Made(
        camel(surrogate.name),
        parameters.arguments,
        lambda label, defaults: class_(
            label, ["nn.Module"], doc, [*parameters.init(defaults, []), forward]
        ),
    )


def _neuron_class(program: NeuronProgram, surrogate: ast.expr | None, stepping: bool) -> _Made:
    """A module with the equations of ``program`` in its forward method.

    It takes [T, N, ...] and gives [T, N, ...], or what it takes if it has no states; its numbers
    are those of the runtime's operator, bit for bit.
    """
    program = settled(program, unwritten(program))
    attributes = parameter_names(program)
    parameters = ClassParameters(program, attributes)
    states = [state.name for state in program.states]
    learnables = [item.parameter for item in program.learnables]
    roots = [program.output, *program.next_states]
    inputs = (*program.takes, *states, *learnables)
    held = () if program.surrogate is None else program.surrogate.scheduled
    equations = ClassEquations(inputs, program.ops, roots, parameters, [item.name for item in held])
    x = equations.names[INPUT]
    init = [assign([f"self.{parameters.surrogate}"], surrogate)] if surrogate is not None else []
    reads: list[ast.stmt] = []
    reads_at: list[ast.stmt] = []  # of each time step
    for attribute, item in zip(attributes, program.learnables, strict=True):
        raw = parameters.constant(item.raw, holder="")
        form = _FORMS[item.is_scalar, item.per_step]
        if item.scheduled:
            held_at = template(
                "self.register_buffer(label, torch.tensor(raw))", label=constant(attribute), raw=raw
            )
            init.append(ast.Expr(held_at))
        else:
            init.append(assign([f"self.{attribute}"], template(form, raw=raw)))
        if item.per_step:
            value = template("stored[t]", stored=name(f"self.{attribute}"))
            reads_at.append(assign([equations.names[item.parameter]], value))
        else:
            reads.append(assign([equations.names[item.parameter]], name(f"self.{attribute}")))
    output = equations.value(program.output)
    parted: list[ast.stmt] = []
    if program.inputs:
        each = [x, *(equations.names[name] for name in program.inputs)]
        parted.append(assign(each, template("x.unbind(-1)", x=name(x))))
    sizes = ["steps"] * program.per_step
    if not all(item.is_scalar for item in program.learnables):
        sizes += ["channels", "rank"]
    if stepping:
        doc = f"The neuron {variable(program.name)}, one step of [N, ...] after the other."
        kept = "tuple" if program.per_step else "tuple[Tensor, ...]"
        both = f"tuple[Tensor, {kept}]"
        given = [("self", "", None), (x, "Tensor", None), ("state", f"{kept} | None", None)]
        step = [*reads, *parted, *_one_step(program, equations, x, output, reads_at)]
        return _Made(
            f"{camel(program.name)}Step",
            parameters.arguments,
            lambda label, defaults: class_(
                label,
                ["nn.Module"],
                doc,
                [*parameters.init(defaults, init, sizes), function("step", given, both, step)],
            ),
        )
    if not program.varies:
        takes, body = x, [*reads, *parted, *equations.returning(program.output)]
    else:
        begin = [*reads_at, *parted]
        takes, body = "x_seq", [*reads, *_over_time(program, equations, x, output, begin)]
    shapes = "[T, N, ...] to [T, N, ...]" if program.varies else "each element by itself"
    doc = f"The neuron {variable(program.name)}: {shapes}."
    forward = function("forward", [("self", "", None), (takes, "Tensor", None)], "Tensor", body)
    return _Made(
        camel(program.name),
        parameters.arguments,
        lambda label, defaults: class_(
            label, ["nn.Module"], doc, [*parameters.init(defaults, init, sizes), forward]
        ),
    )


def _over_time(
    program: NeuronProgram,
    equations: ClassEquations,
    x: str,
    output: ast.expr,
    before: list[ast.stmt],
) -> list[ast.stmt]:
    """The loop over the time steps; ``before`` is what each begins with."""
    like = template("x_seq[0, ..., 0]" if program.inputs else "x_seq[0]")
    first = [
        assign([equations.names[name]], start) for name, start in _starts(program, equations, like)
    ]
    after = _next_states(program, equations)
    targets = [equations.names[state.name] for state in program.states]
    body = [
        *before,
        *equations.lines,
        ast.Expr(method(name("outputs"), "append", output)),
        *([assign(targets, sequence(after))] if targets else []),
    ]
    steps = [x], name("x_seq")
    if program.per_step:
        steps = ["t", x], call(name("enumerate"), name("x_seq"))
    return [
        *first,
        assign(["outputs"], ast.List([], ast.Load())),
        loop(*steps, body),
        ast.Return(template("torch.stack(outputs)")),
    ]


def _one_step(
    program: NeuronProgram,
    equations: ClassEquations,
    x: str,
    output: ast.expr,
    reads_at: list[ast.stmt],
) -> list[ast.stmt]:
    """One time step: the output, and the states behind it; the step's number before them where
    what ``reads_at`` reads depends on it."""
    starts = [start for _, start in _starts(program, equations, name(x))]
    targets = [equations.names[state.name] for state in program.states]
    after = _next_states(program, equations)
    if program.per_step:
        starts, targets = [constant(0), *starts], ["t", *targets]
        after = [template("t + 1"), *after]
    begin: list[ast.stmt] = []
    if targets:
        start = template("starts if state is None else state", starts=ast.Tuple(starts, ast.Load()))
        made = ast.Tuple([ast.Name(target, ast.Store()) for target in targets], ast.Store())
        begin.append(ast.Assign([made], start, lineno=0))
    states = ast.Tuple(after, ast.Load())
    return [
        *begin, *reads_at, *equations.lines, ast.Return(ast.Tuple([output, states], ast.Load())),
    ]  # fmt: skip


def _starts(
    program: NeuronProgram, equations: ClassEquations, like: ast.expr
) -> Iterator[tuple[str, ast.expr]]:
    """The states before the first step."""
    for state in program.states:
        if repr(state.init) == "0.0" and not names_of(state.init):
            yield state.name, template("torch.zeros_like(x)", x=like)
        else:
            init = equations.parameters.constant(state.init)
            yield state.name, template("torch.full_like(x, init)", x=like, init=init)


def _next_states(program: NeuronProgram, equations: ClassEquations) -> list[ast.expr]:
    """The states behind a step."""
    scalars = program.scalars()
    after: list[ast.expr] = []
    for value in program.next_states:
        node = equations.value(value)
        if isinstance(value, float):
            node = template("torch.full_like(x, value)", x=equations.like, value=node)
        elif value in scalars:
            node = template("value.to(x.dtype).expand_as(x)", x=equations.like, value=node)
        after.append(node)
    return after
