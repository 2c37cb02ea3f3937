"""Losses: weighted sums of terms of outputs, of layers of neurons, and of teachers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from danetc.dsl.neuron.inference import output_kind
from danetc.dsl.neuron.reading import read_program
from danetc.dsl.recipe.item import Item, Summand
from danetc.dsl.recipe.items import LOSSES as ROWS
from danetc.runtime.data.request import IGNORED, Target
from danetc.runtime.kernels.composed_operators import is_static
from danetc.runtime.kernels.neuron import kernel
from danetc.runtime.layers.neuron import Neuron
from danetc.runtime.layers.segments import Recomputed
from danetc.runtime.measure.membrane import NoMembrane, instrument
from danetc.runtime.model.built import Model
from danetc.runtime.model.signature import Signature
from danetc.runtime.system.errors import TrainingError
from danetc.runtime.training.evaluation import DEFAULT_LOSS, NUMBERS_LOSS
from danetc.runtime.training.own_losses import checked, function_of


def over_time(output: Tensor) -> Tensor:
    """Return the mean over T of an output [T, N, ...]; outputs without T are returned unchanged."""
    return output.mean(0) if output.dim() in (3, 5) else output


@dataclass(frozen=True, slots=True)
class Seen:
    """Arguments of a term.

    ``output``: [N, classes] or [T, N, classes]; for pixels maps [..., H, W].
    ``labels``: [N], shares of classes [N, classes], pixels [N, H, W] or numbers [N, D].
    ``teacher``: the same output of the teacher.
    ``layers``: layers of neurons with their inputs and outputs.
    """

    output: Tensor
    labels: Tensor
    teacher: Tensor | None = None
    layers: Sequence[tuple[Neuron, Tensor, Tensor]] = ()


# Terms. Each is a mean over N, so the mean over parts of a batch, weighted by their images, is that
# of the batch (for terms of neurons only if their power is 1).


def _cross_entropy(seen: Seen, label_smoothing: float) -> Tensor:
    return _entropy(over_time(seen.output), seen.labels, label_smoothing)


def _entropy(output: Tensor, labels: Tensor, label_smoothing: float) -> Tensor:
    """Return the mean over images; maps are averaged over their labelled pixels first."""
    if output.dim() == 2:
        return F.cross_entropy(output, labels, label_smoothing=label_smoothing)
    each = F.cross_entropy(output, labels, label_smoothing=label_smoothing, reduction="none")
    counted = (labels != IGNORED).flatten(1).sum(1).clamp(min=1)
    return (each.flatten(1).sum(1) / counted).mean()


def _mse(seen: Seen) -> Tensor:
    output, wanted = over_time(seen.output), seen.labels
    if not wanted.is_floating_point():
        wanted = F.one_hot(wanted, output.shape[-1])
    return F.mse_loss(output, wanted.to(output.dtype))


def _tet(seen: Seen, weight: float, target: float, label_smoothing: float) -> Tensor:
    """Temporal efficient training (Deng et al., ICLR 2022, Eq. 9 and 12)."""
    output = seen.output
    if output.dim() not in (3, 5):
        raise TrainingError(
            "the loss `tet` needs the output of every time step, but the network's head averages "
            "over time; leave `mean_over_time` out of the head, or use `cross_entropy`"
        )
    entropy = partial(_entropy, labels=seen.labels, label_smoothing=label_smoothing)
    distance = F.mse_loss(output, torch.full_like(output, target))
    return (1 - weight) * torch.stack([entropy(step) for step in output]).mean() + weight * distance


def _distill(seen: Seen, temperature: float) -> Tensor:
    assert seen.teacher is not None
    own, known = (
        F.log_softmax(over_time(output) / temperature, -1) for output in (seen.output, seen.teacher)
    )
    return temperature**2 * F.kl_div(own, known, reduction="batchmean", log_target=True)


def _firing_rate(seen: Seen, target: float, power: float) -> Tensor:
    """Rates are means of the output over T, N and neurons, in units of a spike."""
    rates = []
    for neuron, _, out in seen.layers:
        kind = output_kind(read_program(neuron.program))
        # abs only where needed: it has no slope at 0, where most neurons are
        rates.append((out.abs() if kind.low < 0 else out).mean() / kind.unit)
    return (torch.stack(rates) - target).abs().pow(power).mean()


def _membrane(seen: Seen, target: float) -> Tensor:
    means = [_potentials(neuron, x).mean() for neuron, x, _ in seen.layers]
    return (torch.stack(means) - target).square().mean()


def _potentials(neuron: Neuron, x: Tensor) -> Tensor:
    """Run a layer again and return its membrane potentials before the reset, [T, N, ...]."""
    program = instrument(neuron.program).program
    found: list[Tensor] = []
    states: list[Tensor] = []
    for t, x_t in enumerate([x] * neuron.steps if is_static(x, neuron.input_rank) else x.unbind(0)):
        params = kernel(program).at(neuron.params(), t)
        _, *states = torch.ops.danetc.neuron_step(x_t, states, params, program)
        found.append(states[-3])
    return torch.stack(found)


def _python(seen: Seen, function: str, **numbers: float) -> Tensor:
    own = function_of(function, 2, numbers)
    return checked(own(seen.output, seen.labels, **numbers), function, seen.output)


def _python_membrane(seen: Seen, function: str, **numbers: float) -> Tensor:
    own, values = function_of(function, 1, numbers), []
    for neuron, x, _ in seen.layers:
        potentials = _potentials(neuron, x)
        values.append(checked(own(potentials, **numbers), function, potentials))
    return torch.stack(values).mean()


LOSSES: Mapping[str, Callable[..., Tensor]] = {
    "cross_entropy": _cross_entropy,
    "mse": _mse,
    "tet": _tet,
    "distill": _distill,
    "firing_rate": _firing_rate,
    "membrane": _membrane,
    "python": _python,
    "python_membrane": _python_membrane,
}
"""Functions of ``Seen`` and of the numeric arguments in ``dsl.recipe.items``, by name."""

_PLACES = ("output", "neuron", "teacher")
"""Arguments that select what a term reads."""


def of_term(item: Item) -> Callable[[Seen], Tensor]:
    """Return a term as a function of ``Seen``."""
    numbers = {key: value for key, value in item.arguments if key not in _PLACES}
    return partial(LOSSES[item.name], **numbers)


def numbers_of(item: Item) -> dict[str, float]:
    """Return the numbers that a function from a user's file is called with."""
    known = {row.name for row in ROWS[item.name].arguments}
    return {key: item[key] for key, _ in item.arguments if key not in known}


class Objective:
    """Loss of a phase, and the output that accuracy refers to.

    That output is ``main``, or that of the first term which names one; ``shape`` is its shape for
    one sample at one step. With a ``model``, the loss is that of training: its terms observe the
    model's neurons from now on and run the ``teachers`` (by their directories). Without, it is the
    loss of test images.

    Raises TrainingError for names that the network does not have, outputs whose shape does not fit
    the ``target``, terms of another target, and neurons that cannot be observed.
    """

    def __init__(
        self,
        terms: Sequence[Summand],
        signature: Signature,
        main: str | None = None,
        model: nn.Module | None = None,
        teachers: Mapping[str, Model] | None = None,
        target: Target = "classes",
    ) -> None:
        _check_target(terms, target)
        self.target: Target = target
        if not any(ROWS[term.item.name].reads == "output" for term in terms):
            raise TrainingError(
                f"the loss {' + '.join(map(str, terms))} says nothing of the labels; add a term of "
                "an output: `cross_entropy + ...`"
            )
        self.main, self.shape = _chosen(signature, main_output(terms, signature, main), target)
        self._outputs = list(signature.outputs)
        self._terms: list[tuple[float, Item, Callable[[Seen], Tensor], int]] = []
        self._layers: dict[str, tuple[Neuron, Tensor, Tensor]] = {}
        self._watched: dict[Item, list[str]] = {}
        self._teachers = teachers or {}
        self._images: Tensor | None = None  # the last input of the teachers
        self._taught: dict[str, Any] = {}
        if model is None and all(ROWS[term.item.name].training for term in terms):
            # for test images, if only functions from a user's file train
            terms = NUMBERS_LOSS if target == "numbers" else DEFAULT_LOSS
        for factor, item in ((term.factor, term.item) for term in terms):
            row = ROWS[item.name]
            if row.training and model is None:
                continue
            if "function" in item:
                taken = 1 if row.reads == "potentials" else 2
                function_of(str(item["function"]), taken, numbers_of(item))
            place = self.main
            if row.reads in ("neurons", "potentials"):
                assert model is not None
                self._watch(model, item)
            elif item["output"]:
                place, _ = _chosen(signature, str(item["output"]), target)
            if row.reads == "teacher":
                self._meet(str(item["teacher"]), signature, place)
            self._terms.append((factor, item, of_term(item), place))

    @property
    def classes(self) -> int:
        """Number of classes, or of numbers, of the output."""
        return self.shape[0]

    @property
    def reads_neurons(self) -> bool:
        """True if a term reads inputs and outputs of neurons."""
        return bool(self._watched)

    def output(self, outputs: Any) -> Tensor:
        """Select the output that accuracy refers to from the model's outputs."""
        return self._pick(outputs, self.main)

    def __call__(self, outputs: Any, labels: Tensor, images: Tensor | None = None) -> Tensor:
        """Return the loss of the model's last outputs; ``images`` are the input of the teachers."""
        total: Tensor | None = None
        if images is not self._images:  # groups of steps have the same images
            self._images, self._taught = images, {}
        known = self._taught
        for factor, item, function, place in self._terms:
            teacher = None
            if ROWS[item.name].reads == "teacher":
                directory = str(item["teacher"])
                if directory not in known:
                    assert images is not None
                    with torch.no_grad():
                        known[directory] = self._teachers[directory](images)
                teacher = self._of_teacher(directory, known[directory], place)
            layers = [self._layers[name] for name in self._watched.get(item, ())]
            value = function(Seen(self._pick(outputs, place), labels, teacher, layers))
            value = value if factor == 1 else factor * value
            total = value if total is None else total + value
        self._layers.clear()  # frees the activations of the pass
        assert total is not None
        return total

    def _pick(self, outputs: Any, place: int) -> Tensor:
        found: Tensor = outputs if len(self._outputs) == 1 else outputs[place]
        return found

    def _meet(self, directory: str, signature: Signature, place: int) -> None:
        """Check that a teacher's output has as many classes as the output that learns from it."""
        outputs = self._teachers[directory].signature.outputs
        name = self._outputs[place]
        own, known = signature.outputs[name], outputs.get(name, next(iter(outputs.values())))
        if own != known or (len(outputs) > 1 and name not in outputs):
            shown = ", ".join(f"{key} ({shape[0]})" for key, shape in outputs.items())
            raise TrainingError(
                f"the teacher {directory} gives {shown}, and the output `{name}` has {own[0]} classes"
            )

    def _of_teacher(self, directory: str, outputs: Any, place: int) -> Tensor:
        """Select an output of a teacher, or its only one."""
        names = list(self._teachers[directory].signature.outputs)
        found: Tensor = outputs if len(names) == 1 else outputs[names.index(self._outputs[place])]
        return found

    def _watch(self, model: nn.Module, item: Item) -> None:
        """Record inputs and outputs of the layers of neurons that a term reads."""
        names = self._watched[item] = list(_watched(model, item))
        for name in names:
            module = model.get_submodule(name)

            def note(
                module: nn.Module, inputs: tuple[Any, ...], out: Any, name: str = name
            ) -> None:
                if torch.is_grad_enabled():
                    assert isinstance(module, Neuron)
                    self._layers[name] = (module, inputs[0], out)

            module.register_forward_hook(note)


def _watched(model: nn.Module, item: Item) -> list[str]:
    """Return the names of the layers of neurons that a term reads."""
    wanted, reads_potential = str(item["neuron"]), ROWS[item.name].reads == "potentials"
    found: list[str] = []
    known: dict[str, None] = {}
    for name, module in model.named_modules():
        if isinstance(module, Recomputed):
            raise TrainingError(
                f"the loss `{item.name}` reads the neurons of the whole network, and `--memory` lets "
                f"`{name or 'the network'}` forget them; train with --memory none"
            )
        if not isinstance(module, Neuron):
            continue
        program = read_program(module.program)
        known[program.name] = None
        fires = program.is_neuron and output_kind(program).is_integer
        if (wanted and program.name != wanted) or not (fires or (wanted and reads_potential)):
            continue
        if reads_potential:
            if type(module) is not Neuron:
                raise TrainingError(
                    f"the loss `{item.name}` reads membrane potentials, which fused kernels do not "
                    "give; train with --backend eager"
                )
            membrane = instrument(module.program).membrane
            if isinstance(membrane, NoMembrane):
                raise TrainingError(
                    f"the loss `{item.name}` cannot read `{name}`: {membrane.reason}"
                )
        found.append(name)
    if not found:
        what = f"no neuron `{wanted}`" if wanted else "no neuron that fires"
        raise TrainingError(
            f"the loss `{item.name}` reads neurons, and the network has {what}"
            + (f"; it has {', '.join(known)}" if known else "")
        )
    return found


_WANTED: Mapping[Target, str] = {
    "classes": "a vector of classes; end the head with `linear(classes)`",
    "numbers": "a vector of numbers; end the head with `linear(COUNT)`",
    "pixels": "a map of the classes of pixels; let the network end with one, as in "
    "`conv(classes, kernel = 1)`",
}
_LABELS: Mapping[Target, str] = {
    "classes": "classes",
    "pixels": "classes of pixels",
    "numbers": "numbers",
}


def _check_target(terms: Sequence[Summand], target: Target) -> None:
    """Raise TrainingError for a term that does not fit the target."""
    for item in (term.item for term in terms):
        if target not in ROWS[item.name].targets:
            fitting = [name for name, row in ROWS.items() if target in row.targets]
            ways = [name for name in fitting if ROWS[name].reads == "output"]
            raise TrainingError(
                f"the loss `{item.name}` is not of {_LABELS[target]}, which the labels are; take "
                f"{' or '.join(f'`{name}`' for name in ways)}"
            )


def main_output(terms: Sequence[Summand], signature: Signature, main: str | None = None) -> str:
    """Return the name of the output that accuracy refers to.

    It is ``main``, else that of the first term which names one, else the only one. Raises
    TrainingError if it does not exist or is ambiguous.
    """
    outputs = signature.outputs
    listed = ", ".join(f"`{each}`" for each in outputs)
    reading = [term.item for term in terms if "output" in term.item]
    named = [item for item in reading if item["output"]]
    for item in named:
        if item["output"] not in outputs:
            raise TrainingError(
                f"the term `{item}` of the recipe's loss names an output that the network does not have; "
                f"it has {listed}"
            )
    if main is not None and main not in outputs:
        raise TrainingError(f"--train-output: the network has no output `{main}`; it has {listed}")
    if main is None and not named and len(outputs) > 1:
        raise TrainingError(
            f"the network has {len(outputs)} outputs ({listed}); say which one is trained: "
            f"`cross_entropy(output = {next(iter(outputs))})` in the recipe's loss, or "
            "--train-output NAME"
        )
    return main or next((str(item["output"]) for item in named), next(iter(outputs)))


def _chosen(signature: Signature, name: str, target: Target) -> tuple[int, tuple[int, ...]]:
    """Return the index and the shape of an output."""
    outputs = signature.outputs
    shape = outputs[name]
    if len(shape) != (3 if target == "pixels" else 1):
        kind = "map" if len(shape) > 1 else "vector"
        raise TrainingError(
            f"the output `{name}` is a {kind} of {' x '.join(map(str, shape))}, not "
            f"{_WANTED[target]}"
        )
    return list(outputs).index(name), shape
