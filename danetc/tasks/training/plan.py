"""The plan of a training: the network, the recipe, the data, the seeds and the directory."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from danetc.arguments import Setting
from danetc.compiler.ir.at_node import taken, weights
from danetc.compiler.ir.graph import Graph
from danetc.compiler.ir.ops import OPS
from danetc.compiler.ir.ops.user import places_of
from danetc.compiler.warnings import warnings_of_recipe
from danetc.dsl.diagnostics.diagnostic import Reporter, did_you_mean
from danetc.dsl.loading import Module, load_module
from danetc.dsl.reading import SUFFIX, open_regular
from danetc.dsl.recipe.resolve import resolve_recipe
from danetc.dsl.recipe.settings import Phase, Recipe, factors_of, named_in, part_of
from danetc.errors import UserError
from danetc.output.echo import Note, warn
from danetc.pretrained import directory_of, weights_of
from danetc.requests import RepeatedTraining, TrainingRequest
from danetc.runtime.data.dataset import DataSet
from danetc.runtime.data.registry import open_data
from danetc.runtime.data.request import Target, TokenInput
from danetc.runtime.data.sources import find
from danetc.runtime.kernels import compiled
from danetc.runtime.model.built import Model
from danetc.runtime.system.devices import float32_products, has_tf32
from danetc.runtime.system.files import digest, naming, within
from danetc.runtime.system.machine import usable_cores
from danetc.runtime.training.distributed import World
from danetc.runtime.training.losses import Objective, main_output
from danetc.tasks.code import admit
from danetc.tasks.memory import Chosen, Step, fitting, free_for
from danetc.tasks.model_directory import RUN, WEIGHTS, load
from danetc.tasks.networks import CompiledNetwork, compile_spec
from danetc.tasks.training.changes import changing
from danetc.tasks.training.provenance import machine_facts
from danetc.tasks.training.repeat import check_repetition
from danetc.tasks.training.tuning import recipes_for, refuse_within, start_of

PREFIX = "recipe."
FIRST_RECIPE = """recipe first {
  epochs    = 10
  batch     = 32
  optimizer = adamw(lr = 0.01)
}"""
"""Recipe that is suggested for a file without one."""


@dataclass(frozen=True)
class TrainingPlan:
    """The plan of a training. It does not depend on random numbers or on the machine.

    ``policies`` are the memory policies of the phases by name; ``directory`` is that of the run, or of
    all trials.
    """

    request: TrainingRequest
    compiled: CompiledNetwork
    recipe: Recipe
    data: DataSet
    directory: Path
    seeds: tuple[int, ...]
    backend: str
    policies: Mapping[str, Chosen]

    def places(self) -> list[tuple[int, Path]]:
        """Return the seed and the directory of each trial."""
        if len(self.seeds) == 1:
            return [(self.seeds[0], self.directory)]
        return [(seed, within(self.directory, f"seed-{seed}")) for seed in self.seeds]

    def settings(self, seed: int) -> dict[str, Any]:
        """Return the settings that determine the numbers of a run, as JSON data.

        Settings that only change the speed, the device or the checkpoints are left out.
        """
        recipe = self.recipe.as_dict()
        del recipe["origins"]
        for key in INDIFFERENT:
            recipe.pop(key, None)
        phases: Any = recipe.pop("phases")
        request = self.request
        return {
            "network": self.compiled.graph.name,
            "spec": self.compiled.resolved,
            "recipe": {**recipe, "phases": {phase.pop("name"): phase for phase in phases}},
            "data": {
                "text": self.data.text,
                "fingerprint": self.data.fingerprint,
                "subset": None if self.data.subset is None else list(self.data.subset),
                "on_unreadable": self.data.train.on_unreadable,
            },
            "seed": seed,
            "init": None if request.init is None else _file(weights_of(request.init)),
            "backend": self.backend,
            **fields_of(request, "init_skip", "channels_last", "train_output", "deterministic"),
            "teachers": {
                name: _file(directory_of(name) / WEIGHTS)
                for name in named_in(self.recipe.phases, "teacher")
            },
            "functions": _code(named_in(self.recipe.phases, "function")),
            "layers": _code(places_of(self.compiled.graph)),
        }

    def facts(self, world: World) -> dict[str, Any]:
        """Return the facts of a run that do not determine its numbers, as JSON data."""
        request = self.request
        return {
            **machine_facts(world),
            "request": {
                "spec": request.spec or "<text>",
                **fields_of(request, "init", "memory", "cuda_graphs", "classes", "subset_seed"),
            },
            "data": self.data.describe(),
            "callbacks": ", ".join(type(x).__qualname__ for x in request.callbacks) or "empty",
            "recipe": self.recipe.as_dict(),
            "float32_products": {
                phase.name: float32_products(phase.precision, world.device)
                for phase in self.recipe.phases
            },
        }


INDIFFERENT = ("workers", "trials", "seed", "checkpoint_every", "checkpoint_minutes", "keep_every")
"""Settings of a recipe that change no number of a run. (The seed of the run is recorded.)"""


def fields_of(owner: object, *names: str) -> dict[str, Any]:
    """Return attributes of an object by name."""
    return {name: getattr(owner, name) for name in names}


def _file(path: Path) -> str:
    """Return the name of a file with the digest of its contents."""
    try:
        with naming(path), open_regular(path) as stream:
            data = stream.read()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from error
    return f"{path.name} (SHA-256 {digest(data)})"


def _code(places: Collection[str]) -> dict[str, str]:
    """Return functions and classes ``FILE.py:NAME`` with the digests of their files."""
    return {place: _file(Path(place.rpartition(":")[0])) for place in places}


def _tell_of_precision(precisions: Collection[str], device: torch.device, note: Note) -> None:
    """Note what a precision means on this device, where that may surprise."""
    if device.type == "cpu" and "fp16" in precisions:
        note("a CPU computes float16 (precision = fp16) slowly; precision = bf16 is fast there")
    if "tf32" in precisions and not has_tf32(device):
        note(f"{device.type} has no TF32: precision = tf32 computes as float32 does")
    if "float32" in precisions and has_tf32(device):
        note("precision = float32 multiplies without TF32; tf32 and bf16 are faster on this GPU")


def _tell_of_workers(workers: int, note: Note) -> None:
    """Note that more processes read data than there are cores for them."""
    cores = usable_cores()
    local = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    if workers * local > cores:
        each = f" for each of {local} processes" if local > 1 else ""
        note(
            f"the recipe has {workers} workers read data{each}, and this process may use {cores} "
            f"cores; --set recipe.workers={max(1, cores // local)} may be faster"
        )


def make_plan(
    request: TrainingRequest, world: World, note: Note, opening: Callable[..., DataSet] = open_data
) -> TrainingPlan:
    """Return the plan of a request. Raises SpecError, UserError and DataError; nothing is written.

    The policy that a budget of ``memory`` selects for each phase is noted. ``opening`` is
    ``open_data``, or a function that remembers what it has opened.
    """
    own = {name: x for name, x in request.set.items() if not name.startswith(PREFIX)}
    overrides = {n.removeprefix(PREFIX): x for n, x in request.set.items() if n not in own}
    start, source = start_of(request), request.spec if request.text is None else None
    compiled = compile_spec(source, text=request.text, network=request.network, settings=own)
    record = Path(RUN) if isinstance(request, RepeatedTraining) else start
    asked: Any = {"no_code": request.no_code, "allowed": request.allow_code}
    network, layers = f"the network `{compiled.graph.name}`", places_of(compiled.graph)
    admit(network, layers, note, record=record, **asked)
    recipes = compiled.checked.module
    if start is not None:
        recipes = recipes_for(start, request.recipe)
        record = None if request.recipe else start / RUN
        output = request.output or f"runs/{compiled.graph.name}-tuned"
        request = replace(request, init=request.init or request.spec, output=output)
    recipe = find_recipe(recipes, request.recipe, request.data, overrides, note)
    functions = named_in(recipe.phases, "function")
    admit(f"the recipe `{recipe.name}`", functions, note, record=record, **asked)
    check_parts(compiled.graph, recipe)
    compiled = changing(compiled, recipe)
    backend = backend_on(world.device, request.backend, note)
    policies = {
        phase.name: _policy(
            phase_step(request, compiled, phase, backend, world), request, phase, world
        )
        for phase in recipe.phases
    }
    _tell_of_precision({phase.precision for phase in recipe.phases}, world.device, note)
    _tell_of_workers(recipe.workers, note)
    for name, chosen in policies.items():
        if chosen.step is not None:
            note(f"memory of phase {name}: {chosen}")
    data = opening(
        request.data,
        classes=request.classes,
        subset_seed=request.subset_seed,
        on_unreadable=request.on_unreadable,
        frames=recipe.phases[0].steps or compiled.graph.steps,
        channels=taken(compiled.graph).shape[0],
        tokens=TokenInput.of(taken(compiled.graph).kind, taken(compiled.graph).shape),
    )
    for message in data.notices:
        note(message)
    first = recipe.seed if request.seed is None else request.seed
    trials = request.seeds or (recipe.trials if request.seed is None else 1)  # one by default
    plan = TrainingPlan(
        request,
        compiled,
        recipe,
        data,
        Path(request.output or f"runs/{compiled.graph.name}"),
        tuple(range(first, first + trials)),
        backend,
        policies,
    )
    if start is not None:
        refuse_within(start, plan.places())
    if isinstance(request, RepeatedTraining):
        settings = plan.settings(plan.seeds[0])
        check_repetition(request.repeated, settings, plan.facts(world), note)
    return plan


def check_parts(graph: Graph, recipe: Recipe) -> None:
    """Raise UserError for a part that the network does not have, and if all of it is frozen."""
    learnt = {n.path for n in graph.nodes.values() if weights(graph, n) or OPS[n.op].opaque}
    for phase in recipe.phases:
        frozen = factors_of(phase.freeze)
        for path in (*frozen, *factors_of(phase.lr_scale)):
            if not any(part_of(name, [path]) for name in learnt):
                depth = path.count(".") + 1
                known = dict.fromkeys(".".join(name.split(".")[:depth]) for name in sorted(learnt))
                raise UserError(
                    f"recipe `{recipe.name}` names the part {path}, but network `{graph.name}` has no "
                    f"weights there; it has {', '.join(known)}"
                )
        if all(part_of(name, frozen) for name in learnt):
            raise UserError(f"phase `{phase.name}` freezes all weights of network `{graph.name}`")


def phase_step(
    request: TrainingRequest, compiled: CompiledNetwork, phase: Phase, backend: str, world: World
) -> Step:
    """Return the training step of a phase, in one of its processes."""

    def loss(model: Model, teachers: Mapping[str, Model]) -> Objective:
        outputs = model.signature.outputs
        shape = outputs[main_output(phase.loss, model.signature, request.train_output)]
        target: Target = "classes" if len(shape) == 1 else "pixels"
        return Objective(phase.loss, model.signature, request.train_output, model, teachers, target)

    return Step(
        with_steps(compiled, phase).graph,
        backend,
        max(1, phase.batch // world.size),
        loss,
        phase.optimizer,
        phase.precision,
        phase.gradient,
        phase.accumulate,
        averaged=phase.ema is not None,
        processes=world.size,
        on_cpu=world.device.type == "cpu",
        channels_last=request.channels_last,
        teachers=lambda: teachers_of(phase, backend),
        frozen=factors_of(phase.freeze),
    )


def _policy(step: Step, request: TrainingRequest, phase: Phase, world: World) -> Chosen:
    """Return the memory policy of a phase. Raises UserError, which names the phase."""
    free = world.from_first(free_for(world.device, world.size))
    try:
        return fitting(step, request.memory, free)
    except UserError as error:
        place = f", in each of {world.size} processes" if world.size > 1 else ""
        raise UserError(f"phase `{phase.name}`{place}: {error}") from error


def backend_on(device: torch.device, wanted: str | None, note: Note) -> str:
    """Return the ``wanted`` backend, by default ``fused`` if its kernels can be compiled, else ``eager``.

    A note says why there are no kernels.
    """
    has_kernels = device.type in ("cpu", *compiled.DEVICES)
    if not has_kernels and wanted in (None, "fused"):
        note(f"fused has no kernels for {device.type}: the network runs operation by operation")
    if wanted is not None or not has_kernels:
        return wanted or "eager"
    missing = compiled.missing_compiler(device.type)
    if missing is None:
        return "fused"
    note(f"the backend is eager: there is {missing}, which fused needs for its kernels")
    return "eager"


def with_steps(compiled: CompiledNetwork, phase: Phase) -> CompiledNetwork:
    """Return the network with the number of time steps T that the phase sets, if any."""
    if phase.steps is None or phase.steps == compiled.graph.steps:
        return compiled
    if "steps" in compiled.settings:
        raise UserError(
            f"steps is set to {compiled.settings['steps']}, but phase `{phase.name}` of the recipe "
            f"sets it to {phase.steps}; change it there: --set recipe.{phase.name}.steps=..."
        )
    return compiled.with_settings({**compiled.settings, "steps": phase.steps})


def find_recipe(
    module: Module,
    name: str | None,
    data: str,
    overrides: Mapping[str, Setting],
    note: Note = lambda message: None,
) -> Recipe:
    """Return the recipe of this name, else the file's only one, else the one named like the data set.

    ``FILE.danet`` and ``FILE.danet:NAME`` are recipes of another file. One that shadows a recipe of std
    is noted. Raises UserError if there is none or there are several, SpecError for errors in it.
    """
    if elsewhere := re.fullmatch(rf"(.+{re.escape(SUFFIX)})(?::(\w+))?", name or "", re.DOTALL):
        file, name = elsewhere.groups()
        errors = Reporter()
        module = load_module(file, errors)
        errors.raise_if_errors()
    own = [item.name for item in module.own.values() if item.kind == "recipe"]
    if name is None and len(own) > 1:
        raise UserError(
            f"{module.source.name} has several recipes ({', '.join(own)}); choose with --recipe"
            + f" {module.source.name}:NAME" * bool(elsewhere)
        )
    kind = find(data)[0].name.replace("-", "_")
    wanted = name or (own[0] if own else kind)
    found = module.names.get(wanted)
    if found is None or found.declaration.kind != "recipe":
        recipes = [each for each in module.names if module.names[each].declaration.kind == "recipe"]
        if name is None:
            lines = len(module.source.text.rstrip().splitlines())
            hint = f"name one: {', '.join(recipes)}" if recipes else "`use std` brings some"
            raise UserError(
                f"{module.source.name} has no recipe, and none called `{kind}` is in scope; {hint}, or write "
                f"one at the end of the file, after line {lines}:\n\n{FIRST_RECIPE}"
            )
        hint = did_you_mean(wanted, recipes) or f"it sees {', '.join(recipes) or 'none'}"
        raise UserError(f"{module.source.name} sees no recipe `{wanted}`; {hint}")
    reporter = Reporter()
    recipe = resolve_recipe(found.declaration, overrides, reporter, found.module)
    reporter.raise_if_errors()
    assert recipe is not None
    warn(warnings_of_recipe(recipe, found.declaration, found.module))
    if found.module is module and any(wanted in names for _, names in module.imports):
        note(f"recipe `{wanted}` is that of {module.source.name}; it shadows the one of std")
    return recipe


def teachers_of(phase: Phase, backend: str) -> dict[str, Model]:
    """Return the teachers of a phase (``distill``) by their directories.

    Raises UserError.
    """
    return {
        directory: load(directory, backend=backend, memory="none").requires_grad_(False)
        for directory in named_in([phase], "teacher")
    }
