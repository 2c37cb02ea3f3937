"""The parts of the language that a spec uses, as rows derived from the language's own tables."""

from collections.abc import Iterable, Iterator

from danetc.compiler import Checked
from danetc.compiler.ir.graph import Graph
from danetc.compiler.ir.ops import OPS
from danetc.compiler.ir.ops.row import nothing
from danetc.compiler.ir.rule_forms import Delayed, sources
from danetc.compiler.lowering.environment import JOINS, MATH, SPECIAL
from danetc.compiler.lowering.networks import SETTINGS as NETWORK_SETTINGS
from danetc.dsl.first_weights import FIRST_WEIGHTS
from danetc.dsl.neuron.opcodes import functions
from danetc.dsl.recipe.items import ITEMS
from danetc.dsl.recipe.scope import FUNCTIONS
from danetc.dsl.recipe.settings import SETTINGS
from danetc.dsl.syntax import tree as s

_NODES = ("Number", "Call", "At", "Range", "Each", "IfElse", "Flow", "Via", "By", "With")
_OPERATORS = ("+", "-", "*", "/", "<", "<=", ">", ">=", "==", "!=", "and", "or", "not", "negation")
_PARTS = ("each", "last", "projection", "identity", "out")
_PLACES = {
    "network": _OPERATORS,
    "equations": _OPERATORS,
    "rules": ("+", "*", "/", "-", "==", "or"),
    "recipes": ("+", "-", "*", "/"),
}
"""Places of expressions, and the operators that must be covered there."""
_PLACE_OF = {"neuron": "equations", "surrogate": "equations", "rule": "rules", "recipe": "recipes"}


def rows() -> dict[str, int]:
    """Every row, with the number of its uses (0)."""
    parts: dict[str, Iterable[str]] = {
        # Operations that passes and lowering insert (`repeat`, `flatten`) count too. A table is left
        # out, since it reads a file.
        "operation": (
            name
            for name, row in OPS.items()
            if not (row.emit is nothing or row.opaque or name == "table")
        ),
        "function of equations": functions(),
        "function of numbers": {*MATH, *SPECIAL} - {"learn", "python", "table"},
        "function of recipes": FUNCTIONS,
        "declaration of a": s.DECLARATION_KINDS,
        "variant of a": ("network", "recipe"),
        "alias of a": ("block", "neuron"),
        "setting of a network": NETWORK_SETTINGS,
        "with": ("neuron", "surrogate", "norm"),
        "part of a connection": _PARTS,
        "join of a rule": JOINS,
        "expression": _NODES,
        "recipe setting": SETTINGS,
    }
    names = [f"{part} {name}" for part, of in parts.items() for name in of]
    names += [f"operator {op} of {place}" for place, ops in _PLACES.items() for op in ops]
    names += ["rule of earlier steps", "state", "block that wires itself", "block of weights"]
    names += ["several outputs"]
    for family, items in ITEMS.items():
        for name, item in items.items():
            names.append(f"recipe {family} {name}")
            names += [f"recipe {family} {name} {each.name}" for each in item.arguments]
    return dict.fromkeys(names, 0)


def used(checked: Checked, graphs: list[Graph]) -> set[str]:
    """The rows that a spec's own text and its networks use."""
    found = {f"operation {node.op}" for graph in graphs for node in graph.nodes.values()}
    if any(len(graph.outputs) > 1 for graph in graphs):
        found.add("several outputs")
    stages = [stage for graph in graphs for stage in graph.stages]
    forms = [form for stage in stages for block in stage.blocks for _, form in block.feeds]
    forms += [stage.result_form for stage in stages]
    if any(isinstance(source, Delayed) for form in forms for source in sources(form)):
        found.add("rule of earlier steps")
    for declaration in checked.module.program.declarations:
        found.update(_declared(declaration))
    return found


def _declared(item: s.Declaration) -> Iterator[str]:
    kind = item.kind
    yield f"declaration of a {kind}"
    if item.value is not None and item.body is not None:
        yield f"variant of a {kind}"
    if kind == "block":
        yield "block that wires itself" if item.body is not None else "block of weights"
    if kind in ("block", "neuron") and not isinstance(item.value, s.Flow | None):
        yield f"alias of a {kind}"
    for line in item.body or ():
        if isinstance(line, s.State):
            yield "state"
        elif isinstance(line, s.Group):
            yield from (f"recipe setting {inner.name}" for inner in line.body)
        elif kind == "network":
            yield f"setting of a network {line.name}"
        elif kind == "connection":
            yield f"part of a connection {line.name}"
        elif kind == "recipe":
            yield f"recipe setting {line.name}"
    for node in s.walk(item):
        yield from _node(kind, node)


def _node(kind: str, node: s.Node) -> Iterator[str]:
    yield f"expression {type(node).__name__}"
    place = _PLACE_OF.get(kind, "network")
    match node:
        case s.Call(s.Name(name), args):
            if kind == "recipe":
                yield f"function of recipes {name}"
                yield from _item(name, args)
            elif place == "equations":
                yield f"function of equations {name}"
            elif kind == "rule":
                yield f"join of a rule {name}"
            else:
                yield f"function of numbers {name}"
        case s.Name(name) if kind == "recipe":
            yield from _item(name, ())
        case s.Name(name) if name in FIRST_WEIGHTS:
            yield f"function of numbers {name}"
        case s.Binary(op):
            yield f"operator {op} of {place}"
        case s.Unary(op):
            yield f"operator {'negation' if op == '-' else op} of {place}"
        case s.With(_, settings):
            yield from (f"with {arg.name}" for arg in settings)


def _item(name: str, args: tuple[s.Arg, ...]) -> Iterator[str]:
    for family, items in ITEMS.items():
        if name in items:
            yield f"recipe {family} {name}"
            yield from (f"recipe {family} {name} {arg.name}" for arg in args if arg.name)
