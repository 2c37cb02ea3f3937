"""Losses: weighted sums of terms of outputs, of layers of neurons, and of teachers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
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
from danetc.runtime.kernels.neuron import kernel, to_accumulate_dtype
from danetc.runtime.layers.neuron import Neuron
from danetc.runtime.layers.segments import SecondRun
from danetc.runtime.layers.weight_layer import layers_of
from danetc.runtime.measure.membrane import instrument
from danetc.runtime.measure.recording import over_steps
from danetc.runtime.model.built import Model
from danetc.runtime.model.signature import Signature, outputs_of
from danetc.runtime.system.errors import TrainingError
from danetc.runtime.system.user_code import function_at
from danetc.runtime.training.evaluation import DEFAULT_LOSS, NUMBERS_LOSS


def over_time(output: Tensor) -> Tensor:
    """Return the mean over T of an output [T, N, ...]; outputs without T are returned unchanged."""
    return output.mean(0) if output.dim() in (3, 5) else output


# Terms. Each is a mean over N, so the mean over parts of a batch, weighted by their images, is that
# of the batch (for terms of neurons only if their power is 1). Shapes of ``output``, and of that of the
# ``teacher``: [N, classes] or [T, N, classes], for pixels maps [..., H, W]; of ``labels``: [N], shares of
# classes [N, classes], classes of steps [N, T], pixels [N, H, W] or numbers [N, D].


def _entropy(output: Tensor, labels: Tensor, label_smoothing: float) -> Tensor:
    """Return the mean over images, of which each counts with the mean of its labelled pixels or steps."""
    entropy = partial(F.cross_entropy, label_smoothing=label_smoothing)
    if labels.dim() == 2 and not labels.is_floating_point():
        if output.dim() != 3:
            raise TrainingError(
                "the labels are a class for each time step, but the network's head averages over "
                "time; leave `mean_over_time` out of the head"
            )
        each = entropy(output.flatten(0, 1), labels.mT.flatten(), reduction="none")
        each = each.unflatten(0, output.shape[:2]).mT
    else:
        output = over_time(output)
        if output.dim() == 2:
            return entropy(output, labels)
        each = entropy(output, labels, reduction="none")
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


# Terms of neurons are functions of a layer and of its values [T, N, ...], averaged over layers.


def _firing_rate(layer: Neuron, values: Tensor, target: float, power: float) -> Tensor:
    """The rate is the mean of the output over T, N and neurons, in units of a spike."""
    kind = output_kind(read_program(layer.program))
    # abs only where needed: it has no slope at 0, where most neurons are
    rate = (values.abs() if kind.low < 0 else values).mean() / kind.unit
    return (rate - target).abs().pow(power)


def values_of(layer: Neuron, inputs: Sequence[Any], out: Tensor, of: str) -> Tensor:
    """Return the spikes, currents or membrane potentials before the reset of a call of a layer.

    For the two latter, fused norms run again, without an effect on their statistics.
    """
    if of == "spikes":
        return over_steps(out, layer.steps, layer.rank)
    norms = {norm: norm.training for norm in getattr(layer, "_norms", ()) if norm is not None}
    with SecondRun(norms, {}):
        x = over_steps(layer._total(inputs), layer.steps, layer.input_rank)
    if of == "current":
        return to_accumulate_dtype(kernel(layer.program).first(x))
    program = instrument(layer.program).program
    found: list[Tensor] = []
    states: list[Tensor] = []
    for t, x_t in enumerate(x.unbind(0)):
        params = kernel(program).at(layer.params(), t)
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
    "membrane": lambda layer, values, target: (values.mean() - target).square(),
    "python": lambda output, labels, function: function(output, labels),
    "python_membrane": lambda layer, values, function: function(values),
}
"""Functions of what a row of ``dsl.recipe.items`` reads and of its numeric arguments, by name."""

_PLACES = ("output", "neuron", "layers", "of", "teacher")
"""Arguments that select the input of a term."""


def of_term(item: Item) -> Callable[..., Tensor]:
    """Return a term as a function of what it reads."""
    arguments: dict[str, Any] = {k: value for k, value in item.arguments if k not in _PLACES}
    if "function" in arguments:
        takes = 1 if ROWS[item.name].reads == "neurons" else 2
        arguments = {"function": own_function(arguments.pop("function"), takes, arguments)}
    return partial(LOSSES[item.name], **arguments)


class Objective:
    """Loss of a phase, and the output that accuracy refers to.

    That output is ``main_output``, of ``shape`` for one sample at one step. With a ``model``, the loss is
    that of training: its terms observe the model's neurons from now on and run the ``teachers`` (by their
    directories). Without, it is the loss of test images. ``terms`` are the names of the terms of
    training, if there are several, and each call adds their values, times their factors, to ``seen``.

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
        self.reads_neurons = any(row.reads == "neurons" for row in rows)
        self._teachers = teachers or {}
        self._images: Tensor | None = None  # the last input of the teachers
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
        if reads == "neurons":
            assert model is not None
            return _term_of_neurons(item, term, model)
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
        return lambda y, labels: term(outputs_of(y)[place], self._taught[teacher][taught])

    def answers(self, outputs: Any) -> Tensor:
        """Return the output that accuracy refers to, averaged over time unless each step has a label."""
        output = outputs_of(outputs)[self.main]
        return output if self.target == "steps" else over_time(output)

    def __call__(
        self,
        outputs: Any,
        labels: Tensor,
        images: Tensor | None = None,
        share: float = 1.0,
        first: int = 0,
    ) -> Tensor:
        """Return the loss of the model's last outputs, which are a ``share`` of the steps from ``first`` on;
        ``images`` are the input of the teachers.
        """
        if self.target == "steps":
            labels = labels[:, first : first + len(outputs_of(outputs)[self.main])]
        if images is not self._images:  # one batch may be used for several groups of steps
            self._images = images
            with torch.no_grad():
                taught = {name: each(images) for name, each in self._teachers.items()}
            self._taught = {name: outputs_of(y) for name, y in taught.items()}
        values = [factor * term(outputs, labels) for factor, term in self._terms]
        if share != 1:
            values = [share * value for value in values]
        if self.terms:
            self.seen.append(torch.stack(values).detach())
        return sum(values[1:], values[0])


def _term_of_neurons(
    item: Item, term: Callable[..., Tensor], model: nn.Module
) -> Callable[[Any, Tensor], Tensor]:
    """Return the mean of ``term`` over layers of the model's latest pass, which hooks compute as it runs.

    So nothing of a layer is saved for the loss, and a segment that runs again computes its terms again.
    """
    of = str(dict(item.arguments).get("of", "spikes"))
    names = _read_layers(model, item, of)
    found: dict[str, Tensor] = {}

    def see(name: str, layer: Any, inputs: tuple[Any, ...], out: Tensor) -> None:
        if torch.is_grad_enabled():
            value = term(layer, values_of(layer, inputs, out, of))
            if not SecondRun.running:
                found[name] = value

    for name in names:
        model.get_submodule(name).register_forward_hook(partial(see, name))
    return lambda y, labels: torch.stack([found.pop(name) for name in names]).mean()


def _read_layers(model: nn.Module, item: Item, of: str) -> list[str]:
    """Return the names of the layers of neurons that a term reads."""
    wanted, found = item["neuron"], list[str]()
    known: dict[str, list[str]] = {}
    for name, module in layers_of(model):
        if not isinstance(module, Neuron):
            continue
        program = read_program(module.program)
        known.setdefault(program.name, []).append(name)
        fits = program.is_neuron and output_kind(program).is_integer
        if "of" in item:
            fits = program.has_step or bool(wanted)
        fits = fits and program.name == (wanted or program.name)
        if not fits or not fnmatchcase(name, item["layers"] or "*"):
            continue
        if of == "potential" and isinstance(none := instrument(module.program).membrane, str):
            raise TrainingError(f"the loss `{item.name}` cannot read `{name}`: {none}")
        found.append(name)
    if not found:
        what = f"no neuron `{wanted}`" if wanted else "no neuron that fires"
        where = f" in layers `{item['layers']}`" if item["layers"] else ""
        shown = [
            f"{neuron} ({', '.join(names[:3])}{', ...' * (len(names) > 3)})"
            for neuron, names in known.items()
        ]
        there = f"; it has {', '.join(shown)}" if known else ""
        raise TrainingError(
            f"the loss `{item.name}` reads neurons, and the network has {what}{where}{there}"
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
    "steps": (1, "a vector of classes for each step; end the head with `linear(classes)`"),
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
