"""Networks of specs: `danetc.check`, `danetc.build`, and the steps that commands share."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from danetc import compiler
from danetc.arguments import BackendName, Count, Seed, Setting, check_choice, parse_memory
from danetc.compiler.ir.ops.user import places_of
from danetc.compiler.passes import run
from danetc.compiler.warnings import warnings_of, warnings_of_network
from danetc.errors import UserError
from danetc.output.echo import note, warn
from danetc.pretrained import directory_of, weights_of
from danetc.tasks.code import admit

if TYPE_CHECKING:
    from danetc.compiler import Checked, Lowered
    from danetc.compiler.analysis.summary import Summary
    from danetc.compiler.emit.fx import Model
    from danetc.compiler.ir.graph import Graph
    from danetc.dsl.diagnostics.diagnostic import Diagnostic


def check(path: str | os.PathLike[str]) -> tuple[Diagnostic, ...]:
    """Check the spec at ``path``, as for ``build``. Never imports torch.

    Return its warnings, for code that builds but is suspicious. Raises SpecError with every error of
    the file in ``diagnostics``.
    """
    return warnings_of(compiler.check_file(str(directory_of(path))))


def build(
    path: str | os.PathLike[str] | None = None,
    network: str | None = None,
    set: Mapping[str, Setting] | None = None,
    *,
    text: str | None = None,
    seed: Seed = 0,
    init: str | os.PathLike[str] | None = None,
    init_skip: str | None = None,
    backend: BackendName = "fused",
    memory: str = "none",
    batch: Count | None = None,
    no_code: bool = False,
) -> Model:
    """Build a network as a trainable torch.fx model.

    Args:
        path: a spec file, the name of a shipped spec, ``pretrained:NAME`` or the directory of a run.
        network: name of the network if the file has several.
        set: parameters and settings to change, as ``{"steps": 2, "neuron": "LIF(tau = 4.0)"}``;
            a string is the text of an expression.
        text: the spec itself, in place of ``path``.
        seed: seed of the initial weights.
        init: weights to start from: a file (safetensors, or a state dict of tensors alone), the
            directory of a run, or ``pretrained:NAME``.
        init_skip: parts of the network that keep new weights, as ``"head"`` or ``"stem + head"``.
        backend: backend that runs the network. ``fused`` compiles the operations around each neuron
            and saves far less for the backward pass; if nothing can be compiled, it says so and runs
            uncompiled. ``eager`` runs operation by operation, ``spikingjelly`` SpikingJelly's
            neurons. Names and weights are the same.
        memory: what is saved for the backward pass. ``none`` saves everything that it needs;
            ``recompute`` saves the input of each block and runs the block again, with the same
            results bit for bit; a size, as in ``"8GB"``, selects the faster policy with which a
            training step fits, by its peak as computed without running it.
        batch: number of samples of that step (float32, SGD with momentum).
        no_code: refuse a network with layers in Python, whose files are else printed and executed
            (those of a directory only if ``danetc.allow_code`` names them).

    The model takes ``[N, C, H, W]`` (static, T = steps) or ``[T, N, C, H, W]`` (a sequence) and
    returns ``[N, classes]``, or ``[T, N, classes]`` if the head does not average over time.

    Suspicious code in the spec is a Python warning, ``danetc.SpecWarning``. Raises SpecError for
    errors in the spec or in ``set``, UserError for ``init``, for a backend that is missing, for an
    unknown policy or size, and if nothing fits into a size.
    """
    from danetc.tasks.memory import choose

    try:
        wanted = parse_memory(memory)
    except ValueError as error:
        raise UserError(str(error)) from error
    if isinstance(wanted, int) and batch is None:
        raise TypeError("memory is a size: say how many samples a training step has, batch=...")
    compiled = compile_spec(path, text=text, network=network, settings=set)
    admit_layers(compiled.graph, path, no_code=no_code)
    chosen = choose(compiled.graph, wanted, batch=batch or 1, backend=backend)
    model, _ = initialise(compiled.graph, seed, init, backend, chosen.policy, skip=init_skip)
    return model


def admit_layers(graph: Graph, path: str | os.PathLike[str] | None, *, no_code: bool) -> None:
    """Print and allow the layers in Python of a network to build; those of a directory must be allowed."""
    record = None if path is None or not directory_of(path).is_dir() else Path(path)
    admit(f"the network `{graph.name}`", places_of(graph), note, record=record, no_code=no_code)


@dataclass(frozen=True)
class CompiledNetwork:
    """A network of a checked spec, as written and as a graph after the passes."""

    checked: Checked
    network: str | None
    settings: Mapping[str, Setting]
    lowered: Lowered

    @cached_property
    def graph(self) -> Graph:
        return run(self.lowered.graph)

    def with_settings(self, settings: Mapping[str, Setting]) -> CompiledNetwork:
        """Return the network with other settings. Raises SpecError."""
        return network_of(self.checked, self.network, settings)

    @cached_property
    def summary(self) -> Summary:
        from danetc.compiler.analysis.summary import summarise

        return summarise(self.graph)

    @cached_property
    def resolved(self) -> str:
        """One spec with everything that the network is made of."""
        from danetc.compiler.frontend.resolved import resolved_spec  # late: only printing needs it

        return resolved_spec(self.checked, self.network, dict(self.settings))


def compile_spec(
    path: str | os.PathLike[str] | None = None,
    *,
    text: str | None = None,
    network: str | None = None,
    settings: Mapping[str, Setting] | None = None,
) -> CompiledNetwork:
    """Check a spec, lower one of its networks, and warn of suspicious code.

    Raises SpecError; never imports torch.
    """
    if text is not None and path is None:
        checked = compiler.check_text(text)
    elif path is not None and text is None:
        checked = compiler.check_file(str(directory_of(path)))
    else:
        raise TypeError("give either a path or text=...")
    compiled = network_of(checked, network, settings)
    warn(warnings_of_network(checked, compiled.lowered))
    return compiled


def network_of(
    checked: Checked, network: str | None = None, settings: Mapping[str, Setting] | None = None
) -> CompiledNetwork:
    """Lower one of the networks of a checked spec without warnings, as for a spec that danetc wrote.

    Raises SpecError; never imports torch.
    """
    chosen = dict(settings or {})
    lowered = compiler.lowered_network(checked, network, chosen)
    return CompiledNetwork(checked, network, chosen, lowered)


def emit_model(
    graph: Graph, backend: str = "eager", memory: str = "none", *, seed: int = 0
) -> Model:
    """Return the model of a graph. Raises UserError for an unknown backend or memory policy."""
    from danetc.compiler.emit.fx import BACKENDS, emit
    from danetc.compiler.passes.recompute import POLICIES

    check_choice("backend", backend, tuple(BACKENDS))
    check_choice("memory", memory, tuple(POLICIES))
    try:
        return emit(graph, seed, backend, memory)
    except ImportError as error:
        raise UserError(str(error)) from error


def initialise(
    graph: Graph,
    seed: int,
    init: str | os.PathLike[str] | None,
    backend: str = "eager",
    memory: str = "none",
    *,
    skip: str | None = None,
) -> tuple[Model, str | None]:
    """Return a model with seeded weights, or with those of ``init`` and a text of what was matched.

    ``skip`` are parts that keep their seeded weights. Raises SpecError for an error in it,
    UserError if ``init`` cannot be read or does not fit, and for a missing backend.
    """
    model = emit_model(graph, backend, memory, seed=seed)
    if init is None:
        if skip is not None:
            raise UserError("--init-skip is for --init: name the weights to start from")
        return model, None
    from danetc.dsl.recipe.settings import factors_of
    from danetc.dsl.recipe.text import read_setting
    from danetc.runtime.model.weights import WeightsError, match, read_weights

    skipped = factors_of(None if skip is None else read_setting("freeze", skip, "--init-skip"))
    try:
        matched = match(model, read_weights(os.fspath(weights_of(init))), skipped)
    except WeightsError as error:
        raise UserError(f"{os.fspath(init)}: {error}") from error
    model.load_state_dict(matched.state)
    return model, str(matched)
