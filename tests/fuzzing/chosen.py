"""The cases that the tests run, chosen so that few use the whole language. (``make fuzz`` runs others.)

``python -m tests.fuzzing.chosen`` chooses them anew, after changes of the generator. Until then they
are cases as good as any.
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
"""Of the first ``POOL`` cases: each row of the language in one, and so many networks in each form."""
FIXED = 300
"""What a case costs besides its operations at each step, in such operations."""


def chosen() -> list[int]:
    """The cheapest cover, by greedy choice: the most of what is missing for what it costs."""
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
