"""Losses: weighted sums of terms of outputs, of layers of neurons, and of teachers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from danetc.dsl.neuron.inference import output_kind
from danetc.dsl.neuron.reading import read_program
from danetc.dsl.recipe.item import Item, Summand
from danetc.dsl.recipe.items import LOSSES as ROWS
from danetc.dsl.recipe.text import write_setting
from danetc.runtime.data.request import IGNORED, Target
from danetc.runtime.kernels.composed_operators import is_static
from danetc.runtime.kernels.neuron import kernel
from danetc.runtime.layers.neuron import Neuron
from danetc.runtime.layers.segments import Recomputed
from danetc.runtime.measure.membrane import instrument
from danetc.runtime.model.built import Model
from danetc.runtime.model.signature import Signature, outputs_of
from danetc.runtime.system.errors import TrainingError
from danetc.runtime.system.user_code import function_at
from danetc.runtime.training.evaluation import DEFAULT_LOSS, NUMBERS_LOSS


def over_time(output: Tensor) -> Tensor:
    """Return the mean over T of an output [T, N, ...]; outputs without T are returned unchanged."""
    return output.mean(0) if output.dim() in (3, 5) else output


Layers = Sequence[tuple[Neuron, Tensor, Tensor]]  # with their inputs and outputs


# Terms. Each is a mean over N, so the mean over parts of a batch, weighted by their images, is that
# of the batch (for terms of neurons only if their power is 1). Shapes of ``output``, and of that of the
# ``teacher``: [N, classes] or [T, N, classes], for pixels maps [..., H, W]; of ``labels``: [N], shares of
# classes [N, classes], pixels [N, H, W] or numbers [N, D].


def _entropy(output: Tensor, labels: Tensor, label_smoothing: float) -> Tensor:
    """Return the mean over the images, where a map counts with the mean of its labelled pixels."""
    output = over_time(output)
    if output.dim() == 2:
        return F.cross_entropy(output, labels, label_smoothing=label_smoothing)
    each = F.cross_entropy(output, labels, label_smoothing=label_smoothing, reduction="none")
    counted = (labels != IGNORED).flatten(1).sum(1).clamp(min=1)
    return (each.flatten(1).sum(1) / counted).mean()


def _mse(output: Tensor, labels: Tensor) -> Tensor:
    output = over_time(output)
    if not labels.is_floating_point():
        labels = F.one_hot(labels, output.shape[-1])
    return F.mse_loss(output, labels.to(output.dtype))


def _tet(
    output: Tensor, labels: Tensor, weight: float, target: float, label_smoothing: float
) -> Tensor:
    """Temporal efficient training (Deng et al., ICLR 2022, Eq. 9 and 12)."""
    if output.dim() not in (3, 5):
        raise TrainingError(
            "the loss `tet` needs the output of every time step, but the network's head averages "
            "over time; leave `mean_over_time` out of the head, or use `cross_entropy`"
        )
    entropy = partial(_entropy, labels=labels, label_smoothing=label_smoothing)
    distance = F.mse_loss(output, torch.full_like(output, target))
    return (1 - weight) * torch.stack([entropy(step) for step in output]).mean() + weight * distance


def _distill(output: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    own, known = (F.log_softmax(over_time(y) / temperature, -1) for y in (output, teacher))
    return temperature**2 * F.kl_div(own, known, reduction="batchmean", log_target=True)


def _firing_rate(layers: Layers, target: float, power: float) -> Tensor:
    """Rates are means of the output over T, N and neurons, in units of a spike."""
    rates = []
    for neuron, _, out in layers:
        kind = output_kind(read_program(neuron.program))
        # abs only where needed: it has no slope at 0, where most neurons are
        rates.append((out.abs() if kind.low < 0 else out).mean() / kind.unit)
    return (torch.stack(rates) - target).abs().pow(power).mean()


def _membrane(layers: Layers, target: float) -> Tensor:
    means = [_potentials(neuron, x).mean() for neuron, x, _ in layers]
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


def own_function(place: str, takes: int, numbers: Mapping[str, float]) -> Callable[..., Tensor]:
    """Return the user's function ``FILE.py:NAME`` of ``takes`` tensors and of ``numbers`` by name.

    It raises TrainingError when it is called, unless its result is a differentiable scalar.
    """
    function = function_at("the loss", place, ("output", "labels")[:takes], numbers)

    def run(*tensors: Tensor) -> Tensor:
        value = function(*tensors)
        if not isinstance(value, Tensor) or value.dim() or not value.is_floating_point():
            raise TrainingError(
                f"the loss `{place}` gives {repr(value)[:60]}, not one real number: a tensor "
                "without dimensions, as `.mean()` gives"
            )
        if torch.is_grad_enabled() and tensors[0].requires_grad and not value.requires_grad:
            raise TrainingError(
                f"the loss `{place}` passes no gradient to its input: compute it with functions of "
                "torch, without `.detach()`, `.item()` or `argmax`"
            )
        return value

    return run


LOSSES: Mapping[str, Callable[..., Tensor]] = {
    "cross_entropy": _entropy,
    "mse": _mse,
    "tet": _tet,
    "distill": _distill,
    "firing_rate": _firing_rate,
    "membrane": _membrane,
    "python": lambda output, labels, function: function(output, labels),
    "python_membrane": lambda layers, function: torch.stack(
        [function(_potentials(neuron, x)) for neuron, x, _ in layers]
    ).mean(),
}
"""Functions of what a row of ``dsl.recipe.items`` reads and of its numeric arguments, by name."""

_PLACES = ("output", "neuron", "teacher")
"""Arguments that select the input of a term."""


def of_term(item: Item) -> Callable[..., Tensor]:
    """Return a term as a function of what it reads."""
    arguments: dict[str, Any] = {k: value for k, value in item.arguments if k not in _PLACES}
    if "function" in arguments:
        takes = 1 if ROWS[item.name].reads == "potentials" else 2
        arguments = {"function": own_function(arguments.pop("function"), takes, arguments)}
    return partial(LOSSES[item.name], **arguments)


class Objective:
    """Loss of a phase, and the output that accuracy refers to.

    That output is ``main``, or that of the first term which names one; ``shape`` is its shape for
    one sample at one step. With a ``model``, the loss is that of training: its terms observe the
    model's neurons from now on and run the ``teachers`` (by their directories). Without, it is the
    loss of test images. ``terms`` are the names of the terms of training, if there are several, and each
    call adds their values, times their factors, to ``seen``.

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
        rows = [ROWS[term.item.name] for term in terms]
        for row in rows:
            if target not in row.targets:
                ways = [w for w in ROWS.values() if target in w.targets and w.reads == "output"]
                raise TrainingError(
                    f"the loss `{row.name}` does not fit labels that are {target}; take "
                    f"{' or '.join(f'`{way.name}`' for way in ways)}"
                )
        if all(row.reads != "output" for row in rows):
            raise TrainingError(
                f"the loss {write_setting('loss', terms)} does not depend on the labels; add a term "
                "of an output: `cross_entropy + ...`"
            )
        self.target: Target = target
        self.main, self.shape = _chosen(signature, main_output(terms, signature, main), target)
        self.reads_neurons = any(row.reads in ("neurons", "potentials") for row in rows)
        self._layers: dict[str, tuple[Neuron, Tensor, Tensor]] = {}
        self._teachers = teachers or {}
        self._images: Tensor | None = None  # the last input of the teachers
        self._taught: dict[str, tuple[Tensor, ...]] = {}
        if model is None:
            default = NUMBERS_LOSS if target == "numbers" else DEFAULT_LOSS
            terms = [term for term in terms if not ROWS[term.item.name].training] or default
        self._terms = [(term.factor, self._term(term.item, signature, model)) for term in terms]
        items = [dict(term.item.arguments).get("function", term.item.name) for term in terms]
        names = [str(item).rpartition(":")[2] for item in items]
        self.terms = tuple(
            name if names.count(name) == 1 else f"{name}_{names[: number + 1].count(name)}"
            for number, name in enumerate(names)
            if model is not None and len(names) > 1
        )
        self.seen: list[Tensor] = []

    def _term(
        self, item: Item, signature: Signature, model: nn.Module | None
    ) -> Callable[[Any, Tensor], Tensor]:
        """Return a term as a function of the model's outputs and the labels."""
        term, reads = of_term(item), ROWS[item.name].reads
        if reads in ("neurons", "potentials"):
            assert model is not None
            names = _read_layers(model, item)
            for name in names:
                model.get_submodule(name).register_forward_hook(partial(self._note, name))
            return lambda y, labels: term([self._layers[name] for name in names])
        place = self.main
        if item["output"]:
            place, _ = _chosen(signature, item["output"], self.target)
        if reads != "teacher":
            return lambda y, labels: term(outputs_of(y)[place], labels)
        teacher, (name, shape) = item["teacher"], list(signature.outputs.items())[place]
        theirs = self._teachers[teacher].signature.outputs
        chosen = name if len(theirs) > 1 else next(iter(theirs))
        if theirs.get(chosen) != shape:
            shown = ", ".join(f"{key} ({each[0]})" for key, each in theirs.items())
            raise TrainingError(
                f"the teacher {teacher} gives {shown}, and the output `{name}` has {shape[0]} classes"
            )
        taught = list(theirs).index(chosen)
        return lambda y, labels: term(outputs_of(y)[place], self._teach(teacher)[taught])

    def _note(self, name: str, module: Any, inputs: tuple[Any, ...], out: Any) -> None:
        if torch.is_grad_enabled():
            self._layers[name] = (module, inputs[0], out)

    def _teach(self, directory: str) -> tuple[Tensor, ...]:
        """Return the outputs of a teacher, which is run once for all terms."""
        if directory not in self._taught:
            with torch.no_grad():
                self._taught[directory] = outputs_of(self._teachers[directory](self._images))
        return self._taught[directory]

    def output(self, outputs: Any) -> Tensor:
        """Select the output that accuracy refers to from the model's outputs."""
        return outputs_of(outputs)[self.main]

    def __call__(
        self, outputs: Any, labels: Tensor, images: Tensor | None = None, share: float = 1.0
    ) -> Tensor:
        """Return the loss of the model's last outputs, which are a ``share`` of the steps; ``images`` are the
        input of the teachers.
        """
        if images is not self._images:  # one batch may be used for several groups of steps
            self._images, self._taught = images, {}
        values = [factor * term(outputs, labels) for factor, term in self._terms]
        self._layers.clear()  # frees the activations of the pass
        if share != 1:
            values = [share * value for value in values]
        if self.terms:
            self.seen.append(torch.stack(values).detach())
        return sum(values[1:], values[0])


def _read_layers(model: nn.Module, item: Item) -> list[str]:
    """Return the names of the layers of neurons that a term reads."""
    wanted, reads_potential = item["neuron"], ROWS[item.name].reads == "potentials"
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
        if reads_potential and type(module) is not Neuron:
            raise TrainingError(
                f"the loss `{item.name}` reads membrane potentials, which fused kernels do not "
                "give; train with --backend eager"
            )
        if reads_potential and isinstance(none := instrument(module.program).membrane, str):
            raise TrainingError(f"the loss `{item.name}` cannot read `{name}`: {none}")
        found.append(name)
    if not found:
        what = f"no neuron `{wanted}`" if wanted else "no neuron that fires"
        there = f"; it has {', '.join(known)}" if known else ""
        raise TrainingError(
            f"the loss `{item.name}` reads neurons, and the network has {what}{there}"
        )
    return found


def main_output(terms: Sequence[Summand], signature: Signature, main: str | None = None) -> str:
    """Return the name of the output that accuracy refers to.

    It is ``main``, else that of the first term which names one, else the only one. Raises
    TrainingError if it does not exist or is ambiguous.
    """
    outputs = signature.outputs
    listed = ", ".join(f"`{each}`" for each in outputs)
    named = [each for term in terms if "output" in term.item and (each := term.item["output"])]
    for name, where in [*((each, "the recipe's loss") for each in named), (main, "--train-output")]:
        if name and name not in outputs:
            raise TrainingError(f"{where}: the network has no output `{name}`; it has {listed}")
    if not (main or named) and len(outputs) > 1:
        raise TrainingError(
            f"the network has {len(outputs)} outputs ({listed}); say which one is trained: "
            f"`cross_entropy(output = {next(iter(outputs))})` in the recipe's loss, or "
            "--train-output NAME"
        )
    return main or next(iter([*named, *outputs]))


_WANTED: Mapping[Target, tuple[int, str]] = {
    "classes": (1, "a vector of classes; end the head with `linear(classes)`"),
    "numbers": (1, "a vector of numbers; end the head with `linear(COUNT)`"),
    "pixels": (3, "a map of classes; end the network with `conv(classes, kernel = 1)`"),
}
"""Rank of the output that each target needs, and its description."""


def _chosen(signature: Signature, name: str, target: Target) -> tuple[int, tuple[int, ...]]:
    """Return the index and the shape of an output. Raises TrainingError if it does not fit."""
    shape, (rank, wanted) = signature.outputs[name], _WANTED[target]
    if len(shape) != rank:
        kind = "map" if len(shape) > 1 else "vector"
        raise TrainingError(
            f"the output `{name}` is a {kind} of {' x '.join(map(str, shape))}, not {wanted}"
        )
    return list(signature.outputs).index(name), shape
