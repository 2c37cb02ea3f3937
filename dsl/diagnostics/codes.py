"""Registry of errors and warnings. A new code is a row here and a page in ``explain/``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

Severity = Literal["error", "warning"]
"""A warning is about a spec that builds and looks suspicious."""


CODES: Mapping[str, str] = {
    # errors: syntax
    "E0101": "something is missing or out of place",
    "E0102": "a body is not closed where the next declaration begins",
    "E0103": "a bracket is not closed",
    "E0104": "a bracket closes nothing",
    "E0105": "a character that is not part of the language",
    "E0106": "a string is not written as one",
    "E0107": "a number is not written as one",
    "E0108": "something is missing between two values",
    "E0109": "a sum stands in a flow without parentheses",
    "E0110": "a power operator",
    "E0111": "a statement that is not `name = value`",
    "E0112": "`=` and `==` are mixed up",
    "E0113": "a reserved word as a name",
    "E0114": "an unknown word where a declaration begins",
    "E0115": "a statement outside of every declaration",
    "E0116": "a `,` or `;` out of place",
    "E0117": "a chain of comparisons",
    "E0118": "a sign of another language",
    "E0119": "a value is missing",
    "E0120": "`if` and `else` do not pair",
    "E0121": "a file in a later version of the language",
    # errors: names and files
    "E0201": "there is no such file",
    "E0202": "the file cannot be read as text",
    "E0203": "files or recipes that use each other in a circle",
    "E0204": "two declarations of one name",
    "E0205": "a name that the file does not declare",
    "E0206": "one name is declared twice",
    "E0207": "there is no such library",
    "E0210": "a name is unknown",
    "E0211": "something is defined by itself",
    "E0212": "a name is defined twice",
    "E0220": "several networks, and none chosen",
    # errors: arguments and settings
    "E0301": "there is no such parameter",
    "E0302": "something is given twice",
    "E0303": "the number of arguments is wrong",
    "E0304": "a value of another type is needed",
    "E0305": "a number is out of range",
    "E0306": "a constant cannot be computed",
    "E0307": "an argument is missing",
    "E0308": "a definition has no effect",
    "E0309": "the network has no such setting",
    # errors: what stands where
    "E0401": "a layer is needed",
    "E0402": "a value is needed",
    "E0403": "another kind of declaration is needed",
    "E0404": "the network does not say something that it needs",
    "E0405": "this cannot stand here",
    "E0406": "these cannot be joined",
    "E0408": "a declaration without the form of its kind",
    "E0409": "the backbone has no such stage",
    "E0410": "learnt numbers whose size nothing tells",
    "E0411": "a shared layer that does not fit where it stands",
    # errors: values and shapes
    "E0501": "an operation does not fit the shape of its input",
    "E0502": "the input is not an input",
    "E0503": "a norm that starts at 0 and silences a block",
    "E0504": "no gradient reaches some weights",
    "E0505": "an order of products that is not there",
    "E0506": "something in a loop over time that needs all steps",
    "E0507": "the shape of a loop over time is not known, or is two",
    # errors: connections and rules
    "E0601": "a connection does not say what a block gives",
    "E0602": "the shortcut does not fit the branch",
    "E0603": "a block is fed by a block that comes after it",
    "E0604": "a part of the connection would have no effect",
    "E0605": "blocks have no connection",
    "E0606": "a connection does not say where the weights stand",
    "E0607": "a rule without its two equations",
    "E0608": "a rule cannot say this",
    "E0609": "an index of a rule does not exist",
    "E0610": "a rule feeds a shortcut that blocks do not have",
    # errors: neurons and surrogates
    "E0701": "an unknown name in an equation",
    "E0702": "a name is read before it has a value",
    "E0703": "a name gets a value twice",
    "E0704": "the input or the output as a state",
    "E0705": "a neuron without an output",
    "E0706": "a state that never changes",
    "E0707": "a call of something that is no function",
    "E0708": "wrong values for a function",
    "E0709": "something in an equation that is not arithmetic on numbers",
    "E0710": "a constant without a value",
    "E0711": "something learnt that cannot be",
    "E0712": "no way from the input to the output",
    "E0713": "a surrogate with both of `y` and `dy`, or with neither",
    "E0714": "a surrogate that cannot stand in for the step",
    "E0715": "a state that starts at something other than a constant",
    "E0716": "equations that are too long",
    "E0717": "a delay or a `for` that is not counted in whole numbers",
    # errors: recipes
    "E0801": "a recipe has no such setting",
    "E0802": "a setting of the wrong kind",
    "E0803": "a number out of range",
    "E0804": "no such optimizer, schedule, loss or augmentation",
    "E0805": "a setting or an argument is missing",
    "E0806": "a phase starts from no earlier phase",
    "E0807": "milestones that are out of order or never reached",
    "E0808": "the warm-up takes all epochs",
    "E0809": "a setting is given twice",
    "E0810": "what a recipe varies is not a recipe",
    "E0811": "settings that do not go together",
    # errors: bounds
    "E0901": "a file, or what it uses, that is too large",
    "E0902": "nested too deeply",
    "E0903": "more operations than danetc builds",
    "E0904": "more parameters than danetc builds",
    "E0905": "larger activations than danetc builds",
    "E0906": "a spec asks for more than is checked",
    "E0907": "more errors than are shown",
    # warnings: what has no effect
    "W0101": "an import that is never used",
    "W0102": "a declaration that is never used",
    "W0103": "a parameter that is never read",
    "W0104": "shortcut layers in a connection without a shortcut",
    "W0105": "an equation without effect on the output",
    # warnings: layers
    "W0201": "arguments in PyTorch's order",
    "W0202": "an even kernel with the default padding",
    "W0203": "a window over a map of one pixel",
    "W0204": "a stride that skips pixels",
    "W0205": "a bias before a norm",
    "W0206": "a norm directly after a norm",
    "W0207": "a mean over time of a value without time",
    # warnings: neurons
    "W0301": "a leak outside of 0 .. 1",
    "W0302": "a neuron whose output never changes",
    "W0303": "a neuron that fires without input",
    "W0304": "a neuron directly after a neuron",
    "W0305": "a neuron without the network's settings",
    "W0306": "neurons with a state and a single step",
    "W0308": "the network's neuron or norm is not used",
    "W0309": "a learnt divisor without a bound",
    # warnings: recipes
    "W0401": "a learning rate that is too high",
    "W0402": "a phase that no phase starts from",
    "W0403": "training and test images are normalised differently",
}
"""Title of each code, which heads the page that `danetc explain CODE` prints."""


def severity(code: str) -> Severity:
    return "warning" if code.startswith("W") else "error"
