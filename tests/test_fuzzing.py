"""Generated and mutated specs, in every form, are compared with the interpreter. The cases are fixed.

``make fuzz`` runs others, for a given time.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch

from danetc.compiler import check_text, graph_of
from danetc.compiler.ir.ops import OPS, REQUIRED
from danetc.dsl.recipe.items import LOSSES
from danetc.runtime.training import optim
from tests.differential.networks import VARIETY
from tests.fuzzing import run
from tests.fuzzing.chosen import CASES
from tests.fuzzing.compare import Case, Mismatch
from tests.fuzzing.coverage import rows, used
from tests.fuzzing.forms import check_network
from tests.reference.language import OPERATIONS
from tests.reference.training import LOSSES as HELD

PARTS = 3
"""Each part takes seconds of a core, so that the parts spread over processes."""


pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.thorough
@pytest.mark.parametrize("part", range(PARTS))
def test_models_do_what_the_interpreter_does(part: int) -> None:
    tally = run.Tally()
    numbers = CASES[part::PARTS]
    for number in numbers:
        run.attempt(number, tally)
    shown = [f"case {item.number}: {item.error}\n{item.text}" for item in tally.failures]
    assert not shown, "\n\n".join(shown)
    assert tally.outcomes["specs accepted"] >= len(numbers) // 2
    assert sum(tally.case.compared.values()) >= 2 * len(numbers)


# -- the cases themselves --------------------------------------------------------------------------


UNWRITTEN = (*(f"recipe loss {name}" for name in LOSSES if name not in HELD), "operation reshape",
             "recipe part", "recipe setting freeze", "recipe setting lr_scale",
             "recipe optimizer python", "recipe augment python")  # fmt: skip
"""Rows that the generator does not write: losses that read membrane potentials, files and other networks,
which test_losses compares with others; optimizers and augmentation in Python; ``reshape``, which networks
of the zoo have; and parts of a network, which test_parts compares with a loop of torch."""


@pytest.mark.thorough
def test_the_cases_use_the_language() -> None:
    """Every operation, function, statement and recipe setting of the tables is used, except a few."""
    unseen = {row for row in rows() if not row.startswith(UNWRITTEN)}
    for number in CASES:
        checked = check_text(run.text_of(number))
        unseen -= used(checked, [graph_of(checked, name) for name in checked.networks])
    assert unseen == set()


# -- the comparison finds faults that were put in ----------------------------------------------------


@pytest.mark.parametrize("given", [{"eps": 1e-3}, {"momentum": 0.2}])
def test_a_fault_is_found(given: dict[str, float], monkeypatch: pytest.MonkeyPatch) -> None:
    row = OPS["batchnorm"]

    def changed(*args: Any) -> Any:
        call: Any = row.emit(*args)
        return replace(call, kwargs={**call.kwargs, **given})

    monkeypatch.setitem(OPS, "batchnorm", replace(row, emit=changed))
    with pytest.raises(Mismatch):
        check_network(check_text(f"use std\n{VARIETY['analog']}"), "net", 3, Case())


TRAINED = f"""use std
{VARIETY["analog"]}
recipe r {{ epochs = 3; optimizer = sgd(lr = 0.05, momentum = 0.9); loss = cross_entropy(label_smoothing = 0.2); schedule = cosine }}
"""


def test_a_training_is_compared() -> None:
    tally = run.Tally()
    run.attempt(5, tally, TRAINED)
    assert not tally.failures, tally.failures[0].details
    assert tally.case.trained == 1


@pytest.mark.thorough
def test_a_fault_of_training_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(optim, "schedule", lambda phase, epoch, batch: 1.0)
    tally = run.Tally()
    run.attempt(5, tally, TRAINED)
    assert [item.error.startswith("Mismatch: after training") for item in tally.failures] == [True]


# -- the interpreter knows the whole language ------------------------------------------------------


def test_the_interpreter_has_every_operation_with_its_defaults() -> None:
    table = {
        row.name: [(p.name, None if p.default is REQUIRED else p.default) for p in row.parameters]
        for row in OPS.values()
        if row.public
    }
    assert {name: [*parameters.items()] for name, parameters in OPERATIONS.items()} == table


def test_a_state_is_a_value_at_the_first_step_too() -> None:
    """`min(u, x)` is a tie where x is 0: half of the gradient goes each way. Found by `make fuzz`."""
    text = """use std
neuron least { state u = 0; a = min(u, x); s = heaviside(a); u = 1 + a }
network net {
  input = image(2, 5, 5); steps = 2; neuron = IF; surrogate = sigmoid(alpha = 4)
  first = in -> conv(4) -> norm -> spike
  out = (first -> least) -> conv(3) -> avgpool -> mean_over_time -> linear(3)
}
"""
    case = Case()
    check_network(check_text(text), "net", 3, case)
    assert case.compared["eager, training"] == 1
