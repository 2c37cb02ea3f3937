"""A network of a checked program, run on numpy arrays with given weights."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import reduce
from typing import Any

import numpy as np

from danetc.dsl.loading import Module
from danetc.dsl.syntax import tree as s
from tests.reference.equations import Learn
from tests.reference.language import (
    OPERATIONS,
    Backbone,
    Bound,
    Env,
    Learnt,
    Loops,
    Named,
    Op,
    Sequence,
    StageOf,
    Wire,
)
from tests.reference.layers import Layers, Result
from tests.reference.tape import broadcast
from tests.reference.weights import Weights, plain

WEIGHTED = ("conv", "linear")


class Network(Layers):
    """One forward pass of a network: its lines, stages, rules, connections and blocks."""

    def run(self, declaration: s.Declaration, module: Module) -> Result:
        """The network of a declaration, of its bases where it is a variant."""
        env, levels = self._levels(declaration, module)
        steps = env.definitions.get("steps")
        self.steps = int(self.evaluate(*steps)) if steps is not None else 1
        self.settings = {
            "norm": Op("batchnorm", OPERATIONS["batchnorm"], "norm"),
            "zero_init": False,
        }
        for name in ("surrogate", "neuron", "norm", "weight", "zero_init"):
            if name in env.definitions:
                value = self.defined(name, env)
                self.settings[name] = value.layer if isinstance(value, Named) else value
        self.settings["steps"] = self.steps
        source = self.evaluate(*env.definitions["input"])
        env.cache["input"] = source
        named = source if isinstance(source, dict) else {"in": source}
        for level in levels:
            level.values.update(named)
        if "out" in env.definitions:
            found = self.defined("out", env)
            outputs = found if isinstance(found, dict) else {"out": found}
        else:
            wire = source
            for part in ("stem", "stages", "head"):
                if part in env.definitions:
                    wire = self.apply(Named(part, self.defined(part, env)), wire)
            outputs = {"out": wire}
        for name, wire in outputs.items():
            self.result.outputs[name] = wire.data if wire.varies else wire.data[0]
        return self.result

    def _levels(self, declaration: s.Declaration, module: Module) -> tuple[Env, list[Env]]:
        """A network and its bases: a line of a variant stands in place of the base's."""
        definitions: dict[str, tuple[s.Expr, Env]] = {}
        cache: dict[str, Any] = {}
        loops = Loops()
        levels: list[Env] = []
        bound = Bound(declaration, module)
        while True:
            env = replace(self.complete(bound), definitions=definitions, cache=cache, loops=loops)
            levels.append(env)
            for item in bound.declaration.body or ():
                assert isinstance(item, s.Define)
                definitions.setdefault(item.name, (item.value, env))
            value = bound.declaration.value
            if value is None:
                return levels[0], levels
            name = value.function if isinstance(value, s.Call) else value
            assert isinstance(name, s.Name)
            resolved = bound.module.names[name.id]
            bound = Bound(resolved.declaration, resolved.module)
            if isinstance(value, s.Call):
                bound = self.bind(bound, value.args, env)

    def table(self, text: str) -> Wire:
        """The numbers of a table as they are stored, for all steps and samples."""
        shape = [int(size) for size in text.split(":")[1].split("x")]
        path = self.weights.path(self.scope, "table")
        numbers = np.frombuffer(b64decode(text.split(":")[2]), "<f8").reshape(shape)
        stored = self.weights.take(path, "numbers", *shape)
        assert np.allclose(stored.data, numbers, rtol=1e-6)
        steps = self.x.shape[0] if len(self.x.shape) == 5 else self.steps
        return Wire(broadcast(stored, (steps, self.x.shape[-4], *shape)), False)

    def input(self, name: str, shape: tuple[int, ...]) -> Wire:
        """The next channels of what is given: several inputs lie side by side in it."""
        first, last = self.given, self.given + shape[0]
        self.given = last
        channels = slice(first, last), slice(None), slice(None)
        x = self.x[(slice(None), *[slice(None)] * (len(self.x.shape) - 4), *channels)]
        assert x.shape[-3:] == shape
        if len(x.shape) == 5:
            return Wire(x, True)
        assert name == "image"
        return Wire(broadcast(x, (self.steps, *x.shape)), True)

    def tokens(self, vocabulary: int, length: int = 0) -> Wire:
        """Indices: one at each step, or ``length`` that are the same at each step."""
        self.vocabulary = vocabulary
        if len(self.x.shape) == 3:
            self.indices = self.x
        else:
            assert length == self.x.shape[1]
            self.indices = broadcast(self.x, (self.steps, *self.x.shape))
        return Wire(self.indices, True)

    # -- blocks ------------------------------------------------------------------------------------

    def self_wired(self, block: Bound, wire: Wire, known: Mapping[str, Any]) -> Wire:
        """A block that says what its ``out`` is."""
        env = self.complete(block)
        env.scope = self.scope
        env.values = {**known, "in": wire, **env.values}
        for item in block.declaration.body or ():
            assert isinstance(item, s.Define)
            env.definitions[item.name] = (item.value, env)
        result: Wire = self.defined("out", env)
        return result

    def backbone(self, backbone: Backbone, wire: Wire) -> Wire:
        if not self.scope:
            with self.within(self.fresh("stages")):
                return self.backbone(backbone, wire)
        for item in backbone.items:
            if not isinstance(item, StageOf):
                wire = self.apply(item, wire)
                continue
            number = self.stages[self.scope]
            self.stages[self.scope] += 1
            outer, self.settings = self.settings, {**self.settings, **item.settings}
            with self.within(str(number)):
                wire = self.stage(item, wire)
            self.settings = outer
        return wire

    def stage(self, stage: StageOf, entry: Wire) -> Wire:
        """Blocks, each fed as the rule says; without a rule by the one before.

        What a rule delays is that of a loop, as with lines that depend on themselves (``settled``).
        """
        rule = self.written_out(stage.rule) if stage.rule is not None else None
        loops = Loops()
        value: Wire = self.settled(loops, lambda: self._blocks(stage, entry, rule, loops))
        return value

    def _blocks(self, stage: StageOf, entry: Wire, rule: Bound | None, loops: Loops) -> Wire:
        inputs: list[Wire] = []
        outputs: list[Wire] = []
        lines: dict[str, s.Define] = {}
        known: dict[str, Any] = {"n": stage.count}
        if rule is not None:
            known = {**self.complete(rule).values, **known}
            lines = {
                item.name + "[0]" * isinstance(item.index, s.Number): item
                for item in rule.declaration.body or ()
                if isinstance(item, s.Define)
            }
        ports = {"entry": [entry], "in": inputs, "out": outputs}

        def said(line: s.Define, place: str, i: int = 0) -> Wire:
            assert rule is not None
            values = {line.index.id: i} if isinstance(line.index, s.Name) else {}
            scope = (*self.scope, *place.split("."))
            env = Env(rule.module, "rule", {**known, **values}, scope=scope, loops=loops)
            return self.rule_value(line.value, env, ports)

        for i in range(stage.count):
            feeds: dict[str, Wire] = {}
            for name, place in (("in", f"feeds.{i}"), ("shortcut", f"shortcuts.{i}")):
                line = lines.get(name if i else f"{name}[0]")
                if line is not None:
                    feeds[name] = said(line, place, i)
            feed = feeds.get("in", outputs[-1] if outputs else entry)
            inputs.append(feed)
            with self.within("blocks", str(i)):
                outputs.append(self.block(stage, feed, i, feeds.get("shortcut", feed)))
        return outputs[-1] if rule is None else said(lines["result"], "feeds.result")

    def rule_value(self, expr: s.Expr, env: Env, ports: Mapping[str, list[Any]]) -> Any:
        """An equation of a rule. Sums fold from the left."""
        match expr:
            case s.Name("in"):
                (value,) = ports["entry"]
                return value
            case s.At():
                (value,) = self.rule_values(expr, env, ports)
                return value
            case s.Flow(steps):
                return self._earlier(steps, env, ports)
            case s.IfElse(then, condition, otherwise):
                chosen = then if self.evaluate(condition, env) else otherwise
                return self.rule_value(chosen, env, ports)
            case s.Call(s.Name(name), args):
                values = [v for arg in args for v in self.rule_values(arg.value, env, ports)]
                if len(values) == 1:
                    return values[0]
                if _symbols(values):
                    return (name, *values)
                if name == "mean":
                    total = reduce(lambda a, b: self.join("+", a, b), values)
                    return self.join("*", total, 1 / len(values))
                if name == "sum":
                    return reduce(lambda a, b: self.join("+", a, b), values)
                return self.function(name, values)
            case s.Binary(op, left, right):
                sides = [
                    self.rule_value(side, env, ports)
                    if _reads_ports(side)
                    else self.evaluate(side, env)
                    for side in (left, right)
                ]
                if _symbols(sides):
                    learns = any(isinstance(side, Learn | Learnt) for side in sides)
                    return (op, env.scope, expr.span.start) if learns else (op, *sides)
                return self.join(op, *(self._of_rule(side, env) for side in sides))
        raise AssertionError(expr)

    def _earlier(self, steps: tuple[s.Expr, ...], env: Env, ports: Mapping[str, list[Any]]) -> Any:
        """What a value was some steps before: one, where the rule says the same of several blocks."""
        late = sum(int(self.layer(step, env).attrs["steps"]) for step in steps[1:])
        names = {name: [(name, j) for j in range(env.values["n"])] for name in ("in", "out")}
        symbols = {"entry": [("in",)], **names}
        key = late, self.rule_value(steps[0], env, symbols)
        if _symbols([port for values in ports.values() for port in values]):
            return ("delay", *key)
        loops = env.loops
        assert loops.reads is not None
        if key not in loops.reads:
            with self.within("blocks"):
                start = self.carried("delay")
            if start is None:  # of no loop: there already
                now = self.rule_value(steps[0], env, ports)
                loops.reads[key] = lambda: now, late, self.delayed(now, late)
            else:
                wire = loops.guesses.get(key, start)
                loops.reads[key] = lambda: self.rule_value(steps[0], env, ports), late, wire
        return loops.reads[key][2]

    def _of_rule(self, side: Any, env: Env) -> Any:
        """A factor of a rule's equation: learnt numbers are the next ones of the place of that."""
        if not isinstance(side, Learn | Learnt):
            return side
        found = side if isinstance(side, Learnt) else Learnt(side)
        names = (path for name in self.weights.state if (path := plain(name))[:-2] == env.scope)
        leaf = next(path[-2] for path in names if (*env.scope, path[-2]) not in self.learnt)
        return replace(found, name=leaf, scope=env.scope)

    def rule_values(self, expr: s.Expr, env: Env, ports: Mapping[str, list[Any]]) -> list[Any]:
        match expr:
            case s.Each(value, variable, low, high, condition):
                found = []
                for place in range(int(self.evaluate(low, env)), int(self.evaluate(high, env)) + 1):
                    inner = replace(env, values={**env.values, variable: place})
                    if condition is None or self.evaluate(condition, inner):
                        found.append(self.rule_value(value, inner, ports))
                return found
            case s.At(s.Name(port), indices):
                values = []
                for index in indices:
                    ends = (index.low, index.high) if isinstance(index, s.Range) else (index, index)
                    first, last = (int(self.evaluate(end, env)) for end in ends)
                    values += [ports[port][j] for j in range(first, last + 1)]
                return values
        return [self.rule_value(expr, env, ports)]

    def block(self, stage: StageOf, wire: Wire, i: int, start: Wire) -> Wire:
        """Block i of a stage: the stride is the opening one's."""
        stride = stage.stride if i == 0 else 1
        block = stage.block
        if not isinstance(block, Bound):  # a flow
            assert stride == 1
            block = block() if callable(block) else block
            if stage.connection is None:
                return self.apply(block, wire)
            wired = self.written_out(stage.connection)
            return self.connected(block, wired, wire, i, stage.count, stride, start)
        names = [param.name for param in block.declaration.params]
        if "stride" in names and "stride" not in block.args:
            block = replace(block, args={**block.args, "stride": stride})
        stride = int(block.args.get("stride", stride))
        block = self.written_out(block)
        if stage.connection is None:
            return self.self_wired(block, wire, {"i": i, "n": stage.count})
        return self.connected(
            block, self.written_out(stage.connection), wire, i, stage.count, stride, start
        )

    def connected(
        self, block: Any, connection: Bound, wire: Wire, i: int, n: int, stride: int, start: Wire
    ) -> Wire:
        """A block in its connection; its shortcut begins with ``start``."""
        env = self.complete(connection)
        env.values |= {"stride": stride, "i": i, "n": n, "in": wire}
        env.scope, env.block_layers = self.scope, True
        plain = replace(env, block_layers=False)
        for item in connection.declaration.body or ():
            assert isinstance(item, s.Define)
            around = item.name in ("each", "last", "projection", "identity")
            env.definitions[item.name] = (item.value, env if around else plain)
        if isinstance(block, Bound) and block.declaration.body is not None:
            with self.within("branch"):
                branch = self.self_wired(block, wire, {"i": i, "n": n})
            env.values["channels"] = branch.data.shape[2]
        else:
            flow = block
            if isinstance(block, Bound):
                assert block.declaration.value is not None
                flow = self.evaluate(block.declaration.value, self.complete(block), "layer")
            layers = list(_flat(flow))
            env.values["channels"] = int(layers[-1].attrs["width"])
            branch = self.branch(layers, env, wire)
        env.values["branch"] = branch
        if self._mentions(self._chosen(env, plain), "shortcut", env):
            env.values["shortcut"] = self.shortcut(env, start, branch, stride)
        result: Wire = self.defined("out", plain)
        return result

    def _chosen(self, env: Env, plain: Env) -> s.Expr:
        """What the conditions of ``out`` choose for this block."""
        expr, _ = env.definitions["out"]
        while isinstance(expr, s.IfElse):
            expr = expr.then if self.evaluate(expr.condition, plain) else expr.otherwise
        return expr

    def _mentions(self, expr: s.Expr, name: str, env: Env) -> bool:
        """Whether an expression names something, itself or by the lines that it names."""
        names = {node.id for node in s.walk(expr) if isinstance(node, s.Name)}
        lines = [env.definitions[each][0] for each in names & env.definitions.keys()]
        return name in names or any(self._mentions(line, name, env) for line in lines)

    def branch(self, layers: list[Any], env: Env, wire: Wire) -> Wire:
        """Each weighted layer with ``each`` around it, the last of them with ``last``."""
        with self.within("branch"):
            for place, layer in enumerate(layers):
                if not (isinstance(layer, Op) and layer.name in WEIGHTED):
                    wire = self.apply(layer, wire)
                    continue
                ends = place == len(layers) - 1
                around = self.defined("last" if ends and "last" in env.definitions else "each", env)
                self.block_layers.append(layer)
                before = len(self.weights.started)
                wire = self.apply(around, wire)
                self.block_layers.pop()
            if self.settings["zero_init"]:
                norms = [
                    name
                    for name in self.weights.started[before:]
                    if name.endswith(".weight") and "weight_layer" not in name.split(".")
                ]
                self.weights.starts[norms[-1]] = 0.0
        return wire

    def shortcut(self, env: Env, wire: Wire, branch: Wire, stride: int) -> Wire:
        """The block's input: through ``projection`` where the shape changes, else ``identity``."""
        same = wire.data.shape == branch.data.shape
        name = "identity" if same else "projection"
        if same and name not in env.definitions:
            return wire
        layer = self.defined(name, env)
        op = "conv" if len(wire.data.shape) == 5 else "linear"
        attrs = {**OPERATIONS[op], "width": env.values["channels"]}
        if op == "conv":
            attrs |= {"kernel": 1, "stride": stride}
        self.block_layers.append(Op(op, attrs, op))
        with self.within("shortcut"):
            wire = self.apply(layer, wire)
        self.block_layers.pop()
        return wire


def _flat(layer: Any) -> Iterator[Any]:
    """The layers of a flow, names and parentheses opened."""
    match layer:
        case Sequence(steps):
            for step in steps:
                yield from _flat(step)
        case Named(_, inner):
            yield from _flat(inner)
        case _:
            yield layer


def _reads_ports(expr: s.Expr) -> bool:
    return any(isinstance(node, s.Name) and node.id in ("in", "out") for node in s.walk(expr))


__all__ = ["Network", "Result", "Weights"]


def _symbols(values: list[Any]) -> bool:
    """Whether values are known by what a rule says of them alone, not as numbers."""
    return any(isinstance(value, tuple) for value in values)
