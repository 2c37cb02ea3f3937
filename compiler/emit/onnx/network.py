"""A network as ONNX.

Operators and values have the names of the modules of the model:
``stages.0.blocks.1.branch.conv2``. Initialisers have the names of its weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, get_args

import numpy as np
import onnx
from onnx import TensorProto, ValueInfoProto, helper

from danetc.compiler.emit.names import attribute
from danetc.compiler.emit.onnx.writer import Arrays, NodeWriter, StepStates, proto_type
from danetc.compiler.emit.scopes import LoopUnit, Scopes, ScopeTree, schedule
from danetc.compiler.ir.at_node import operands, same_for_all
from danetc.compiler.ir.graph import Graph, Node
from danetc.compiler.ir.loops import loops
from danetc.compiler.ir.ops import OPS, Context
from danetc.compiler.ir.ops.onnx.general import Site
from danetc.dsl.errors import UserError
from danetc.dsl.neuron.opcodes import OPCODES
from danetc.dsl.neuron.program import NeuronProgram
from danetc.dsl.neuron.ssa import Instruction, cheaper, fold

OnnxTime = Literal["unrolled", "loop", "step"]
TIMES: tuple[OnnxTime, ...] = get_args(OnnxTime)
OPSET = 21
"""The latest that onnxruntime 1.32 runs; it has no RandomUniformLike of opset 22."""
IR_VERSION = 10


class NotInOnnx(UserError):
    """Raised if an operation has no form in ONNX. The message names its node."""


def emit_onnx(
    graph: Graph,
    weights: Arrays,
    time: OnnxTime = "unrolled",
    *,
    fixed: bool = False,
    half: bool = False,
    about: Mapping[str, str] | None = None,
) -> onnx.ModelProto:
    """Return the network with these weights (arrays of a state dict) as an ONNX model for any N.

    Args:
        time: ``unrolled`` writes T = ``graph.steps`` steps in sequence. ``loop`` takes any T: the
            length of a sequence, or the input ``steps`` for an image. ``step`` writes one time
            step; the values that neurons, delays and loops carry are inputs and outputs under the
            names of their nodes.
        fixed: T must be ``graph.steps``.
        half: Numbers are float16, membrane potentials float32.
        about: Metadata of the file. ``time`` and the start of each carried value
            (``start of NAME``) are added.

    Raises NotInOnnx, and ValueError for one step of a network that needs later steps.
    """
    return _Emitter(graph, weights, time, fixed, half).model(about or {})


class _Emitter:
    def __init__(
        self, graph: Graph, weights: Arrays, time: OnnxTime, fixed: bool, half: bool
    ) -> None:
        self.graph = graph
        self.scopes = Scopes(graph)
        self.time = time
        self.to = NodeWriter(graph, weights, half)
        self.shared = _same_for_all(graph)
        self.to.may_differ = bool(self.shared)
        self.context = Context.of(graph)
        self.values: dict[int, str] = {}
        self.inputs: list[ValueInfoProto] = []
        self.outputs: list[ValueInfoProto] = []
        self.fixed = fixed

    def model(self, about: Mapping[str, str]) -> onnx.ModelProto:
        graph, to = self.graph, self.to
        memory = StepStates(to)
        self._take_inputs()
        regions = [] if self.time == "step" else self._regions()
        within = {id for region in regions for id in region.members}
        nodes = [n for n in graph.nodes.values() if n.id not in within and n.id not in self.values]
        if self.time == "step":
            to.memory, to.step = memory, to.claim("step")
        for unit in schedule(ScopeTree((), nodes, loops=regions), graph):
            if isinstance(unit, Node):
                self._write(unit)
            elif isinstance(unit, LoopUnit):
                run = self._unroll if self.time == "unrolled" else self._loop
                run(unit.members, *self.scopes.crossing(unit))
        self._carry_on([*graph.carries] if self.time == "step" else [])
        self._give_outputs()
        notes = {**about, "time": self.time}
        if self.time == "step":
            self._give_memory(memory, notes)
        inner = helper.make_graph(
            to.nodes, graph.name, self.inputs, self.outputs, to.constants_read()
        )
        made = helper.make_model(
            inner, producer_name="danetc", ir_version=IR_VERSION,
            opset_imports=[helper.make_opsetid("", OPSET)],
        )  # fmt: skip
        helper.set_model_props(made, notes)
        return made

    # -- inputs and outputs -----------------------------------------------------------------------

    def _take_inputs(self) -> None:
        to, nodes = self.to, self.graph.inputs
        kind = proto_type(to.type)
        free = self.time == "loop" and not self.fixed
        for node in nodes:
            name = to.claim(attribute(node.name))
            varies = node.value.varies and self.time != "step"
            lead: list[int | str] = ["N"]
            if varies:
                lead = ["T" if free else self.graph.steps, "N"]
            self.inputs.append(
                helper.make_tensor_value_info(name, kind, [*lead, *node.value.shape])
            )
            to.path = node.path
            if varies and free and isinstance(to.steps, int):
                to.steps = to.node("Shape", name, start=0, end=1)
            self.values[node.id] = to.as_batch(name, node.value.shape) if varies else name
        if free and isinstance(to.steps, int):
            to.steps = to.claim("steps")
            self.inputs.append(helper.make_tensor_value_info(to.steps, TensorProto.INT64, [1]))

    def _give_outputs(self) -> None:
        to, graph = self.to, self.graph
        kind = proto_type(to.type)
        for label, id in graph.outputs.items():
            node = graph[id]
            value, lead = self.values[id], list[int | str](["N"])
            to.path = node.path
            if node.value.varies and self.time != "step":
                value = to.as_steps(value, node.value.shape)
                lead = [graph.steps if isinstance(to.steps, int) else "T", "N"]
            elif id in self.shared:
                ones = to.ints(*[1] * len(node.value.shape))
                value = to.node("Expand", value, to.node("Concat", self._batch(), ones, axis=0))
            name = to.claim(label)
            to.nodes.append(helper.make_node("Identity", [value], [name], name=name))
            self.outputs.append(
                helper.make_tensor_value_info(name, kind, [*lead, *node.value.shape])
            )

    def _give_memory(self, memory: StepStates, notes: dict[str, str]) -> None:
        """Add the values that a step passes to the next as inputs and outputs."""
        to = self.to
        if any(to.step in node.input for node in to.nodes):
            self.inputs.append(helper.make_tensor_value_info(to.step, TensorProto.INT64, [1]))
            after = to.claim("step_next")
            to.nodes.append(helper.make_node("Add", [to.step, to.ints(1)], [after], after))
            self.outputs.append(helper.make_tensor_value_info(after, TensorProto.INT64, [1]))
            notes["start of step"] = "0"
        self.inputs += [item.info for item in memory.carried.values()]
        self.outputs += memory.results()
        for item in memory.carried.values():
            notes[f"start of {item.name}"] = repr(item.start)

    # -- nodes ------------------------------------------------------------------------------------

    def _write(self, node: Node) -> None:
        """Write the operators of a node, for all time steps or for the current one."""
        to = self.to
        to.path, to.at = node.path, node
        first = len(to.nodes)
        if node.op == "neuron":
            value = self._neuron(node)
        elif node.id in self.graph.carries:
            value = to.before("past", node.value.shape, _steps(node))
            if _steps(node) > 1:
                part = to.node("Slice", value, to.ints(0), to.ints(1), to.ints(0))
                value = to.node("Squeeze", part, to.ints(0))
        else:
            value = self._operation(node)
        self.values[node.id] = to.rename(value, node.path + to.suffix, first)
        if to.memory is not None:
            to.memory.renamed(value, self.values[node.id])

    def _operation(self, node: Node) -> str:
        form = OPS[node.op].onnx
        if form is None:
            raise NotInOnnx(f"{node.path}: {node.op} has no form in ONNX")
        site = Site(node.attrs, operands(self.graph, node), node.value, self.context)
        taken = [self.values[id] for id in node.inputs]
        varying = [id for id in node.inputs if self.graph[id].value.varies]
        to = self.to
        if to.step or len(taken) < 2 or not varying:
            return form(to, site, taken)
        for place, id in enumerate(node.inputs):
            shape = self.graph[id].value.shape
            ones = to.ints(*[1] * len(shape))
            if not self.graph[id].value.varies and id not in self.shared:  # the same at each step
                times = to.node("Concat", to.length(), ones, axis=0)
                taken[place] = to.node("Tile", taken[place], times)
            elif self.graph[id].value.varies and id in self.shared:  # the same for each sample
                size = to.node("Concat", to.ints(1), self._batch(), ones, axis=0)
                each = to.node("Expand", to.as_steps(taken[place], shape), size)
                taken[place] = to.as_batch(each, shape)
        return form(to, site, taken)

    def _batch(self) -> str:
        """N, [1]."""
        first = self.graph.input
        place = int(first.value.varies and self.time != "step")
        return self.to.node("Shape", self.inputs[0].name, start=place, end=place + 1)

    def _neuron(self, node: Node) -> str:
        to, program = self.to, self.graph.program(node)
        names = [f"{node.path}.{state.name}" for state in program.states]
        states: list[str] = []
        for name, state in zip(names, program.states, strict=True):
            assert to.memory is not None
            states.append(to.memory.before(name, node.value.shape, 1, state.init, True))
        s, after = _neuron_step(to, program, self.values[node.inputs[0]], states)
        if to.memory is not None:
            to.memory.next |= zip(names, after, strict=True)
        return s

    # -- steps ------------------------------------------------------------------------------------

    def _regions(self) -> list[LoopUnit]:
        """Nodes that run step by step: loops over time, and neurons with states."""
        graph = self.graph
        groups = [[*loop.members] for loop in loops(graph)]
        within = {id for members in groups for id in members}
        groups += [
            [node.id]
            for node in graph.nodes.values()
            if node.op == "neuron" and node.id not in within and graph.program(node).varies
        ]
        return [LoopUnit((), "", members) for members in groups]

    def _unroll(self, members: list[int], taken: list[int], made: list[int]) -> None:
        to, outer, steps = self.to, dict(self.values), self.graph.steps
        to.path = self.graph[members[-1]].path
        frames = {id: [self.values[id]] * steps for id in taken}
        for id in taken:
            if self.graph[id].value.varies and steps > 1:
                frames[id] = to.nodes_of("Split", [self.values[id]], steps, axis=0, num_outputs=steps)  # fmt: skip
        to.memory = StepStates(to, self._batch() if len(members) > 1 else "")
        given: dict[int, list[str]] = {id: [] for id in made}
        for t in range(steps):
            to.step, to.suffix = to.ints(t), f"/t{t}"
            self.values |= {id: frames[id][t] for id in taken}
            self._one_step(members)
            for id, values in given.items():
                values.append(self.values[id])
        to.memory, to.step, to.suffix = None, "", ""
        self.values = outer
        for id, values in given.items():
            to.path = self.graph[id].path
            first = len(to.nodes)
            self.values[id] = values[0]
            if steps > 1:
                whole = to.node("Concat", *values, axis=0)
                self.values[id] = to.rename(whole, to.path, first)

    def _loop(self, members: list[int], taken: list[int], made: list[int]) -> None:
        to, outer = self.to, dict(self.values)
        to.path = self.graph[members[-1]].path
        steps = {
            id: to.as_steps(self.values[id], self.graph[id].value.shape)
            for id in taken
            if self.graph[id].value.varies
        }
        near = next((v for id, v in steps.items() if id not in self.shared), None)
        # read N from the nearest value: a picture has no edge from the input to each loop then
        batch = self._batch() if near is None else to.node("Shape", near, start=1, end=2)
        memory = StepStates(to)
        index, going = to.claim(f"{to.path}/step"), to.claim(f"{to.path}/going")
        label = to.path
        with to.inside() as nodes:
            to.memory, to.suffix = memory, "/t"
            to.step = to.node("Unsqueeze", index, to.ints(0))
            for id, value in steps.items():
                self.values[id] = to.node("Gather", value, index, axis=0)
            self._one_step(members)
            given = [self.values[id] for id in made]
            results = memory.results()
            on = to.claim(f"{label}/on")
            nodes.append(helper.make_node("Identity", [going], [on], name=on))
            outputs = []
            kind = proto_type(to.type)
            for id, value in zip(made, given, strict=True):
                name = to.claim(f"{value}/given")
                nodes.append(helper.make_node("Identity", [value], [name], name=name))
                size: list[int | str] = ["N", *self.graph[id].value.shape]
                outputs.append(helper.make_tensor_value_info(name, kind, size))
            body = helper.make_graph(
                nodes,
                str(self.graph[members[0]].attrs.get("neuron", "loop")),
                [
                    helper.make_tensor_value_info(index, TensorProto.INT64, []),
                    helper.make_tensor_value_info(going, TensorProto.BOOL, []),
                    *(item.info for item in memory.carried.values()),
                ],
                [helper.make_tensor_value_info(on, TensorProto.BOOL, []), *results, *outputs],
            )
        to.memory, to.step, to.suffix, to.path = None, "", "", label
        starts = [
            memory.filled(batch, item.shape, item.steps, item.start, item.single)
            for item in memory.carried.values()
        ]
        count = len(starts) + len(made)
        found = to.nodes_of("Loop", [to.length(), "", *starts], count, body=body)
        self.values = outer
        for id, value in zip(made, found[len(starts) :], strict=True):
            to.path = self.graph[id].path
            first = len(to.nodes)
            whole = to.as_batch(value, self.graph[id].value.shape)
            self.values[id] = to.rename(whole, to.path, first)

    def _one_step(self, members: Sequence[int]) -> None:
        for id in members:
            self._write(self.graph[id])
        self._carry_on([id for id in members if id in self.graph.carries])

    def _carry_on(self, carries: Sequence[int]) -> None:
        """Save the values that later steps read."""
        to = self.to
        for id in carries:
            node, value = self.graph[id], self.values[self.graph.carries[id]]
            to.path, to.at = node.path, node
            count = _steps(node)
            if count > 1:
                known = to.before("past", node.value.shape, count)
                later = to.node("Slice", known, to.ints(1), to.ints(count), to.ints(0))
                now = to.node("Unsqueeze", value, to.ints(0))
                value = to.node("Concat", later, now, axis=0)
            to.remember("past", value)


def _same_for_all(graph: Graph) -> frozenset[int]:
    """Values that are written once for all samples, [1, ...], such as running statistics."""
    found = set(same_for_all(graph))
    for node in graph.nodes.values():
        if OPS[node.op].time == "constant" or (node.inputs and found.issuperset(node.inputs)):
            found.add(node.id)
    return frozenset(found)


def _steps(node: Node) -> int:
    steps = node.attrs["steps"]
    assert isinstance(steps, int)
    return steps


def _neuron_step(
    to: NodeWriter, program: NeuronProgram, x: str, states: Sequence[str]
) -> tuple[str, list[str]]:
    """Write one time step of a neuron in float32; return the output and the next states.

    The last dimension of ``x`` holds several inputs. A state may come as one number.
    """
    single = proto_type(np.float32)
    x = to.node("Cast", x, to=single) if to.half else x
    values = {"x": x}
    if program.inputs:
        for place, name in enumerate(program.takes):
            index = to.node("Squeeze", to.ints(place), to.ints(0))
            values[name] = to.node("Gather", x, index, axis=-1)
    values |= zip((state.name for state in program.states), states, strict=True)
    for item in program.learnables:
        weight = to.weight(item.parameter)
        if item.per_step:
            weight = to.node("Gather", weight, to.step, axis=0)
        values[item.parameter] = to.node("Cast", weight, to=single) if to.half else weight
    results = [program.output, *program.next_states]
    whole = {*program.takes}  # values with the shape of the input

    def constant(value: float) -> str:
        return to.array(value, single=True)

    def apply(op: Instruction, operands: list[str]) -> str:
        if not whole.isdisjoint(arg for arg in op.args if isinstance(arg, str)):
            whole.add(op.name)
        row = OPCODES[op.opcode]
        if row.onnx is None:
            raise NotImplementedError(f"the function {op.opcode} has no form in ONNX")
        for name in row.onnx:
            operator, *numbers = name.split()
            taken = [*operands, *(constant(float(number)) for number in numbers)]
            attributes = {"to": single} if operator == "Cast" else {}
            operands = [to.node(operator, *taken[: 1 if attributes else None], **attributes)]
        return operands[0]

    values = fold(cheaper(program.ops, results), values, apply, constant)
    found: list[str] = []
    for result in results:
        value = constant(result) if isinstance(result, float) else values[result]
        if result not in whole:
            value = to.node("Expand", value, to.node("Shape", x))
        found.append(value)
    s, *after = found
    return (to.node("Cast", s, to=proto_type(to.type)) if to.half else s), after
