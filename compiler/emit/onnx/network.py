"""A graph as a file of ONNX.

The names of operators and of values are those of the graph's nodes, and so those of the model's
modules: ``stages.0.blocks.1.branch.conv2``. Initialisers have the names of the model's weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

import onnx
from onnx import TensorProto, ValueInfoProto, helper

from danetc.compiler.emit.names import attribute
from danetc.compiler.emit.onnx.memory import CarriedMemory, UnrolledMemory, zeros
from danetc.compiler.emit.onnx.neuron import neuron_step
from danetc.compiler.emit.onnx.writer import Arrays, NodeWriter, proto_type
from danetc.compiler.ir.at_node import operands, same_for_all
from danetc.compiler.ir.graph import Graph, Node
from danetc.compiler.ir.loops import loops
from danetc.compiler.ir.ops import OPS, Context
from danetc.compiler.ir.ops.onnx.general import Site
from danetc.dsl.record import record

OnnxTime = Literal["unrolled", "loop", "step"]
TIMES: tuple[OnnxTime, ...] = get_args(OnnxTime)
OPSET = 21
"""The latest for which onnxruntime 1.32 has all that is written here: it has no RandomUniformLike of
opset 22."""
IR_VERSION = 10


class NotInOnnx(ValueError):
    """An operation has no form in ONNX. The message names its node."""


@record
class _Region:
    """Nodes that run one step after the other: a neuron with states, or a loop over time."""

    members: tuple[int, ...]
    taken: tuple[int, ...]
    made: tuple[int, ...]


def emit_onnx(
    graph: Graph,
    weights: Arrays,
    time: OnnxTime = "unrolled",
    *,
    fixed: bool = False,
    half: bool = False,
    about: Mapping[str, str] | None = None,
) -> onnx.ModelProto:
    """The network with these weights (a state dict's arrays) as a model of ONNX, for any N.

    Args:
        time: ``unrolled`` for T = ``graph.steps``, each step's operators behind those of the one
            before; ``loop`` for any T, which a sequence brings and the input ``steps`` says of an
            image; ``step`` for one time step, whose inputs and outputs are also what neurons, delays
            and loops remember, under the names of their nodes.
        fixed: T must be ``graph.steps``.
        half: numbers are float16, membrane potentials float32.
        about: what is noted in the file, as metadata; ``time`` is, and where each thing that is
            remembered starts (``start of NAME``).

    Raises NotInOnnx, and ValueError for one step of a network that must see later ones.
    """
    return _Emitter(graph, weights, time, fixed, half).model(about or {})


class _Emitter:
    def __init__(
        self, graph: Graph, weights: Arrays, time: OnnxTime, fixed: bool, half: bool
    ) -> None:
        self.graph = graph
        self.time = time
        self.to = NodeWriter(graph, weights, half)
        self.shared = _same_for_all(graph)
        self.to.may_differ = bool(self.shared)
        self.context = Context.of(graph)
        self.values: dict[int, str] = {}
        self.inputs: list[ValueInfoProto] = []
        self.outputs: list[ValueInfoProto] = []
        self.fixed = fixed
        self.users = graph.users()
        self.regions = {} if time == "step" else self._regions()

    def model(self, about: Mapping[str, str]) -> onnx.ModelProto:
        graph, to = self.graph, self.to
        carried = CarriedMemory(to)
        self._take_inputs()
        if self.time == "step":
            to.memory, to.step = carried, to.claim("step")
        waiting = [node for node in graph.nodes.values() if node.id not in self.values]
        while waiting:
            later: list[Node] = []
            for node in waiting:
                if node.id in self.values:
                    continue
                region = self.regions.get(node.id)
                needed = region.taken if region is not None else node.inputs
                if any(id not in self.values for id in needed):
                    later.append(node)
                elif region is not None:
                    self._run(region)
                else:
                    self._write(node)
            waiting = later
        self._carry_on([*graph.carries] if self.time == "step" else [])
        self._give_outputs()
        notes = {**about, "time": self.time}
        if self.time == "step":
            self._give_memory(carried, notes)
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

    def _give_memory(self, carried: CarriedMemory, notes: dict[str, str]) -> None:
        """What one step takes of the step before and gives the next, as inputs and outputs."""
        to = self.to
        if any(to.step in node.input for node in to.nodes):
            self.inputs.append(helper.make_tensor_value_info(to.step, TensorProto.INT64, [1]))
            after = to.claim("step_next")
            to.nodes.append(helper.make_node("Add", [to.step, to.ints(1)], [after], after))
            self.outputs.append(helper.make_tensor_value_info(after, TensorProto.INT64, [1]))
            notes["start of step"] = "0"
        self.inputs += [item.info for item in carried.items.values()]
        self.outputs += carried.results()
        for item in carried.items.values():
            notes[f"start of {item.name}"] = repr(item.start)

    # -- nodes ------------------------------------------------------------------------------------

    def _write(self, node: Node) -> None:
        """The operators of a node, of all that it takes or of one step."""
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
            _renamed(to.memory, value, self.values[node.id])

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
        x = self.values[node.inputs[0]]
        names = [f"{node.path}.{state.name}" for state in program.states]
        states: list[str] = []
        for name, state in zip(names, program.states, strict=True):
            assert to.memory is not None
            states.append(to.memory.before(name, node.value.shape, 1, state.init, True))
        s, after = neuron_step(to, program, x, states)
        for name, value in zip(names, after, strict=True):
            assert to.memory is not None
            to.memory.after(name, value)
        return s

    # -- steps ------------------------------------------------------------------------------------

    def _regions(self) -> dict[int, _Region]:
        """What runs step by step, by each of its nodes."""
        graph = self.graph
        groups = [loop.members for loop in loops(graph)]
        within = {id for members in groups for id in members}
        groups += [
            (node.id,)
            for node in graph.nodes.values()
            if node.op == "neuron" and node.id not in within and graph.program(node).varies
        ]
        found: dict[int, _Region] = {}
        results = set(graph.outputs.values())
        for members in groups:
            inside = set(members)
            taken = dict.fromkeys(i for id in members for i in graph[id].inputs if i not in inside)
            made = [id for id in members if id in results or not inside.issuperset(self.users[id])]
            region = _Region(members, tuple(taken), tuple(made))
            found |= dict.fromkeys(members, region)
        return found

    def _run(self, region: _Region) -> None:
        if isinstance(self.to.steps, int) and self.time == "unrolled":
            self._unroll(region, self.to.steps)
        else:
            self._loop(region)

    def _unroll(self, region: _Region, steps: int) -> None:
        to, outer = self.to, dict(self.values)
        to.path = self.graph[region.members[-1]].path
        frames = {id: [self.values[id]] * steps for id in region.taken}
        for id in region.taken:
            if self.graph[id].value.varies and steps > 1:
                frames[id] = to.nodes_of("Split", [self.values[id]], steps, axis=0, num_outputs=steps)  # fmt: skip
        to.memory = UnrolledMemory(to, self._batch() if len(region.members) > 1 else "")
        given: dict[int, list[str]] = {id: [] for id in region.made}
        for t in range(steps):
            to.step, to.suffix = to.ints(t), f"/t{t}"
            self.values |= {id: frames[id][t] for id in region.taken}
            self._one_step(region)
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
        self._note(region)

    def _loop(self, region: _Region) -> None:
        to, outer = self.to, dict(self.values)
        to.path = self.graph[region.members[-1]].path
        steps = {
            id: to.as_steps(self.values[id], self.graph[id].value.shape)
            for id in region.taken
            if self.graph[id].value.varies
        }
        near = next((v for id, v in steps.items() if id not in self.shared), None)
        # of what it reads, where that says it, so that a picture has no line from the input to each loop
        batch = self._batch() if near is None else to.node("Shape", near, start=1, end=2)
        carried = CarriedMemory(to)
        index, going = to.claim(f"{to.path}/step"), to.claim(f"{to.path}/going")
        label = to.path
        with to.inside() as nodes:
            to.memory, to.suffix = carried, "/t"
            to.step = to.node("Unsqueeze", index, to.ints(0))
            for id, value in steps.items():
                self.values[id] = to.node("Gather", value, index, axis=0)
            self._one_step(region)
            given = [self.values[id] for id in region.made]
            kept = carried.results()
            on = to.claim(f"{label}/on")
            nodes.append(helper.make_node("Identity", [going], [on], name=on))
            outputs = []
            kind = proto_type(to.type)
            for id, value in zip(region.made, given, strict=True):
                name = to.claim(f"{value}/given")
                nodes.append(helper.make_node("Identity", [value], [name], name=name))
                size: list[int | str] = ["N", *self.graph[id].value.shape]
                outputs.append(helper.make_tensor_value_info(name, kind, size))
            body = helper.make_graph(
                nodes,
                str(self.graph[region.members[0]].attrs.get("neuron", "loop")),
                [
                    helper.make_tensor_value_info(index, TensorProto.INT64, []),
                    helper.make_tensor_value_info(going, TensorProto.BOOL, []),
                    *(item.info for item in carried.items.values()),
                ],
                [helper.make_tensor_value_info(on, TensorProto.BOOL, []), *kept, *outputs],
            )
        to.memory, to.step, to.suffix, to.path = None, "", "", label
        starts = [
            zeros(to, batch, item.shape, item.steps, item.start, item.single)
            for item in carried.items.values()
        ]
        count = len(starts) + len(region.made)
        results = to.nodes_of("Loop", [to.length(), "", *starts], count, body=body)
        self.values = outer
        for id, value in zip(region.made, results[len(starts) :], strict=True):
            to.path = self.graph[id].path
            first = len(to.nodes)
            whole = to.as_batch(value, self.graph[id].value.shape)
            self.values[id] = to.rename(whole, to.path, first)
        self._note(region)

    def _one_step(self, region: _Region) -> None:
        for id in region.members:
            self._write(self.graph[id])
        self._carry_on([id for id in region.members if id in self.graph.carries])

    def _carry_on(self, carries: Sequence[int]) -> None:
        """Remember what the next steps read of this one."""
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

    def _note(self, region: _Region) -> None:
        for id in region.members:
            self.values.setdefault(id, "")  # nothing outside reads it


def _same_for_all(graph: Graph) -> frozenset[int]:
    """What is written once for all samples, [1, ...]: also what training has left behind."""
    found = set(same_for_all(graph))
    for node in graph.nodes.values():
        if OPS[node.op].time == "constant" or (node.inputs and found.issuperset(node.inputs)):
            found.add(node.id)
    return frozenset(found)


def _steps(node: Node) -> int:
    steps = node.attrs["steps"]
    assert isinstance(steps, int)
    return steps


def _renamed(memory: Any, value: str, name: str) -> None:
    """What is remembered under a name that has changed."""
    known: dict[str, str] = memory.next if isinstance(memory, CarriedMemory) else memory.known
    for key, remembered in known.items():
        if remembered == value:
            known[key] = name
