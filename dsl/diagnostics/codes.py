"""THE registry of codes of errors and warnings. A new one is a row here and a page in ``explain``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from danetc.dsl.record import record

Severity = Literal["error", "warning"]
"""A warning is of what builds and is suspicious."""


@record
class Code:
    """A row. ``title`` names the fault; it heads the page that `danetc explain CODE` prints."""

    code: str
    title: str

    @property
    def severity(self) -> Severity:
        return "warning" if self.code.startswith("W") else "error"


_ROWS = (
    # errors: syntax
    Code("E0101", "something is missing or out of place"),
    Code("E0102", "a body is not closed where the next declaration begins"),
    Code("E0103", "a bracket is not closed"),
    Code("E0104", "a bracket closes nothing"),
    Code("E0105", "a character that is not part of the language"),
    Code("E0106", "a string is not written as one"),
    Code("E0107", "a number is not written as one"),
    Code("E0108", "something is missing between two values"),
    Code("E0109", "a sum stands in a flow without parentheses"),
    Code("E0110", "a power operator"),
    Code("E0111", "a statement that is not `name = value`"),
    Code("E0112", "`=` and `==` are mixed up"),
    Code("E0113", "a reserved word as a name"),
    Code("E0114", "an unknown word where a declaration begins"),
    Code("E0115", "a statement outside of every declaration"),
    Code("E0116", "a `,` or `;` out of place"),
    Code("E0117", "a chain of comparisons"),
    Code("E0118", "a sign of another language"),
    Code("E0119", "a value is missing"),
    Code("E0120", "`if` and `else` do not pair"),
    Code("E0121", "a file in a later version of the language"),
    # errors: names and files
    Code("E0201", "there is no such file"),
    Code("E0202", "the file cannot be read as text"),
    Code("E0203", "files or recipes that use each other in a circle"),
    Code("E0204", "two declarations of one name"),
    Code("E0205", "a name that the file does not declare"),
    Code("E0206", "one name is declared twice"),
    Code("E0207", "there is no such library"),
    Code("E0210", "a name is unknown"),
    Code("E0211", "something is defined by itself"),
    Code("E0212", "a name is defined twice"),
    Code("E0220", "several networks, and none chosen"),
    # errors: arguments and settings
    Code("E0301", "there is no such parameter"),
    Code("E0302", "something is given twice"),
    Code("E0303", "the number of arguments is wrong"),
    Code("E0304", "a value of another type is needed"),
    Code("E0305", "a number is out of range"),
    Code("E0306", "a constant cannot be computed"),
    Code("E0307", "an argument is missing"),
    Code("E0308", "a definition has no effect"),
    Code("E0309", "the network has no such setting"),
    # errors: what stands where
    Code("E0401", "a layer is needed"),
    Code("E0402", "a value is needed"),
    Code("E0403", "another kind of declaration is needed"),
    Code("E0404", "the network does not say something that it needs"),
    Code("E0405", "this cannot stand here"),
    Code("E0406", "these cannot be joined"),
    Code("E0408", "a declaration without the form of its kind"),
    Code("E0409", "the backbone has no such stage"),
    Code("E0410", "learnt numbers whose size nothing tells"),
    Code("E0411", "a shared layer that does not fit where it stands"),
    # errors: values and shapes
    Code("E0501", "an operation does not fit the shape of its input"),
    Code("E0502", "the input is not an input"),
    Code("E0503", "a norm that starts at 0 and silences a block"),
    Code("E0504", "no gradient reaches some weights"),
    Code("E0505", "an order of products that is not there"),
    Code("E0506", "something in a loop over time that needs all steps"),
    Code("E0507", "the shape of a loop over time is not known, or is two"),
    # errors: connections and rules
    Code("E0601", "a connection does not say what a block gives"),
    Code("E0602", "the shortcut does not fit the branch"),
    Code("E0603", "a block is fed by a block that comes after it"),
    Code("E0604", "a part of the connection would have no effect"),
    Code("E0605", "blocks have no connection"),
    Code("E0606", "a connection does not say where the weights stand"),
    Code("E0607", "a rule without its two equations"),
    Code("E0608", "a rule cannot say this"),
    Code("E0609", "an index of a rule does not exist"),
    Code("E0610", "a rule feeds a shortcut that blocks do not have"),
    # errors: neurons and surrogates
    Code("E0701", "an unknown name in an equation"),
    Code("E0702", "a name is read before it has a value"),
    Code("E0703", "a name gets a value twice"),
    Code("E0704", "the input or the output as a state"),
    Code("E0705", "a neuron without an output"),
    Code("E0706", "a state that never changes"),
    Code("E0707", "a call of something that is no function"),
    Code("E0708", "wrong values for a function"),
    Code("E0709", "something in an equation that is not arithmetic on numbers"),
    Code("E0710", "a constant without a value"),
    Code("E0711", "something learnt that cannot be"),
    Code("E0712", "no way from the input to the output"),
    Code("E0713", "a surrogate with both of `y` and `dy`, or with neither"),
    Code("E0714", "a surrogate that cannot stand in for the step"),
    Code("E0715", "a state that starts at something other than a constant"),
    Code("E0716", "equations that are too long"),
    Code("E0717", "a delay or a `for` that is not counted in whole numbers"),
    # errors: recipes
    Code("E0801", "a recipe has no such setting"),
    Code("E0802", "a setting of the wrong kind"),
    Code("E0803", "a number out of range"),
    Code("E0804", "no such optimizer, schedule, loss or augmentation"),
    Code("E0805", "a setting or an argument is missing"),
    Code("E0806", "a phase starts from no earlier phase"),
    Code("E0807", "milestones that are out of order or never reached"),
    Code("E0808", "the warm-up takes all epochs"),
    Code("E0809", "a setting is given twice"),
    Code("E0810", "what a recipe varies is not a recipe"),
    Code("E0811", "settings that do not go together"),
    # errors: bounds
    Code("E0901", "a file, or what it uses, that is too large"),
    Code("E0902", "nested too deeply"),
    Code("E0903", "more operations than danetc builds"),
    Code("E0904", "more parameters than danetc builds"),
    Code("E0905", "larger activations than danetc builds"),
    Code("E0906", "a spec asks for more than is checked"),
    Code("E0907", "more errors than are shown"),
    # warnings: what has no effect
    Code("W0101", "an import that is never used"),
    Code("W0102", "a declaration that is never used"),
    Code("W0103", "a parameter that is never read"),
    Code("W0104", "shortcut layers in a connection without a shortcut"),
    Code("W0105", "an equation without effect on the output"),
    # warnings: layers
    Code("W0201", "arguments in PyTorch's order"),
    Code("W0202", "an even kernel with the default padding"),
    Code("W0203", "a window over a map of one pixel"),
    Code("W0204", "a stride that skips pixels"),
    Code("W0205", "a bias before a norm"),
    Code("W0206", "a norm directly after a norm"),
    Code("W0207", "a mean over time of a value without time"),
    # warnings: neurons
    Code("W0301", "a leak outside of 0 .. 1"),
    Code("W0302", "a neuron whose output never changes"),
    Code("W0303", "a neuron that fires without input"),
    Code("W0304", "a neuron directly after a neuron"),
    Code("W0305", "a neuron without the network's settings"),
    Code("W0306", "neurons with a state and a single step"),
    Code("W0308", "the network's neuron or norm is not used"),
    Code("W0309", "a learnt divisor without a bound"),
    # warnings: recipes
    Code("W0401", "a learning rate that is too high"),
    Code("W0402", "a phase that no phase starts from"),
    Code("W0403", "training and test images are normalised differently"),
)
CODES: Mapping[str, Code] = {row.code: row for row in _ROWS}
