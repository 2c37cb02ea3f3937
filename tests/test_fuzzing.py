"""Generated and changed specs, in every form, against the interpreter: always the same cases.

``make fuzz`` runs others, for a time that is given.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from danetc.compiler import check_text, graph_of
from danetc.compiler.ir.ops import OPS, REQUIRED
from danetc.dsl.recipe.items import LOSSES
from danetc.runtime.kernels import neuron as kernel
from danetc.runtime.training import losses, optim
from tests.differential.networks import VARIETY
from tests.fuzzing import run
from tests.fuzzing.chosen import CASES
from tests.fuzzing.compare import Case, Mismatch
from tests.fuzzing.coverage import rows, used
from tests.fuzzing.forms import check_network
from tests.fuzzing.mutate import minimised
from tests.reference.language import OPERATIONS
from tests.reference.training import LOSSES as HELD

PARTS = 3
"""Seconds of a core for each, so that they spread over processes."""


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
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
"""What the generator does not write: losses that read membrane potentials, files and other networks,
which test_losses holds against others; optimizers and augmentation in Python; ``reshape``, which the
zoo's networks hold; and parts of a network, which test_parts holds against a loop of torch."""


@pytest.mark.thorough
def test_the_cases_use_the_language() -> None:
    """Every operation, function, statement and setting of a recipe, by the tables, but a few."""
    unseen = {row for row in rows() if not row.startswith(UNWRITTEN)}
    for number in CASES:
        checked = check_text(run.text_of(number))
        unseen -= used(checked, [graph_of(checked, name) for name in checked.networks])
    assert unseen == set()


def test_a_failure_is_made_small() -> None:
    text = "use std\n" + VARIETY["functions"]
    small = minimised(text, lambda smaller: "softplus" in smaller)
    assert "softplus" in small
    assert len(small) < 60, small


def test_a_failure_is_kept_with_how_to_see_it_again(tmp_path: Path) -> None:
    tally = run.Tally()
    run.attempt(7, tally, "use std\nnetwork n { input = 3 }\n")
    assert not tally.failures, "a spec that is refused is no failure"
    failure = run.Failure(7, "network n { out = in }", "KeyError: 1", "Traceback")
    path = run.save(failure, tmp_path)
    told = "# case 7: KeyError: 1\n# again: python -m tests.fuzzing --case 7\n"
    assert path.read_text().startswith(told)


# -- what is compared: faults that were put in are found ---------------------------------------------


def _last_state(monkeypatch: pytest.MonkeyPatch) -> None:
    """A neuron that forgets its state."""
    step = kernel.NeuronKernel.initial_states
    monkeypatch.setattr(
        kernel.NeuronKernel, "initial_states", lambda self, x: [s + 0.5 for s in step(self, x)]
    )


def _emit(name: str, target: str = "", **kwargs: object) -> Callable[[pytest.MonkeyPatch], None]:
    """An operation that becomes another call of torch's."""
    row = OPS[name]

    def changed(*args: Any) -> Any:
        call: Any = row.emit(*args)
        return replace(call, target=target or call.target, kwargs={**call.kwargs, **kwargs})

    return lambda monkeypatch: monkeypatch.setitem(OPS, name, replace(row, emit=changed))  # type: ignore[arg-type]


FAULTS: dict[str, tuple[Callable[[pytest.MonkeyPatch], None], str]] = {
    "a convolution without its bias": (_emit("conv", bias=True), "gated"),
    "another momentum of norms": (_emit("batchnorm", momentum=0.2), "sew_chain"),
    "another eps of norms": (_emit("batchnorm", eps=1e-3), "analog"),
    "a sum for a difference": (_emit("sub", "operator.add"), "functions"),
    "other first states": (_last_state, "own_neurons"),
    "another pool": (_emit("maxpool", "torch.nn.AvgPool2d"), "vgg"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fault, network = FAULTS[name]
    checked = check_text(f"use std\n{VARIETY[network]}")
    fault(monkeypatch)
    with pytest.raises((Mismatch, KeyError)):
        check_network(checked, "net", 3, Case())


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
@pytest.mark.parametrize("fault", ["loss", "optimizer", "schedule"])
def test_a_fault_of_training_is_found(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made = torch.optim.SGD
    patches: dict[str, tuple[object, str, Callable[..., Any]]] = {
        "loss": (losses, "over_time", lambda output: output * 1.01),
        "schedule": (optim, "schedule", lambda phase, epoch, batch: 1.0),
        "optimizer": (torch.optim, "SGD", lambda g, **given: made(g, **given | {"dampening": 0.1})),
    }
    monkeypatch.setattr(*patches[fault])
    tally = run.Tally()
    run.attempt(5, tally, TRAINED)
    assert [item.error.startswith("Mismatch: after training") for item in tally.failures] == [True]


# -- the interpreter knows the whole language ------------------------------------------------------


def test_the_interpreter_has_every_operation_with_its_defaults() -> None:
    table = {
        row.name: {p.name: None if p.default is REQUIRED else p.default for p in row.parameters}
        for row in OPS.values()
        if row.public
    }
    held = {name: [*parameters.items()] for name, parameters in OPERATIONS.items()}
    assert held == {name: [*row.items()] for name, row in table.items()}


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
