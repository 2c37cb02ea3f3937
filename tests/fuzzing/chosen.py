"""The cases that the tests run: a few that use the whole language. (``make fuzz`` runs others.)

``python -m tests.fuzzing.chosen`` chooses them again after a change of the generator. Until then, the
listed cases are still valid.
"""

from danetc.compiler import check_text, graph_of
from danetc.dsl.diagnostics.diagnostic import SpecError
from tests.fuzzing import run
from tests.fuzzing.coverage import rows, used
from tests.fuzzing.dice import Dice
from tests.fuzzing.forms import FORMS

CASES = (
    28, 43, 48, 61, 75, 77, 99, 149, 151, 188, 219, 257, 295, 339, 446, 458, 495, 498, 501, 560,
    580, 582, 599, 618, 635, 648, 674, 717, 723,
)  # fmt: skip

POOL, OF_A_FORM = 800, 3
"""Of the first ``POOL`` cases, one uses each row of the language, and ``OF_A_FORM`` use each form."""
FIXED = 300
"""Fixed cost of a case, as a number of operations of one step."""


def chosen() -> list[int]:
    """A cheap cover by greedy choice: the next case has the most missing rows for its cost."""
    known = rows()
    uses: dict[int, set[str]] = {}
    costs: dict[int, int] = {}
    for number in range(POOL):
        try:
            checked = check_text(run.text_of(number))
        except SpecError:
            continue
        graphs = [graph_of(checked, name) for name in checked.networks]
        form = f"form {Dice(number).choice(FORMS)}"
        uses[number] = {row for row in used(checked, graphs) if row in known} | {form}
        costs[number] = FIXED + sum(len(graph.nodes) * graph.steps for graph in graphs)
    missing = dict.fromkeys(known, 1) | {f"form {form}": OF_A_FORM for form in FORMS}
    found: list[int] = []

    def worth(number: int) -> float:
        return sum(missing[row] > 0 for row in uses[number]) / costs[number]

    while uses and worth(best := max(uses, key=worth)) > 0:
        found.append(best)
        for row in uses.pop(best):
            missing[row] -= 1
    return sorted(found)


if __name__ == "__main__":
    print(*chosen(), sep=", ")
