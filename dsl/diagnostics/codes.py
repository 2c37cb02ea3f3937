"""Registry of errors and warnings. A new code is a row here and a page in ``explain/``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

Severity = Literal["error", "warning"]
"""A spec with an error cannot be built. A warning points out text that is probably wrong."""


CODES: Mapping[str, str] = {
    # errors: syntax
    "E0101": "unexpected or missing token",
    "E0102": "missing `}` before the next declaration",
    "E0103": "unclosed bracket",
    "E0104": "unmatched closing bracket",
    "E0105": "invalid character",
    "E0106": "invalid string",
    "E0107": "invalid number",
    "E0108": "missing operator or separator between two values",
    "E0109": "sum in a flow without parentheses",
    "E0110": "power operator",
    "E0111": "statement is not of the form `name = value`",
    "E0112": "confusion of `=` and `==`",
    "E0113": "reserved word used as a name",
    "E0114": "unknown kind of declaration",
    "E0115": "statement outside a declaration",
    "E0116": "misplaced `,` or `;`",
    "E0117": "chained comparison",
    "E0118": "syntax of another language",
    "E0119": "missing value",
    "E0120": "`if` without `else`, or `else` without `if`",
    "E0121": "file written for a later version of the language",
    # errors: names and files
    "E0201": "file not found",
    "E0202": "file cannot be read as text",
    "E0203": "files or recipes depend on each other in a cycle",
    "E0204": "conflicting declarations of a name",
    "E0205": "imported name is not declared in the file",
    "E0206": "duplicate declaration",
    "E0207": "unknown library",
    "E0210": "unknown name",
    "E0211": "recursive definition",
    "E0212": "name defined twice",
    "E0220": "several networks and none selected",
    # errors: arguments and settings
    "E0301": "unknown parameter",
    "E0302": "argument given twice",
    "E0303": "wrong number of arguments",
    "E0304": "argument of the wrong type",
    "E0305": "number out of range",
    "E0306": "constant cannot be computed",
    "E0307": "missing argument",
    "E0308": "definition has no effect",
    "E0309": "unknown setting of the network",
    # errors: layers and declarations
    "E0401": "expected a layer",
    "E0402": "expected a value",
    "E0403": "wrong kind of declaration",
    "E0404": "missing setting of the network",
    "E0405": "expression not allowed here",
    "E0406": "operands cannot be combined",
    "E0408": "malformed block or backbone",
    "E0409": "stage index out of range",
    "E0410": "learnable parameter or random numbers of unknown shape",
    "E0411": "shared layer receives an incompatible input",
    # errors: values and shapes
    "E0501": "operation does not fit the shape of its input",
    "E0502": "invalid network input",
    "E0503": "zero-initialised norm silences a block",
    "E0504": "weights receive no gradient",
    "E0506": "operation in a loop over time needs all time steps",
    "E0507": "unknown or inconsistent shape of a loop over time",
    "E0508": "layer in Python cannot be used",
    "E0509": "table of numbers cannot be used",
    "E0510": "layer cannot be applied to a weight",
    # errors: connections and rules
    "E0601": "connection does not define the output of a block",
    "E0602": "shortcut does not match the branch",
    "E0603": "block reads a later block",
    "E0604": "part of the connection has no effect",
    "E0605": "blocks without a connection",
    "E0606": "connection does not place the layers of the block",
    "E0607": "missing equation of a rule",
    "E0608": "unsupported expression in a rule",
    "E0609": "block index of a rule out of range",
    "E0610": "rule feeds a shortcut that the blocks do not have",
    # errors: neurons and surrogates
    "E0701": "unknown name in an equation",
    "E0702": "name read before it is assigned",
    "E0703": "name assigned twice",
    "E0704": "input or output declared as a state",
    "E0705": "neuron without an output",
    "E0706": "state never changes",
    "E0707": "call of something that is not a function",
    "E0708": "wrong arguments of a function",
    "E0709": "equation contains more than arithmetic on numbers",
    "E0710": "constant in an equation cannot be computed",
    "E0711": "invalid learnable parameter",
    "E0712": "output does not depend on the input",
    "E0713": "surrogate must define either `y` or `dy`",
    "E0714": "invalid surrogate",
    "E0715": "initial value of a state is not a constant",
    "E0716": "equations are too long",
    "E0717": "delay or range of a `for` is not a constant integer",
    "E0718": "invalid random numbers",
    # errors: recipes
    "E0801": "unknown setting of a recipe",
    "E0802": "setting of the wrong type",
    "E0803": "setting out of range",
    "E0804": "unknown optimizer, schedule, loss or augmentation",
    "E0805": "missing setting or argument",
    "E0806": "phase does not start from an earlier phase",
    "E0807": "milestones out of order or never reached",
    "E0808": "warm-up takes all epochs",
    "E0809": "setting given twice",
    "E0810": "base of a recipe is not a recipe",
    "E0811": "incompatible settings",
    # errors: bounds
    "E0901": "files or recipes are too large",
    "E0902": "expression nested too deeply",
    "E0903": "too many operations",
    "E0904": "too many parameters",
    "E0905": "activations are too large",
    "E0906": "check needs too much work",
    "E0907": "too many errors",
    # warnings: unused code
    "W0101": "unused import",
    "W0102": "unused declaration",
    "W0103": "unused parameter",
    "W0105": "equation has no effect on the output",
    # warnings: layers
    "W0201": "arguments in PyTorch's order",
    "W0202": "even kernel with the default padding",
    "W0203": "window over a map of one pixel",
    "W0205": "bias before a norm",
    "W0206": "norm directly after a norm",
    # warnings: neurons
    "W0301": "leak outside 0 to 1",
    "W0302": "neuron output never changes",
    "W0304": "neuron directly after a neuron",
    "W0305": "neuron without the network's settings",
    "W0306": "stateful neurons with a single time step",
    "W0308": "network's neuron or norm is not used",
    # warnings: recipes
    "W0401": "learning rate is too high",
    "W0402": "phase whose weights are not used",
    "W0403": "training and test images are normalised differently",
}
"""Title of each code, which is the heading of its page in `danetc explain CODE`."""


def severity(code: str) -> Severity:
    return "warning" if code.startswith("W") else "error"
