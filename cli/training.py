"""A training from a spec's text to a model directory: which recipe, which phases, what is kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from danetc.api import Compiled, compile_spec, initialise
from danetc.dsl.diagnostics import Reporter, did_you_mean
from danetc.dsl.modules import Module
from danetc.dsl.recipe import Phase, Recipe, resolve_recipe
from danetc.errors import UserError
from danetc.memory import Chosen, Memory, choose_for_phase
from danetc.model_directory import (
    TRAINING,
    WEIGHTS,
    refuse_unless_replaceable,
    write_model_directory,
)
from danetc.options import Setting
from danetc.runtime.checkpoint import save_json, save_weights
from danetc.runtime.data import DataError, DataSet, open_data
from danetc.runtime.train import Epoch, Observer, TrainingError, train
from torch import Tensor, nn

PREFIX = "recipe."


def run(
    spec: str,
    *,
    data: str,
    network: str | None,
    recipe: str | None,
    output: Path | None,
    settings: Mapping[str, Setting],
    seed: int | None,
    init: str | None,
    backend: str | None,
    memory: Memory = "none",
    channels_last: bool = False,
    observer: Observer,
    note: Callable[[str], None],
) -> tuple[Path, dict[str, Any]]:
    """Train a network of a spec through all phases of a recipe.

    ``backend`` of None is the fastest that is there. A budget of ``memory`` is held to in each
    phase, or nothing is begun; what it chose is noted. Gives the model directory and what stands in
    its training.json. Raises SpecError, UserError.
    """
    own = {name: value for name, value in settings.items() if not name.startswith(PREFIX)}
    overrides = {
        name.removeprefix(PREFIX): value for name, value in settings.items() if name not in own
    }
    compiled = compile_spec(spec, network=network, settings=own)
    plan = find_recipe(compiled.checked.module, recipe, data, overrides)
    if plan.trials > 1 and seed is None:
        note(
            f"recipe {plan.name} asks for {plan.trials} trials; this is the first "
            f"(run the others with --seed {plan.seed + 1}, ...)"
        )
    chosen_seed = plan.seed if seed is None else seed
    directory = output if output is not None else Path("runs") / compiled.graph.name
    refuse_unless_replaceable(directory)
    running = backend or default_backend(note)
    policies = {
        phase.name: choose_for_phase(with_steps(compiled, phase).graph, memory, phase, running)
        for phase in plan.phases
    }
    for name, chosen in policies.items():
        if chosen.plan is not None:
            note(f"memory of phase {name}: {chosen}")
    how = _How(running, channels_last, policies)
    try:
        images = open_data(data)
        return directory, _run_phases(
            compiled, plan, images, directory, chosen_seed, init, how, observer
        )
    except (DataError, TrainingError) as error:
        raise UserError(str(error)) from error


def default_backend(note: Callable[[str], None]) -> str:
    """``fused`` where its kernels can be compiled; else ``eager``, with a note that says why."""
    from danetc.runtime.compiled import missing_compiler

    missing = missing_compiler("cuda" if torch.cuda.is_available() else "cpu")
    if missing is None:
        return "fused"
    note(f"the backend is eager: there is {missing}, which fused needs for its kernels")
    return "eager"


@dataclass(frozen=True, slots=True)
class _How:
    """What runs the network, how its maps lie in memory, and the memory policy of each phase."""

    backend: str
    channels_last: bool
    policies: Mapping[str, Chosen]


def to_channels_last(model: nn.Module) -> None:
    """Lay the weights of convolutions so; their outputs, and what comes of them, follow."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            module.weight.data = module.weight.data.contiguous(memory_format=torch.channels_last)


def _run_phases(
    compiled: Compiled,
    plan: Recipe,
    data: DataSet,
    directory: Path,
    seed: int,
    init: str | None,
    how: _How,
    observer: Observer,
) -> dict[str, Any]:
    """Each phase has its own T and so its own model; weights go from one to the next."""
    record: dict[str, Any] = {
        "data": data.name,
        "recipe": plan.as_dict(),
        "seed": seed,
        "init": init,
        "backend": how.backend,
        "channels_last": how.channels_last,
        "memory": {name: chosen.as_dict() for name, chosen in how.policies.items()},
        "epochs": [],
    }
    finished: dict[str, Mapping[str, Tensor]] = {}
    for phase in plan.phases:
        staged = with_steps(compiled, phase)
        weights = init if phase.start is None else None
        policy = how.policies[phase.name].policy
        model, matched = initialise(staged.graph, seed, weights, how.backend, policy)
        if how.channels_last:
            to_channels_last(model)
        if phase.start is not None:
            model.load_state_dict(finished[phase.start])
        write_model_directory(directory, staged, model, seed=seed, init=matched)

        def save(kept: nn.Module, epoch: Epoch) -> None:
            save_weights(kept, directory / WEIGHTS)
            record["epochs"].append(epoch.as_dict())
            record["test_accuracy"] = epoch.test_accuracy
            save_json(record, directory / TRAINING)

        _, trained = train(
            model, data, phase, seed=seed, observer=observer, save=save, workers=plan.workers
        )
        finished[phase.name] = {
            name: value.detach().cpu() for name, value in trained.state_dict().items()
        }
    return record


def with_steps(compiled: Compiled, phase: Phase) -> Compiled:
    """The network with the phase's number of time steps T, where the phase sets one."""
    if phase.steps is None or phase.steps == compiled.graph.steps:
        return compiled
    if "steps" in compiled.settings:
        raise UserError(
            f"steps is set to {compiled.settings['steps']}, but phase `{phase.name}` of the recipe "
            f"sets it to {phase.steps}; change it there: --set recipe.{phase.name}.steps=..."
        )
    return compiled.with_settings({**compiled.settings, "steps": phase.steps})


def find_recipe(
    module: Module, name: str | None, data: str, overrides: Mapping[str, Setting]
) -> Recipe:
    """The recipe of this name; else the file's only one; else the one named as the data set.

    Raises UserError where there is none or a choice, SpecError for what is wrong in it.
    """
    own = [item.name for item in module.own.values() if item.kind == "recipe"]
    if name is None and len(own) > 1:
        raise UserError(
            f"{module.source.name} has several recipes ({', '.join(own)}); choose with --recipe"
        )
    wanted = name or (own[0] if own else data)
    found = module.names.get(wanted)
    if found is None or found.declaration.kind != "recipe":
        recipes = [each for each in module.names if module.names[each].declaration.kind == "recipe"]
        if name is None:
            hint = f"name one: {', '.join(recipes)}" if recipes else "`use std` brings some"
            raise UserError(
                f"{module.source.name} has no recipe, and sees none called `{data}`; {hint}"
            )
        hint = did_you_mean(wanted, recipes) or f"it sees {', '.join(recipes) or 'none'}"
        raise UserError(f"{module.source.name} sees no recipe `{wanted}`; {hint}")
    reporter = Reporter()
    recipe = resolve_recipe(found.declaration, overrides, reporter, found.module)
    reporter.raise_if_errors()
    assert recipe is not None
    return recipe
