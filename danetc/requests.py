"""Requests: the arguments of commands and of functions such as ``danetc.train``, as frozen dataclasses.

The command line generates its options from the fields. None stands for the value of the recipe, or for
the default. Importing this module loads no torch.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, asdict, dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, TypeAlias

from danetc import arguments as arg
from danetc.arguments import Setting
from danetc.dsl.syntax.overrides import override_text
from danetc.errors import UserError

if TYPE_CHECKING:
    from danetc.runtime.model.built import Model
    from danetc.runtime.training.observer import Callback
else:  # their modules import torch
    Callback = Model = Any

Accuracy: TypeAlias = Literal["last", "best"]
SelectOn: TypeAlias = Literal["val", "test"]
HELD_OUT = 0.2
"""Share of samples in memory to test on if a training gets none for it."""


@dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """Options of a training, of one network or of each cell of a grid.

    Args:
        recipe: Recipe that the file defines or imports, or a file of recipes, as in my.danet or
            my.danet:quick. [default: the file's own, else the one named like the data set]
        seed: Seed of all random numbers. [default: the recipe's]
        seeds: Number of trials, with the seeds seed, seed + 1, ... [default: the recipe's trials; 1 with
            --seed]
        on_unreadable: What to do about a file that cannot be read.
        train_output: Output that the loss is computed on if the network has several.
        deterministic: On a GPU: deterministic kernels, or the fastest ones.
        backend: Backend that runs the network. [default: fused if its kernels can be compiled, else eager]
        channels_last: Store feature maps with channels last: faster on a GPU, and for large images on a
            CPU.
        cuda_graphs: Record the forward and backward pass of a step as a CUDA graph, which takes a single
            launch. It has not been run on a GPU yet.
    """

    recipe: Annotated[str | None, arg.Option("NAME|FILE[:NAME]")] = None
    set: arg.Settings = field(default_factory=dict)
    seed: Annotated[int | None, arg.Option(least=0, most=2**32 - 1)] = None
    seeds: Annotated[int | None, arg.Option(least=1, most=1000)] = None
    classes: arg.Classes | None = None
    subset_seed: arg.SubsetSeed = 0
    on_unreadable: Literal["stop", "skip"] = "stop"
    init: arg.Init | None = None
    init_skip: arg.InitSkip | None = None
    train_output: Annotated[str | None, arg.Option("NAME")] = None
    deterministic: Annotated[bool, arg.Option(flag="--deterministic/--fastest")] = True
    backend: arg.BackendName | None = None
    memory: arg.Memory = "none"
    channels_last: bool = False
    cuda_graphs: bool = False
    device: arg.Device | None = None
    progress: Annotated[bool | None, arg.PYTHON] = None

    def __post_init__(self) -> None:
        for name in ("spec", "init", "output"):
            if (value := getattr(self, name, None)) is not None:
                object.__setattr__(self, name, os.fspath(value))


@dataclass(frozen=True)
class TrainingRequest(TrainingOptions):
    """One network, the data it is trained on, and the options of the training.

    Args:
        spec: Spec file or name of a shipped spec. The directory of a run, or pretrained:NAME, gives the spec,
            the weights to start from, and the recipe unless another is named; nothing is written there.
        text: Text of the spec, in place of ``spec``.
        set: Change a parameter or a setting of the network, as in steps=2, or a setting of the recipe by
            its path, as in recipe.epochs=5. Can be repeated.
        output: Directory of the run. An existing run is resumed. [default: runs/NETWORK; from a
            directory, runs/NETWORK-tuned]
        fresh: Start over; an existing run is moved aside.
        override: Resume a run even if its settings have changed.
        allow_code: Run this function of a recipe or layer in Python, although only a directory names it. Can
            be repeated.
        callbacks: Objects of ``danetc.Callback``, called after steps and epochs. One that raises
            ``danetc.StopTraining`` stops the training, with its state saved.
    """

    spec: Annotated[arg.Place | None, arg.SPEC] = None
    data: arg.Data = "digits"
    _: KW_ONLY
    text: Annotated[str | None, arg.PYTHON] = None
    network: arg.Network | None = None
    output: Annotated[arg.Place | None, arg.Option("DIR")] = None
    fresh: bool = False
    override: bool = False
    no_code: bool = False
    allow_code: Annotated[Sequence[str], arg.Option("FILE.py:NAME")] = ()
    callbacks: Annotated[Sequence[Callback], arg.PYTHON] = ()

    held_out: ClassVar[float] = HELD_OUT

    def to_json(self) -> str:
        return json.dumps(asdict(self), default=str)

    @classmethod
    def from_json(cls, text: str) -> TrainingRequest:
        """Return the request that ``to_json`` wrote."""
        known: dict[str, Any] = json.loads(text)
        known |= {k: tuple(v) for k, v in known.items() if isinstance(v, list)}
        return cls(**known)

    def command(self) -> list[str]:
        """Return the ``danetc train`` command of this request, for people to read and to run."""
        words = ["danetc", "train"]
        for each in fields(self):
            value = getattr(self, each.name)
            is_default = value == each.default and each.name != "data"  # which commands require
            if is_default or each.name in ("spec", "set", "deterministic"):
                continue
            option = f"--{each.name.replace('_', '-')}"
            for item in value if isinstance(value, tuple | list) else (value,):
                words += [option] if item is True else [option, str(item)]
        for name, setting in self.set.items():
            words += ["--set", f"{name}={override_text(setting)}"]
        return [*words, *([] if self.deterministic else ["--fastest"]), "--", str(self.spec)]


@dataclass(frozen=True, kw_only=True)
class RepeatedTraining(TrainingRequest):
    """A run that is trained again; ``repeated`` is the record in its run.json."""

    repeated: Mapping[str, Any]


def _axis(text: str) -> tuple[str, str]:
    """Return the name of an axis and its values, ``""`` if there are none."""
    name, _, values = text.partition("=")
    return name.strip(), values


Grid: TypeAlias = Mapping[str, str | Sequence[Setting]]


@dataclass(frozen=True)
class GridRequest(TrainingOptions):
    """Networks, the axes that vary them, the training that all cells share, and the engine.

    Args:
        specs: Spec files, names of shipped specs, or patterns of either.
        networks: Train only the networks of this name if a file has several. [default: all]
        jobs: Number of trainings that run at a time. [default: 1; with ray as many as there is room for]
        engine: Engine that trains the runs: processes of this machine, or Ray, on a cluster.
        address: Cluster of --engine ray; ``auto`` is the one that this machine belongs to. [default: a
            new one on this machine]
        cpus: Cores of each run with --engine ray. [default: 1]
        gpus: GPUs of each run with --engine ray, as in 0.5. [default: 1 if the cluster has any]
        accuracy: Test accuracy after the last epoch, or validation accuracy of the best one.
        select_on: Images that a search and the best epoch are selected on: those held out by ,val=0.1 of
            the data, or the test images, whose accuracy is then optimistic. The results record it.
    """

    specs: Annotated[arg.Place | Sequence[arg.Place], arg.Option("FILE|NAME|PATTERN")] = ()
    data: arg.Data = "digits"
    _: KW_ONLY
    grid: Grid = field(default_factory=dict)
    networks: Annotated[Sequence[str], arg.Option("NAME", "--network")] = ()
    output: Annotated[arg.Place, arg.Option("DIR")]
    jobs: Annotated[int | None, arg.Option(least=1, most=100_000)] = None
    engine: Literal["local", "ray"] = "local"
    address: Annotated[str | None, arg.Option("HOST:PORT")] = None
    cpus: Annotated[float | None, arg.Option("N", least=0.001)] = None
    gpus: Annotated[float | None, arg.Option("N", least=0)] = None
    accuracy: Accuracy = "last"
    select_on: SelectOn = "val"

    parse_axis: ClassVar[Callable[[str, str], Any]]

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.data, str | os.PathLike):
            raise UserError(
                f"`data` is a name such as 'digits' or a file, not {type(self.data).__name__}: every training "
                "is a process of its own, so save arrays with numpy.savez, or name code that returns them"
            )
        if self.engine == "local" and (self.address, self.cpus, self.gpus) != (None, None, None):
            raise UserError(
                "address, cpus and gpus are for a cluster: choose the engine ray (--engine ray)"
            )
        if self.grid:
            self.axes  # noqa: B018 (an error in an axis is one of the request)

    @property
    def patterns(self) -> list[str]:
        """Specs and patterns as texts."""
        several = [self.specs] if isinstance(self.specs, str | os.PathLike) else self.specs
        return [os.fspath(each) for each in several]

    @property
    def training(self) -> TrainingRequest:
        """Return the settings that all trainings of the grid share."""
        names = TrainingRequest.__dataclass_fields__
        return TrainingRequest(**{name: x for name, x in vars(self).items() if name in names})

    @property
    def folder(self) -> Path:
        """Directory of the grid."""
        return Path(self.output)

    @cached_property
    def axes(self) -> tuple[Any, ...]:
        """Parsed axes. Raises UserError."""
        texts = {
            name: values if isinstance(values, str) else ",".join(map(override_text, values))
            for name, values in self.grid.items()
        }
        try:
            return tuple(type(self).parse_axis(name, text) for name, text in texts.items())
        except ValueError as error:
            raise UserError(str(error)) from error


@dataclass(frozen=True)
class ComparisonRequest(GridRequest):
    """A grid of trainings to compare.

    Args:
        grid: Axis to vary: classes, recipe, backbone, depth, connection, rule, recipe.PATH, or any
            parameter or setting of the networks, as in steps=1,4. Can be repeated.
        output: Directory of the grid, with one folder per cell. Finished runs are not trained again.
        fresh: Retrain the runs whose settings have changed; the old runs are moved aside.
        override: Resume runs even if their settings have changed.
    """

    _: KW_ONLY
    grid: Annotated[Grid, arg.Option("NAME=V,V,...", parse=_axis)] = field(default_factory=dict)
    output: Annotated[arg.Place, arg.Option("DIR")] = "runs/compare"
    fresh: bool = False
    override: bool = False

    parse_axis = arg.late("danetc.tasks.grid.cells", "parse_axis")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.fresh and self.override:
            raise UserError("choose one of fresh and override")


@dataclass(frozen=True)
class SearchRequest(GridRequest):
    """A search of networks and settings.

    Args:
        grid: Axis to search: values as in ``danetc compare``, as in rule=chain,densely_additive, or a
            range, as in width=8..64:8 or recipe.optimizer.lr=1e-4..0.1:log. Can be repeated.
        output: Directory of the search, with search.db and a folder for each cell.
        trials: Number of trials in total, including those that the directory holds already.
        front: Use operations (MACs and additions for one image) as a second objective.
        sampler: Sampler that draws the values of a trial.
        sampler_seed: Seed of the sampler.
        pruner: Pruner that ends a trial by the validation accuracies after an epoch.
        predict: Rank the trials by a prediction and train none. ``paths`` is the fewest neurons on a path
            from an input to an output; fewer are better.
    """

    _: KW_ONLY
    grid: Annotated[Grid, arg.Option("NAME=V,V,...|LOW..HIGH[:STEP|:log]", parse=_axis)] = field(
        default_factory=dict
    )
    output: Annotated[arg.Place, arg.Option("DIR")] = "runs/search"
    trials: arg.Count = 20
    front: bool = False
    sampler: Literal["tpe", "random", "nsga2"] = "tpe"
    sampler_seed: Annotated[int, arg.Option(least=0, most=2**31 - 1)] = 0
    pruner: Literal["none", "median", "hyperband"] = "none"
    predict: Literal["paths"] | None = None

    parse_axis = arg.late("danetc.tasks.searching.study", "parse_dimension")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.seeds not in (None, 1):
            raise UserError("a search trains each cell with one seed; compare the best with more")
        if self.pruner != "none" and (self.front or self.predict):
            raise UserError("a pruner needs trainings with one objective: leave out the pruner")


@dataclass(frozen=True)
class EvaluationRequest:
    """An evaluation of a network. None stands for the value of its training.

    Args:
        model: Directory that ``danetc.train`` or ``danetc build`` wrote, ``pretrained:NAME``, or, in Python, a
            model.
        data: Data set, as for ``train``. [default: the one that the run was trained on]
        steps: Numbers of time steps T to run the network at. [default: its own]
        over_time: Accuracy at every T up to the largest, from one run: that of the mean output of the
            first T steps, if the head permits it.
        per_class: Accuracy of each class, and the confusion matrix.
        train_output: Output to evaluate if the network has several. [default: the one trained]
        seed: Seed of what a network draws, such as random spikes. [default: the training's]
    """

    model: Annotated[arg.Place | Model, arg.Option("DIR")]
    data: arg.Data | None = None
    _: KW_ONLY
    classes: arg.Classes | None = None
    subset_seed: arg.SubsetSeed = 0
    split: arg.Split = "test"
    steps: Annotated[
        Sequence[int], arg.Option("T,T,...", least=1, most=arg.MOST_STEPS, separator=",")
    ] = ()
    over_time: bool = False
    per_class: bool = False
    prepare: arg.Prepare | None = None
    batch: arg.Count | None = None
    workers: arg.Workers = 0
    train_output: Annotated[str | None, arg.Option("NAME")] = None
    checkpoint: arg.Checkpoint | None = None
    backend: arg.BackendName | None = None
    precision: arg.Precision | None = None
    device: arg.Device | None = None
    seed: arg.Seed | None = None
    progress: Annotated[bool | None, arg.PYTHON] = None


@dataclass(frozen=True)
class PredictionRequest:
    """A prediction for images. None stands for the value of the training.

    Args:
        directory: Directory that ``danetc.train`` or ``danetc build`` wrote, or ``pretrained:NAME``.
        images: Files of images (PNG, JPEG, ...), or of arrays (.npy) of one sample or, with a dimension
            in front, of several.
        steps: Number of time steps T to run the network at. [default: its own]
    """

    directory: Annotated[arg.Place, arg.Option("RUN")]
    images: Annotated[Sequence[arg.Place], arg.Option("IMAGE")]
    _: KW_ONLY
    steps: Annotated[int | None, arg.Option("T", least=1, most=arg.MOST_STEPS)] = None
    prepare: arg.Prepare | None = None
    checkpoint: arg.Checkpoint | None = None
    backend: arg.BackendName | None = None
    device: arg.Device | None = None


@dataclass(frozen=True)
class ConversionRequest:
    """A conversion of a trained ANN to a spiking network.

    A threshold is the ``percentile`` of the activations of a channel (or of a layer, without
    ``channels``) in a batch, averaged over ``batches`` batches of training images. That of a QCFS
    activation is its learnt height.

    Args:
        source: Directory of ``train``, or ``pretrained:NAME``, of a network whose neurons are ``ReLU`` or
            QCFS.
        output: Model directory to write. [default: build/NETWORK-converted]
        data: Data set, as for ``train``. [default: the one that the run was trained on]
        steps: Number of time steps of the spiking network.
        percentile: Percentile of the activations in a batch that is the threshold; 100 takes the
            maximum.
        channels: One threshold per channel, not per layer.
        half: Start membrane potentials at half the threshold, not at 0.
        srp: Number of first steps after which units with a residual membrane potential of 0 or less are
            silenced (SRP); the output is the mean over the steps that follow. 0 silences none.
        batches: Number of batches of training images that thresholds are computed on.
    """

    source: Annotated[arg.Place, arg.Option("RUN")]
    output: Annotated[arg.Place | None, arg.Option("DIR")] = None
    _: KW_ONLY
    data: arg.Data | None = None
    steps: Annotated[int, arg.Option("T", least=1, most=arg.MOST_STEPS)] = 32
    percentile: Annotated[float, arg.Option("P", least=50, most=100)] = 99.0
    channels: bool = True
    half: bool = True
    srp: Annotated[int, arg.Option("N", least=0, most=arg.MOST_STEPS)] = 0
    batches: arg.Count = 10
    batch: arg.Count = 64
    device: arg.Device | None = None
    progress: Annotated[bool | None, arg.PYTHON] = None


@dataclass(frozen=True)
class ExportRequest:
    """An export of a network to a file.

    Args:
        source: Directory written by ``train`` or ``build``, ``pretrained:NAME``, or a spec, whose weights
            are new or those of ``init``.
        output: File to write. The ending selects the format: .safetensors (weights), .pth or .pt (state
            dict), .pt2 (a program of torch.export), .onnx, .nir, or .py (Python code that uses layers and
            neurons of SpikingJelly, without weights).
        streaming: For ONNX: export a single time step, with the states of neurons as inputs and outputs.
        device: Device that runs the network when its outputs are compared with those of the file, which
            runs on the CPU.
    """

    source: Annotated[arg.Place, arg.Option("DIR|FILE|NAME")]
    output: Annotated[arg.Place, arg.Option("FILE")]
    _: KW_ONLY
    streaming: bool = False
    checkpoint: arg.Checkpoint | None = None
    network: arg.Network | None = None
    set: arg.Settings = field(default_factory=dict)
    seed: arg.Seed = 0
    init: arg.Init | None = None
    device: arg.Device = "cpu"
    force: bool = False


@dataclass(frozen=True, kw_only=True)
class MeasuredOn:
    """Data that networks are measured on.

    Args:
        data: Data set, as in digits. [default: the one that the first RUN was trained on]
        batches: Number of batches that are measured.
        only: Comma-separated measures: firing-rate, gradient-stability, potential, input, gradients,
            values, operations. [default: all]
    """

    data: arg.Data | None = None
    batches: arg.Count = 4
    batch: arg.Count = 64
    device: arg.Device | None = None
    split: arg.Split = "test"
    classes: arg.Classes | None = None
    subset_seed: arg.SubsetSeed = 0
    prepare: arg.Prepare | None = None
    only: Annotated[Sequence[str], arg.Option("NAMES", separator=",")] = ()
